"""Timeline: how one aggregate got into its state, and what happened in the store."""

from dashboard import component

component.timeline()

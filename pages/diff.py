"""Diff: two states of an aggregate, or of two, and the events that made the difference."""

from dashboard import component

component.diff()

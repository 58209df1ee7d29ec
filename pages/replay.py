"""Replay: a history stepped through, and who set what in its state."""

from dashboard import component

component.replay()

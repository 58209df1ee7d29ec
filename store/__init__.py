"""An event store for Python services."""

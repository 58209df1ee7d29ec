"""Event histories in and out of a store, as lines of text."""

from store.transfer.exporting import export_events
from store.transfer.importing import import_events
from store.transfer.outcome import Imported, Rejected

__all__ = ["Imported", "Rejected", "export_events", "import_events"]

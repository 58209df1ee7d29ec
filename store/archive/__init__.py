"""The archive: what is old moves out of the table that is written to, and is read all the same."""

from store.archive.moving import Archiver, Bound, Moved, Policy

__all__ = ["Archiver", "Bound", "Moved", "Policy"]

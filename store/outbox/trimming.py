"""Removing what was published some time ago."""

from datetime import timedelta

from store.database import Database

BATCH = 5_000
"""Records that are removed in a transaction."""


def trim(database: Database, retention: timedelta) -> int:
    """Remove what was published longer ago than `retention`; how many records.

    What is open, failed or skipped stays. Several may do it at once, and each may be interrupted.
    """
    trimmed = 0
    while True:
        removed = database.trim(retention.total_seconds(), limit=BATCH)
        trimmed += removed
        if removed < BATCH:
            return trimmed

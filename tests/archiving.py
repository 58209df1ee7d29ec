"""Putting events of a store into its archive."""

from datetime import timedelta

from store import Hindsight
from store.archive import Archiver, Moved, Policy


def archiver(store: Hindsight, *, batch: int = 7) -> Archiver:
    """One that moves few events at once, so that there are many batches."""
    return Archiver(store.database, settled=store.archive.settled, batch=batch)


def archive_all_but(store: Hindsight, newest: int, *, batch: int = 7) -> list[Moved]:
    """Archive all events but the newest; the batches."""
    moving = archiver(store, batch=batch)
    return list(moving.run(moving.bound(keeping(newest))))


def keeping(newest: int) -> Policy:
    """The policy that only looks at how many there are."""
    return Policy(keep_active=newest, older_than=timedelta(days=36_500))

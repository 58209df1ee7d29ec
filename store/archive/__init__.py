"""The archive: what is old moves out of the table that is written to, and is read all the same."""

import os
import platform
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select, update

from store.archive.exporting import Exported, export
from store.archive.moving import Archiver, Bound, Leaving, Moved, Policy
from store.archive.restoring import Restored, Restorer
from store.archive.standing import ArchivePlan, ArchiveStanding, plan, standing
from store.database import Database

__all__ = [
    "Archive",
    "ArchivePlan",
    "ArchiveStanding",
    "Archiver",
    "Bound",
    "Exported",
    "Leaving",
    "Moved",
    "Policy",
    "Restored",
]


class Archive:
    """The archive of a store. Safe to share between threads.

    `policy` says what is archived, unless another one is given. `settled` and `prepare` are those
    of an `Archiver`. Workers archive where it is `enabled`.
    """

    def __init__(
        self,
        database: Database,
        policy: Policy,
        *,
        settled: Callable[[], int],
        prepare: Callable[[Leaving], None],
        enabled: bool = True,
    ) -> None:
        self.policy = policy
        self.settled = settled
        self.enabled = enabled
        self._database = database
        self._archiver = Archiver(database, settled=settled, prepare=prepare)
        self._restorer = Restorer(database, by=f"{platform.node()}:{os.getpid()}")
        self.restored = self._restorer.restored
        self.restore = self._restorer.restore
        self.give_back = self._restorer.give_back

    def standing(self, *, at_once: bool = False, most: int | None = None) -> ArchiveStanding:
        """How it stands; `at_once`, without sizes that it takes a look at all there is to tell.

        Up to `most` restored aggregates are listed, else all.
        """
        return standing(self._database, self.restored(most), at_once=at_once)

    def plan(self, policy: Policy | None = None) -> ArchivePlan:
        """What archiving would do now; looks at every event that would go."""
        bound = self._archiver.bound(policy or self.policy)
        return plan(self._database, bound, self.restored())

    def run(
        self, policy: Policy | None = None, *, stop: threading.Event | None = None
    ) -> Iterator[Moved]:
        """Archive what is to be, a batch a transaction, with pauses, until `stop` is set.

        Who is interrupted goes on where it was the next time.

        Raises:
            ArchiveBusy: somebody else archives or restores just now.
            DatabaseBusy: somebody writes to an old aggregate for long.
            AccessDenied: this role may not.
        """
        for moved in self._archiver.run(self._archiver.bound(policy or self.policy)):
            yield moved
            if stop is not None and stop.is_set():
                return
        self._note_run()

    def is_due(self, now: datetime | None = None) -> bool:
        """Whether nobody has archived, to the end, since midnight UTC."""
        midnight = _midnight(now or datetime.now(UTC))
        archive = self._database.tables.tables["archive"]
        [(ran_at,)] = self._database.select(select(archive.c.ran_at))
        return ran_at is None or ran_at < midnight

    def is_behind(self, found: ArchiveStanding, now: datetime | None = None) -> bool:
        """Whether nobody has archived since yesterday, though there are events that are too old."""
        moment = now or datetime.now(UTC)
        oldest = found.oldest_active
        if not self.enabled or oldest is None or moment - oldest <= self.policy.older_than:
            return False
        last = max((each for each in (found.ran_at, found.moved_at) if each), default=None)
        return last is None or last < _midnight(moment) - timedelta(days=1)

    def restore_all(self) -> Iterator[tuple[str, int]]:
        """Restore every aggregate, which are then held; each id and how many events came back."""
        for aggregate_id in self._restorer.archived():
            yield aggregate_id, self.restore(aggregate_id)

    def export(self, folder: Path) -> Iterator[Exported]:
        """See `exporting.export`."""
        return export(self._database, folder)

    def _note_run(self) -> None:
        archive = self._database.tables.tables["archive"]
        with self._database.transaction() as connection:
            connection.execute(update(archive).values(ran_at=datetime.now(UTC)))


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)

"""The inbox: what a consumer has handled, written in the transaction of the effect.

One row an event, not the last version of an aggregate: a dead letter that was skipped and is
redriven later comes behind events of higher versions, and has not been handled.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic

from sqlalchemy import Connection, text

from store.database import Database
from store.records import Event

KEPT = timedelta(days=30)
"""For how long a consumer knows what it has handled; what comes again later takes effect again."""
TRIM_EVERY = 600.0
"""Seconds between two times that `handle` removes what is older."""
_BATCH = 1_000

_NOTE = text("""
    INSERT INTO inbox (consumer, aggregate_id, version, handled_at)
    VALUES (:consumer, :aggregate_id, :version, :handled_at)
    ON CONFLICT (consumer, aggregate_id, version) DO NOTHING
""")
_TRIM = text("""
    DELETE FROM inbox WHERE consumer = :consumer AND (aggregate_id, version) IN (
        SELECT aggregate_id, version FROM inbox
        WHERE consumer = :consumer AND handled_at < :before LIMIT :batch
    ) AND handled_at < :before
""")


class Inbox:
    """Has each event take effect once, however often it comes, and to however many at once.

    `consumer` names who handles: each effect that is to happen has its own name, and each store
    whose events are consumed. The table is in the store's database, so that is where effects go.
    Safe to share between threads.
    """

    def __init__(self, database: Database, consumer: str, *, kept: timedelta = KEPT) -> None:
        self._database = database
        self._consumer = consumer
        self._kept = kept
        self._trim_at = monotonic() + TRIM_EVERY

    def handle(self, event: Event, effect: Callable[[Connection], object]) -> bool:
        """Run the effect in the transaction that notes it; False where it was noted before.

        Whatever `effect` raises undoes both. On SQLite it may write by its connection only.

        Raises:
            EventStoreError: the database did not take it; handle it again.
        """
        self._trim_if_due()
        noted = {
            "consumer": self._consumer,
            "aggregate_id": event.aggregate_id,
            "version": event.version,
            "handled_at": self._database.value(datetime.now(UTC)),
        }
        with self._database.transaction() as connection:
            # Who has the same event in hand makes this one wait for what becomes of it there.
            if not connection.execute(_NOTE, noted).rowcount:
                return False
            effect(connection)
        return True

    def trim(self) -> int:
        """Forget what was handled longer ago than it is kept; how many events that were."""
        before = self._database.value(datetime.now(UTC) - self._kept)
        wanted = {"consumer": self._consumer, "before": before, "batch": _BATCH}
        trimmed = 0
        while True:
            with self._database.transaction() as connection:
                found = connection.execute(_TRIM, wanted).rowcount
            trimmed += found
            if found < _BATCH:
                return trimmed

    def _trim_if_due(self) -> None:
        if monotonic() >= self._trim_at:
            self._trim_at = monotonic() + TRIM_EVERY
            self.trim()

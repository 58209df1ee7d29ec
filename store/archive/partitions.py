"""The archive's partitions on PostgreSQL: one a month, made before there is anything for it."""

import logging
from collections.abc import Iterable
from datetime import MAXYEAR, UTC, datetime

from sqlalchemy import text

from store.database import Database
from store.errors import AccessDenied, DatabaseBusy, EventStoreError, StoreUnavailable
from store.records import Event

_log = logging.getLogger(__name__)

AHEAD = 2
"""Months beyond the newest event to be archived."""


class Partitions:
    """The months that have a partition, as far as this process knows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[tuple[int, int]] = set()

    def create(self, events: Iterable[Event]) -> None:
        """Have a partition for each month of the events, and of the next two.

        Where one cannot be made, that is logged: its events go to the default partition.

        Raises:
            AccessDenied: this role may not archive.
        """
        if not self._database.is_remote:
            return
        months = {_month(event.recorded_at) for event in events if event.recorded_at}
        for year, month in sorted(_with_next(months) - self._known):
            self._create(year, month)

    def _create(self, year: int, month: int) -> None:
        made = text("SELECT create_archive_partition(:month)")
        try:
            with self._database.archiving(patience=1.0) as connection:
                connection.execute(made, {"month": datetime(year, month, 1, tzinfo=UTC)})
        except AccessDenied:
            raise
        except EventStoreError as error:
            _log.warning("no archive partition for %d-%02d: %s", year, month, error)
            if isinstance(error, DatabaseBusy | StoreUnavailable):
                return  # the next batch tries again
        self._known.add((year, month))


def _month(moment: datetime) -> tuple[int, int]:
    return moment.year, moment.month


def _with_next(months: set[tuple[int, int]]) -> set[tuple[int, int]]:
    if not months:
        return set()
    year, month = max(months)
    later = [divmod(year * 12 + month - 1 + ahead, 12) for ahead in range(1, AHEAD + 1)]
    return months | {(year, month + 1) for year, month in later if year <= MAXYEAR}


def missing_months(database: Database, oldest: datetime | None) -> tuple[list[datetime], int]:
    """The months, from the oldest active event's on, that have no partition though they should.

    And how many packs are in the default partition. Nothing is missing before anything was
    archived, nor on SQLite, which has no partitions.
    """
    if not database.is_remote or oldest is None:
        return [], 0
    found = {
        name
        for (name,) in database.rows(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
            " WHERE inhparent = 'events_archive'::regclass",
            {},
        )
    }
    [(default,)] = database.rows("SELECT count(*) FROM events_archive_default", {})
    if len(found) == 1 and not default:
        return [], 0
    months = sorted(_with_next({_month(oldest)}))
    missing = [
        datetime(year, month, 1, tzinfo=UTC)
        for year, month in months[:-1]
        if f"events_archive_{year:04d}_{month:02d}" not in found
    ]
    return missing, int(default)

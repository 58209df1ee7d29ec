"""What Prometheus is told of the database itself, read when it asks."""

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from threading import Lock, Thread
from time import monotonic

from msgspec import Struct
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from store import rollups
from store.archive.standing import standing
from store.database import Database
from store.errors import AccessDenied, EventStoreError, SchemaError, StatementTimeout
from store.projections.checkpoints import Checkpoints
from store.projections.failures import Failures
from store.projections.standing import COUNTED, Lag, lag
from store.reader import EventReader

_log = logging.getLogger(__name__)
_EPOCH = datetime.fromtimestamp(0, UTC)

LARGEST = 20
TIME_LIMIT = 1.0
"""Seconds that who asks waits for a reading; else the last one is the answer."""
FRESH_FOR = 5.0
"""Seconds; who asks again sooner gets the same answer."""
SHARE = 20
"""A reading that took long is not repeated before so many times as long have passed."""


class Backlog(Struct, frozen=True, kw_only=True):
    """What is in the outbox: records to be published, dead letters, since when the oldest waits."""

    pending: int
    failed: int
    oldest: datetime | None


class Following(Struct, frozen=True, kw_only=True):
    """How a projection stands: its lag, events it could not take, rows that were found wrong.

    There is no `drift` where nobody has looked for it.
    """

    projection: str
    lag: Lag
    waiting: int
    skipped: int
    drift: int | None


class Archiving(Struct, frozen=True, kw_only=True):
    """How the archive stands: archived events, their bytes, about how many events are active.

    `missing` are partitions; `ran_at` is when all was archived that was to be, None before that.
    """

    events: int
    bytes: int
    active: int
    missing: int
    ran_at: datetime | None


class Levels(Struct, frozen=True, kw_only=True):
    """How the store stands: bytes, events not yet to be followed, seconds they have been held.

    `rollup_lag` are positions behind the rollups.
    There is no `backlog`, nor `archive`, and are no `projections`, where the database did not tell,
    or may not.
    """

    size: int
    feed_lag: int
    watermark_age: float
    rollup_lag: int
    largest: Sequence[tuple[str, int]] = ()
    backlog: Backlog | None = None
    projections: Sequence[Following] | None = None
    archive: Archiving | None = None


class StoreGauges:
    """The gauges of a store. Safe to share between threads.

    `database` is one that ends long statements, and takes no connection from those who work.
    """

    def __init__(self, database: Database, *, backend: str) -> None:
        self._database = database
        self._backend = backend
        self._reader = EventReader(database, name="")
        self._levels: Levels | None = None
        self._read_at = monotonic()
        self._reading: Thread | None = None
        self._failure: str | None = None
        self._again = 0.0
        self._lock = Lock()

    def collect(self) -> Iterable[Metric]:
        """The families, without those that have never been read."""
        build = GaugeMetricFamily(
            "event_store_build_info", "What is running: always 1.", labels=("version", "database")
        )
        build.add_metric((version("hindsight-event-store"), self._backend), 1)
        levels = self.levels()
        age = GaugeMetricFamily(
            "event_store_levels_age_seconds",
            "How long ago the database could be read for what is told of it, or was first asked.",
            value=monotonic() - self._read_at,
        )
        return (build, age) if levels is None else (build, age, *gauge_families(levels))

    def levels(self) -> Levels | None:
        """The newest levels; None before the first could be read.

        Waits for a reading for `TIME_LIMIT` seconds at most, though the database may not answer.
        """
        with self._lock:
            if monotonic() >= self._again and self._reading is None:
                self._reading = Thread(target=self._read, name="hindsight-gauges", daemon=True)
                self._reading.start()
            reading = self._reading
        if reading is not None:
            reading.join(TIME_LIMIT)
        return self._levels

    def close(self) -> None:
        """Read no more, so that no connection is in use when the database is closed."""
        with self._lock:
            self._again = float("inf")
            reading = self._reading
        if reading is not None:
            reading.join(TIME_LIMIT)

    def _read(self) -> None:
        started = monotonic()
        try:
            self._levels = self._with(self._levels)
            self._read_at, self._failure = started, None
        except EventStoreError as error:
            if str(error) != self._failure:
                _log.warning("the store's gauges keep their last values: %s", error)
            self._failure = str(error)
        finally:
            ended = monotonic()
            with self._lock:
                pause = max(FRESH_FOR, SHARE * (ended - started))
                self._again = max(self._again, ended + pause)
                self._reading = None

    def _with(self, before: Levels | None) -> Levels:
        """The levels now; who is largest is what it was before, where it takes too long to know."""
        watermark = self._reader.watermark()
        visible = self._database.visible_position()
        since = None if watermark.holder is None else watermark.holder.since
        return Levels(
            size=self._database.bytes_used(),
            feed_lag=max(visible - watermark.position, 0),
            watermark_age=0.0 if since is None else (datetime.now(UTC) - since).total_seconds(),
            rollup_lag=max(visible - rollups.position(self._database), 0),
            largest=self._largest(() if before is None else before.largest),
            backlog=self._backlog(None if before is None else before.backlog),
            projections=self._projections(None if before is None else before.projections),
            archive=self._archive(None if before is None else before.archive),
        )

    def _backlog(self, before: Backlog | None) -> Backlog | None:
        try:
            oldest_at = self._database.microseconds("min(created_at)")
            waiting = "count(*) FILTER (WHERE status = 'pending')"
            [(pending, oldest)] = self._database.rows(
                f"SELECT {waiting}, {oldest_at} FROM outbox WHERE open",  # noqa: S608 (fixed)
                {},
            )
            [(failed,)] = self._database.rows(
                "SELECT count(*) FROM outbox WHERE status = 'failed'", {}
            )
        except (StatementTimeout, AccessDenied):
            return before
        since = None if oldest is None else _EPOCH + timedelta(microseconds=oldest)
        return Backlog(pending=pending, failed=failed, oldest=since)

    def _projections(self, before: Sequence[Following] | None) -> Sequence[Following] | None:
        try:
            checkpoints = Checkpoints(self._database).all()
            failures = Failures(self._database).counts()
            return [
                Following(
                    projection=name,
                    lag=lag(self._database, checkpoint.position),
                    waiting=failures.get((name, False), 0),
                    skipped=failures.get((name, True), 0),
                    drift=checkpoint.drift,
                )
                for (name, target), checkpoint in checkpoints.items()
                if target == "live"
            ]
        except (StatementTimeout, AccessDenied, SchemaError):
            return before

    def _archive(self, before: Archiving | None) -> Archiving | None:
        try:
            found = standing(self._database, (), at_once=True)
        except (StatementTimeout, AccessDenied, SchemaError):
            return before
        return Archiving(
            events=found.events,
            bytes=found.bytes,
            active=found.active_events,
            missing=len(found.missing),
            ran_at=found.ran_at,
        )

    def _largest(self, before: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
        try:
            found = self._reader.aggregates(order="longest", limit=LARGEST).items
            return [(head.aggregate_id, head.version) for head in found]
        except StatementTimeout:
            return before


def gauge_families(levels: Levels) -> Iterable[Metric]:
    """The levels as Prometheus knows them."""
    largest = GaugeMetricFamily(
        "event_store_events_by_aggregate",
        f"Events of the {LARGEST} largest aggregates.",
        labels=("aggregate_id",),
    )
    for aggregate_id, events in levels.largest:
        largest.add_metric((aggregate_id,), events)
    yield largest
    yield GaugeMetricFamily(
        "event_store_size_bytes", "What the store's tables and indexes take.", value=levels.size
    )
    yield GaugeMetricFamily(
        "event_store_feed_lag_events",
        "Committed events that followers may not be given yet.",
        value=levels.feed_lag,
    )
    yield GaugeMetricFamily(
        "event_store_watermark_age_seconds",
        "How long the oldest transaction that followers wait for is open.",
        value=levels.watermark_age,
    )
    yield GaugeMetricFamily(
        "event_store_rollup_lag_events",
        "Positions that are not yet in the counts by type and hour.",
        value=levels.rollup_lag,
    )
    if levels.backlog is not None:
        yield from _backlog_families(levels.backlog)
    if levels.projections is not None:
        yield from _projection_families(levels.projections)
    if levels.archive is not None:
        yield from _archive_families(levels.archive)


def _backlog_families(backlog: Backlog) -> Iterable[Metric]:
    age = 0.0
    if backlog.oldest is not None:
        # The server's clock may be ahead of ours.
        age = max((datetime.now(UTC) - backlog.oldest).total_seconds(), 0.0)
    yield GaugeMetricFamily(
        "event_store_outbox_pending", "Records that are to be published.", value=backlog.pending
    )
    yield GaugeMetricFamily(
        "event_store_outbox_failed", "Dead letters there are.", value=backlog.failed
    )
    yield GaugeMetricFamily(
        "event_store_outbox_oldest_age_seconds",
        "How long the oldest record that is not yet published, or is waited for, has been there.",
        value=age,
    )


def _projection_families(projections: Sequence[Following]) -> Iterable[Metric]:
    events = GaugeMetricFamily(
        "event_store_projection_lag_events",
        f"Committed events that a projection has not taken, counted up to {COUNTED:,}.",
        labels=("projection",),
    )
    seconds = GaugeMetricFamily(
        "event_store_projection_lag_seconds",
        "How long the oldest of them has been there.",
        labels=("projection",),
    )
    failures = GaugeMetricFamily(
        "event_store_projection_failures",
        "Events that a projection could not take: it waits at one, or has skipped them.",
        labels=("projection", "kind"),
    )
    drift = GaugeMetricFamily(
        "event_store_projection_drift_rows",
        "Rows that were wrong when a read model was last compared with the events.",
        labels=("projection",),
    )
    for each in projections:
        events.add_metric((each.projection,), each.lag.events)
        seconds.add_metric((each.projection,), each.lag.seconds)
        failures.add_metric((each.projection, "waiting"), each.waiting)
        failures.add_metric((each.projection, "skipped"), each.skipped)
        if each.drift is not None:
            drift.add_metric((each.projection,), each.drift)
    return (events, seconds, failures, drift)


def _archive_families(archive: Archiving) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "event_store_archived_events", "Events in the archive.", value=archive.events
    )
    yield GaugeMetricFamily(
        "event_store_archived_bytes", "What they take, packed.", value=archive.bytes
    )
    yield GaugeMetricFamily(
        "event_store_active_rows",
        "An estimate of how many events are not archived.",
        value=archive.active,
    )
    yield GaugeMetricFamily(
        "event_store_archive_missing_partitions",
        "Months that the archive should have a partition for, and has not.",
        value=archive.missing,
    )
    if archive.ran_at is not None:
        yield GaugeMetricFamily(
            "event_store_archive_last_run_timestamp_seconds",
            "When all had been archived that was to be.",
            value=archive.ran_at.timestamp(),
        )

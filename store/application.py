"""The store as a service opens it: settings in, wired parts out, one per process."""

import logging
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from msgspec import Struct
from prometheus_client import CollectorRegistry
from sqlalchemy import URL, make_url, select
from sqlalchemy.exc import ArgumentError

from store import migrations
from store.archive import Archive, Leaving, Policy
from store.cache import Cache, Histories
from store.cache.cache import needing_redis
from store.conflict import ConflictHook
from store.conflict_log import ConflictLog
from store.database import Database
from store.database.postgresql import PostgreSQL
from store.database.sqlite import SQLite, ensure_folder, require_file
from store.domain import Domain, Domains, load_domains
from store.errors import (
    EventStoreError,
    InvalidSetting,
    InvalidSource,
    NoStore,
    SchemaError,
    StoreUnavailable,
)
from store.execution import Executor
from store.gauges import Levels, StoreGauges
from store.instrumentation import (
    ConflictTeller,
    MeasuredLog,
    MeasuredRepository,
    MeasuredSnapshots,
    TellingLog,
)
from store.log import Clock, EventLog
from store.metric_history import MetricHistory
from store.metrics import Held, Metrics, of_process
from store.outbox import InProcess, Publisher, Relay, Several
from store.outbox.measured import MeasuredRelay
from store.outbox.records import Outbox
from store.outbox.relay import TellDead
from store.outbox.trimming import trim
from store.outbox.waking import Waker
from store.outbox.webhook import Origin, Webhook
from store.projections import Projections, Projector
from store.prometheus_history import PrometheusHistory
from store.recorder import Recorder
from store.records import Loaded
from store.repository import Repository
from store.rollups import Rollups
from store.samples import SampledHistory
from store.settings import Settings
from store.snapshots import Snapshots
from store.sources import EventSource
from store.sources.foreign import CHOOSE, ForeignSource, recognise
from store.sources.ndjson import NdjsonSource
from store.subscription import follow
from store.verdicts import Judge

_log = logging.getLogger(__name__)

ASIDE_LIMIT = 1.0
"""Seconds that a statement of what only watches may take."""


class Hindsight:
    """An open event store. Safe to share between threads; open one per process.

    `url` is `sqlite:///path` or `postgresql://…`, by default what `EVENT_STORE_URL` says.
    `domain` is one, several, or import paths such as `users:domain` separated by commas, by default
    what `EVENT_STORE_DOMAIN` says. Without one, state is merged from the events' data.
    The methods are those of its parts: see `EventLog`, `EventSource` and `Repository`. With
    `read_only` the database itself refuses writes, and PostgreSQL ends any statement that takes
    over 30 seconds. `on_conflict` is told of each conflict, once its outcome is known; what it
    raises is logged. With `snapshots` off (by default what `EVENT_STORE_SNAPSHOTS` says, else on)
    none is used or taken, and with `cache` off (EVENT_STORE_CACHE) nothing is kept: that changes
    costs, not answers. `redis_url` (EVENT_STORE_REDIS_URL) is where the processes of a service keep
    things together. With `outbox` off (EVENT_STORE_OUTBOX) what is appended is not published, ever.
    `metrics` is where it is counted and
    timed: True means in prometheus_client's default registry; with False nothing is, and
    no conflict is logged. An append in the caller's transaction counts, whatever becomes of that.

    Raises:
        SchemaError: there is no store at `url`, or its schema does not fit this code.
        StoreUnavailable: the database cannot be reached.
        InvalidSource: the URL is none.
        InvalidDomain: the path leads to no domain.
        InvalidSetting: `redis_url` is none, or its packages are not installed.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        domain: Domain | Domains | str | None = None,
        clock: Clock | None = None,
        outcome_timeout: float = 30.0,
        read_only: bool = False,
        on_conflict: ConflictHook | None = None,
        snapshots: bool | None = None,
        cache: bool | None = None,
        redis_url: str | None = None,
        outbox: bool | None = None,
        metrics: Metrics | bool = True,
    ) -> None:
        settings = Settings.from_environment()
        self.domains = _domains(settings.domain if domain is None else domain)
        parsed = parse_url(url or settings.url)
        if parsed.get_backend_name() == "sqlite":
            require_file(parsed)
        self.database = connect(parsed, read_only=read_only)
        # Whoever watches takes no connection from those who work, and makes no statement long.
        self._aside = connect(parsed, read_only=read_only, time_limit=ASIDE_LIMIT)
        self._open = ExitStack()
        self._open.callback(self.database.close)
        self._open.callback(self._aside.close)
        # Who forgets to close a store, or just ends, leaves no thread and no conflict behind.
        weakref.finalize(self, self._open.close)
        self._settings = settings
        try:
            check_schema(self.database)
            self.measured = metrics is not False
            self.metrics = _metrics(metrics)
            self.cache = self._cache(
                redis_url or settings.redis_url, enabled=settings.cache if cache is None else cache
            )
            self._measure()
            publish = settings.outbox if outbox is None else outbox
            wake = self._waking() if publish and not read_only else None
            self.log = self._log(display_name(parsed), clock, outcome_timeout, wake)
            self._expose_reading()
            enabled = settings.snapshots if snapshots is None else snapshots
            self._wire(enabled=enabled, writable=not read_only, on_conflict=on_conflict)
        except Exception:
            self._open.close()
            raise

    def _cache(self, redis_url: str | None, *, enabled: bool) -> Cache | None:
        if not enabled:
            return None
        if redis_url is not None and self.database.is_replica():
            redis_url = None  # what is newest there is not what is newest
        cache = Cache(self.database, self.metrics, redis_url)
        self._open.callback(cache.close)
        return cache

    def _expose_reading(self) -> None:
        log = self.log
        self.info = log.info
        self.aggregate = log.aggregate
        self.aggregates = log.aggregates
        self.events = (Histories(log) if self.cache is None else self.cache.histories(log)).events
        self.feed = log.feed
        self.counts = log.counts
        self.tally = log.tally
        self.watermark = log.watermark
        self.follow = partial(follow, log)

    def _measure(self) -> None:
        self._gauges = StoreGauges(self._aside, backend=self._aside.engine.url.get_backend_name())
        watched = (self._gauges.collect, partial(_held, self.database, self.cache))
        self.metrics.watch(*watched)
        self._open.callback(self._gauges.close)
        self._open.callback(self.metrics.unwatch, *watched)
        aggregates = list(self.domains.aggregates)
        self.metrics.declare(
            aggregate_types=[each.aggregate_type for each in aggregates],
            event_types=[event.__name__ for each in aggregates for event in each.events],
        )

    def _waking(self) -> Callable[[], None]:
        waker = Waker(self._aside.notify)
        self._open.callback(waker.close)
        return waker.wake

    def wake(self) -> None:
        """Tell relays that there is something to publish, behind a transaction of the caller's."""
        if self.log.wake is not None:
            self.log.wake()

    def _log(
        self,
        name: str,
        clock: Clock | None,
        outcome_timeout: float,
        wake: Callable[[], None] | None,
    ) -> EventLog:
        wrote = self.cache.writes.note if self.cache else None
        if not self.measured:
            return EventLog(
                self.database,
                name=name,
                clock=clock,
                outcome_timeout=outcome_timeout,
                wrote=wrote,
                wake=wake,
            )
        return MeasuredLog(
            self.database,
            name=name,
            clock=clock,
            outcome_timeout=outcome_timeout,
            wrote=wrote,
            wake=wake,
            metrics=self.metrics,
        )

    def _parts(self, *, enabled: bool, writable: bool) -> tuple[Snapshots, Repository]:
        database, log, domains = self.database, self.log, self.domains
        if not self.measured:
            bare = Snapshots(database, domains, enabled=enabled)
            return bare, Repository(log, domains, bare, writable=writable, cache=self.cache)
        metrics = self.metrics
        snapshots = MeasuredSnapshots(database, domains, enabled=enabled, metrics=metrics)
        return snapshots, MeasuredRepository(
            log, domains, snapshots, writable=writable, cache=self.cache, metrics=metrics
        )

    def _wire(self, *, enabled: bool, writable: bool, on_conflict: ConflictHook | None) -> None:
        log, metrics, domains = self.log, self.metrics, self.domains
        self.snapshots, self.repository = self._parts(enabled=enabled, writable=writable)
        self.recorder: Recorder | None = None
        if self.measured and writable:
            snapshots = Snapshots(self._aside, domains, enabled=enabled)
            self.recorder = Recorder(self._aside, metrics, Judge(self._aside, domains, snapshots))
            self._open.callback(self.recorder.close)
        tell = ConflictTeller(
            hook=on_conflict,
            metrics=metrics,
            record=self.recorder.tell if self.recorder else None,
        )
        told = TellingLog(log, tell)
        self.conflicts = ConflictLog(self.database)
        self.outbox = Outbox(self.database)
        self.rollups = Rollups(self.database)
        self.projections = Projections(
            self.database,
            domains,
            on_poison=self._settings.poison_events,
            timed=metrics.handled,
        )
        self.archive = Archive(
            self.database,
            Policy(older_than=self._settings.archive_after, keep_active=self._settings.keep_active),
            settled=self._counted,
            prepare=self._snapshot_first,
            enabled=self._settings.archive,
        )
        self.read_model = self.projections.read_model
        self.wait_for = self.projections.wait_for
        self.append = told.append
        self.append_all = told.append_all
        self.load = self.repository.load
        self.replay = self.repository.replay
        self.snapshot = self.repository.snapshot
        executor = Executor(
            log,
            self.repository,
            domains,
            self.snapshots,
            tell=tell,
            attempted=metrics.attempted,
        )
        self.execute = executor.execute

    def _counted(self) -> int:
        """The position up to which events are counted, so that nobody has to, once archived."""
        settled = self.watermark().position
        while self.rollups.roll_up(settled):
            pass
        return min(settled, self.log.rolled_up())

    def _snapshot_first(self, leaving: Leaving) -> None:
        """Take snapshots of what goes on, so that its loads need nothing of what is archived."""
        heads = self.log.heads(list(leaving))
        going_on = [
            aggregate_id
            for aggregate_id, version in leaving.items()
            if aggregate_id in heads
            and heads[aggregate_id].version > version
            and heads[aggregate_id].aggregate_type in self.snapshots.types
        ]
        newest = self.snapshots.newest(going_on)
        for aggregate_id in going_on:
            if newest.get(aggregate_id, 0) <= leaving[aggregate_id]:
                try:
                    self.snapshot(aggregate_id, replay=False)
                except StoreUnavailable:
                    raise  # nor would any other be taken
                except EventStoreError as error:
                    # It is loaded all the same, from the archive.
                    _log.warning("no snapshot of %r before it is archived: %s", aggregate_id, error)

    @cached_property
    def history(self) -> MetricHistory:
        """The metrics over time, as EVENT_STORE_PROMETHEUS_URL keeps them, else the store.

        Raises:
            InvalidSetting: it is no address.
        """
        if self._settings.prometheus_url is not None:
            return PrometheusHistory(self._settings.prometheus_url)
        return SampledHistory(self.database, name=self.info.name)

    def publisher(self) -> Publisher | None:
        """Where what is appended goes to; None where that is nowhere.

        To the domains' handlers, and to Redis Streams where EVENT_STORE_TOPIC names a topic.

        Raises:
            InvalidSetting: there is a topic, and no Redis.
        """
        publishers: list[Publisher] = []
        if list(self.domains.handlers):
            publishers.append(InProcess(self.domains, self._load_at, self.metrics.handling))
        if self._settings.topic is not None:
            publishers.append(self._streams(self._settings.topic))
        return Several(publishers) if publishers else None

    def _load_at(self, aggregate_id: str, version: int) -> Loaded[Any]:
        return self.load(aggregate_id, version=version)

    def _streams(self, topic: str) -> Publisher:
        settings = self._settings
        if settings.redis_url is None:
            raise InvalidSetting("EVENT_STORE_TOPIC needs EVENT_STORE_REDIS_URL: where is Redis?")
        with needing_redis():
            from store.outbox.streams import RedisStreams  # noqa: PLC0415 (an extra)
        [(store_id,)] = self.database.rows("SELECT CAST(store_id AS text) FROM store_info", {})
        source = f"urn:uuid:{store_id}"
        streams = RedisStreams(
            settings.redis_url, topic=topic, source=source, shards=settings.shards
        )
        self._open.callback(streams.close)
        return streams

    def relay(self, publisher: Publisher) -> Relay:
        """A relay that takes the outbox to the publisher, as EVENT_STORE_DEAD_LETTERS says.

        Dead letters are told to EVENT_STORE_DEAD_LETTER_WEBHOOK.
        """
        options: dict[str, Any] = {
            "on_dead_letter": self._settings.dead_letters,
            "tell_dead": self._tell_dead,
        }
        if not self.measured:
            return Relay(self.database, publisher, **options)
        return MeasuredRelay(self.database, publisher, metrics=self.metrics, **options)

    @cached_property
    def _tell_dead(self) -> TellDead:
        if self._settings.dead_letter_webhook is None:
            return lambda _: None
        table = self.database.tables.tables["store_info"]
        [(store_id,)] = self.database.select(select(table.c.store_id))
        origin = Origin(id=UUID(str(store_id)), name=self.info.name)
        url = self._settings.dead_letter_webhook
        webhook = Webhook(url, origin, failed=self.metrics.untold)
        self._open.callback(webhook.close)
        return webhook.tell

    def own_relay(self) -> Relay | None:
        """The relay that a worker of this store runs, by its settings.

        None where it publishes nothing: there is no publisher, or EVENT_STORE_RELAY is off.

        Raises:
            InvalidSetting: there is a topic, and no Redis.
        """
        publisher = self.publisher() if self._settings.relay else None
        return None if publisher is None else self.relay(publisher)

    def own_projectors(self) -> Sequence[Projector]:
        """The projectors that a worker of this store runs, each in a thread of its own.

        Their tables are created where there are none; no projectors where EVENT_STORE_PROJECTIONS
        is off.

        Raises:
            ReadModelInUse, AccessDenied: a table cannot be created.
        """
        if not self._settings.projections:
            return []
        self.projections.build_missing()
        return [self.projections.projector(name) for name in self.projections.declared]

    def trim_outbox(self) -> int:
        """Remove what was published before EVENT_STORE_OUTBOX_RETENTION; how many records."""
        return trim(self.database, self._settings.outbox_retention)

    def exposition(self) -> bytes:
        """The metrics as Prometheus reads them, for an answer of `store.CONTENT_TYPE`.

        Those of all processes of a service, where PROMETHEUS_MULTIPROC_DIR names a folder that they
        share.
        """
        return self.metrics.exposition(self._settings.metrics_folder)

    def levels(self) -> Levels | None:
        """How the store stands, some seconds old; None where the database could not be asked."""
        return self._gauges.levels()

    def close(self) -> None:
        """Write down what is left of conflicts and metrics, and close the database connections."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _metrics(metrics: Metrics | bool) -> Metrics:  # noqa: FBT001 (as given)
    if isinstance(metrics, Metrics):
        return metrics
    return of_process() if metrics else Metrics(CollectorRegistry())


def _held(database: Database, cache: Cache | None) -> Held:
    size, is_away = (0, False) if cache is None else (cache.size, cache.is_redis_away)
    return Held(database.connections.in_use, size, is_away)


def _domains(domain: Domain | Domains | str | None) -> Domains:
    if isinstance(domain, Domains):
        return domain
    if isinstance(domain, Domain):
        return Domains([domain])
    return Domains() if domain is None else load_domains(domain)


class Opened(Struct, frozen=True, kw_only=True):
    """Events to read, and the store they are in; a file, or another system's table, is none."""

    source: EventSource
    store: Hindsight | None = None


@contextmanager
def opened(
    location: str, *, domain: Domains | None = None, snapshots: bool | None = None
) -> Iterator[Opened]:
    """What there is to read at a URL or in an event file (NDJSON, gzipped or not); read-only.

    In a PostgreSQL database without a store it is an event table of another system; `?table=` and
    SCHEMA.TABLE in the URL chooses one, whatever else is there.

    Raises:
        InvalidSource, SchemaError, StoreUnavailable, AccessDenied: it cannot be read; the message
            says why.
    """
    if "://" not in location:
        with NdjsonSource(location) as file:
            yield Opened(source=file)
        return
    url, table = _without_choice(parse_url(location))
    with ExitStack() as closing:
        store = _store(location, domain=domain, snapshots=snapshots) if table is None else None
        if store is not None:
            closing.enter_context(store)
            yield Opened(source=store.log, store=store)
            return
        database = connect(url, read_only=True)
        closing.callback(database.close)
        layout = recognise(database, wanted=table)
        yield Opened(source=ForeignSource(database, layout, name=display_name(url)))


def _without_choice(url: URL) -> tuple[URL, str | None]:
    """The URL that a driver takes, and which table is chosen."""
    if url.get_backend_name() == "sqlite":
        return url, None
    chosen = url.query.get(CHOOSE)
    if isinstance(chosen, tuple):
        raise InvalidSource(f"{CHOOSE}: one of {', '.join(chosen)}, not several")
    return url.difference_update_query([CHOOSE]), chosen


def _store(url: str, *, domain: Domains | None, snapshots: bool | None) -> Hindsight | None:
    """The store at `url`; None where something else may be."""
    try:
        # Who shows how something came about shows what is stored.
        return Hindsight(url, domain=domain, read_only=True, snapshots=snapshots, cache=False)
    except NoStore:
        if parse_url(url).get_backend_name() == "sqlite":
            raise
        return None


@contextmanager
def open_source(location: str) -> Iterator[EventSource]:
    """The events of what `opened` finds; raises as it does."""
    with opened(location) as found:
        yield found.source


@contextmanager
def open_repository(
    location: str, domains: Domains, *, snapshots: bool | None = None
) -> Iterator[Repository]:
    """The states of what `opened` finds; a store's from snapshots, unless they are off."""
    with opened(location, domain=domains, snapshots=snapshots) as found:
        if found.store is not None:
            yield found.store.repository
        else:
            yield Repository(found.source, domains)


def migrate(url: str, revision: str = "head") -> str | None:
    """Bring the schema at `url` up to `revision`, creating an SQLite file where there is none.

    Returns the revision before, None where there was no store.
    """
    database = _connect_to_migrate(url)
    try:
        with database.transaction() as connection:
            return migrations.upgrade(connection, revision)
    finally:
        database.close()


def migrate_down(url: str, revision: str) -> None:
    """Take the schema at `url` down to `revision`; "base" removes every event."""
    database = _connect_to_migrate(url)
    try:
        with database.transaction() as connection:
            migrations.downgrade(connection, revision)
    finally:
        database.close()


def _connect_to_migrate(url: str) -> Database:
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        ensure_folder(parsed)
    return connect(parsed)


def parse_url(url: str) -> URL:
    """The URL of a store on SQLite or PostgreSQL."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        shown = "this" if "@" in url else repr(url)  # what stands before an @ may be a password
        raise InvalidSource(f"{shown} is no URL; use sqlite:///PATH or postgresql://…") from None
    if backend == "postgres":
        return parsed.set(drivername="postgresql")
    if backend not in {"sqlite", "postgresql"}:
        raise InvalidSource(f"{backend}: use sqlite:///PATH or postgresql://…")
    return parsed


def connect(url: URL, *, read_only: bool = False, time_limit: float | None = None) -> Database:
    """The database at `url`, whatever is in it; it ends statements after `time_limit` seconds."""
    kind = SQLite if url.get_backend_name() == "sqlite" else PostgreSQL
    return kind(url, read_only=read_only, time_limit=time_limit)


def display_name(url: URL) -> str:
    """The store's name for people: never with a password in it."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return f"{url.database} on {url.host or url.query.get('host') or 'localhost'}"


def check_schema(database: Database) -> None:
    """Refuse a database without a store, behind this code, or too far ahead of it."""
    with database.connect() as connection:
        revision = migrations.current_revision(connection)
        if revision is None:
            raise NoStore("no event store here; run: hindsight migrate")
        if revision == migrations.REVISIONS[-1]:
            return
        if revision in migrations.REVISIONS:
            raise SchemaError(
                f"the schema is at {revision}, behind this code; run: hindsight migrate"
            )
        minimum = connection.scalar(select(database.tables.tables["store_info"].c.minimum_version))
    if _numbers(version("hindsight-event-store")) < _numbers(str(minimum)):
        raise SchemaError(f"the schema at {revision} needs version {minimum} or later of this code")


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", release)[:3])

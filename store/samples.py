"""Metrics over time without a Prometheus server: compact rows that each process writes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from threading import Lock
from time import monotonic
from typing import Literal, TypeAlias
from uuid import uuid4

import msgspec
from msgspec import Struct
from sqlalchemy import Table, delete, select

from store.database import Database
from store.metric_history import Labels, Newest, Window
from store.metrics import Metrics, Series

EVERY = timedelta(seconds=10)
KEPT = timedelta(hours=24)
"""How long rows stay."""
_SETTLED = timedelta(minutes=2)
"""How long after its end nothing is added to a step any more, clocks being a little apart."""
_FRESH = 1.0
"""Seconds; a document asks many times for the same steps."""
_STEPS_KEPT = 2_000
_NEWEST = 100
"""Rows among which the one that was written last is looked for."""

Increases: TypeAlias = dict[Series, float]


class _Data(Struct, array_like=True):
    """A row's content: by name, each label set's increase; and the gauges as they stood."""

    increases: dict[str, list[tuple[dict[str, str], float]]]
    levels: dict[str, float]


class _Step(Struct):
    increases: Increases
    levels: dict[str, float]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Data).decode


class Sampler:
    """Writes how much a process's metrics grew, one row for every 10 seconds in which they did.

    Not safe to share between threads: it is its recorder's.
    """

    def __init__(self, database: Database, metrics: Metrics, *, process: str) -> None:
        self._database = database
        self._metrics = metrics
        self._process = process
        self._id = str(uuid4())
        self._before = metrics.values()
        self._row: Increases = {}
        self._levels: Mapping[str, float] = {}
        self._taken_at = _floor(datetime.now(UTC), EVERY)

    def sample(self, *, at_once: bool, levels: bool = True) -> None:
        """Write the row where its time is up, or `at_once` as far as it has come.

        Without `levels` the database is not asked how it stands, which may take a moment.

        Raises:
            EventStoreError: it could not be written; it is tried again with the next call.
        """
        now = datetime.now(UTC)
        taken_at, current = self._taken_at, _floor(now, EVERY)
        if not at_once and current == taken_at:
            return
        values = self._metrics.values()
        row = _sum(self._row, _grown(self._before, values))
        if row != self._row:
            # Again and again the same row until it is sure to be there: never counted twice.
            if levels:
                self._levels = self._metrics.levels()
            self._write(taken_at, now, row)
            self._before, self._row = values, row
        if current != taken_at:
            self._taken_at, self._row = current, {}

    def _write(self, taken_at: datetime, now: datetime, row: Increases) -> None:
        bind, value = self._database.bind, self._database.value
        sql = f"""
            INSERT INTO metric_samples (taken_at, sampler, process, written_at, data)
            VALUES ({bind("taken_at")}, {bind("sampler")}, {bind("process")}, {bind("now")},
                {bind("data")})
            ON CONFLICT (taken_at, sampler) DO UPDATE SET
                written_at = excluded.written_at, data = excluded.data
            RETURNING sampler
        """  # noqa: S608 (placeholders)
        parameters = {
            "taken_at": value(taken_at),
            "sampler": self._id,
            "process": self._process,
            "now": value(now),
            "data": _encoded(row, self._levels),
        }
        table = self._database.tables.tables["metric_samples"]
        with self._database.transaction() as connection:
            self._database.rows(sql, parameters, connection)
            connection.execute(delete(table).where(table.c.taken_at < now - KEPT))


class SampledHistory:
    """The `MetricHistory` of the rows in a store. Safe to share between threads."""

    kind: Literal["samples"] = "samples"
    finest = EVERY

    def __init__(self, database: Database, *, name: str) -> None:
        self.name = name
        self._database = database
        self._lock = Lock()
        self._settled: dict[tuple[timedelta, datetime], _Step] = {}
        self._read: tuple[Window, float, Sequence[_Step]] | None = None

    def increases(
        self, metric: str, window: Window, *, by: Sequence[str] = ()
    ) -> Mapping[Labels, Sequence[float]]:
        """See `MetricHistory.increases`."""
        found: dict[Labels, list[float]] = defaultdict(lambda: [0.0] * window.steps)
        for number, step in enumerate(self._steps(window)):
            for (name, labels), increase in step.increases.items():
                if name == metric:
                    named = dict(labels)
                    found[tuple(named.get(each, "") for each in by)][number] += increase
        return dict(found)

    def levels(self, gauge: str, window: Window) -> Sequence[float | None]:
        """See `MetricHistory.levels`."""
        return [step.levels.get(gauge) for step in self._steps(window)]

    def newest(self) -> Newest | None:
        """See `MetricHistory.newest`."""
        table = self._table
        query = select(table.c.written_at, table.c.process)
        rows = self._database.select(query.order_by(table.c.taken_at.desc()).limit(_NEWEST))
        return max(
            (Newest(at=row[0], process=row[1]) for row in rows),
            key=lambda newest: newest.at,
            default=None,
        )

    def _steps(self, window: Window) -> Sequence[_Step]:
        with self._lock:
            if self._read is not None:
                of, until, steps = self._read
                if of == window and monotonic() < until:
                    return steps
            steps = self._read_steps(window)
            self._read = (window, monotonic() + _FRESH, steps)
            return steps

    def _read_steps(self, window: Window) -> Sequence[_Step]:
        """The steps; those that are settled are read once."""
        starts = [window.start + number * window.step for number in range(window.steps)]
        known = {start: self._settled.get((window.step, start)) for start in starts}
        first = next((start for start in starts if known[start] is None), None)
        if first is not None:
            fresh = self._between(first, window)
            settled = datetime.now(UTC) - _SETTLED
            for start in starts:
                if start >= first:
                    known[start] = fresh.get(start) or _Step({}, {})
                    if start + window.step < settled:
                        self._settle(window.step, start, known[start] or _Step({}, {}))
        return [known[start] or _Step({}, {}) for start in starts]

    def _settle(self, width: timedelta, start: datetime, step: _Step) -> None:
        if len(self._settled) >= _STEPS_KEPT:
            self._settled.clear()
        self._settled[width, start] = step

    def _between(self, first: datetime, window: Window) -> dict[datetime, _Step]:
        table = self._table
        query = (
            select(table.c.taken_at, table.c.data)
            .where(table.c.taken_at >= first, table.c.taken_at < window.end)
            .order_by(table.c.taken_at, table.c.written_at)
        )
        found: dict[datetime, _Step] = {}
        for taken_at, data in self._database.select(query):
            start = window.start + (taken_at - window.start) // window.step * window.step
            step = found.setdefault(start, _Step({}, {}))
            _add(step, _decode(data))
        return found

    @property
    def _table(self) -> Table:
        return self._database.tables.tables["metric_samples"]


def _floor(moment: datetime, width: timedelta) -> datetime:
    start = datetime(1970, 1, 1, tzinfo=UTC)
    return start + (moment - start) // width * width


def _grown(before: Increases, now: Increases) -> Increases:
    grown = {series: value - before.get(series, 0.0) for series, value in now.items()}
    return {series: increase for series, increase in grown.items() if increase}


def _sum(one: Increases, other: Increases) -> Increases:
    return one | {series: one.get(series, 0.0) + more for series, more in other.items()}


def _encoded(row: Increases, levels: Mapping[str, float]) -> str:
    increases: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    for (name, labels), increase in row.items():
        increases[name].append((dict(labels), increase))
    return _encode(_Data(increases, dict(levels))).decode()


def _add(step: _Step, data: _Data) -> None:
    for name, rows in data.increases.items():
        for labels, increase in rows:
            series = (name, tuple(sorted(labels.items())))
            step.increases[series] = step.increases.get(series, 0.0) + increase
    step.levels |= data.levels

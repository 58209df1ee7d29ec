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
from sqlalchemy import Table, delete, or_, select, tuple_

from store.database import Database
from store.metric_history import Alerts, Labels, Newest, Window, floor
from store.metrics import Metrics, Series

EVERY = timedelta(seconds=10)
LE = "le"
"""The label of a histogram's bucket: its upper bound."""
KEPT = timedelta(hours=24)
"""How long rows stay."""
_SETTLED = timedelta(minutes=2)
"""How long after its end nothing is added to a step any more, clocks being a little apart."""
_FRESH = 1.0
"""Seconds; a document asks many times for the same steps."""
_STEPS_KEPT = 2_000
_BATCH = 1_000
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


class _Row(Struct, frozen=True):
    """A row as it is to be written."""

    sampler: str
    taken_at: datetime
    increases: Increases


class Sampler:
    """Writes how much a process's metrics grew, one row for every 10 seconds in which they did.

    Of several samplers of the same metrics one writes, and another goes on where it ends. Not safe
    to share between threads: it is its recorder's.
    """

    def __init__(self, database: Database, metrics: Metrics, *, process: str) -> None:
        self._database = database
        self._metrics = metrics
        self._process = process
        self._claimed = False
        self._id = str(uuid4())
        self._row: Increases = {}
        self._unwritten: _Row | None = None
        self._levels: Mapping[str, float] = {}
        self._taken_at = floor(datetime.now(UTC), EVERY)

    def sample(self, *, last: bool = False) -> None:
        """Write the row where its time is up, where there are new conflicts, or the `last` time.

        Raises:
            EventStoreError: it could not be written; it is tried again with the next call.
        """
        self._claimed = self._claimed or self._metrics.claim()
        if not self._claimed:
            return
        current = floor(datetime.now(UTC), EVERY)
        if current < self._taken_at:
            # The clock was put back: rows of that time are written already, and not to be replaced.
            self._id = str(uuid4())
            self._begin(current)
        elif self._unwritten is not None and current > self._taken_at:
            # Nobody looks any more for what has grown since in the seconds before.
            self._begin(current)
        # The same row until it is sure to be there, so that nothing is counted twice.
        self._write_unwritten()
        taken_at = self._taken_at
        if last or current != taken_at or self._metrics.has_new_conflicts():
            self._take(taken_at)
        if current != taken_at:
            self._begin(current)
        if self._unwritten is not None and not last:
            # At the end nobody waits for a database to say how it stands.
            self._levels = self._metrics.levels()
        self._write_unwritten()

    def _begin(self, taken_at: datetime) -> None:
        self._taken_at, self._row = taken_at, {}

    def _take(self, taken_at: datetime) -> None:
        values = self._metrics.values()
        if grown := _grown(self._metrics.sampled, values):
            self._row = _sum(self._row, grown)
            self._metrics.sampled = values
            self._unwritten = _Row(self._id, taken_at, self._row)

    def release(self) -> None:
        """Let another go on."""
        if self._claimed:
            self._metrics.release()
            self._claimed = False

    def _write_unwritten(self) -> None:
        if self._unwritten is not None:
            self._write(self._unwritten)
            self._unwritten = None

    def _write(self, row: _Row) -> None:
        bind, value = self._database.bind, self._database.value
        now = datetime.now(UTC)
        sql = f"""
            INSERT INTO metric_samples (taken_at, sampler, process, written_at, data)
            VALUES ({bind("taken_at")}, {bind("sampler")}, {bind("process")}, {bind("now")},
                {bind("data")})
            ON CONFLICT (taken_at, sampler) DO UPDATE SET
                written_at = excluded.written_at, data = excluded.data
            RETURNING sampler
        """  # noqa: S608 (placeholders)
        parameters = {
            "taken_at": value(row.taken_at),
            "sampler": row.sampler,
            "process": self._process,
            "now": value(now),
            "data": _encoded(row.increases, self._levels),
        }
        table = self._database.tables.tables["metric_samples"]
        key = (table.c.taken_at, table.c.sampler)
        # In portions: an SQLite writer holds up all others.
        old = select(*key).where(table.c.taken_at < now - KEPT).limit(_BATCH)
        with self._database.transaction() as connection:
            self._database.rows(sql, parameters, connection)
            connection.execute(delete(table).where(tuple_(*key).in_(old)))


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
        return _cumulated(found, list(by).index(LE)) if LE in by else dict(found)

    def levels(self, gauge: str, window: Window) -> Sequence[float | None]:
        """See `MetricHistory.levels`."""
        return [step.levels.get(gauge) for step in self._steps(window)]

    def alerts(self) -> Alerts | None:
        """See `MetricHistory.alerts`: rows look at nothing."""
        return None

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
        width, settled_by = window.step, datetime.now(UTC) - _SETTLED
        first = next((start for start in starts if (width, start) not in self._settled), None)
        fresh = {} if first is None else self._between(first, window)
        steps = []
        for start in starts:
            step = self._settled.get((width, start)) or fresh.get(start) or _Step({}, {})
            if start + width < settled_by:
                self._settle(width, start, step)
            steps.append(step)
        return steps

    def _settle(self, width: timedelta, start: datetime, step: _Step) -> None:
        self._settled[width, start] = step
        if len(self._settled) > _STEPS_KEPT:
            del self._settled[next(iter(self._settled))]

    def _between(self, first: datetime, window: Window) -> dict[datetime, _Step]:
        """What the rows from `first` on come to, by step; read a batch at a time."""
        table = self._table
        key = (table.c.taken_at, table.c.sampler)
        query = select(*key, table.c.data).where(table.c.taken_at < window.end).order_by(*key)
        found: dict[datetime, _Step] = {}
        page = query.where(table.c.taken_at >= first)
        while rows := self._database.select(page.limit(_BATCH)):
            for taken_at, _, data in rows:
                start = window.start + (taken_at - window.start) // window.step * window.step
                _add(found.setdefault(start, _Step({}, {})), _decode(data))
            last_at, last = rows[-1][:2]
            behind = or_(table.c.taken_at > last_at, table.c.sampler > last)
            page = query.where(table.c.taken_at >= last_at, behind)
        return found

    @property
    def _table(self) -> Table:
        return self._database.tables.tables["metric_samples"]


def _grown(before: Increases, now: Increases) -> Increases:
    grown = {series: value - before.get(series, 0.0) for series, value in now.items()}
    return {series: increase for series, increase in grown.items() if increase}


def _sum(one: Increases, other: Increases) -> Increases:
    return one | {series: one.get(series, 0.0) + more for series, more in other.items()}


def _encoded(row: Increases, levels: Mapping[str, float]) -> str:
    increases: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    for (name, labels), increase in _apart(row).items():
        increases[name].append((dict(labels), increase))
    return _encode(_Data(increases, dict(levels))).decode()


def _apart(row: Increases) -> Increases:
    """The row with what each bucket has beyond the one below it, which mostly is nothing."""
    apart = {series: increase for series, increase in row.items() if LE not in dict(series[1])}
    counted: dict[tuple[object, ...], float] = {}
    buckets = [series for series in row if LE in dict(series[1])]
    for name, labels in sorted(buckets, key=lambda series: float(dict(series[1])[LE])):
        others = (name, *(label for label in labels if label[0] != LE))
        if beyond := row[name, labels] - counted.get(others, 0.0):
            apart[name, labels] = beyond
        counted[others] = row[name, labels]
    return apart


def _cumulated(
    found: Mapping[Labels, Sequence[float]], place: int
) -> Mapping[Labels, Sequence[float]]:
    """Buckets that count everything below their bounds, which stand at `place` of the keys."""
    cumulated: dict[Labels, Sequence[float]] = {}
    below: dict[Labels, Sequence[float]] = {}
    for key in sorted(found, key=lambda key: float(key[place])):
        others = key[:place] + key[place + 1 :]
        before = below.get(others, [0.0] * len(found[key]))
        below[others] = cumulated[key] = [
            sum(pair) for pair in zip(before, found[key], strict=True)
        ]
    return cumulated


def _add(step: _Step, data: _Data) -> None:
    for name, rows in data.increases.items():
        for labels, increase in rows:
            series = (name, tuple(sorted(labels.items())))
            step.increases[series] = step.increases.get(series, 0.0) + increase
    step.levels |= data.levels

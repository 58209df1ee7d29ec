"""The document of the Monitoring page: conflicts, latencies, throughput, lag and size over time."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from dashboard import resources
from dashboard.documents.cached import Cached, cached
from dashboard.moments import to_microseconds
from dashboard.parameters import InvalidAddress
from store.alerts import evaluated
from store.application import Hindsight
from store.conflict import Outcome, Verdict
from store.conflict_log import ConflictLog, Conflicts, Logged
from store.errors import NotFound
from store.gauges import Levels
from store.metric_history import (
    Firing,
    MetricHistory,
    Newest,
    Severity,
    Window,
    filled,
    quantile,
)
from store.metrics import SECONDS
from store.sources import MICROSECOND

RECENT = 20
HOTTEST = 10
PAIRS = 100
RANKS = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

Latency = Mapping[str, Sequence[float | None]]
"""By rank, such as p95, the seconds in each step; None where nothing happened."""


class Range(msgspec.Struct, frozen=True):
    """How far back the page looks, and in which steps."""

    width: timedelta
    step: timedelta


RANGES = {
    "15m": Range(timedelta(minutes=15), timedelta(seconds=30)),
    "1h": Range(timedelta(hours=1), timedelta(minutes=1)),
    "6h": Range(timedelta(hours=6), timedelta(minutes=5)),
    "24h": Range(timedelta(hours=24), timedelta(minutes=15)),
}


class NothingToWatch(NotFound):
    """The source is no store, so there are no metrics."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Who keeps the metrics."""

    kind: Literal["samples", "prometheus"]
    name: str


class NewestSample(msgspec.Struct, frozen=True, kw_only=True):
    """When the newest sample was taken, in µs since 1970, and of which process."""

    at: int
    process: str


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """How long appends, loads and each handler took."""

    save: Latency
    replay: Latency
    handlers: Mapping[str, Latency]


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """How the store stands now: bytes, events and seconds."""

    size: int
    feed_lag: int
    watermark_age: float


class Fired(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that fires, and since when, in µs since 1970, where that is known."""

    name: str
    severity: Severity
    summary: str
    since: int | None


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """Which of so many alert rules fire, and who looked: Prometheus, or the dashboard itself."""

    by: Literal["prometheus", "dashboard"]
    rules: int
    firing: Sequence[Fired]


class Tallied(msgspec.Struct, frozen=True, kw_only=True):
    """How many conflicts were logged."""

    detected: int
    absorbed: int
    escaped: int
    needless: int


class OfHour(msgspec.Struct, frozen=True, kw_only=True):
    """The conflicts of an hour, in µs since 1970, and an aggregate type."""

    hour: int
    aggregate_type: str
    detected: int
    escaped: int
    needless: int


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """The conflicts that one command lost against another."""

    losing: str
    winning: str | None
    detected: int
    escaped: int
    needless: int


class Hot(msgspec.Struct, frozen=True, kw_only=True):
    """The conflicts of an aggregate, when the newest was, and which version it found."""

    aggregate_type: str
    aggregate_id: str | None
    detected: int
    absorbed: int
    escaped: int
    needless: int
    last_at: int
    last_version: int | None


class Recent(msgspec.Struct, frozen=True, kw_only=True):
    """A conflict of the log."""

    occurred_at: int
    outcome: Outcome
    aggregate_type: str
    aggregate_id: str | None
    expected: int | None
    actual: int | None
    losing: str
    winning: str | None
    verdict: Verdict
    weight: int
    actor: str | None


class Monitoring(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows; times and widths of steps are in µs, latencies in seconds.

    Step `i` begins at `start + i * step`; the last is under way. `conflicts`, `saves` and `events`
    are increases, `levels` what was the case at a step's end.
    """

    range: str
    step: int
    start: int
    steps: int
    now: int
    source: Kept
    newest: NewestSample | None
    conflicts: Mapping[str, Sequence[float]]
    saves: Sequence[float]
    events: Mapping[str, Sequence[float]]
    latency: Latencies
    quantiles: Mapping[str, Mapping[str, float | None]]
    levels: Mapping[str, Sequence[float | None]]
    level: Level | None
    alerts: Looked | None
    cache: Cached
    logged: Tallied
    hours: Sequence[OfHour]
    pairs: Sequence[Pair]
    hottest: Sequence[Hot]
    recent: Sequence[Recent]


def monitoring(params: Mapping[str, str]) -> Monitoring:
    """The last 15 minutes, hour, 6 or 24 hours, by `range`.

    Raises:
        NothingToWatch: the source is no store.
        MetricsUnavailable: who keeps the metrics does not answer.
    """
    named = params.get("range") or "1h"
    if named not in RANGES:
        raise InvalidAddress(f"range: {named[:40]!r} is none of {', '.join(RANGES)}")
    store = resources.store()
    if store is None:
        what = "An event file" if resources.file() else "A table of another system"
        raise NothingToWatch(f"{what} has no metrics; open a store to watch it.")
    now = datetime.now(UTC)
    return _seen(store, named, now, _window(RANGES[named], store.history, now))


def _window(wanted: Range, history: MetricHistory, now: datetime) -> Window:
    step = max(wanted.step, history.finest)
    return Window.until(now, step=step, steps=wanted.width // step)


def _seen(store: Hindsight, named: str, now: datetime, window: Window) -> Monitoring:
    history, log, levels = store.history, store.conflicts, store.levels()
    by_type = log.counts("type", since=window.start)
    saves = history.increases("event_store_save_duration_seconds_count", window)
    return Monitoring(
        range=named,
        step=window.step // MICROSECOND,
        start=to_microseconds(window.start),
        steps=window.steps,
        now=to_microseconds(now),
        source=Kept(kind=history.kind, name=history.name),
        newest=_newest(history.newest()),
        conflicts=_outcomes(history, window),
        saves=saves.get((), [0.0] * window.steps),
        events=_by_label(history, "event_store_events_total", "event_type", window),
        latency=_latencies(history, window),
        quantiles=_quantiles(history, window),
        levels={
            "size": history.levels("event_store_size_bytes", window),
            "feed_lag": history.levels("event_store_feed_lag_events", window),
            "watermark_age": history.levels("event_store_watermark_age_seconds", window),
        },
        level=_level(levels),
        alerts=_looked(history, levels, now),
        cache=cached(history, window),
        logged=_tallied(by_type),
        hours=[_of_hour(each) for each in by_type],
        pairs=[_pair(each) for each in log.counts("pair", since=window.start, limit=PAIRS)],
        hottest=_hottest(log, window),
        recent=[_recent(each) for each in log.newest(since=window.start, limit=RECENT)],
    )


def _newest(found: Newest | None) -> NewestSample | None:
    return (
        None if found is None else NewestSample(at=to_microseconds(found.at), process=found.process)
    )


def _level(found: Levels | None) -> Level | None:
    if found is None:
        return None
    return Level(size=found.size, feed_lag=found.feed_lag, watermark_age=found.watermark_age)


def _looked(history: MetricHistory, levels: Levels | None, now: datetime) -> Looked | None:
    found = history.alerts()
    by: Literal["prometheus", "dashboard"] = "dashboard" if found is None else "prometheus"
    if found is None:
        if levels is None:
            return None
        found = evaluated(levels, history, now)
    return Looked(by=by, rules=found.rules, firing=[_fired(each) for each in found.firing])


def _fired(found: Firing) -> Fired:
    return Fired(
        name=found.name,
        severity=found.severity,
        summary=found.summary,
        since=None if found.since is None else to_microseconds(found.since),
    )


def _outcomes(history: MetricHistory, window: Window) -> Mapping[str, Sequence[float]]:
    found = _by_label(history, "event_store_conflict_outcomes_total", "outcome", window)
    nothing = [0.0] * window.steps
    return {outcome: found.get(outcome, nothing) for outcome in ("absorbed", "escaped")}


def _by_label(
    history: MetricHistory, metric: str, label: str, window: Window
) -> Mapping[str, Sequence[float]]:
    """The series that grew at all."""
    found = history.increases(metric, window, by=[label])
    return {value: steps for (value,), steps in found.items() if any(steps)}


def _latencies(history: MetricHistory, window: Window) -> Latencies:
    handlers = _buckets(history, "event_handler_duration_seconds", window, "handler")
    return Latencies(
        save=_ranked(_buckets(history, "event_store_save_duration_seconds", window), window),
        replay=_ranked(_buckets(history, "event_replay_duration_seconds", window), window),
        handlers={
            name: _ranked({key: steps for key, steps in handlers.items() if key[0] == name}, window)
            for name in sorted({key[0] for key in handlers})
        },
    )


def _quantiles(history: MetricHistory, window: Window) -> Mapping[str, Mapping[str, float | None]]:
    """Over the whole window."""
    names = {
        "save": "event_store_save_duration_seconds",
        "replay": "event_replay_duration_seconds",
    }
    found = {}
    for name, metric in names.items():
        grown = _buckets(history, metric, window)
        whole = filled({float(bound): sum(steps) for (bound,), steps in grown.items()}, SECONDS)
        found[name] = {rank: quantile(share, whole) for rank, share in RANKS.items()}
    return found


def _buckets(
    history: MetricHistory, histogram: str, window: Window, *by: str
) -> Mapping[tuple[str, ...], Sequence[float]]:
    """How much the buckets grew; the last part of a key is the upper bound."""
    found = history.increases(f"{histogram}_bucket", window, by=[*by, "le"])
    return {key: steps for key, steps in found.items() if any(steps)}


def _ranked(buckets: Mapping[tuple[str, ...], Sequence[float]], window: Window) -> Latency:
    each = [
        filled({float(key[-1]): steps[number] for key, steps in buckets.items()}, SECONDS)
        for number in range(window.steps)
    ]
    return {rank: [quantile(share, step) for step in each] for rank, share in RANKS.items()}


def _tallied(counts: Sequence[Conflicts]) -> Tallied:
    return Tallied(
        detected=sum(each.detected for each in counts),
        absorbed=sum(each.absorbed for each in counts),
        escaped=sum(each.escaped for each in counts),
        needless=sum(each.needless for each in counts),
    )


def _of_hour(counted: Conflicts) -> OfHour:
    hour, aggregate_type = counted.key
    assert isinstance(hour, datetime)  # noqa: S101 (for the type checker)
    return OfHour(
        hour=to_microseconds(hour),
        aggregate_type=str(aggregate_type),
        detected=counted.detected,
        escaped=counted.escaped,
        needless=counted.needless,
    )


def _pair(counted: Conflicts) -> Pair:
    losing, winning = counted.key
    return Pair(
        losing=str(losing),
        winning=None if winning is None else str(winning),
        detected=counted.detected,
        escaped=counted.escaped,
        needless=counted.needless,
    )


def _hottest(log: ConflictLog, window: Window) -> Sequence[Hot]:
    return [
        Hot(
            aggregate_type=str(counted.key[0]),
            aggregate_id=None if counted.key[1] is None else str(counted.key[1]),
            detected=counted.detected,
            absorbed=counted.absorbed,
            escaped=counted.escaped,
            needless=counted.needless,
            last_at=to_microseconds(counted.last_at),
            last_version=counted.last_version,
        )
        for counted in log.counts("aggregate", since=window.start, limit=HOTTEST)
    ]


def _recent(logged: Logged) -> Recent:
    return Recent(
        occurred_at=to_microseconds(logged.occurred_at),
        outcome=logged.outcome,
        aggregate_type=logged.aggregate_type,
        aggregate_id=logged.aggregate_id,
        expected=logged.expected,
        actual=logged.actual,
        losing=logged.losing,
        winning=logged.winning,
        verdict=logged.verdict,
        weight=logged.weight,
        actor=logged.actor,
    )

"""Which alerts fire: those of `deploy/prometheus/alerts.yml` that a store can tell by itself.

For who has no Prometheus. Names, thresholds and spans are those of the rules; what they ask to hold
for some minutes is looked at as it is now.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from store.gauges import Levels
from store.metric_history import (
    OURS,
    Alerts,
    Firing,
    Labels,
    MetricHistory,
    Severity,
    Window,
    filled,
    quantile,
    ranked,
)
from store.metrics import SECONDS

_STEP = timedelta(minutes=1)
_LONGEST = 60
"""Minutes that a rule may look back. All look through one window, which is read once."""
_OUTCOMES = "event_store_conflict_outcomes_total"
_SAVES = "event_store_save_duration_seconds"
_REPLAYED = "event_store_replay_events"


class Rule(Struct, frozen=True, kw_only=True):
    """An alert: `told` is a summary of each thing that it fires for."""

    name: str
    severity: Severity
    threshold: float
    told: Callable[["Rule", "Seen"], Iterator[str]]


class Seen(Struct, frozen=True):
    """What rules look at: levels as they are, and counters in the minutes before `now`."""

    levels: Levels
    history: MetricHistory
    now: datetime

    def grown(self, metric: str, minutes: int, *by: str) -> Mapping[Labels, float]:
        """How much a counter grew, by labels."""
        window = Window.until(self.now, step=_STEP, steps=_LONGEST)
        found = self.history.increases(metric, window, by=by)
        return {labels: sum(steps[-minutes:]) for labels, steps in found.items()}

    def total(self, metric: str, minutes: int) -> float:
        """How much a counter grew in all."""
        return sum(self.grown(metric, minutes).values())

    def rank(self, rank: float, histogram: str, minutes: int, bounds: Sequence[float]) -> float:
        """The value below which that share of a histogram is; 0 of none."""
        grown = self.grown(f"{histogram}_bucket", minutes, "le")
        return quantile(rank, filled({float(key[0]): n for key, n in grown.items()}, bounds)) or 0.0


def evaluated(levels: Levels, history: MetricHistory, now: datetime) -> Alerts:
    """What fires now.

    Raises:
        MetricsUnavailable: who keeps the metrics does not answer.
    """
    seen = Seen(levels, history, now)
    found = [
        Firing(name=rule.name, severity=rule.severity, summary=summary)
        for rule in RULES
        for summary in rule.told(rule, seen)
    ]
    return ranked(len(RULES), found)


def _saves_slow(rule: Rule, seen: Seen) -> Iterator[str]:
    if seen.total(f"{_SAVES}_count", 5) > 0.1 * 300:
        found = seen.rank(0.99, _SAVES, 5, SECONDS)
        if found > rule.threshold:
            yield f"Appends are slow: p99 {found:.2f} s"


def _conflicts_escape(rule: Rule, seen: Seen) -> Iterator[str]:
    escaped = seen.grown(_OUTCOMES, 15, "outcome").get(("escaped",), 0.0)
    saves = seen.total(f"{_SAVES}_count", 15)
    if saves > 0 and escaped > 10 and escaped > rule.threshold * saves:
        yield f"Callers see conflicts: {escaped / saves:.0%} of appends"


def _replays_fail(rule: Rule, seen: Seen) -> Iterator[str]:
    failed = seen.grown("event_replay_requests_total", 15, "success").get(("false",), 0.0)
    if failed > rule.threshold:
        yield f"States cannot be made: {failed:.0f} in 15 minutes"


def _upcast_fails(rule: Rule, seen: Seen) -> Iterator[str]:
    found = seen.grown("event_store_upcast_failures_total", 15, "event_type")
    for (event_type,), failed in sorted(found.items()):
        if failed > rule.threshold:
            yield f"Stored events {event_type} cannot be read by this code"


def _replays_long(rule: Rule, seen: Seen) -> Iterator[str]:
    if seen.total(f"{_REPLAYED}_count", 30) > 0.05 * 1_800:
        found = seen.rank(0.99, _REPLAYED, 30, ())
        if found > rule.threshold:
            yield f"Loads replay {found:.0f} events (p99): snapshots are not taken, or not used"


def _grew(metric: str, minutes: int, summary: str) -> Callable[[Rule, Seen], Iterator[str]]:
    def told(rule: Rule, seen: Seen) -> Iterator[str]:
        found = seen.total(metric, minutes)
        if found > rule.threshold:
            yield summary.format(found)

    return told


def _outbox_old(rule: Rule, seen: Seen) -> Iterator[str]:
    backlog = seen.levels.backlog
    if backlog is not None and backlog.oldest is not None:
        age = (seen.now - backlog.oldest).total_seconds()
        if age > rule.threshold:
            yield f"The oldest event that is not published waits for {age:.0f} s"


def _relay_absent(rule: Rule, seen: Seen) -> Iterator[str]:
    backlog = seen.levels.backlog
    if backlog is not None and backlog.pending > rule.threshold and backlog.oldest is not None:
        waits = seen.now - backlog.oldest > timedelta(minutes=10)
        if waits and not seen.total("event_store_outbox_attempts_total", 10):
            yield f"Nobody publishes what is in the outbox; records that wait: {backlog.pending}"


def _dead_letters(rule: Rule, seen: Seen) -> Iterator[str]:
    backlog = seen.levels.backlog
    if backlog is not None and backlog.failed > rule.threshold:
        told = "what follows them in their aggregates waits"
        yield f"Dead letters: {backlog.failed}; {told}"


def _projection_behind(rule: Rule, seen: Seen) -> Iterator[str]:
    for each in seen.levels.projections or ():
        if each.lag.seconds > rule.threshold:
            yield f"Read model {each.projection} is {each.lag.seconds:.0f} s behind"


def _projection_stopped(rule: Rule, seen: Seen) -> Iterator[str]:
    for each in seen.levels.projections or ():
        if each.waiting > rule.threshold:
            yield f"Read model {each.projection} waits at an event it cannot take"


def _projection_drift(rule: Rule, seen: Seen) -> Iterator[str]:
    for each in seen.levels.projections or ():
        if (each.drift or 0) > rule.threshold:
            told = "that are not what the events say"
            yield f"Rows of read model {each.projection} {told}: {each.drift}"


def _watermark_frozen(rule: Rule, seen: Seen) -> Iterator[str]:
    if seen.levels.watermark_age > rule.threshold:
        yield f"A transaction has held up all followers for {seen.levels.watermark_age:.0f} s"


def _rollups_behind(rule: Rule, seen: Seen) -> Iterator[str]:
    if seen.levels.rollup_lag > rule.threshold:
        told = "are counted anew for each page: no worker rolls them up"
        yield f"{seen.levels.rollup_lag:,} events {told}"


def _partition_missing(rule: Rule, seen: Seen) -> Iterator[str]:
    archive = seen.levels.archive
    if archive is not None and archive.missing > rule.threshold:
        yield f"Months that the archive has no partition for: {archive.missing}"


def _archive_late(rule: Rule, seen: Seen) -> Iterator[str]:
    archive = seen.levels.archive
    if archive is not None and archive.ran_at is not None:
        late = (seen.now - archive.ran_at).total_seconds()
        if late > rule.threshold:
            yield f"Nothing has been archived to the end for {late / 86_400:.1f} days"


def _active_rows(rule: Rule, seen: Seen) -> Iterator[str]:
    archive = seen.levels.archive
    if archive is not None and archive.active > rule.threshold:
        yield f"{archive.active:,} events are not archived, above what is kept active"


def _rule(
    name: str,
    severity: Severity,
    threshold: float,
    told: Callable[[Rule, Seen], Iterator[str]],
) -> Rule:
    return Rule(name=f"{OURS}{name}", severity=severity, threshold=threshold, told=told)


RULES: Sequence[Rule] = (
    _rule("SavesSlow", "warning", 0.25, _saves_slow),
    _rule("ConflictsEscape", "warning", 0.01, _conflicts_escape),
    _rule("ReplaysFail", "critical", 0, _replays_fail),
    _rule("UpcastFails", "critical", 0, _upcast_fails),
    _rule("ReplaysLong", "warning", 200, _replays_long),
    _rule(
        "SnapshotDrift",
        "critical",
        0,
        _grew("event_store_snapshot_drift_total", 60, "Snapshots differ from the full replay"),
    ),
    _rule(
        "SnapshotsFail",
        "warning",
        0,
        _grew(
            "event_store_snapshot_failures_total",
            30,
            "Snapshots could not be taken: {:.0f} in 30 minutes",
        ),
    ),
    _rule("OutboxOld", "critical", 300, _outbox_old),
    _rule("RelayAbsent", "critical", 0, _relay_absent),
    _rule("DeadLetters", "critical", 0, _dead_letters),
    _rule(
        "WebhookFails",
        "warning",
        0,
        _grew(
            "event_store_outbox_webhook_failures_total",
            15,
            "The webhook does not take the dead letters",
        ),
    ),
    _rule("ProjectionBehind", "warning", 60, _projection_behind),
    _rule("ProjectionStopped", "critical", 0, _projection_stopped),
    _rule("ProjectionDrift", "critical", 0, _projection_drift),
    _rule("WatermarkFrozen", "critical", 60, _watermark_frozen),
    _rule("RollupsBehind", "warning", 100_000, _rollups_behind),
    _rule("PartitionMissing", "warning", 0, _partition_missing),
    _rule("ArchiveLate", "warning", 172_800, _archive_late),
    _rule("ActiveRowsBeyondBound", "warning", 11_000_000, _active_rows),
)

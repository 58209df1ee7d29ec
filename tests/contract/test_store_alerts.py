"""The alerts that a store tells by itself are those of Prometheus' rules."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from store import Hindsight, Metrics, NewEvent, any_, exact
from store.alerts import RULES, evaluated
from store.errors import VersionConflict
from store.gauges import Archiving, Backlog, Following, Levels
from store.metric_history import Alerts, Labels, Newest, Window
from store.projections.standing import Lag
from tests.contract.test_alerts import alerts


def lag(seconds: float) -> Lag:
    return Lag(events=1, is_bounded=False, seconds=seconds)


NOW = datetime(2026, 11, 28, 21, tzinfo=UTC)
GOOD = Levels(
    size=1,
    feed_lag=0,
    watermark_age=1.0,
    rollup_lag=10,
    backlog=Backlog(pending=0, failed=0, oldest=None),
    projections=[Following(projection="users", lag=lag(1.0), waiting=0, skipped=3, drift=0)],
    archive=Archiving(events=5, bytes=9, active=10, missing=0, ran_at=NOW - timedelta(hours=20)),
)


class Given:
    """A `MetricHistory` in which counters grew so in the last minute, and long ago."""

    kind: Literal["samples"] = "samples"
    name = ""
    finest = timedelta(minutes=1)

    def __init__(self, grown: Mapping[str, Mapping[Labels, float]], *, minutes_ago: int) -> None:
        self.grown = grown
        self.minutes_ago = minutes_ago

    def increases(
        self, metric: str, window: Window, *, by: Sequence[str] = ()
    ) -> Mapping[Labels, Sequence[float]]:
        found = self.grown.get(metric, {})
        if not by and found:
            found = {(): sum(found.values())}
        steps = [0.0] * window.steps
        return {
            labels: [*steps[self.minutes_ago + 1 :], count, *steps[: self.minutes_ago]]
            for labels, count in found.items()
        }

    def levels(self, gauge: str, window: Window) -> Sequence[float | None]:
        raise NotImplementedError(gauge, window)

    def newest(self) -> Newest | None:
        raise NotImplementedError

    def alerts(self) -> Alerts | None:
        raise NotImplementedError


SAVES = "event_store_save_duration_seconds"
REPLAYED = "event_store_replay_events"
BY_COUNTERS: Mapping[str, Mapping[str, Mapping[Labels, float]]] = {
    "SavesSlow": {
        f"{SAVES}_count": {(): 100},
        f"{SAVES}_bucket": {("0.1",): 90, ("0.5",): 100, ("inf",): 100},
    },
    "ConflictsEscape": {
        f"{SAVES}_count": {(): 500},
        "event_store_conflict_outcomes_total": {("escaped",): 11, ("absorbed",): 0},
    },
    "ReplaysFail": {"event_replay_requests_total": {("false",): 1, ("true",): 9}},
    "UpcastFails": {"event_store_upcast_failures_total": {("Made",): 1}},
    "ReplaysLong": {
        f"{REPLAYED}_count": {(): 100},
        f"{REPLAYED}_bucket": {("200",): 90, ("500",): 100, ("inf",): 100},
    },
    "SnapshotDrift": {"event_store_snapshot_drift_total": {(): 1}},
    "SnapshotsFail": {"event_store_snapshot_failures_total": {(): 1}},
    "WebhookFails": {"event_store_outbox_webhook_failures_total": {(): 1}},
}
BACKLOG = GOOD.backlog
assert BACKLOG is not None
ARCHIVE = GOOD.archive
assert ARCHIVE is not None
LONG_AGO = NOW - timedelta(minutes=11)


def following(**changed: Any) -> Levels:
    assert GOOD.projections is not None
    return replace(GOOD, projections=[replace(GOOD.projections[0], **changed)])


BY_LEVELS: Mapping[str, Levels] = {
    "OutboxOld": replace(GOOD, backlog=replace(BACKLOG, oldest=NOW - timedelta(minutes=6))),
    "RelayAbsent": replace(GOOD, backlog=replace(BACKLOG, pending=2, oldest=LONG_AGO)),
    "DeadLetters": replace(GOOD, backlog=replace(BACKLOG, failed=2)),
    "ProjectionBehind": following(lag=lag(61.0)),
    "ProjectionStopped": following(waiting=1),
    "ProjectionDrift": following(drift=3),
    "WatermarkFrozen": replace(GOOD, watermark_age=61.0),
    "RollupsBehind": replace(GOOD, rollup_lag=100_001),
    "PartitionMissing": replace(GOOD, archive=replace(ARCHIVE, missing=1)),
    "ArchiveLate": replace(GOOD, archive=replace(ARCHIVE, ran_at=NOW - timedelta(hours=49))),
    "ActiveRowsBeyondBound": replace(GOOD, archive=replace(ARCHIVE, active=11_000_001)),
}
NOTHING = Given({}, minutes_ago=0)


def names(found: Alerts) -> set[str]:
    assert found.rules == len(RULES)
    return {each.name.removeprefix("EventStore") for each in found.firing}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_is_prometheus_rule(rule: Any) -> None:
    theirs = alerts()[rule.name]
    assert theirs["labels"]["severity"] == rule.severity
    assert f"> {rule.threshold:.10g}" in " ".join(theirs["expr"].split())
    assert rule.name.removeprefix("EventStore") in BY_COUNTERS.keys() | BY_LEVELS.keys()


@pytest.mark.parametrize("name", BY_COUNTERS)
def test_what_counters_tell_fires_and_resolves(name: str) -> None:
    assert names(evaluated(GOOD, Given(BY_COUNTERS[name], minutes_ago=0), NOW)) == {name}
    assert names(evaluated(GOOD, Given(BY_COUNTERS[name], minutes_ago=3), NOW)) == {name}
    if name != "SnapshotDrift":  # which is told for an hour, all that is looked at
        assert names(evaluated(GOOD, Given(BY_COUNTERS[name], minutes_ago=45), NOW)) == set()


@pytest.mark.parametrize("name", BY_LEVELS)
def test_what_levels_tell_fires_and_resolves(name: str) -> None:
    more = {"OutboxOld"} if name == "RelayAbsent" else set()
    assert names(evaluated(BY_LEVELS[name], NOTHING, NOW)) == {name} | more
    assert names(evaluated(GOOD, NOTHING, NOW)) == set()


def test_a_relay_at_work_is_not_absent() -> None:
    at_work = Given({"event_store_outbox_attempts_total": {("published",): 1}}, minutes_ago=5)
    assert names(evaluated(BY_LEVELS["RelayAbsent"], at_work, NOW)) == {"OutboxOld"}


def test_a_few_conflicts_and_few_slow_appends_are_no_concern() -> None:
    slow: dict[str, Mapping[Labels, float]] = {
        f"{SAVES}_count": {(): 20.0},
        f"{SAVES}_bucket": {("0.5",): 20.0, ("inf",): 20.0},
    }
    few: dict[str, Mapping[Labels, float]] = {
        f"{SAVES}_count": {(): 2_000.0},
        "event_store_conflict_outcomes_total": {("escaped",): 12.0},
    }
    # An append and its conflict may be written down a minute apart.
    alone: dict[str, Mapping[Labels, float]] = {
        "event_store_conflict_outcomes_total": {("escaped",): 12.0}
    }
    for grown in (slow, few, alone):
        assert names(evaluated(GOOD, Given(grown, minutes_ago=0), NOW)) == set()


def test_what_the_database_did_not_tell_fires_nothing() -> None:
    unknown = replace(GOOD, backlog=None, projections=None, archive=None)
    assert names(evaluated(unknown, NOTHING, NOW)) == set()


def test_the_critical_comes_first() -> None:
    both = replace(GOOD, rollup_lag=200_000, watermark_age=100.0)
    assert [each.severity for each in evaluated(both, NOTHING, NOW).firing] == [
        "critical",
        "warning",
    ]


def test_what_processes_wrote_down_is_looked_at(store_url: str) -> None:
    with Hindsight(store_url, metrics=Metrics(CollectorRegistry())) as store:
        store.append("user", "a", [NewEvent("Made", {})], expected=any_())
        for _ in range(11):
            with pytest.raises(VersionConflict):
                store.append("user", "a", [NewEvent("Made", {})], expected=exact(7))
        assert store.recorder is not None
        store.recorder.flush()
    with Hindsight(store_url, read_only=True, metrics=False) as store:
        levels = store.levels()
        assert levels is not None
        found = evaluated(levels, store.history, datetime.now(UTC))
    assert [(each.name, each.summary) for each in found.firing] == [
        ("EventStoreConflictsEscape", "Callers see conflicts: 92% of appends")
    ]

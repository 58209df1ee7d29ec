"""What the Monitoring page's document says of the cache, beside what was counted."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from dashboard import resources, routes
from dashboard.documents.cached import Cached, cached
from store import Hindsight
from store.domain import Domains
from store.metric_history import Alerts, Labels, Newest, Window
from tests.lookups import BYTES, LOOKUPS, look_up, process
from tests.servers import RedisServer
from tests.totals import put

MINUTE = timedelta(minutes=1)
STEPS = 4
WINDOW = Window(start=datetime(2026, 11, 28, tzinfo=UTC), step=MINUTE, steps=STEPS)
ALL = [
    (level, kind, result)
    for level in ("l1", "l2")
    for kind in ("state", "history")
    for result in ("hit", "miss", "dropped", "error")
]

# What one lookup counts, by what came of it; who looks for a part of a history counts no miss.
OUTCOMES = {
    "in L1": [("l1", "hit")],
    "in L2": [("l1", "miss"), ("l2", "hit")],
    "in neither": [("l1", "miss"), ("l2", "miss")],
    "in no L1, without Redis": [("l1", "miss")],
    "in no L1, Redis gone": [("l1", "miss"), ("l2", "error")],
    "another in L1": [("l1", "dropped"), ("l1", "miss"), ("l2", "hit")],
    "another in L2": [("l1", "miss"), ("l2", "dropped")],
    "another in both": [("l1", "dropped"), ("l1", "miss"), ("l2", "dropped")],
    "another in L1, of a part": [("l1", "dropped")],
}
FROM = {"in L1": "l1", "in L2": "l2", "another in L1": "l2", "another in L1, of a part": None}
Met = tuple[str, str, int]
MEETINGS = st.lists(
    st.tuples(
        st.sampled_from(list(OUTCOMES)),
        st.sampled_from(["state", "history"]),
        st.integers(0, STEPS - 1),
    )
)


class Given:
    """A `MetricHistory` that says what it is given, by the labels of lookups or bytes."""

    kind: Literal["samples"] = "samples"
    name = ""
    finest = MINUTE

    def __init__(self, grown: Mapping[Labels, Sequence[float]]) -> None:
        self.grown = grown

    def increases(
        self, metric: str, window: Window, *, by: Sequence[str] = ()
    ) -> Mapping[Labels, Sequence[float]]:
        names = {LOOKUPS: ("level", "kind", "result"), BYTES: ("direction",)}[metric]
        found: dict[Labels, list[float]] = defaultdict(lambda: [0.0] * window.steps)
        for labels, steps in self.grown.items():
            if len(labels) == len(names):
                told = dict(zip(names, labels, strict=True))
                key = tuple(told[name] for name in by)
                found[key] = [sum(pair) for pair in zip(found[key], steps, strict=True)]
        return found

    def levels(self, gauge: str, window: Window) -> Sequence[float | None]:
        raise NotImplementedError(gauge, window)

    def alerts(self) -> Alerts | None:
        raise NotImplementedError

    def newest(self) -> Newest | None:
        raise NotImplementedError


def counted(met: Sequence[Met]) -> dict[Labels, list[float]]:
    found: dict[Labels, list[float]] = defaultdict(lambda: [0.0] * STEPS)
    for outcome, kind, step in met:
        for level, result in OUTCOMES[outcome]:
            found[level, kind, result][step] += 1
    return found


def told(grown: Mapping[Labels, Sequence[float]]) -> Cached:
    return cached(Given(grown), WINDOW)


def test_a_ratio_is_of_hits_and_misses_and_of_nothing_there_is_none() -> None:
    shown = told(
        {
            ("l1", "state", "hit"): [3, 0, 0, 0],
            ("l1", "history", "miss"): [1, 2, 0, 0],
            ("l1", "state", "dropped"): [9, 0, 0, 9],
            ("l2", "state", "miss"): [0, 1, 0, 0],
            ("l2", "history", "hit"): [0, 1, 0, 0],
        }
    )
    assert shown.ratios == {"l1": [0.75, 0.0, None, None], "l2": [None, 0.5, None, None]}


def test_a_level_that_was_not_asked_is_not_there() -> None:
    shown = told({("l1", "state", "hit"): [1, 0, 0, 0], ("l2", "state", "error"): [2, 0, 0, 0]})
    assert list(shown.ratios) == ["l1"]
    assert shown.errors == 2


def test_nothing_looked_up_is_nothing() -> None:
    shown = told({})
    assert (shown.ratios, shown.lookups) == ({}, 0)
    assert shown.answered == {"l1": 0, "l2": 0, "database": 0}
    assert shown.redis_bytes == {"read": 0, "written": 0}


def test_bytes_are_told_by_direction() -> None:
    assert told({("read",): [1, 2, 0, 0]}).redis_bytes == {"read": 3, "written": 0}


def test_estimates_of_a_prometheus_answer_nothing_less_than_never() -> None:
    shown = told({("l1", "state", "miss"): [1.9, 0, 0, 0], ("l2", "state", "hit"): [2.1, 0, 0, 0]})
    assert shown.answered["database"] == 0


@given(MEETINGS)
def test_each_lookup_was_answered_by_one(met: Sequence[Met]) -> None:
    shown = told(counted(met))
    answers = Counter(FROM.get(outcome, "database") for outcome, _, _ in met)
    assert shown.answered == {name: answers[name] for name in ("l1", "l2", "database")}
    assert shown.lookups == sum(shown.answered.values())
    assert shown.dropped == sum(
        result == "dropped" for outcome, _, _ in met for _, result in OUTCOMES[outcome]
    )
    assert shown.errors == sum("Redis gone" in outcome for outcome, _, _ in met)


@given(MEETINGS)
def test_each_step_of_a_level_is_a_share_or_a_gap(met: Sequence[Met]) -> None:
    grown = counted(met)
    shown = told(grown)
    for level in ("l1", "l2"):
        asked = [
            sum(grown[level, kind, result][step] for kind in ("state", "history"))
            for step in range(STEPS)
            for result in ("hit", "miss")
        ]
        steps = [sum(asked[2 * step : 2 * step + 2]) for step in range(STEPS)]
        ratios = shown.ratios.get(level, [None] * STEPS)
        assert [ratio is None for ratio in ratios] == [not step for step in steps]
        assert all(0 <= ratio <= 1 for ratio in ratios if ratio is not None)
        assert (level in shown.ratios) == any(steps)


@given(MEETINGS)
def test_series_that_never_grew_as_prometheus_tells_them_say_nothing(met: Sequence[Met]) -> None:
    still: dict[Labels, Sequence[float]] = {labels: [0.0] * STEPS for labels in ALL}
    still |= {("read",): [0.0] * STEPS, ("written",): [0.0] * STEPS}
    grown = counted(met)
    assert told(still | grown) == told(grown)


def test_what_processes_looked_up_is_shown_as_they_counted_it(
    store_url: str, own_redis: RedisServer
) -> None:
    registries = look_up(store_url, own_redis)
    shown = document(store_url)
    hits = {level: registries[level, "hit"] for level in ("l1", "l2")}
    database = registries["l1", "miss"] - hits["l2"]
    assert shown["answered"] == hits | {"database": database}
    assert shown["lookups"] == hits["l1"] + registries["l1", "miss"]
    assert min(shown["answered"].values()) > 0
    dropped = registries["l1", "dropped"] + registries["l2", "dropped"]
    assert shown["dropped"] == dropped > 0
    assert shown["errors"] == registries["l2", "error"] > 0
    assert shown["redis_bytes"] == {each: registries[(each,)] for each in ("read", "written")}
    assert min(shown["redis_bytes"].values()) > 0
    assert set(shown["ratios"]) == {"l1", "l2"}
    assert any(shown["ratios"]["l2"])


def test_without_redis_there_is_one_level(sqlite_url: str) -> None:
    with process(sqlite_url) as store:
        put(store, 1)
        for _ in range(4):
            store.load("a")
    shown = document(sqlite_url)
    assert list(shown["ratios"]) == ["l1"]
    assert shown["answered"] == {"l1": 3, "l2": 0, "database": 1}


def document(url: str) -> dict[str, Any]:
    with (
        Hindsight(url, read_only=True, metrics=False) as store,
        resources.shared(store.log, Domains(), store=store),
    ):
        answer = TestClient(Starlette(routes=routes.routes())).get("/documents/monitoring")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["cache"]
    return found

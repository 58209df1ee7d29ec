"""The Monitoring page's document, over a real store and what its processes have written."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.testclient import TestClient

import users
from dashboard import resources, routes
from store import Hindsight, NewEvent, any_, exact
from store.conflict_log import Logged
from store.domain import Domains
from store.errors import VersionConflict
from store.metrics import Metrics
from store.sources.ndjson import NdjsonSource
from users.commands import ChangeEmail, CreateUser

Fetch = Callable[..., Any]
CREATE = CreateUser(username="ada", email="a@a.example", full_name="Ada", password_hash="…")  # noqa: S106
HOUR = timedelta(hours=1)


@pytest.fixture
def fetch(store_url: str) -> Iterator[Fetch]:
    """Asks a dashboard over the store, read-only as it is served."""
    with (
        Hindsight(store_url, read_only=True, metrics=False) as store,
        resources.shared(store.log, Domains(), store=store),
    ):
        client = TestClient(Starlette(routes=routes.routes()))

        def get(**params: Any) -> Any:
            response = client.get("/documents/monitoring", params=params)
            assert response.status_code == 200, response.text
            return response.json()

        yield get


def work(url: str) -> None:
    """A process that makes users, is beaten once and reads."""
    with Hindsight(url, domain=users.domain, metrics=Metrics(CollectorRegistry())) as store:
        for name in ("ada", "grace"):
            store.execute(name, CREATE)
        store.execute("ada", ChangeEmail(email="b@a.example"))
        lost = NewEvent("EmailChanged", {"email": "c@a.example"})
        with pytest.raises(VersionConflict):
            store.append("user", "ada", [lost], expected=exact(1))
        assert store.recorder is not None
        store.recorder.flush()
        store.load("ada")
        with store.metrics.handling("welcome"):
            pass


def test_what_processes_did_is_shown(fetch: Fetch, store_url: str) -> None:
    work(store_url)
    work_again = Hindsight(store_url, domain=users.domain, metrics=Metrics(CollectorRegistry()))
    with work_again as store:
        store.execute("lin", CREATE)
    shown = fetch()
    assert (shown["range"], shown["step"], shown["steps"]) == ("1h", 60_000_000, 60)
    assert shown["start"] + shown["steps"] * shown["step"] > shown["now"]
    assert sum(shown["saves"]) == 5
    assert {name: sum(steps) for name, steps in shown["events"].items()} == {
        "UserCreated": 3,
        "EmailChanged": 1,
    }
    assert sum(shown["conflicts"]["escaped"]) == 1
    assert sum(shown["conflicts"]["absorbed"]) == 0
    for kind in ("save", "replay"):
        told = [value for value in shown["latency"][kind]["p95"] if value is not None]
        assert told
        assert shown["quantiles"][kind]["p50"] <= shown["quantiles"][kind]["p99"] < 5
    assert list(shown["latency"]["handlers"]) == ["welcome"]
    assert shown["source"]["kind"] == "samples"
    assert abs(shown["now"] - shown["newest"]["at"]) < 60_000_000
    assert shown["level"]["size"] > 10_000
    assert [level for level in shown["levels"]["size"] if level is not None] != []


def test_the_log_is_counted_in_the_same_stretch(fetch: Fetch, store_url: str) -> None:
    work(store_url)
    with Hindsight(store_url, metrics=False) as store:
        old = datetime.now(UTC) - 3 * HOUR
        store.conflicts.write([_logged(occurred_at=old), _logged(outcome="absorbed", weight=9)])
    shown = fetch()
    assert shown["logged"] == {"detected": 10, "absorbed": 9, "escaped": 1, "needless": 9}
    assert sum(each["detected"] for each in shown["hours"]) == 10
    [first, second] = shown["pairs"]
    assert (first["losing"], first["winning"], first["detected"]) == ("Add", None, 9)
    assert (second["losing"], second["winning"]) == ("EmailChanged", "ChangeEmail")
    hottest = {each["aggregate_id"]: each for each in shown["hottest"]}
    assert (hottest["ada"]["escaped"], hottest["ada"]["last_version"]) == (1, 2)
    assert [each["weight"] for each in shown["recent"]] == [9, 1]
    assert shown["recent"][1]["verdict"] == "order"
    longer = fetch(range="6h")
    assert longer["logged"]["detected"] == 11
    assert (longer["step"], longer["steps"]) == (300_000_000, 72)


def _logged(**changed: Any) -> Logged:
    fields: dict[str, Any] = {
        "occurred_at": datetime.now(UTC),
        "aggregate_type": "cart",
        "aggregate_id": "c-1",
        "expected": 1,
        "actual": 2,
        "losing": "Add",
        "command": "Add",
        "event_types": ("Added",),
        "winning": None,
        "winners": (),
        "attempt": 1,
        "outcome": "escaped",
        "verdict": "same",
        "actor": None,
        "correlation_id": None,
        "process": "host:1",
    }
    return Logged(**fields | changed)


@pytest.mark.parametrize("name", ["15m", "1h", "6h", "24h"])
def test_a_store_where_nothing_happened_says_so(fetch: Fetch, name: str) -> None:
    shown = fetch(range=name)
    assert shown["newest"] is None
    assert shown["events"] == shown["latency"]["handlers"] == {}
    assert shown["hours"] == shown["pairs"] == shown["hottest"] == shown["recent"] == []
    assert set(shown["latency"]["save"]["p50"]) == {None}
    assert shown["quantiles"]["save"]["p99"] is None
    assert len(shown["saves"]) == len(shown["conflicts"]["absorbed"]) == shown["steps"]


def test_a_range_there_is_not_is_one_line(fetch: Fetch, store_url: str) -> None:
    client = TestClient(Starlette(routes=routes.routes()))
    answer = client.get("/documents/monitoring", params={"range": "1y"})
    assert answer.status_code == 400
    assert answer.json()["error"] == "range: '1y' is none of 15m, 1h, 6h, 24h"


def test_an_event_file_has_nothing_to_watch(tmp_path: Path) -> None:
    log = tmp_path / "log.ndjson"
    log.touch()
    with NdjsonSource(log) as source, resources.shared(source, Domains(), file=str(log)):
        answer = TestClient(Starlette(routes=routes.routes())).get("/documents/monitoring")
    assert answer.status_code == 404
    assert answer.json()["error"] == "An event file has no metrics; open a store to watch it."


def test_a_prometheus_that_is_gone_is_one_line(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENT_STORE_PROMETHEUS_URL", "http://127.0.0.1:1")
    with (
        Hindsight(store_url, read_only=True, metrics=False) as store,
        resources.shared(store.log, Domains(), store=store),
    ):
        answer = TestClient(Starlette(routes=routes.routes())).get("/documents/monitoring")
    assert answer.status_code == 503
    assert answer.json()["error"].startswith("no metrics from Prometheus at 127.0.0.1:1: ")


def test_the_newest_conflict_is_seen_while_more_are_on_their_way(
    fetch: Fetch, store_url: str
) -> None:
    with Hindsight(store_url, metrics=Metrics(CollectorRegistry())) as store:
        assert store.recorder is not None
        store.append("cart", "c", [NewEvent("Added", {})], expected=any_())
        for number in range(1, 4):
            with pytest.raises(VersionConflict):
                store.append("cart", "c", [NewEvent("Added", {})], expected=exact(9))
            store.recorder.flush()
            assert fetch()["logged"]["detected"] == number

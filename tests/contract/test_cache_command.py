"""`hindsight cache`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from store import Hindsight, migrate
from store.cli import hindsight
from tests.servers import RedisServer
from tests.totals import numbers, put

Run = Callable[..., Result]


@pytest.fixture
def redis_url(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The empty Redis, which the environment names."""
    with redis_server.client() as client:
        client.flushall()
    monkeypatch.setenv("EVENT_STORE_REDIS_URL", redis_server.url)
    return redis_server.url


@pytest.fixture
def run(store_url: str) -> Run:
    def call(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(hindsight, ["cache", *arguments, "--url", store_url])
        assert result.exit_code == code, result.output
        return result

    return call


def used(url: str) -> None:
    """Two processes load two aggregates each, twice, and one reads a history."""
    for _ in range(2):
        with Hindsight(url, domain=numbers()) as store:
            for aggregate_id in ("a", "b"):
                put(store, 1, aggregate_id=aggregate_id)
                for _ in range(2):
                    store.load(aggregate_id)
            list(store.events("a"))


@pytest.mark.usefixtures("redis_url")
def test_stats_tell_what_redis_holds_and_what_was_found(run: Run, store_url: str) -> None:
    used(store_url)
    found = json.loads(run("stats", "--json").output)
    holdings = {each["kind"]: each for each in found["redis"]["holdings"]}
    assert (holdings["state"]["values"], holdings["history"]["values"]) == (2, 1)
    assert all(each["current"] and each["bytes"] > 100 for each in holdings.values())
    lookups = {(each["level"], each["kind"]): each for each in found["lookups"]}
    assert (lookups["l1", "state"]["hit"], lookups["l1", "state"]["miss"]) == (4, 4)
    assert (lookups["l2", "state"]["hit"], lookups["l2", "state"]["miss"]) == (2, 2)
    assert (lookups["l2", "history"]["hit"], lookups["l2", "history"]["miss"]) == (1, 1)
    assert (found["epoch"], found["fault"]) == (1, None)
    text = run("stats").output
    assert "L1         state       4       4        0       0  50.0%" in text
    assert "6.2.14" in text or "7." in text


@pytest.mark.usefixtures("redis_url")
def test_clear_has_everybody_forget(run: Run, store_url: str) -> None:
    with Hindsight(store_url, domain=numbers()) as store, Hindsight(store_url) as stranger:
        for number in range(5):
            put(store, 1, aggregate_id=f"a{number}")
            store.load(f"a{number}")
            stranger.load(f"a{number}")
        told = run("clear").output
        assert told.startswith("all processes forget what they keep: epoch ")
        assert told.endswith("; 10 values removed from Redis\n")
        assert [store.load("a0").source for _ in range(2)] == ["replay", "l1"]
        assert store.load("a1", max_age=60).source == "replay"
        first = json.loads(run("clear", "--json").output)
        second = json.loads(run("clear", "--json").output)
        assert first["values"] == 2
        assert second["values"] == 0
        assert second["epoch"] > first["epoch"]
        assert store.load("a1").state.total == 1
    found = json.loads(run("stats", "--json").output)
    assert found["epoch"] == second["epoch"]


@pytest.mark.usefixtures("redis_url")
def test_what_is_of_an_epoch_before_is_told_apart(run: Run, store_url: str) -> None:
    with Hindsight(store_url, domain=numbers()) as store:
        put(store, 1)
        store.load("a")
        run("clear")
        store.load("a", max_age=60)  # it has not heard yet
    found = json.loads(run("stats", "--json").output)
    assert [each["current"] for each in found["redis"]["holdings"]] in ([], [False])


@pytest.mark.usefixtures("redis_url")
def test_other_stores_are_left_alone(run: Run, store_url: str, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    migrate(other)
    for url in (store_url, other):
        used(url)
    run("clear")
    with Hindsight(other, domain=numbers()) as store:
        assert store.load("a").source == "l2"
    with Hindsight(store_url, domain=numbers()) as store:
        assert store.load("a").source == "replay"


def test_without_redis_there_is_the_process_alone(run: Run, store_url: str) -> None:
    assert "Redis  none; EVENT_STORE_REDIS_URL says where there is one" in run("stats").output
    assert "nothing was looked up in the last hour" in run("stats").output
    with Hindsight(store_url, domain=numbers()) as store:
        put(store, 1)
        store.load("a")
        assert "removed" not in run("clear").output
        assert store.load("a").source == "replay"


def test_redis_that_does_not_answer_is_told(
    run: Run, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENT_STORE_REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    told = run("stats", code=1).output
    assert "Redis does not answer: " in told
    assert "secret" not in told
    result = run("clear", code=1)
    assert "all processes forget what they keep: epoch " in result.output
    assert "error: Redis does not answer: " in result.output
    monkeypatch.setenv("EVENT_STORE_REDIS_URL", "nowhere")
    assert "error: EVENT_STORE_REDIS_URL: " in run("stats", code=2).output

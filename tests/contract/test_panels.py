"""Every panel of Grafana's dashboard has something to show of a stack that really runs."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2
import pytest

from store import Hindsight, NewEvent, any_
from tests import stack as stacks
from tests.servers import PostgresServer, RedisServer
from tests.stack import ROOT, Stack
from tests.waiting import until

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "hindsight.json"
WINDOW = "20s"


def panels() -> Mapping[str, list[str]]:
    """The queries of each panel, as Grafana would send them."""
    document = json.loads(DASHBOARD.read_text())
    found = {
        panel["title"]: [target["expr"] for target in panel["targets"]]
        for panel in document["panels"]
        if panel["type"] != "row"
    }
    assert sum(panel["type"] != "row" for panel in document["panels"]) == len(found)
    return {
        title: [
            query.replace("$__rate_interval", WINDOW).replace("$store", "users")
            for query in queries
        ]
        for title, queries in found.items()
    }


def asked(url: str, query: str) -> list[float]:
    """The values that Prometheus has for a query now, those that are numbers."""
    answer = httpx2.get(f"{url}/api/v1/query", params={"query": query}, timeout=30)
    assert answer.status_code == HTTPStatus.OK, answer.text
    values = [float(each["value"][1]) for each in answer.json()["data"]["result"]]
    return [value for value in values if value == value]  # noqa: PLR0124 (not a number)


def client(stack: Stack) -> httpx2.Client:
    return httpx2.Client(base_url=f"http://127.0.0.1:{stack.ports['service']}", timeout=60)


def ada(users: httpx2.Client) -> str:
    user = {"username": "ada", "email": "a@a.example", "full_name": "Ada", "password": "…"}
    return f"/users/{users.post('/users', json=user).json()['id']}"


@contextmanager
def busy(stack: Stack) -> Iterator[None]:
    """Clients that get into each other's way, and do what is refused, until the block ends."""
    ended = threading.Event()
    with client(stack) as users:
        path = ada(users)

    def act() -> None:
        with client(stack) as users:
            while not ended.is_set():
                try:
                    for action in ("lock", "unlock"):
                        users.post(f"{path}/{action}", json={"reason": "test"})
                    users.get(path)
                    users.get(path, params={"version": 1})
                    users.get("/users/nobody")
                except httpx2.HTTPError:
                    time.sleep(0.1)  # it restarts

    threads = [threading.Thread(target=act) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def command(stack: Stack, service: str, *words: str) -> None:
    """`hindsight` under the role of a service."""
    subprocess.run(
        [sys.executable, "-m", "store", *words],
        cwd=ROOT,
        env=stack.environment(service),
        check=True,
        capture_output=True,
    )


def break_one(stack: Stack, url: str) -> None:
    """Store an event that no code can read."""
    with Hindsight(url) as store:
        wrong = NewEvent("UserCreated", {"username": 7})
        store.append("user", "broken", [wrong], expected=any_())
    with client(stack) as users:
        users.get("/users/broken")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_panel_shows_what_happens(
    own_postgres: PostgresServer, own_redis: RedisServer, tmp_path: Path
) -> None:
    url = own_postgres.url("hindsight")
    with (
        stacks.started(own_postgres, own_redis, tmp_path) as stack,
        stacks.scraped(stack) as prometheus,
        busy(stack),
    ):
        until(lambda: asked(prometheus, 'sum(up{store="users"})') == [3.0], 60)
        command(stack, "migrate", "projections", "check", "users")
        command(stack, "worker", "archive", "run")
        # Restarts, one of them without a word.
        for name, how in (("worker", signal.SIGKILL), ("service", signal.SIGTERM)):
            port = stack.ports[name]
            stack.stop(name, how)
            stack.start(name, port=port)
        break_one(stack, url)
        missing = dict(panels())
        ends = time.monotonic() + 90
        while missing and time.monotonic() < ends:
            time.sleep(1)
            missing = {
                title: left
                for title, queries in missing.items()
                if (left := [query for query in queries if not asked(prometheus, query)])
            }
        assert missing == {}
        assert asked(prometheus, 'event_store_projection_failures{kind="waiting"} > 0')
        assert asked(prometheus, "sum(event_store_conflicts_total) > 0")
        assert asked(prometheus, 'event_replay_requests_total{success="false"} > 0')


def test_panels_do_not_lie_on_each_other() -> None:
    places: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at: dict[str, Any] = panel["gridPos"]
        own = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not own & places, panel["title"]
        assert at["x"] + at["w"] <= 24
        places |= own

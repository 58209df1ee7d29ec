"""The dashboard over event tables of other systems."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import psycopg
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from dashboard import resources, routes
from store.application import opened
from store.domain import Domains
from tests import foreign
from tests.servers import PostgresServer

pytestmark = pytest.mark.slow

LONGEST = "case-9289"


@pytest.fixture(scope="module")
def message_db(postgres_server: PostgresServer, data_sets: Path) -> Iterator[str]:
    """message-db's table with a real log in it, each event caused by the one before it."""
    name = f"dashboard_{uuid4().hex}"
    postgres_server.execute(f"CREATE DATABASE {name}")
    url = postgres_server.url(name)
    foreign.build_message_db(url)
    log = foreign.lines_of(data_sets / "receipt_wabo" / "events.ndjson.gz")
    foreign.fill_message_db(url, map(foreign.as_messages, log))
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE message_store.messages AS m SET metadata = metadata || jsonb_build_object("
            " 'correlationStreamName', stream_name, 'causationMessageGlobalPosition',"
            " (SELECT global_position FROM message_store.messages AS c"
            " WHERE c.stream_name = m.stream_name AND c.position = m.position - 1))"
        )
    yield url
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def client(message_db: str) -> Iterator[TestClient]:
    with (
        opened(message_db) as found,
        resources.shared(found.source, Domains(), store=found.store),
    ):
        yield TestClient(Starlette(routes=routes.routes()))


def document(client: TestClient, name: str, **params: Any) -> Any:
    response = client.get(f"/documents/{name}", params=params)
    assert response.status_code == 200, response.text
    return response.json()


def refusal(client: TestClient, name: str, **params: Any) -> tuple[int, str]:
    response = client.get(f"/documents/{name}", params=params)
    return response.status_code, response.json()["error"]


def test_a_history_begins_with_version_0(client: TestClient) -> None:
    history = document(client, "history", aggregate=LONGEST)
    assert (history["first_version"], history["head"]["version"]) == (0, 24)
    assert history["events"] == history["shown"] == 25
    assert history["left_out"] == 0
    page = document(client, "page", aggregate=LONGEST, list="oldest")
    assert [row["version"] for row in page["rows"]] == list(range(15))


def test_the_first_event_is_shown_with_what_it_did(client: TestClient) -> None:
    params = {"aggregate": LONGEST, "version": 0}
    event = document(client, "event", **params)
    assert (event["version"], event["event_type"]) == (0, "ConfirmationOfReceipt")
    assert event["neighbours"] == {"first": 0, "previous": None, "following": 1, "last": 24}
    assert (event["correlation_id"], event["digest"]) == (LONGEST, None)
    assert "--url" not in event["command"]  # which may hold a password
    effect = document(client, "effect", **params)
    assert (effect["version"], effect["born"], effect["generic"]) == (0, True, True)
    assert json.loads(effect["state"]) == json.loads(event["data"])
    raw = document(client, "raw", **params)
    assert raw["data"] == event["data"]


def test_causes_and_effects_are_found_near_the_event(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = document(client, "related", aggregate=LONGEST, version=24)
    assert [node["depth"] for node in family["tree"]] == list(range(25))
    position = family["tree"][-1]["position"]
    second = family["tree"][-2]["position"]
    source = resources.source()
    near = source.info.__replace__(near=position - second + 1)
    monkeypatch.setattr(source, "info", near)
    family = document(client, "related", aggregate=LONGEST, version=24)
    assert [node["version"] for node in family["tree"]] == [23, 24]


def test_lanes_of_a_correlation_are_found(client: TestClient) -> None:
    lanes = document(client, "swimlanes", correlation=LONGEST)
    assert [(lane["aggregate_id"], lane["events"]) for lane in lanes["lanes"]] == [(LONGEST, 25)]
    assert len(lanes["arrows"]) == 24
    assert not lanes["cut"]


def test_aggregates_are_listed_as_far_as_an_index_helps(client: TestClient) -> None:
    assert document(client, "store")["orders"] == ["id", "recent"]
    for order in ("id", "recent"):
        page = document(client, "aggregates", order=order, prefix="case-92", type="case")
        assert len(page["items"]) == 22
        assert {item["aggregate_id"]: item["events"] for item in page["items"]}[LONGEST] == 25
    status, line = refusal(client, "aggregates", order="longest")
    assert (status, line) == (400, "order: longest would read every event; choose recent or id")


def test_the_feed_is_searched_and_counted(client: TestClient) -> None:
    found = document(client, "search", type="T18AdjustReportYToStopIndicition")
    assert len(found["rows"]) == 6
    histogram = document(client, "activity", type="ConfirmationOfReceipt")
    assert histogram["bars"] > 0
    exported = client.get("/documents/export", params={"type": "T18AdjustReportYToStopIndicition"})
    assert len(exported.text.splitlines()) == 6


def test_there_is_nothing_to_monitor(client: TestClient) -> None:
    said = "A table of another system has no metrics; open a store to watch it."
    assert refusal(client, "monitoring") == (404, said)


@pytest.mark.slow
def test_it_is_opened_with_a_domain(message_db: str) -> None:
    data = {"manifest": {"version": "1"}, "path": "a.json"}
    added = {"aggregate_id": "package-a", "version": 0, "event_type": "PackageAdded", "data": data}
    added |= {"event_id": str(uuid4()), "occurred_at": "2026-11-22T09:00:00Z"}
    foreign.fill_message_db(message_db, [added])
    command = [sys.executable, "-m", "store", "open", message_db, "--port", "0"]
    command += ["--domain", "tests.histories:PACKAGES"]
    browser = os.environ | {"BROWSER": "true"}  # which does nothing, successfully
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=browser) as process:
        try:
            assert process.stdout is not None
            greeting = process.stdout.readline()
            shows = r"Hindsight shows message_store\.messages of message-db in dashboard_\w+ on \S+"
            found = re.match(rf"{shows} on (http://\S+)", greeting)
            assert found, greeting
            with urlopen(f"{found[1]}/documents/history?aggregate={LONGEST}") as answer:  # noqa: S310
                assert json.load(answer)["events"] == 25
            with urlopen(f"{found[1]}/documents/effect?aggregate=package-a") as answer:  # noqa: S310
                effect = json.load(answer)
            assert (effect["generic"], effect["version"]) == (False, 0)
            assert json.loads(effect["state"])["path"] == "a.json"
            with urlopen(f"{found[1]}/readyz") as answer:  # noqa: S310
                assert json.load(answer) == {"status": "ok"}
        finally:
            process.terminate()

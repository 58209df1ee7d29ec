"""What the pages fetch: right documents, and one clear line for whatever else is asked."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.testclient import TestClient

import users
from dashboard import resources, routes
from dashboard.documents import swimlanes
from dashboard.routes import DOCUMENTS
from store import Context, Hindsight, NewEvent, any_
from store.domain import Domains
from store.errors import EventStoreError
from store.sources.ndjson import NdjsonSource

AWS = {"aggregate": "main/aws", "version": "600"}


@pytest.fixture(scope="module")
def log(data_sets: Path) -> Iterator[Path]:
    path = data_sets / "scoop_main" / "events.ndjson.gz"
    with NdjsonSource(path) as source, resources.shared(source, Domains(), file=str(path)):
        yield path


@pytest.fixture
def client(log: Path) -> TestClient:
    return TestClient(Starlette(routes=routes.routes()))


def document(client: TestClient, name: str, **params: Any) -> Any:
    response = client.get(f"/documents/{name}", params=params)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_history_is_drawn_with_every_event_in_a_mark(client: TestClient) -> None:
    history = document(client, "history", aggregate="main/aws")
    assert history["events"] == history["shown"] == 1225
    assert sum(mark[2] for mark in history["lanes"]["marks"]) == 1225
    assert history["axis"]["knots"][0][1] == 0
    assert history["axis"]["knots"][-1][1] == 1


def test_a_stretch_of_a_history_shows_its_events_only(client: TestClient) -> None:
    since, until = "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"
    shown = document(client, "history", aggregate="main/aws", since=since, until=until)["shown"]
    page = document(client, "page", aggregate="main/aws", since=since, until=until)
    assert page["page"]["rows"] == shown > 0
    assert all(since <= row["occurred_at"] < until for row in page["rows"])


def test_a_page_holds_the_version_asked_for(client: TestClient) -> None:
    page = document(client, "page", aggregate="main/aws", at=600)
    assert 600 in [row["version"] for row in page["rows"]]
    [row] = [row for row in page["rows"] if row["version"] == 600]
    assert row["gap"] == 172_686_000_000


def test_an_event_is_given_letter_by_letter(client: TestClient, log: Path) -> None:
    full = document(client, "event", **AWS)
    assert (full["event_type"], full["position"]) == ("PackageVersionReleased", 13_918)
    assert full["neighbours"] == {"first": 1, "previous": 599, "following": 601, "last": 1225}
    assert full["command"] == f"hindsight replay --version=600 --url {log} -- main/aws"
    raw = document(client, "raw", **AWS)
    assert raw["data"] == full["data"]
    assert client.get("/documents/bytes", params=AWS).text == full["data"]


def test_an_old_event_is_shown_as_it_is_read_beside_its_bytes(sqlite_url: str) -> None:
    old = NewEvent("LoginInfoUpdated", {"at": "2026-01-31T12:00:00Z", "ip_address": "192.0.2.1"})
    newer = NewEvent("LoginInfoUpdated", {}, schema_version=9)
    with Hindsight(sqlite_url, domain=users.domain) as store:
        store.append("user", "u", [old, newer], expected=any_())
        with resources.shared(store.log, store.domains):
            first, second = (
                DOCUMENTS["event"](QueryParams({"aggregate": "u", "version": version}))
                for version in ("1", "2")
            )
            raw = DOCUMENTS["raw"](QueryParams({"aggregate": "u", "version": "1"}))
    assert (first.event_version, first.schema_version, first.unreadable) == (1, 3, None)
    client = {"ip_address": "192.0.2.1", "user_agent": None}
    assert json.loads(first.data) == {"at": "2026-01-31T12:00:00Z", "client": client}
    assert json.loads(raw.data) == old.data
    assert (second.schema_version, second.data) == (9, "{}")
    assert "schema version 9, newer than 3" in second.unreadable


def test_without_a_version_the_newest_event_is_given(client: TestClient) -> None:
    assert document(client, "event", aggregate="main/aws")["version"] == 1225


def test_a_line_is_the_one_that_was_imported(client: TestClient, log: Path) -> None:
    line = json.loads(client.get("/documents/line", params=AWS).text)
    with gzip.open(log) as stream:
        [stored] = [
            found for found in map(json.loads, stream) if found["event_id"] == line["event_id"]
        ]
    del stored["occurred_at"]  # written with other decimals
    assert {name: line[name] for name in stored} == stored


def test_an_effect_names_what_changed_and_the_state(client: TestClient) -> None:
    effect = document(client, "effect", **AWS)
    changes = {change["field"]: (change["before"], change["after"]) for change in effect["changes"]}
    assert changes["patch/version"] == ('"2.13.24"', '"2.13.25"')
    assert json.loads(effect["state"])["to"] == "2.13.25"
    assert effect["generic"]


def test_the_store_tells_its_types_and_their_looks(client: TestClient) -> None:
    deadline = time.monotonic() + 60
    while not (store := document(client, "store"))["complete"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert store["events"] == sum(store["types"].values()) == 24_635
    assert sorted(store["looks"].values()) == list(range(8))
    assert store["watermark"] is None


def test_an_export_is_what_passes_the_filters(client: TestClient) -> None:
    asked = {"type": ["ManifestBroken", "PackageReadded"]}
    response = client.get("/documents/export", params=asked)
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert len(lines) == 10
    assert {line["event_type"] for line in lines} == set(asked["type"])
    assert [line["position"] for line in lines] == sorted(line["position"] for line in lines)
    assert response.headers["content-disposition"] == "attachment"
    assert response.headers["cache-control"] == "no-store"


def test_lanes_picked_by_hand_share_an_axis(client: TestClient) -> None:
    found = document(client, "swimlanes", lane=["main/aws", "main/runat"])
    assert {lane["aggregate_id"]: lane["events"] for lane in found["lanes"]} == {
        "main/aws": 1225,
        "main/runat": 22,
    }
    assert sum(mark["events"] for mark in found["marks"]) == 1247
    assert not found["cut"]


def test_a_correlation_id_draws_arrows_from_causes_to_effects(sqlite_url: str) -> None:
    with Hindsight(sqlite_url) as store:
        placed = NewEvent("Placed", {})
        whole = Context(correlation_id="c-1")
        store.append("order", "o-1", [placed], expected=any_(), context=whole)
        caused = Context(correlation_id="c-1", causation_id=str(placed.event_id))
        store.append("stock", "s-1", [NewEvent("Reserved", {})], expected=any_(), context=caused)
        with resources.shared(store.log, Domains()):
            found = DOCUMENTS["swimlanes"](QueryParams({"correlation": "c-1"}))
            family = DOCUMENTS["related"](QueryParams({"aggregate": "s-1", "version": "1"}))
    [(from_lane, _, to_lane, _)] = found.arrows
    assert (found.lanes[from_lane].aggregate_id, found.lanes[to_lane].aggregate_id) == (
        "o-1",
        "s-1",
    )
    assert [(node.aggregate_id, node.depth) for node in family.tree] == [("o-1", 0), ("s-1", 1)]


def test_of_large_events_only_the_newest_are_read(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swimlanes, "MOST_BYTES", 10_000)
    with Hindsight(sqlite_url) as store:
        large = [NewEvent("Sent", {"text": "x" * 3_000}) for _ in range(9)]
        store.append("parcel", "p", large, expected=any_())
        with resources.shared(store.log, Domains()):
            found = DOCUMENTS["swimlanes"](QueryParams({"lane": "p"}))
    assert (found.events, found.cut) == (3, True)
    assert [row.version for row in found.rows] == [9, 8, 7]


def test_aggregates_without_a_lane_are_counted(sqlite_url: str) -> None:
    whole = Context(correlation_id="c-1")
    with Hindsight(sqlite_url) as store:
        for number in range(43):
            event = NewEvent("Sent", {})
            store.append("parcel", f"p-{number}", [event], expected=any_(), context=whole)
        with resources.shared(store.log, Domains()):
            found = DOCUMENTS["swimlanes"](QueryParams({"correlation": "c-1"}))
    assert (len(found.lanes), found.left_out, found.cut) == (40, 3, False)


@pytest.mark.parametrize(
    ("name", "params", "status", "message"),
    [
        ("event", {"aggregate": "nosuch"}, 404, "no aggregate 'nosuch'"),
        ("event", {"aggregate": "main/aws", "version": "9999"}, 404, "no version 9999"),
        ("event", {}, 400, "aggregate: missing"),
        ("page", {"aggregate": "main/aws", "at": "x"}, 400, "at: 'x' is not a whole number"),
        ("history", {"aggregate": "main/aws", "since": "soon"}, 400, "since: 'soon' is not a time"),
        ("aggregates", {"order": "best"}, 400, "order: 'best' is none of recent, longest, id"),
        ("search", {"path": "city"}, 400, "path: 'city' is no JSON pointer"),
        ("search", {"event": "7"}, 400, "event: '7' is not a UUID"),
        ("swimlanes", {}, 400, "lane: which aggregates?"),
    ],
)
def test_bad_questions_get_one_clear_line(
    client: TestClient, name: str, params: dict[str, str], status: int, message: str
) -> None:
    response = client.get(f"/documents/{name}", params=params)
    assert response.status_code == status
    assert message in response.json()["error"]
    assert "\n" not in response.json()["error"]


NAMES = [
    "aggregate", "version", "since", "until", "list", "at", "idle", "type", "kind", "prefix",
    "correlation", "actor", "contains", "path", "equals", "before", "after", "lane", "order",
    "event", "limit", "part",
]  # fmt: skip
VALUES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["main/aws", "0", "1", "600", "9" * 19, "-1", "2020-01-01T00:00:00Z", "2020-01-01",
         "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "oldest", "/", "/a~1b", "1e3", "\x00"]
    ),
)  # fmt: skip


@settings(deadline=None)  # a search takes as long as a reader's patience
@given(
    name=st.sampled_from(sorted(DOCUMENTS)),
    params=st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=6),
)
def test_whatever_is_asked_is_answered_or_refused(
    log: Path, name: str, params: list[tuple[str, str]]
) -> None:
    try:
        answer = DOCUMENTS[name](QueryParams(params))
    except EventStoreError:
        return
    msgspec.json.encode(answer)


def test_scripts_are_kept_by_browsers_and_nothing_else_is_served(client: TestClient) -> None:
    script = client.get(f"/assets/{routes.assets_digest()}/timeline.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "immutable" in script.headers["cache-control"]
    digest = routes.assets_digest()
    for name in ("nosuch.js", "..%2froutes.py", "routes.py", "x" * 300 + ".js"):
        assert client.get(f"/assets/{digest}/{name}").status_code == 404
    assert client.get("/assets/another/timeline.js").status_code == 404

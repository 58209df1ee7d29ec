"""What the Replay page fetches: windows of steps, and what is asked about a field."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
from msgspec import Struct
from starlette.applications import Starlette
from starlette.testclient import TestClient

from dashboard import resources, routes
from dashboard.documents import replay
from store import Aggregate, Domain, Hindsight, NewEvent, Upcaster, any_
from store.analysis import document as as_document
from store.domain import Domains
from store.sources.ndjson import NdjsonSource
from tests.histories import PACKAGES, lines

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Noted(Struct, frozen=True):
    text: str
    loud: bool


class Note(Struct, frozen=True):
    text: str = ""
    count: int = 0


def note(state: Note, event: Noted) -> Note:
    if event.text == "bad":
        raise ValueError("bad text")
    return Note(event.text, state.count + 1)


NOTES = Domain(
    "notes",
    aggregates=[
        Aggregate(
            "note",
            initial=Note(),
            events=[Noted],
            apply=note,
            upcasters=[Upcaster("Noted", 1, 2, lambda data: data | {"loud": False})],
        )
    ],
)
TEXTS = ["one", "two", "two", "bad", "three", "x" * 5_000]


@pytest.fixture
def client(sqlite_url: str) -> Iterator[TestClient]:
    """Over a store with the texts noted an hour apart, the first two in schema version 1."""
    with Hindsight(sqlite_url, domain=NOTES) as store:
        events = [
            NewEvent(
                "Noted",
                {"text": text} | ({"loud": True} if index > 1 else {}),
                schema_version=1 + (index > 1),
                occurred_at=NOON + index * timedelta(hours=1),
                metadata={"actor": "ada", "correlation_id": "c-1"},
            )
            for index, text in enumerate(TEXTS)
        ]
        store.append("note", "n", events, expected=any_())
        with resources.shared(store.log, Domains([NOTES]), store=store):
            yield TestClient(Starlette(routes=routes.routes()))


def asked(client: TestClient, name: str, **params: Any) -> Any:
    response = client.get(f"/documents/{name}", params={"aggregate": "n"} | params)
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: TestClient, name: str, **params: Any) -> str:
    response = client.get(f"/documents/{name}", params={"aggregate": "n"} | params)
    assert response.status_code in {400, 404}
    return str(response.json()["error"])


def test_a_window_leads_through_all_its_states(client: TestClient) -> None:
    window = asked(client, "window", version=3)
    assert window["before"] == {"text": "", "count": 0}
    rows = [
        dict(zip(replay.StepRow.__struct_fields__, row, strict=True)) for row in window["steps"]
    ]
    assert [row["version"] for row in rows] == [1, 2, 3, 4, 5, 6]
    state, counts = window["before"], []
    for row in rows:
        state = jsonpatch.JsonPatch(row["patch"]).apply(state)
        counts.append(state["count"])
    assert counts == [1, 2, 3, 3, 4, 5]
    first, second, *_, last = rows
    assert (first["event_version"], first["schema_version"]) == (1, 2)
    assert first["data"] == {"text": "one", "loud": False}
    assert (first["gap"], second["gap"]) == (None, 3_600_000_000)
    assert (first["actor"], first["correlation_id"]) == ("ada", "c-1")
    assert (last["data"], last["data_bytes"] > 5_000) == (None, True)
    assert [bool(row["error"]) for row in rows] == [False, False, False, True, False, False]


def test_a_head_tells_the_type_of_each_event(client: TestClient) -> None:
    head = asked(client, "replay")
    assert (head["first_version"], head["generic"], head["head"]["version"]) == (1, False, 6)
    assert (head["types"], head["kinds"]) == (["Noted"], [0] * 6)


def test_a_window_of_large_steps_is_cut_and_still_holds_the_version(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "WINDOW_BYTES", 700)
    reached = []
    for version in range(1, 7):
        window = asked(client, "window", version=version)
        versions = [row[0] for row in window["steps"]]
        assert version in versions
        assert versions == list(range(versions[0], versions[-1] + 1))
        reached.append(len(versions))
    assert min(reached) < 6


def test_windows_lie_side_by_side(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "WINDOW", 2)
    found = {}
    for version in range(7):
        window = asked(client, "window", version=version)
        found[version] = [row[0] for row in window["steps"]]
    assert found == {
        0: [1, 2],
        1: [1, 2],
        2: [1, 2],
        3: [3, 4],
        4: [3, 4],
        5: [5, 6],
        6: [5, 6],
    }
    assert asked(client, "window", version=3)["before"] == {"text": "two", "count": 2}


def test_a_field_has_its_blame(client: TestClient) -> None:
    found = asked(client, "blame", version=5, path="/text")
    assert (found["value"], found["origin"]["version"], found["changes"]) == ('"three"', 5, 3)
    assert [(each["before"], each["after"]) for each in found["history"]] == [
        ('""', '"one"'),
        ('"one"', '"two"'),
        ('"two"', '"three"'),
    ]
    earlier = asked(client, "blame", version=3, path="/text")
    assert (earlier["origin"]["version"], earlier["written_again"]) == (2, 3)
    assert asked(client, "blame", version=0, path="/text")["origin"] is None
    never = asked(client, "blame", version=6, path="/nothing/there")
    assert (never["value"], never["origin"]) == (None, None)
    assert asked(client, "blame", version=5, path="/text") == found


def test_a_field_has_its_values(client: TestClient) -> None:
    assert asked(client, "series", path="/count")["values"] == [
        *([0, "0"], [1, "1"], [2, "2"], [3, "3"]),
        *([5, "4"], [6, "5"]),
    ]
    assert asked(client, "series", path="/no")["values"] == [[0, None]]


def test_a_series_of_too_many_values_says_so(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MOST_MARKS", 3)
    found = asked(client, "series", path="/count")
    assert (len(found["values"]), found["more"]) == (3, True)
    assert asked(client, "replay")["kinds"] == []


def test_a_text_is_found_with_its_first_and_last_appearance(client: TestClient) -> None:
    [place] = asked(client, "places", text="TWO")["places"]
    assert (place["path"], place["key"], place["first"], place["last"]) == ("/text", False, 2, 4)
    [key] = asked(client, "places", text="coun")["places"]
    assert (key["path"], key["key"], key["first"], key["last"]) == ("/count", True, 1, 6)
    assert asked(client, "places", text="nowhere") == {"places": [], "more": False}


def test_a_key_of_an_object_is_found_and_a_change_far_inside_a_text(sqlite_url: str) -> None:
    long = "x" * 1_000
    data = [{"orders": {"a/b": 1}, "text": f"{long}{end}{long}"} for end in ("1", "2")]
    with Hindsight(sqlite_url) as store:
        events = [NewEvent("Noted", each) for each in data]
        store.append("note", "n", events, expected=any_())
        with resources.shared(store.log, Domains(), store=store):
            client = TestClient(Starlette(routes=routes.routes()))
            [orders] = asked(client, "places", text="orders")["places"]
            assert (orders["path"], orders["key"]) == ("/orders", True)
            [inner] = asked(client, "places", text="a/b")["places"]
            assert (inner["path"], inner["key"]) == ("/orders/a~1b", True)
            assert len(asked(client, "series", path="/text")["values"]) == 3
            endless = f"/text/{'9' * 5_000}"
            assert asked(client, "series", path=endless)["values"] == [[0, None]]
            assert asked(client, "blame", version=2, path=endless)["value"] is None


def test_only_so_many_places_are_told(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MOST_PLACES", 1)
    found = asked(client, "places", text="t")
    assert (len(found["places"]), found["more"]) == (1, True)


def test_an_expression_is_answered_at_every_version(client: TestClient) -> None:
    found = asked(client, "answers", where='text == "two"')
    told = [(each["first"], each["last"], each["kind"]) for each in found["stretches"]]
    assert told == [(1, 1, "false"), (2, 4, "true"), (5, 6, "false")]
    assert {each["event_type"] for each in found["stretches"]} == {"Noted"}
    values = asked(client, "answers", where="count")["stretches"]
    assert [(each["kind"], each["answer"]) for each in values] == [
        ("value", str(count)) for count in range(1, 6)
    ]
    [missing] = asked(client, "answers", where="nothing > 3")["stretches"]
    assert (missing["first"], missing["last"], missing["kind"]) == (1, 6, "undefined")
    [wrong] = asked(client, "answers", where="text > 3")["stretches"]
    assert wrong["kind"] == "error"


def test_only_so_many_stretches_are_told(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MOST_STRETCHES", 2)
    found = asked(client, "answers", where="count")
    assert (len(found["stretches"]), found["more"]) == (2, True)


def test_events_that_cannot_be_applied_are_named(client: TestClient) -> None:
    assert asked(client, "failures") == {"versions": [4], "more": False, "gap": None}


def test_an_event_is_shown_in_each_of_its_forms(client: TestClient) -> None:
    stored, read = asked(client, "forms", version=1)["forms"]
    assert (stored["schema_version"], stored["data"]) == (1, '{"text":"one"}')
    assert read["patch"] == [{"op": "add", "path": "/loud", "value": False}]


def test_a_time_leads_to_the_version_there(client: TestClient) -> None:
    assert asked(client, "reached", at="2026-01-01T13:59:00Z")["version"] == 2
    assert "n" in refused(client, "reached", at="2025-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("replay", {"aggregate": ""}, "aggregate: missing"),
        ("replay", {"aggregate": "nobody"}, "nobody"),
        ("window", {"version": "x"}, "version: 'x' is not a whole number"),
        ("window", {"version": 7}, "'n' has no version 7"),
        ("blame", {"path": "text"}, "path: 'text' is no JSON pointer"),
        ("series", {"path": "text"}, "path: 'text' is no JSON pointer"),
        ("places", {}, "text: missing"),
        ("answers", {}, "where: missing"),
        ("answers", {"where": "text =="}, "expression 'text =='"),
        ("answers", {"where": "range(9)"}, "expression 'range(9)'"),
        ("forms", {"version": 7}, "'n' has no version 7"),
        ("reached", {}, "at: missing"),
        ("reached", {"at": "noon"}, "at: 'noon' is not a time"),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_line(
    client: TestClient, name: str, params: dict[str, Any], message: str
) -> None:
    assert message in refused(client, name, **params)


def test_the_windows_of_scoop_pass_through_known_states(data_sets: Path) -> None:
    folder = data_sets / "scoop_main"
    known = [
        each
        for each in lines(folder / "expected_at_version.ndjson.gz")
        if each["aggregate_id"] in {"main/aws", "main/r", "main/deno"}
    ]
    assert known
    with (
        NdjsonSource(folder / "events.ndjson.gz") as source,
        resources.shared(source, Domains([PACKAGES])),
    ):
        client = TestClient(Starlette(routes=routes.routes()))
        for expected in known:
            found = asked(
                client, "window", aggregate=expected["aggregate_id"], version=expected["version"]
            )
            state = found["before"]
            for row in found["steps"]:
                if row[0] <= expected["version"]:
                    state = jsonpatch.JsonPatch(row[8]).apply(state)
            assert state == as_document(expected["state"])

"""What the Diff page fetches: two states and their changes, the events between, the upcasters."""

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
from dashboard.documents import diff
from store import Aggregate, Domain, Hindsight, NewEvent, Upcaster, any_
from store.domain import Domains
from store.sources.ndjson import NdjsonSource

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PROSE = "It was the best of times, it was the worst of times, it was the age of wisdom"


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
TEXTS = ["one", "two", PROSE, PROSE.replace("worst", "best"), "a\nb\nc\n", "a\nb!\nc\n", "bad"]


def noted(text: str, index: int) -> NewEvent:
    return NewEvent(
        "Noted",
        {"text": text} | ({"loud": True} if index > 1 else {}),
        schema_version=1 + (index > 1),
        occurred_at=NOON + index * timedelta(hours=1),
        metadata={"actor": "ada"},
    )


@pytest.fixture
def store(sqlite_url: str) -> Iterator[Hindsight]:
    """Note n with the texts an hour apart, the first two in schema version 1, and note m with one.

    The last event of n cannot be applied.
    """
    with Hindsight(sqlite_url, domain=NOTES) as opened:
        events = [noted(text, index) for index, text in enumerate(TEXTS)]
        opened.append("note", "n", events, expected=any_())
        opened.append("note", "m", [noted("one", 0)], expected=any_())
        yield opened


@pytest.fixture
def client(store: Hindsight) -> Iterator[TestClient]:
    with resources.shared(store.log, Domains([NOTES]), store=store):
        yield TestClient(Starlette(routes=routes.routes()))


def params_of(params: dict[str, Any]) -> dict[str, Any]:
    """`from` is a word of Python, and so is `with`."""
    return {"aggregate": "n"} | {name.rstrip("_"): value for name, value in params.items()}


def asked(client: TestClient, name: str, **params: Any) -> Any:
    response = client.get(f"/documents/{name}", params=params_of(params))
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: TestClient, name: str, **params: Any) -> str:
    response = client.get(f"/documents/{name}", params=params_of(params))
    assert response.status_code in {400, 404}, response.text
    return str(response.json()["error"])


def test_two_versions_are_compared(client: TestClient) -> None:
    found = asked(client, "diff", from_=1, to=2)
    one, other = found["one"], found["other"]
    assert (one["aggregate_id"], one["version"], other["version"]) == ("n", 1, 2)
    assert (one["newest"], one["as_of"], one["generic"], one["stopped"]) == (7, None, False, None)
    assert found["states"] == [{"text": "one", "count": 1}, {"text": "two", "count": 2}]
    assert found["changes"] == [
        {"op": "replace", "path": "/text", "before": '"one"', "after": '"two"'},
        {"op": "replace", "path": "/count", "before": "1", "after": "2"},
    ]
    assert (found["more"], found["first_version"]) == (0, 1)


def test_the_newest_is_compared_with_the_version_before_it(client: TestClient) -> None:
    found = asked(client, "diff", aggregate="m")
    assert (found["one"]["version"], found["other"]["version"]) == (0, 1)
    assert found["states"][0] == {"text": "", "count": 0}
    found = asked(client, "diff", to=3)
    assert (found["one"]["version"], found["other"]["version"]) == (2, 3)
    found = asked(client, "diff", to=0)
    assert (found["one"]["version"], found["other"]["version"]) == (0, 0)
    assert found["changes"] == []


def test_times_are_compared_on_either_axis(client: TestClient) -> None:
    found = asked(client, "diff", from_="2026-01-01T12:30:00Z", to="2026-01-01T13:30:00+00:00")
    assert (found["one"]["version"], found["other"]["version"]) == (1, 2)
    assert found["one"]["as_of"] == "2026-01-01T12:30:00Z"
    recorded = refused(client, "diff", from_="2026-01-01T12:30:00Z", to=2, axis="recorded")
    assert "n" in recorded


def test_another_aggregate_is_the_other_side(client: TestClient) -> None:
    found = asked(client, "diff", with_="m", from_=2)
    assert [(found[name]["aggregate_id"], found[name]["version"]) for name in ("one", "other")] == [
        ("n", 2),
        ("m", 1),
    ]
    assert found["other"]["newest"] == 1
    newest = asked(client, "diff", aggregate="m", with_="n", to=2)
    assert (newest["one"]["version"], newest["other"]["version"]) == (1, 2)
    assert asked(client, "diff", with_="m")["one"]["version"] == 6


def test_a_side_that_cannot_be_folded_says_how_far_it_got(client: TestClient) -> None:
    found = asked(client, "diff", from_=5, to=7)
    assert found["other"]["version"] == 6
    assert "version 7 (Noted" in found["other"]["stopped"]
    assert found["one"]["stopped"] is None


def test_long_texts_are_compared_by_words_or_lines(client: TestClient) -> None:
    words = asked(client, "diff", from_=3, to=4)["changes"][0]
    assert [kind for kind, _ in words["segments"]] == ["same", "removed", "added", "same"]
    assert [text for _, text in words["segments"]][1:3] == ["worst", "best"]
    assert "lines" not in words
    lines = asked(client, "diff", from_=5, to=6)["changes"][0]
    assert lines["lines"] == ["@@ -1,3 +1,3 @@", " a", "-b", "+b!", " c"]
    unlike = asked(client, "diff", from_=2, to=3)["changes"][0]
    assert "segments" not in unlike


def test_texts_too_long_are_not_compared_by_words(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diff, "LONGEST_TEXT", 100)
    assert "segments" not in asked(client, "diff", from_=3, to=4)["changes"][0]
    monkeypatch.setattr(diff, "LONGEST_TEXT", 1_000)
    monkeypatch.setattr(diff, "MOST_TEXTS", 0)
    assert "segments" not in asked(client, "diff", from_=3, to=4)["changes"][0]


def test_values_are_cut_and_large_states_stay_away(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diff, "LONGEST_VALUE", 20)
    monkeypatch.setattr(diff, "MOST_BYTES", 40)
    assert asked(client, "diff", from_=2, to=3)["states"] is None
    found = asked(client, "diff", from_=3, to=4)
    assert found["states"] is None
    assert found["bytes"] == [len(PROSE) + 21, len(PROSE) + 20]
    assert len(found["changes"][0]["before"]) == 20
    assert "…" in found["changes"][0]["before"]
    assert asked(client, "diff", from_=1, to=2)["states"] is not None


def test_only_so_many_changes_are_told(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "MOST_CHANGES", 1)
    found = asked(client, "diff", from_=1, to=2)
    assert (len(found["changes"]), found["more"]) == (1, 1)


def test_a_patch_leads_from_one_state_to_the_other(client: TestClient) -> None:
    response = client.get("/documents/patch", params={"aggregate": "n", "from": 1, "to": 6})
    assert response.headers["content-disposition"] == "attachment"
    found = asked(client, "diff", from_=1, to=6)
    one, other = found["states"]
    assert jsonpatch.JsonPatch(response.json()).apply(one) == other
    assert found["patch_bytes"] == len(response.content)


def test_both_states_are_saved_as_the_command_prints_them(client: TestClient) -> None:
    both = client.get("/documents/states", params={"aggregate": "n", "from": 1, "to": 2}).json()
    assert (both["one"]["version"], both["other"]["state"]["text"]) == (1, "two")
    assert [each["op"] for each in both["changes"]] == ["replace", "replace"]


def test_the_command_that_says_the_same_is_told(client: TestClient) -> None:
    assert asked(client, "diff", from_=1, to=2)["command"] == "hindsight diff -- n 1 2"
    time = "2026-01-01T12:30:00Z"
    both = asked(client, "diff", from_=time, with_="m", axis="occurred")["command"]
    assert both == f"hindsight diff --with=m -- n {time}"
    assert asked(client, "diff")["command"] == "hindsight diff -- n"
    # The command has no way to leave A away and name B.
    assert asked(client, "diff", to=3)["command"] == "hindsight diff -- n 2 3"


def test_an_event_file_is_compared_and_named(tmp_path: Path) -> None:
    line = (
        '{"event_id": "018f0000-0000-7000-8000-00000000000%d", "aggregate_type": "t",'
        ' "aggregate_id": "x", "version": %d, "event_type": "E", "schema_version": 1,'
        ' "data": {"a": %d}, "metadata": {}, "occurred_at": "2026-01-01T00:00:00Z"}\n'
    )
    path = tmp_path / "events.ndjson"
    path.write_text("".join(line % (number, number, number) for number in (1, 2)))
    with NdjsonSource(path) as source, resources.shared(source, Domains(), file=str(path)):
        client = TestClient(Starlette(routes=routes.routes()))
        found = asked(client, "diff", aggregate="x", from_=1, to=2)
        assert found["one"]["generic"]
        assert found["command"] == f"hindsight diff --url={path} -- x 1 2"
        assert "has no snapshots" in refused(client, "diff", aggregate="x", from_="snapshot")
        coverage = asked(client, "coverage")
        assert (coverage["domain"], coverage["versions"][0]["chain"]) == (False, "no domain code")


def test_events_in_front_of_a_gap_are_told_with_it(client: TestClient, store: Hindsight) -> None:
    events = store.log.events
    source: Any = store.log
    source.events = lambda *a, **k: (e for e in events(*a, **k) if e.version != 3)
    found = asked(client, "between", from_=1, to=6)
    assert [each["version"] for each in found["events"]] == [2]
    assert found["gap"] == "'n': version 4 comes after version 2"


def test_the_events_between_tell_what_each_contributed(client: TestClient) -> None:
    found = asked(client, "between", from_=1, to=3)
    assert [each["version"] for each in found["events"]] == [2, 3]
    first = found["events"][0]
    assert (first["event_type"], first["actor"]) == ("Noted", "ada")
    assert first["occurred_at"] == "2026-01-01T13:00:00Z"
    assert first["paths"] == ["/text", "/count"]
    assert (first["changes"], first["error"], found["more"]) == (2, None, 0)
    assert asked(client, "between", from_=3, to=1) == found
    assert asked(client, "between", from_=2, to=2) == {"events": [], "more": 0, "gap": None}
    [last] = asked(client, "between", from_=6, to=7)["events"]
    assert (last["paths"], "bad text" in last["error"]) == ([], True)


def test_only_so_many_events_between_are_told(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diff, "MOST_BETWEEN", 2)
    monkeypatch.setattr(diff, "MOST_PATHS", 1)
    found = asked(client, "between", from_=1, to=6)
    assert [each["version"] for each in found["events"]] == [2, 3]
    assert (found["more"], found["events"][0]["paths"]) == (3, ["/text"])
    assert found["events"][0]["changes"] == 2


def test_the_snapshot_is_compared_with_the_replay(client: TestClient, store: Hindsight) -> None:
    assert "no snapshot" in refused(client, "diff", aggregate="m", from_="snapshot")
    store.repository.snapshot("m")
    found = asked(client, "diff", aggregate="m", from_="snapshot")
    assert [found[side]["name"] for side in ("one", "other")] == ["the snapshot", "the replay"]
    assert (found["one"]["version"], found["changes"]) == (1, [])
    assert found["command"] == "hindsight diff --snapshot -- m"
    assert "to: " in refused(client, "diff", aggregate="m", from_="snapshot", to=1)


def test_the_stored_versions_are_told_with_what_they_are_read_as(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = asked(client, "coverage")
    assert found["domain"]
    told = [
        (each["event_type"], each["event_version"], each["events"], each["read_as"], each["chain"])
        for each in found["versions"]
    ]
    assert told == [
        ("Noted", 1, 3, ["Noted", 2], "complete"),
        ("Noted", 2, 5, ["Noted", 2], "complete"),
    ]
    monkeypatch.setattr(diff, "MOST_COUNTED", 7)
    assert asked(client, "coverage") == {"domain": True, "events": 8, "versions": None}
    assert len(asked(client, "coverage", all="1")["versions"]) == 2


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("diff", {"aggregate": ""}, "aggregate: missing"),
        ("diff", {"aggregate": "nobody"}, "nobody"),
        ("diff", {"with": "nobody"}, "nobody"),
        ("diff", {"from": "x"}, "from: 'x' is neither a version nor a time such as"),
        ("diff", {"to": "1.5"}, "to: '1.5' is neither a version nor a time such as"),
        ("diff", {"to": "2026-01-01T12:00:00"}, "to: '2026-01-01T12:00:00' is neither"),
        ("diff", {"to": 8}, "'n' has no version 8"),
        ("diff", {"from": -1}, "'n' has no version -1"),
        ("diff", {"from": "9" * 19}, "from: '9999999999999999999' is neither"),
        ("diff", {"from": "2020-01-01T00:00:00Z"}, "n"),
        ("diff", {"axis": "sideways"}, "axis: 'sideways' is neither occurred nor recorded"),
        ("between", {"from": 1}, "to: missing"),
        ("between", {"from": 1, "to": 8}, "'n' has no version 8"),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_line(
    client: TestClient, name: str, params: dict[str, Any], message: str
) -> None:
    assert message in refused(client, name, **params)

"""`hindsight diff`, `blame` and `transitions`: from each database and from a file."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonpatch
import msgspec
import pytest
from click.testing import CliRunner, Result
from msgspec import Struct
from sqlalchemy import text

from store import Aggregate, Context, Domain, Hindsight, NewEvent, Upcaster, any_
from store.analysis import Change
from store.analysis.forms import forms
from store.cli import hindsight
from store.cli.changes import lines_of
from store.transfer import export_events

pytestmark = pytest.mark.slow

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Noted(Struct, frozen=True):
    text: str
    loud: bool
    by: str = ""


class Priced(Struct, frozen=True):
    lines: list[dict[str, Any]]


class Ticket(Struct, frozen=True):
    text: str = ""
    lines: list[dict[str, Any]] = []


def change(ticket: Ticket, event: Noted | Priced) -> Ticket:
    match event:
        case Noted(body):
            if body == "bad":
                raise ValueError("bad text")
            return Ticket(body, ticket.lines)
        case Priced(lines):
            return Ticket(ticket.text, lines)


DOMAIN = Domain(
    "tickets",
    aggregates=[
        Aggregate(
            "ticket",
            initial=Ticket(),
            events=[Noted, Priced],
            apply=change,
            upcasters=[
                Upcaster("Noted", 1, 2, lambda data: data | {"loud": False}),
                Upcaster("Noted", 2, 3, lambda data: {**data, "by": data["author"]}),
            ],
        )
    ],
)
POEM = "The quick brown fox jumps over the lazy dog, and nobody minds that it does so."
NAME = f"{__name__}:DOMAIN"


def noted(body: str, version: int = 3) -> NewEvent:
    data = {"text": body, "author": "ada"} | ({"loud": True} if version > 1 else {})
    data |= {"by": "ada"} if version > 2 else {}
    return NewEvent("Noted", data, schema_version=version)


@pytest.fixture(params=["store", "file"])
def location(request: pytest.FixtureRequest, store_url: str, tmp_path: Path) -> str:
    """Where tickets t and u lie, written an hour after each other."""
    clock = [NOON]
    with Hindsight(store_url, domain=DOMAIN, clock=lambda: clock[-1]) as store:
        one, two = {"id": 1, "price": 5}, {"id": 2, "price": 7}
        for events in (
            [noted(POEM, version=1)],
            [NewEvent("Priced", {"lines": [one]})],
            [noted(POEM.replace("lazy", "sleepy"))],
            [NewEvent("Priced", {"lines": [two, one]})],
        ):
            context = Context(actor=f"actor-{len(clock)}", correlation_id="c-1")
            store.append("ticket", "t", events, expected=any_(), context=context)
            clock.append(clock[-1] + timedelta(hours=1))
        store.append("ticket", "u", [noted("short"), noted("bad"), noted("end")], expected=any_())
        if request.param == "store":
            return store_url
        with (tmp_path / "events.ndjson").open("wb") as stream:
            export_events(store.log, stream)
    return str(tmp_path / "events.ndjson")


@pytest.fixture
def run(location: str) -> Any:
    def run(*arguments: str, domain: str | None = NAME) -> Result:
        environment = {"EVENT_STORE_DOMAIN": domain, "EVENT_STORE_URL": location}
        return CliRunner(env=environment).invoke(hindsight, arguments)

    return run


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_a_diff_tells_what_differs_and_which_events_made_it(run: Any) -> None:
    found = lines(run("diff", "t", "1", "4"))
    assert found == [
        "t, version 1 → version 4",
        "~ /text",
        POEM.replace("lazy", "[-lazy-]{+sleepy+}"),
        '+ /lines/0 {"id":2,"price":7}',
        '+ /lines/1 {"id":1,"price":5}',
        "",
        "version occurred at (UTC) type actor changed",
        "2 2026-01-01 13:00:00 Priced actor-2 /lines/0",
        "3 2026-01-01 14:00:00 Noted actor-3 /text",
        "4 2026-01-01 15:00:00 Priced actor-4 /lines/0",
    ]


@pytest.mark.parametrize(
    ("points", "versions"),
    [
        (["2", "3"], (2, 3)),
        (["3", "2"], (3, 2)),
        (["0", "4"], (0, 4)),
        (["2"], (2, 4)),
        ([], (3, 4)),
        (["2026-01-01T13:30:00Z", "2026-01-01T16:00:00+01:00"], (2, 4)),
    ],
)
def test_a_patch_leads_from_one_state_to_the_other(
    run: Any, points: list[str], versions: tuple[int, int]
) -> None:
    found = msgspec.json.decode(run("diff", "t", *points, "--json").stdout)
    assert (found["one"]["version"], found["other"]["version"]) == versions
    patch = msgspec.json.decode(run("diff", "t", *points, "--patch").stdout)
    assert patch == found["changes"]
    one, other = found["one"]["state"], found["other"]["state"]
    assert jsonpatch.JsonPatch(patch).apply(one) == other
    if versions[0] == 0:
        assert one == {"text": "", "lines": []}


def test_a_diff_back_in_time_has_the_same_events_between(run: Any) -> None:
    back, forth = (run("diff", "t", *points).stdout for points in (["4", "1"], ["1", "4"]))
    assert back.partition("\n\n")[2] == forth.partition("\n\n")[2] != ""


def test_texts_without_a_word_in_common_are_not_woven_into_each_other() -> None:
    before, after = "ab " * 30, "cd-" * 30
    [line] = lines_of(Change(op="replace", path="/x", before=before, after=after))
    assert "→" in line


def test_a_diff_as_of_a_time_speaks_of_the_axis_that_is_named(store_url: str) -> None:
    with Hindsight(store_url, domain=DOMAIN, clock=lambda: NOON) as store:
        late = msgspec.structs.replace(noted("late"), occurred_at=NOON - timedelta(days=9))
        store.append("ticket", "t", [late, noted("second")], expected=any_())
    earlier, noon = ("2025-12-31T00:00:00Z", "2026-01-01T12:00:00Z")
    environment = {"EVENT_STORE_DOMAIN": NAME, "EVENT_STORE_URL": store_url}
    for axis, exit_code in (("occurred", 0), ("recorded", 2)):
        arguments = ["diff", "t", earlier, noon, "--axis", axis]
        result = CliRunner(env=environment).invoke(hindsight, arguments)
        assert result.exit_code == exit_code, result.output


def test_states_of_two_aggregates_are_compared(run: Any) -> None:
    found = run("diff", "t", "1", "1", "--with", "u").stdout
    assert found.startswith("t, version 1 → u, version 1\n")
    assert '"short"' in found
    assert "occurred at" not in found
    assert "nothing differs" in run("diff", "t", "1", "1", "--with", "t").stdout


def test_an_event_that_cannot_be_folded_is_told_beside_what_there_is(run: Any) -> None:
    result = run("diff", "u", "1", "3")
    assert result.exit_code == 1
    assert "u, version 1 → version 1" in result.stdout
    assert result.stderr == "error: 'u' version 2 (Noted, position 6): ValueError: bad text\n"


def test_an_event_is_shown_as_it_was_stored_and_after_each_upcaster(run: Any) -> None:
    found = lines(run("diff", "t", "--event", "1"))
    assert found[0] == "Noted 1, as it was stored"
    assert found[2:] == [
        "Noted 2, upcasted",
        "+ /loud false",
        "Noted 3, as the code reads it",
        '+ /by "ada"',
    ]
    forms = msgspec.json.decode(run("diff", "t", "--event", "1", "--json").stdout)["forms"]
    assert [(form["schema_version"], form["failure"]) for form in forms] == [
        (1, None),
        (2, None),
        (3, None),
    ]
    assert forms[-1]["changes"] == [{"op": "add", "path": "/by", "value": "ada"}]
    assert lines(run("diff", "t", "--event", "1", domain=None))[0] == "Noted 1, as it was stored"


@pytest.mark.parametrize(
    ("event", "versions", "failure"),
    [
        (noted("x", version=9), [9], "'Noted' has schema version 9"),
        (NewEvent("Noted", {"text": "x"}), [1, 2, 3], "KeyError: 'author'"),
    ],
)
def test_an_event_that_cannot_be_upcasted_is_shown_as_far_as_it_goes(
    store_url: str, event: NewEvent, versions: list[int], failure: str
) -> None:
    with Hindsight(store_url) as store:
        store.append("ticket", "t", [event], expected=any_())
    environment = {"EVENT_STORE_DOMAIN": NAME, "EVENT_STORE_URL": store_url}
    result = CliRunner(env=environment).invoke(hindsight, ["diff", "t", "--event", "1"])
    assert [int(line.split()[1][:-1]) for line in lines(result) if line.startswith("Noted")] == (
        versions
    )
    assert failure in lines(result)[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["t", "x"], "'x' is neither a version nor a time with its zone"),
        (["t", "2026-01-01T12:00:00"], "'2026-01-01T12:00:00' is neither a version nor a time"),
        (["t", "1", "9"], "'t' has no version 9; it is at 4"),
        (["t", "--event", "9"], "'t' has no version 9; it is at 4"),
        (["t", "2025-01-01T12:00:00Z"], "no event"),
        (["nobody"], "nobody"),
        (["t", "1", "--event", "1"], "--snapshot and --event stand alone"),
        (["t", "--event", "1", "--snapshot"], "--snapshot and --event stand alone"),
        (["t", "--patch", "--json"], "give either --patch or --json"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(
    run: Any, arguments: list[str], message: str
) -> None:
    result = run("diff", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_a_snapshot_is_compared_with_the_replay(store_url: str) -> None:
    def run(*arguments: str) -> Result:
        environment = {"EVENT_STORE_DOMAIN": NAME, "EVENT_STORE_URL": store_url}
        return CliRunner(env=environment).invoke(hindsight, arguments)

    with Hindsight(store_url, domain=DOMAIN) as store:
        store.append("ticket", "t", [noted("one"), noted("two")], expected=any_())
        missing = run("diff", "t", "--snapshot")
        assert "no snapshot of 't' of this code's fold" in missing.stderr
        store.snapshot("t")
        store.append("ticket", "t", [noted("three")], expected=any_())
        same = run("diff", "t", "--snapshot")
        assert (same.exit_code, same.stdout.splitlines()[1].strip()) == (0, "nothing differs")
        drifting = Ticket("not what happened")
        aggregate = DOMAIN.aggregates[0]
        store.snapshots.keep(aggregate, "t", version=2, state=drifting)
        drift = run("diff", "t", "--snapshot")
        assert drift.exit_code == 1
        assert drift.stdout.splitlines() == [
            "t, the snapshot at version 2 → the replay at version 2",
            '  ~ /text  "not what happened" → "two"',
        ]
        with store.database.transaction() as connection:
            connection.execute(text("UPDATE snapshots SET digest = 'x'"))
        unreadable = run("diff", "t", "--snapshot")
        assert "it is ignored, it is not as it was written" in unreadable.stderr


def test_an_upcaster_that_changes_what_it_gets_shows_what_was_stored(sqlite_url: str) -> None:
    with Hindsight(sqlite_url) as store:
        store.append("ticket", "t", [noted("x", version=1)], expected=any_())
        [event] = store.events("t")

    def in_place(data: dict[str, Any]) -> dict[str, Any]:
        data["text"] = data["text"].upper()
        return data

    aggregate = Aggregate(
        "ticket",
        initial=Ticket(),
        events=[Noted],
        apply=change,
        upcasters=[Upcaster("Noted", 1, 2, in_place)],
    )
    stored, made = forms(event, aggregate)
    assert (stored.data["text"], made.data["text"]) == ("x", "X")
    assert [each.path for each in made.changes] == ["/text"]


def test_where_the_first_event_cannot_be_folded_the_diff_says_so(store_url: str) -> None:
    with Hindsight(store_url) as store:
        store.append("ticket", "t", [noted("bad")], expected=any_())
    environment = {"EVENT_STORE_DOMAIN": NAME, "EVENT_STORE_URL": store_url}
    result = CliRunner(env=environment).invoke(hindsight, ["diff", "t"])
    assert result.exit_code == 1
    assert "bad text" in result.stderr


def test_blame_names_the_event_of_each_field(run: Any) -> None:
    assert lines(run("blame", "t")) == [
        "field value version occurred at (UTC) type actor correlation changes",
        f'/text "{POEM[:34]} sle… 3 2026-01-01 14:00:00 Noted actor-3 c-1 2',
        "/lines/0/id 2 4 2026-01-01 15:00:00 Priced actor-4 c-1 1",
        "/lines/0/price 7 4 2026-01-01 15:00:00 Priced actor-4 c-1 1",
        "/lines/1/id 1 2 2026-01-01 13:00:00 Priced actor-2 c-1 1",
        "/lines/1/price 5 2 2026-01-01 13:00:00 Priced actor-2 c-1 1",
    ]
    earlier = msgspec.json.decode(run("blame", "t", "--version", "2", "--json").stdout)
    assert earlier["version"] == 2
    assert {each["path"]: each["origin"]["version"] for each in earlier["fields"]} == {
        "/lines/0/id": 2,
        "/lines/0/price": 2,
        "/text": 1,
    }


def test_blame_of_a_field_has_its_history(run: Any) -> None:
    found = lines(run("blame", "t", "--path", "/lines/1/price"))
    assert found[0] == "/lines/1/price 5"
    assert found[2:] == ["2 2026-01-01 13:00:00 Priced actor-2 c-1 /lines/0/price nothing 5"]
    told = msgspec.json.decode(run("blame", "t", "--path", "/text", "--json").stdout)
    assert [each["origin"]["version"] for each in told["history"]] == [1, 3]
    assert told["history"][1]["before"] == POEM
    assert (
        "before"
        not in msgspec.json.decode(run("blame", "t", "--path", "/lines/0", "--json").stdout)[
            "history"
        ][0]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["t", "--path", "text"], "'text' is no JSON pointer; write /field/0/name"),
        (["t", "--path", "/never"], "/never: the state never had such a field"),
        (["t", "--version", "9"], "'t' has no version 9; it is at 4"),
        (["nobody"], "nobody"),
    ],
)
def test_what_cannot_be_blamed_is_said_in_a_line(
    run: Any, arguments: list[str], message: str
) -> None:
    result = run("blame", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_transitions_are_counted_with_examples(run: Any) -> None:
    assert lines(run("transitions", "--type", "ticket")) == [
        "after comes times share for example",
        "(the beginning) Noted 2 100.0% t at 1, u at 1",
        "Noted Noted 2 50.0% u at 2, u at 3",
        "Noted Priced 2 50.0% t at 2, t at 4",
        "Priced Noted 1 100.0% t at 3",
    ]
    assert len(lines(run("transitions", "t"))) == 4
    assert lines(run("transitions", "--type", "ticket", "--rare")) == [
        "after comes times share for example"
    ]
    found = msgspec.json.decode(run("transitions", "t", "--json").stdout)["transitions"]
    assert found[0] == {
        "before": "Noted",
        "after": "Priced",
        "count": 2,
        "share": 1.0,
        "examples": [{"aggregate_id": "t", "version": 2}, {"aggregate_id": "t", "version": 4}],
    }
    for arguments, message in (
        (["--type", "order"], "no aggregate of type 'order'; there are: ticket"),
        ([], "give either an ID or --type"),
        (["nobody"], "nobody"),
    ):
        result = run("transitions", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr

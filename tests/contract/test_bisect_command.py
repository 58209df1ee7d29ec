"""`hindsight bisect` and `hindsight watch`, on stores and files, with domain code and without."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

import users
from store import Context, Hindsight, NewEvent, any_
from store.analysis import Evaluation, Expression, Stepper, bisect_type, watch
from store.analysis.bisect import _intervals
from store.application import open_repository
from store.cli import hindsight
from store.domain import Domains
from store.log import EventLog
from store.records import Event
from store.transfer import export_events
from tests.histories import PACKAGES, imported, lines

pytestmark = pytest.mark.slow

MERGED = "(the events' data merged: there is no domain code)"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def levels(*found: Any) -> list[NewEvent]:
    """Events that set a level, an hour apart; None clears it."""
    return [
        NewEvent("LevelSet", {"level": level}, occurred_at=NOON + index * timedelta(hours=1))
        for index, level in enumerate(found)
    ]


@pytest.fixture(params=["store", "file"])
def tanks(request: pytest.FixtureRequest, store_url: str, tmp_path: Path) -> str:
    """Three tanks and a pump: where `hindsight --url` finds them."""
    with Hindsight(store_url) as store:
        ada = Context(actor="ada")
        store.append("tank", "t-1", levels(1, 5, 6, None, 2), expected=any_(), context=ada)
        store.append("tank", "t-2", levels(7, 1, 8), expected=any_())
        store.append("tank", "t-3", levels(1), expected=any_())
        store.append("pump", "p-1", levels(9), expected=any_())
        if request.param == "store":
            return store_url
        with (tmp_path / "events.ndjson").open("wb") as stream:
            export_events(store.log, stream)
    return str(tmp_path / "events.ndjson")


def run(*arguments: str, domain: str | None = None) -> Result:
    return CliRunner(env={"EVENT_STORE_DOMAIN": domain}).invoke(hindsight, arguments)


def told(*arguments: str, **options: Any) -> Any:
    result = run(*arguments, "--json", **options)
    assert result.exit_code == 0, result.output
    return msgspec.json.decode(result.stdout)


def test_intervals_are_shown_with_the_event_that_began_each(tanks: str) -> None:
    result = run("bisect", "t-1", "level > 4", "--url", tanks)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "from  to  occurred at (UTC)    type      actor  value",
        "   1   1  2026-01-01 12:00:00  LevelSet  ada    false",
        "   2   3  2026-01-01 13:00:00  LevelSet  ada    true",
        "   4   4  2026-01-01 15:00:00  LevelSet  ada    undefined",
        "   5   5  2026-01-01 16:00:00  LevelSet  ada    false",
        f"holds at 2 of 5 versions, flips 2 times, first at 2, last at 4 {MERGED}",
    ]


@pytest.mark.parametrize(
    ("expression", "summary"),
    [
        ("level > 9", "holds at 0 of 3 versions, never flips"),
        ("level > 0", "holds at 3 of 3 versions, never flips"),
        ("lost == 1", "holds at 0 of 3 versions, never flips"),
        ("level == 8", "holds at 1 of 3 versions, flips once, at 3"),
    ],
)
def test_how_often_it_flips_is_told(tanks: str, expression: str, summary: str) -> None:
    result = run("bisect", "t-2", expression, "--url", tanks)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].startswith(summary + " (")


def test_one_document_tells_it_all(tanks: str) -> None:
    found = told("bisect", "t-1", "1 / (level - 6) > 4 || level == 5", "--url", tanks)
    intervals = found.pop("intervals")
    assert found == {
        "aggregate_id": "t-1",
        "aggregate_type": "tank",
        "expression": "1 / (level - 6) > 4 || level == 5",
        "generic": True,
        "seen": 5,
        "held": 1,
        "first_flip": 2,
        "last_flip": 3,
        "unapplied": 0,
    }
    assert [(each["first"], each["last"], each["kind"], each["value"]) for each in intervals] == [
        (1, 1, "value", False),
        (2, 2, "value", True),
        (3, 3, "error", None),
        (4, 4, "undefined", None),
        (5, 5, "value", False),
    ]
    assert [each["error"] for each in intervals] == [None, None, "divide by zero", None, None]
    assert intervals[1]["event"] == {
        "version": 2,
        "event_type": "LevelSet",
        "occurred_at": "2026-01-01T13:00:00Z",
        "actor": "ada",
    }
    never = told("bisect", "t-1", "false", "--url", tanks)
    assert (never["held"], never["first_flip"], never["last_flip"]) == (0, None, None)


def test_every_aggregate_of_a_type_where_it_ever_holds(tanks: str) -> None:
    result = run("bisect", "--type", "tank", "level > 4", "--url", tanks)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "from  to  held  of  aggregate",
        "   2   3     2   5  t-1",
        "   1   3     2   3  t-2",
        f"holds in 2 of 3 aggregates {MERGED}",
    ]
    assert told("bisect", "--type", "tank", "level > 4", "--url", tanks) == {
        "aggregate_type": "tank",
        "expression": "level > 4",
        "generic": True,
        "seen": 3,
        "aggregates": [
            {"aggregate_id": "t-1", "first": 2, "last": 3, "held": 2, "seen": 5},
            {"aggregate_id": "t-2", "first": 1, "last": 3, "held": 2, "seen": 3},
        ],
        "gaps": [],
    }
    none = run("bisect", "--type", "pump", "level < 0", "--url", tanks)
    assert none.stdout.splitlines()[1].startswith("holds in 0 of 1 aggregate (")


def test_watch_shows_a_value_where_it_changed(tanks: str) -> None:
    result = run("watch", "t-1", "level", "--url", tanks)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = result.stdout.splitlines()
    assert rows[0] == "from  to  occurred at (UTC)    type      actor  value"
    assert [row.split()[-1] for row in rows[1:6]] == ["1", "5", "6", "undefined", "2"]
    assert rows[6] == MERGED
    found = told("watch", "t-1", "level > 4 ? 'high' : 'undefined'", "--url", tanks)
    assert [(each["kind"], each["value"]) for each in found["intervals"]] == [
        ("value", "undefined"),
        ("value", "high"),
        ("undefined", None),
        ("value", "undefined"),
    ]
    quoted = run("watch", "t-2", "level > 4 ? 'high' : 'undefined'", "--url", tanks).stdout
    assert [row.split()[-1] for row in quoted.splitlines()[1:4]] == [
        *('"high"', '"undefined"'),
        '"high"',
    ]


def test_a_long_value_is_cut_in_the_table_only(tanks: str) -> None:
    long = f"'{'x' * 500}'"
    row = run("watch", "t-3", long, "--url", tanks).stdout.splitlines()[1]
    assert row.endswith("xxx…")
    assert len(row) < 150
    assert told("watch", "t-3", long, "--url", tanks)["intervals"][0]["value"] == "x" * 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["bisect", "t-1", "level"],
            "'level' is 1 at version 1, neither true nor false; use watch",
        ),
        (["bisect", "t-1", "level =="], "'level ==': Syntax error: it ends too early at column 9"),
        (["bisect", "t-1", "lost(level)"], "there is no function 'lost' at column 5"),
        (["bisect", "t-1", "level\n> foo()"], "there is no function 'foo' at column 6 of line 2"),
        (["bisect", "t-1"], "give an ID and an expression, or --type and an expression"),
        (["bisect", "t-1", "true", "false"], "give an ID and an expression"),
        (["bisect", "--type", "tank", "t-1", "true"], "give an ID and an expression"),
        (
            ["bisect", "--type", "ship", "true"],
            "no aggregate of type 'ship'; there are: pump, tank",
        ),
        (["bisect", "--type", "tank", "level"], "'level' is 1 at version 1, neither"),
        (["bisect", "nobody", "true"], "no aggregate 'nobody'"),
        (["bisect", "a\nb", "true"], "ID: "),
        (["bisect", "t-1", "true", "--time-limit", "0"], "is not in the range x>0"),
        (["bisect", "t-1", "level > 1", "--time-limit", "0.000001"], "takes longer than 1e-06 s"),
        (["watch", "t-1", "level", "--time-limit", "0.000001"], "takes longer than 1e-06 s"),
        (["bisect", "--type", "tank", "true", "--time-limit", "0.000001"], "takes longer than"),
        (["watch", "nobody", "true"], "no aggregate 'nobody'"),
        (["watch", "t-1", "level +"], "it ends too early at column 8"),
    ],
)
def test_bad_input_is_named(tanks: str, arguments: Sequence[str], message: str) -> None:
    result = run(*arguments, "--url", tanks)
    assert result.exit_code == 2
    assert message in result.stderr
    assert (result.stdout, len(result.stderr.splitlines())) == ("", 1)


@pytest.mark.parametrize("command", ["bisect", "watch"])
def test_an_event_that_cannot_be_folded_is_told(store_url: str, command: str) -> None:
    with Hindsight(store_url, domain=users.domain) as store:
        created = {"username": "ada", "email": "a@b.example", "full_name": "Ada"}
        events = [NewEvent("UserCreated", created | {"password_hash": "x"}), NewEvent("Lost", {})]
        store.append("user", "u", events, expected=any_())
    for arguments in (["u", "email == 'a@b.example'"], ["--type", "user", "true"])[
        : 2 if command == "bisect" else 1
    ]:
        result = run(command, *arguments, "--url", store_url, domain="users:domain")
        assert result.exit_code == 1
        assert result.stderr == "error: 1 event cannot be applied; the state stayed as it was\n"
        assert "no domain code" not in result.stdout


def test_a_gap_ends_one_aggregate_and_not_the_others(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Hindsight(store_url) as store:
        for name in "ab":
            store.append("tank", name, levels(1, 2, 3), expected=any_())
    events = EventLog.events

    def torn(log: EventLog, aggregate_id: str, **given: Any) -> Iterator[Event]:
        for event in events(log, aggregate_id, **given):
            if (aggregate_id, event.version) != ("a", 2):
                yield event

    monkeypatch.setattr(EventLog, "events", torn)
    result = run("bisect", "--type", "tank", "level > 0", "--url", store_url)
    assert result.exit_code == 1
    assert [line.split() for line in result.stdout.splitlines()[1:3]] == [
        ["1", "1", "1", "1", "a"],
        ["1", "3", "3", "3", "b"],
    ]
    gap = "error: 'a': version 3 comes after version 1"
    assert result.stderr == f"{gap}; what came after is not in it\n"
    one = run("bisect", "a", "level > 0", "--url", store_url)
    assert (one.exit_code, one.stdout, one.stderr) == (2, "", f"{gap}\n")


def test_a_type_is_read_page_by_page_with_progress(
    store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("store.analysis.bisect"), "PAGE", 2)
    for name in "abcde":
        store.append("tank", name, levels(1), expected=any_())
    told: list[int] = []
    found = bisect_type(store.repository, "tank", Expression("level > 0"), progress=told.append)
    assert [each.aggregate.aggregate_id for each in found] == list("abcde")
    assert told == [1] * 5


QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "removed": lambda state: state["removed"],
    "!broken && path.endsWith('.json')": lambda state: (
        not state["broken"] and state["path"].endswith(".json")
    ),
    "has(manifest.license)": lambda state: "license" in state["manifest"],
    "'bin' in manifest": lambda state: "bin" in state["manifest"],
    "size(manifest) > 6": lambda state: len(state["manifest"]) > 6,
    "state.manifest.version.startsWith('1')": lambda state: state["manifest"]["version"].startswith(
        "1"
    ),
    "manifest.architecture['64bit'].url.startsWith('http:')": lambda state: state["manifest"][
        "architecture"
    ]["64bit"]["url"].startswith("http:"),
}


def expected_answer(question: str, state: Any) -> tuple[str, Any]:
    try:
        return ("value", QUESTIONS[question](state))
    except KeyError:
        return ("undefined", None)
    except AttributeError:  # several URLs: a list has no such function
        return ("error", None)


@pytest.mark.parametrize("kind", ["store", pytest.param("file", marks=pytest.mark.soak)])
def test_scoop_s_packages_are_as_plain_python_says_at_every_known_version(
    sqlite_url: str, data_sets: Path, kind: str
) -> None:
    folder = data_sets / "scoop_main"
    known = lines(folder / "expected_at_version.ndjson.gz")
    url = str(folder / "events.ndjson.gz")
    if kind == "store":
        imported(sqlite_url, folder, PACKAGES).close()
        url = sqlite_url
    kinds = set()
    with ExitStack() as opened:
        repository = opened.enter_context(open_repository(url, Domains([PACKAGES])))
        evaluations = {
            question: opened.enter_context(Evaluation(Expression(question)))
            for question in QUESTIONS
        }
        for expected in known:
            stepper = Stepper(repository, expected["aggregate_id"])
            steps = list(stepper.steps(last=expected["version"]))
            for question, evaluation in evaluations.items():
                found = list(_intervals(steps, evaluation))
                answer = found[-1].answer
                assert found[-1].last == expected["version"]
                wanted = expected_answer(question, expected["state"])
                assert (answer.kind, answer.value) == wanted, (question, expected)
                kinds.add(wanted)
                for interval in found:
                    for version in (interval.first, interval.last):
                        one = (interval.answer.kind, interval.answer.value)
                        assert one == expected_answer(question, steps[version - 1].after)
    assert len(known) == 172
    assert kinds == {("value", True), ("value", False), ("undefined", None), ("error", None)}


def test_watching_the_version_of_a_package_is_its_releases(
    sqlite_url: str, data_sets: Path
) -> None:
    with imported(sqlite_url, data_sets / "scoop_main", PACKAGES) as store:
        steps = list(Stepper(store.repository, "main/go").steps())
        seen = [step.after["manifest"]["version"] for step in steps]
        found = list(watch(steps, Expression("manifest.version")))
        again = [
            interval.answer.value
            for interval in found
            for _ in range(interval.first, interval.last + 1)
        ]
        assert again == seen
        assert len(found) > 20

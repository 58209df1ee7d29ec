"""`hindsight outbox`."""

import getpass
import json
from collections.abc import Callable
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from store import Hindsight, NewEvent, any_
from store.cli import hindsight
from store.database.claiming import Claim
from tests.published import relay_all

Run = Callable[..., Result]


@pytest.fixture
def run(store_url: str) -> Run:
    def call(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(hindsight, ["outbox", *arguments, "--url", store_url])
        assert result.exit_code == code, result.output
        return result

    return call


@pytest.fixture
def held(store: Hindsight) -> Hindsight:
    """`a` waits for its second event, four behind it, and `b` has one that is due."""
    put(store, "a", 6)
    relay_all(store, dead={"a": 2})
    put(store, "b")
    return store


def put(store: Hindsight, aggregate_id: str, events: int = 1) -> None:
    new = [NewEvent("Made", {"n": 1}) for _ in range(events)]
    store.append("thing", aggregate_id, new, expected=any_())


def words(result: Result) -> list[str]:
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def refusal(result: Result) -> str:
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def test_an_empty_outbox_is_fine(run: Run) -> None:
    assert words(run("status"))[1:] == [
        "pending 0: 0 due, 0 in flight, 0 waiting",
        *("failed 0", "skipped 0", "published 0, kept for a while"),
    ]
    assert run("failed").stdout == "no dead letters\n"


@pytest.mark.usefixtures("held")
def test_the_status_tells_who_waits_for_what(run: Run) -> None:
    lines = words(run("status", code=1))
    assert lines[1:5] == [
        "pending 5: 1 due, 0 in flight, 4 waiting",
        *("failed 1", "skipped 0", "published 1, kept for a while"),
    ]
    assert lines[5].startswith("oldest ")
    assert lines[6:9] == [
        "held a, 4 behind version 2",
        "",
        "aggregate version status attempts next (UTC) behind since (UTC)",
    ]
    assert [line.split()[:6] for line in lines[9:]] == [
        ["a", "2", "failed", "4", "–", "4"],
        ["b", "1", "pending", "0", "–", "0"],
    ]


@pytest.mark.usefixtures("held")
def test_the_document_of_the_status_has_everything(run: Run) -> None:
    found = json.loads(run("status", "--json", code=1).stdout)
    standing = found["standing"]
    assert (standing["pending"], standing["due"], standing["waiting"]) == (5, 1, 4)
    assert 0 <= standing["oldest_seconds"] < 60
    assert standing["held"]["record"]["aggregate_id"] == "a"
    assert [each["behind"] for each in found["heads"]] == [4, 0]


@pytest.mark.usefixtures("held")
def test_dead_letters_are_listed_with_why(run: Run) -> None:
    [titles, line] = words(run("failed"))
    assert titles == "aggregate version event attempts failed (UTC) error"
    assert line.startswith("a 2 Made 4 20")
    assert line.endswith("tests.published.Refused: no Made today")
    [found] = json.loads(run("failed", "--json").stdout)["failed"]
    assert (found["version"], found["status"]) == (2, "failed")
    assert found["error"].endswith("no Made today\n")


def test_more_dead_letters_than_are_shown_are_said(run: Run, store: Hindsight) -> None:
    names = [f"a{number}" for number in range(4)]
    for name in names:
        put(store, name)
    relay_all(store, dead=dict.fromkeys(names, 1))
    result = run("failed", "--limit", "3")
    assert len(words(result)) == 4
    assert result.stderr == "the first 3 are shown; --limit shows more\n"
    assert run("failed", "--limit", "5").stderr == ""


def test_records_are_shown(run: Run, held: Hindsight) -> None:
    lines = words(run("show", "a"))
    assert [line.split()[:4] for line in lines[1:3]] == [
        ["1", "Made", "published", "1"],
        ["2", "Made", "failed", "4"],
    ]
    assert len(lines) == 7
    lines = words(run("show", "a", "--version", "2"))
    assert lines[:2] == ["aggregate a (thing)", "event version 2, Made"]
    assert "status failed; later events wait for it" in lines
    assert lines[-2:] == ["", "tests.published.Refused: no Made today"]
    wanted = Claim(lease=uuid4(), by="relay:1", seconds=60, heads=10, run=50)
    assert held.database.claim(wanted)
    lines = words(run("show", "b", "--version", "1"))
    assert "status in flight; later events wait for it" in lines
    assert any(line.startswith("relay relay:1, until 20") for line in lines)
    found = json.loads(run("show", "b", "--json").stdout)
    assert (found["records"][0]["in_flight"], found["operations"]) == (True, [])


def test_what_is_not_there_is_one_line(store_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, told in (
        (["show", "x"], "the outbox has no record of 'x'"),
        (["show", "x", "--version", "1"], "the outbox has no record of 'x' version 1"),
        (["skip", "x", "--version", "1", "--reason", "r"], "the outbox has no record of 'x' v"),
        (["redrive", "--reason", "r"], "give an ID, perhaps with --version, or --all"),
        (["redrive", "x", "--all", "--reason", "r"], "give an ID, perhaps with --version, or"),
        (["redrive", "x"], "Missing option '--reason'"),
        (["redrive", "x", "--reason", ""], "Invalid value for '--reason': empty"),
    ):
        with pytest.raises(SystemExit) as ended:
            hindsight.main(["outbox", *arguments, "--url", store_url])
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {told}")
        assert error.count("\n") == 1


def test_redriving_is_written_down_with_the_user(run: Run, held: Hindsight) -> None:
    assert run("redrive", "a", "--reason", "is back").stdout == "1 record redriven\n"
    [operation] = held.outbox.operations("a")
    assert (operation.actor, operation.action, operation.reason) == (
        *(getpass.getuser(), "redrive", "is back"),
    )
    relay_all(held)
    assert {each.status for each in held.outbox.records("a")} == {"published"}
    assert run("redrive", "--all", "--reason", "r").stdout == "0 records redriven\n"
    lines = words(run("show", "a", "--version", "2"))
    assert any(line.startswith(f"operation redrive by {operation.actor} at 20") for line in lines)


def test_skipping_and_redriving_again_comes_out_of_order(run: Run, held: Hindsight) -> None:
    options = ("a", "--version", "2", "--actor", "ada", "--reason", "why not")
    assert run("skip", *options).stdout == "a version 2 skipped\n"
    relay_all(held)
    result = run("redrive", *options)
    assert result.stdout == "1 record redriven\n"
    assert result.stderr == "a version 2 comes out of order\n"
    actions = [(each.actor, each.action) for each in held.outbox.operations()]
    assert actions == [("ada", "redrive"), ("ada", "skip")]


def test_all_are_redriven(run: Run, store: Hindsight) -> None:
    names = [f"a{number}" for number in range(3)]
    for name in names:
        put(store, name, 2)
    relay_all(store, dead=dict.fromkeys(names, 1), on_dead_letter="skip")
    result = run("redrive", "--all", "--reason", "r")
    assert result.stdout == "3 records redriven\n"
    told = [f"{name} version 1 comes out of order" for name in names]
    assert result.stderr.splitlines() == told

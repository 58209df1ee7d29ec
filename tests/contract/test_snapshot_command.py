"""`hindsight snapshot` and `hindsight work`, and `replay --no-snapshot`."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

import users
from store import Hindsight, NewEvent, any_
from store.cli import hindsight

Run = Callable[..., Result]
CREATED = {"username": "ada", "email": "ada@a.example", "full_name": "Ada", "password_hash": "…"}


@pytest.fixture
def run(store_url: str) -> Run:
    def call(*arguments: str) -> Result:
        where = ["--url", store_url, "--domain", "users:domain"]
        return CliRunner().invoke(hindsight, [*arguments, *where])

    return call


def fill(url: str, *lengths: int) -> None:
    """Users user-0, user-1 and so on, with histories that long, by bare appends."""
    with Hindsight(url) as store:
        for index, length in enumerate(lengths):
            if not length:
                continue
            events = [
                NewEvent("UserCreated", {**CREATED, "phone_verified": False}, schema_version=2)
            ]
            events += [
                NewEvent("EmailChanged", {"email": f"{n}@a.example"}) for n in range(length - 1)
            ]
            store.append("user", f"user-{index}", events, expected=any_())


def kept(url: str) -> list[tuple[str, int]]:
    with Hindsight(url) as store:
        return [(each.aggregate_id, each.version) for each in store.snapshots.list()]


# By hand


def test_one_is_taken_of_an_aggregate(run: Run, store_url: str) -> None:
    fill(store_url, 7)
    result = run("snapshot", "user-0")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("user-0: snapshot at version 7, ")
    assert kept(store_url) == [("user-0", 7)]


def test_it_comes_from_all_events_even_where_an_earlier_one_is_wrong(
    run: Run, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store_url, 150)
    run("snapshot", "user-0")
    with Hindsight(store_url, domain=users.domain, cache=False) as store:
        right = store.load("user-0").state
        fold = users.domain.aggregates[0]
        wrong = type(right)(email="mallory@a.example")
        store.snapshots.keep(fold, "user-0", version=150, state=wrong)
        assert store.load("user-0").state == wrong
        run("snapshot", "user-0")
        assert store.load("user-0").state == right


def test_all_that_are_due_are_taken(run: Run, store_url: str) -> None:
    fill(store_url, 99, 100, 250, 3)
    result = run("snapshot", "--due")
    assert (result.exit_code, result.output) == (0, "2 snapshots taken\n")
    assert kept(store_url) == [("user-1", 100), ("user-2", 250)]
    assert run("snapshot", "--due").output == "0 snapshots taken\n"


def test_one_that_cannot_be_taken_holds_up_no_other(run: Run, store_url: str) -> None:
    fill(store_url, 100, 100)
    with Hindsight(store_url) as store:
        broken = [NewEvent("EmailChanged", {"mail": "?"})] * 1
        store.append("user", "user-0", broken, expected=any_())
    result = run("snapshot", "--due")
    assert result.exit_code == 1
    assert result.stdout == "1 snapshot taken\n"
    assert result.stderr.startswith("error: 'user-0' version 101 (EmailChanged")
    assert result.stderr.count("\n") == 1
    assert kept(store_url) == [("user-1", 100)]


def test_they_are_listed_with_whose_they_are(run: Run, store_url: str) -> None:
    fill(store_url, 100, 200)
    run("snapshot", "--due")
    with Hindsight(store_url) as store, store.database.transaction() as connection:
        connection.execute(
            text("UPDATE snapshots SET fingerprint = 'beef' WHERE aggregate_id = 'user-1'")
        )
    lines = run("snapshot", "--list").output.splitlines()
    assert lines[0].split() == ["aggregate", "version", "bytes", "taken", "at", "(UTC)", "fold"]
    assert lines[1].split()[:2] == ["user-0", "100"]
    assert lines[1].endswith("this code's")
    assert lines[2].split()[:2] == ["user-1", "200"]
    assert lines[2].endswith("another, beef")
    found = json.loads(run("snapshot", "--list", "user-0", "--json").output)
    [only] = found["snapshots"]
    assert (only["aggregate_id"], only["version"], only["own"]) == ("user-0", 100, True)
    assert only["bytes"] > 0
    assert run("snapshot", "--list", "nobody").output.splitlines()[1:] == []


def test_they_are_dropped_of_one_aggregate_or_all(run: Run, store_url: str) -> None:
    fill(store_url, 100, 200, 300)
    run("snapshot", "--due")
    assert run("snapshot", "--drop", "user-1").output == "1 snapshot dropped\n"
    assert kept(store_url) == [("user-0", 100), ("user-2", 300)]
    assert run("snapshot", "--drop").output == "2 snapshots dropped\n"
    assert kept(store_url) == []


def test_the_dearest_loads_are_told(run: Run, store_url: str) -> None:
    fill(store_url, 50, 420, 130)
    run("snapshot", "user-1")
    fill(store_url, 0, 0, 100)
    with Hindsight(store_url) as store:
        store.append("ticket", "t-1", [NewEvent("Opened", {})] * 1, expected=any_())
    result = run("snapshot", "--advise")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split() == ["aggregate", "type", "version", "snapshot", "events", "ms"]
    assert [line.split()[:5] for line in lines[1:5]] == [
        ["user-2", "user", "230", "–", "230"],
        ["user-0", "user", "50", "–", "50"],
        ["t-1", "ticket", "1", "–", "1"],
        ["user-1", "user", "420", "420", "0"],
    ]
    assert lines[5:] == [
        "",
        "1 of these loads folds more than 2 intervals; take those due: hindsight snapshot --due",
        "no domain code here for: ticket",
    ]
    found = json.loads(run("snapshot", "--advise", "--json").output)
    assert [each["events"] for each in found["loads"]] == [230, 50, 1, 0]
    assert all(each["milliseconds"] > 0 for each in found["loads"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give an ID"),
        (["user-0", "--due"], "--due takes no ID"),
        (["--due", "--list"], "one of"),
        (["--advise", "user-0"], "--advise takes no ID"),
        (["nobody"], "no aggregate 'nobody'"),
    ],
)
def test_bad_input_is_one_line(
    run: Run, store_url: str, arguments: list[str], message: str
) -> None:
    fill(store_url, 1)
    result = run("snapshot", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_a_domain_none_can_be_taken(store_url: str) -> None:
    fill(store_url, 100)
    for arguments in (["snapshot", "user-0"], ["snapshot", "--due"], ["work", "--once"]):
        result = CliRunner().invoke(hindsight, [*arguments, "--url", store_url])
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: no ")


# Replaying


def test_a_replay_may_leave_snapshots_alone(run: Run, store_url: str) -> None:
    fill(store_url, 150)
    run("snapshot", "user-0")
    state = {}
    for options in ([], ["--no-snapshot"]):
        found = json.loads(run("replay", "user-0", "--json", *options).output)
        state[found["source"]] = (found["state"], found["folded"])
    assert state["snapshot"][0] == state["replay"][0]
    assert (state["snapshot"][1], state["replay"][1]) == (0, 150)


# The worker


def test_the_worker_takes_what_is_due_and_prunes(run: Run, store_url: str) -> None:
    fill(store_url, 100, 200)
    run("snapshot", "user-0")
    foreign = "UPDATE snapshots SET fingerprint = 'beef'"
    old = "INSERT INTO folds VALUES ('beef', 'user', :t)"
    with Hindsight(store_url) as store, store.database.transaction() as connection:
        connection.execute(text(foreign))
        connection.execute(text(old), {"t": "2026-01-01T00:00:00.000000Z"})
    result = run("work", "--once")
    assert result.exit_code == 0, result.output
    assert "2 snapshots taken, 1 pruned" in result.output
    assert kept(store_url) == [("user-0", 100), ("user-1", 200)]


def test_the_worker_leaves_foreign_ones_that_were_seen_lately(run: Run, store_url: str) -> None:
    fill(store_url, 100)
    run("snapshot", "user-0")
    with Hindsight(store_url) as store, store.database.transaction() as connection:
        connection.execute(text("UPDATE snapshots SET fingerprint = 'beef'"))
        connection.execute(text("UPDATE folds SET fingerprint = 'beef'"))
    assert "1 snapshot taken, 0 pruned" in run("work", "--once").output
    assert kept(store_url) == [("user-0", 100), ("user-0", 100)]


def worker(url: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "store", "--url", url, "work", "--domain", "users:domain"]
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_takes_them_as_others_append_until_it_is_told_to_stop(
    store_url: str, ending: signal.Signals
) -> None:
    with worker(store_url) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("working on ")
        assert process.stdout.readline() == "0 snapshots taken, 0 pruned\n"
        fill(store_url, 100)
        assert process.stdout.readline() == "1 snapshot taken, 0 pruned\n"
        fill(store_url, 0, 99)
        fill(store_url, 0, 2)
        assert process.stdout.readline() == "1 snapshot taken, 0 pruned\n"
        process.send_signal(ending)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")
    assert kept(store_url) == [("user-0", 100), ("user-1", 101)]

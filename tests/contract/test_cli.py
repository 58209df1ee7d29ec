"""The commands on each database: what they print, and how they exit."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from store import Hindsight, NewEvent, any_
from store.cli import hindsight

Run = Callable[..., Result]


@pytest.fixture
def run(store_url: str) -> Run:
    """Runs a command on the store."""

    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(hindsight, ["--url", store_url, *arguments], input=stdin)
        assert isinstance(result.exception, SystemExit | None), result.exception
        return result

    return invoke


@pytest.fixture
def filled(store: Hindsight) -> Hindsight:
    """`user-1` with three events, `order-1` with one."""
    for name in ("Created", "Renamed", "Renamed"):
        event = NewEvent(name, {"name": "Ada"}, metadata={"correlation_id": "c-1"})
        store.append("user", "user-1", [event], expected=any_())
    store.append("order", "order-1", [NewEvent("Placed", {})], expected=any_())
    return store


def documents(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def positions(result: Result) -> list[int]:
    return [document["position"] for document in documents(result)]


def test_migrating_a_current_store_says_so(run: Run) -> None:
    result = run("migrate")
    assert (result.exit_code, result.output.strip().endswith(": 0001 → 0001")) == (0, True)


def test_what_is_appended_is_shown(run: Run) -> None:
    appended = run("append", "user", "u", "Created", "--data", '{"n":1}', "--expected", "none")
    assert appended.output == "u version 1, position 1\n"
    [event] = documents(run("events", "u", "--json"))
    assert (event["event_type"], event["version"], event["data"]) == ("Created", 1, {"n": 1})


def test_every_field_of_an_event_can_be_given(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("[1, 2]")
    event_id = "01890000-0000-7000-8000-000000000001"
    options = ["--metadata", '{"x": 1}', "--actor", "ops", "--correlation-id", "c"]
    options += ["--event-id", event_id, "--occurred-at", "2026-01-01T01:00:00+01:00"]
    options += ["--schema-version", "3", "--data", f"@{tmp_path / 'data.json'}"]
    assert run("append", "user", "u", "Created", *options).exit_code == 0
    assert run("append", "user", "u", "Created", *options).output.endswith("(stored before)\n")
    [event] = documents(run("events", "u", "--json"))
    assert event["metadata"] == {"actor": "ops", "correlation_id": "c", "x": 1}
    assert (event["event_id"], event["schema_version"], event["data"]) == (event_id, 3, [1, 2])
    assert event["occurred_at"] == "2026-01-01T00:00:00Z"


def test_data_comes_from_standard_input(run: Run) -> None:
    run("append", "user", "u", "Created", "--data", "-", stdin='{"from": "stdin"}')
    assert documents(run("events", "u", "--json"))[0]["data"] == {"from": "stdin"}


def test_a_conflict_is_one_line(run: Run) -> None:
    result = run("append", "user", "u", "Created", "--expected", "4")
    assert (result.exit_code, result.stderr) == (2, "error: 'u': expected version 4, it is at 0\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), [1, 2, 3, 4]),
        (("user-1",), [1, 2, 3]),
        (("user-1", "--from-version", "2"), [2, 3]),
        (("user-1", "--to-version", "2", "--backward"), [2, 1]),
        (("user-1", "--type", "Created"), [1]),
        (("user-1", "--correlation-id", "c-2"), []),
        (("user-1", "--aggregate-type", "order"), []),
        (("user-1", "--limit", "1"), [1]),
        (("--after", "2"), [3, 4]),
        (("--backward", "--limit", "2"), [4, 3]),
        (("--type", "Created", "--type", "Placed"), [1, 4]),
        (("--aggregate-type", "order"), [4]),
        (("--correlation-id", "c-1"), [1, 2, 3]),
        (("--since", "2100-01-01T00:00:00Z"), []),
        (("--until", "2000-01-01T00:00:00Z", "--axis", "recorded"), []),
    ],
)
@pytest.mark.usefixtures("filled")
def test_events_are_chosen(run: Run, arguments: tuple[str, ...], expected: list[int]) -> None:
    assert positions(run("events", *arguments, "--json")) == expected


@pytest.mark.usefixtures("filled")
def test_events_are_aligned(run: Run) -> None:
    lines = run("events").stdout.splitlines()
    assert lines[0].split("  ")[0] == "position"
    assert (
        len({line.index(word) for line, word in zip(lines[1:], ["user-1"] * 3, strict=False)}) == 1
    )
    assert lines[4].split()[:4] == ["4", "1", "order-1", "Placed"]


def test_what_a_terminal_would_obey_is_not_printed(run: Run) -> None:
    run("append", "user", "u", "Created", "--data", '"\\u009b31m\u202e\u009b"')
    printed = run("events").stdout
    assert "\u009b" not in printed
    assert "\u202e" not in printed


@pytest.mark.usefixtures("filled")
def test_stats_count(run: Run) -> None:
    [found] = documents(run("stats", "--json"))
    assert found["counts"]["events_by_type"] == {"Created": 1, "Renamed": 2, "Placed": 1}
    assert found["longest"][0] == {
        "aggregate_id": "user-1",
        "aggregate_type": "user",
        "version": 3,
    }
    assert "user-1" in run("stats").stdout


@pytest.mark.usefixtures("filled")
def test_verify_finds_nothing_wrong(run: Run) -> None:
    assert run("verify", "--all").output == "checked 4 events, 2 aggregates: nothing wrong\n"
    [found] = documents(run("verify", "user-1", "--json"))
    assert found == {"aggregates": 1, "events": 3, "findings": [], "finding_count": 0}


@pytest.mark.parametrize(
    "arguments",
    [
        ("events", "nobody"),
        ("verify", "nobody"),
        ("verify",),
        ("verify", "user-1", "--all"),
        ("events", "--from-version", "1"),
        ("events", "user-1", "--after", "1"),
        ("events", "--follow", "--backward"),
        ("events", "--since", "2026-01-01T00:00:00"),
        ("events", "--since", "yesterday"),
        ("events", "user-1", "--from-version", "x"),
        ("events", "user-1", "--from-version", "99999999999999999999"),
        ("events", ""),
        ("events", "a\nb"),
        ("append", "user", "u", "Created", "--data", "{"),
        ("append", "user", "u", "Created", "--data", "NaN"),
        ("append", "user", "u", "Created", "--data", "@nowhere.json"),
        ("append", "user", "u", "Created", "--data", "[" * 100_000),
        ("append", "user", "u", "Created", "--metadata", "[]"),
        ("append", "user", "u", "Created", "--expected", "-1"),
        ("append", "user", "u", "Created", "--expected", "²"),
        ("append", "user", "u", "Created", "--event-id", "1"),
        ("append", "order", "user-1", "Created"),
        ("migrate", "--revision", "nonsense"),
        ("migrate", "--app-role", "nobody"),
        ("open", "nowhere.ndjson"),
        ("nonsense",),
    ],
)
@pytest.mark.usefixtures("filled")
def test_bad_input_is_one_line(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_follow_prints_each_event_when_it_comes(filled: Hindsight, store_url: str) -> None:
    command = [sys.executable, "-m", "store", "--url", store_url]
    command += ["events", "--follow", "--after", "3", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        assert json.loads(process.stdout.readline())["position"] == 4
        filled.append("user", "user-1", [NewEvent("Renamed", {})], expected=any_())
        assert json.loads(process.stdout.readline())["position"] == 5
        process.send_signal(2)
        assert (process.wait(), process.stderr.read().strip()) == (130, b"")
        watchdog.cancel()


def test_follow_begins_with_now(filled: Hindsight, run: Run) -> None:
    done = threading.Event()

    def write() -> None:
        while not done.wait(0.1):
            filled.append("user", "user-1", [NewEvent("Renamed", {})], expected=any_())

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert positions(run("events", "--follow", "--limit", "1", "--json"))[0] > 4
    finally:
        done.set()
        writer.join()

"""The commands on each database: what they print, and how they exit."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from store import Hindsight, NewEvent, any_, migrations
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
    head = migrations.REVISIONS[-1]
    assert (result.exit_code, result.output.strip().endswith(f": {head} → {head}")) == (0, True)


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
    assert found == {
        "aggregates": 1,
        "events": 3,
        "replayed": 0,
        "snapshots": 0,
        "findings": [],
        "finding_count": 0,
    }


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
        ("import", "nowhere.ndjson"),
        ("import", "."),
        ("export", "nowhere/events.ndjson"),
        ("export", "--aggregate", "nobody"),
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
        process.send_signal(signal.SIGINT)
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


@pytest.mark.parametrize("arguments", [["events"], ["stats"], ["append", "user", "u", "Created"]])
def test_an_interrupt_ends_a_waiting_query_quietly(postgres_url: str, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "store", "--url", postgres_url, *arguments]
    with psycopg.connect(postgres_url) as blocker:
        blocker.execute("LOCK TABLE events")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            deadline = time.monotonic() + 60
            while (
                time.monotonic() < deadline
                and not blocker.execute(
                    "SELECT FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass"
                ).fetchall()
            ):
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            output, complaint = process.communicate(timeout=30)
    assert (process.returncode, output, complaint.strip()) == (130, b"", b"")


def line(version: int, **changes: Any) -> str:
    fields = {
        "event_id": f"{version:032x}",
        "aggregate_type": "user",
        "aggregate_id": "user-9",
        "version": version,
        "event_type": "Renamed",
        "data": {},
        "occurred_at": "2026-01-01T00:00:00Z",
        "recorded_at": "2026-01-02T00:00:00Z",
    }
    return json.dumps(fields | changes) + "\n"


@pytest.mark.parametrize("name", ["events.ndjson", "events.ndjson.gz"])
@pytest.mark.usefixtures("filled")
def test_an_export_is_known_when_imported(run: Run, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    exported = run("export", str(path))
    assert (exported.exit_code, exported.stderr) == (0, "exported 4 events\n")
    assert (path.read_bytes()[:2] == b"\x1f\x8b") is name.endswith(".gz")
    assert list(tmp_path.glob("*.part")) == []
    imported = run("import", str(path))
    assert imported.output == "4 lines: 0 imported, 4 known before, 0 rejected\n"


@pytest.mark.usefixtures("filled")
def test_one_aggregate_is_exported_to_standard_output(run: Run) -> None:
    exported = run("export", "--aggregate", "user-1")
    assert [event["version"] for event in documents(exported)] == [1, 2, 3]


@pytest.mark.usefixtures("filled")
def test_a_failed_export_leaves_the_file_as_it_was(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_text("precious")
    assert run("export", str(path), "--aggregate", "nobody").exit_code == 2
    assert [found.read_text() for found in tmp_path.glob("events*")] == ["precious"]


@pytest.mark.usefixtures("filled")
def test_a_device_is_written_to_not_replaced(run: Run) -> None:
    assert run("export", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()


def test_rejected_lines_are_told_kept_and_exit_1(run: Run, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.ndjson"
    (tmp_path / "events.ndjson").write_text(line(1) + "{}\n" + line(3))
    result = run("import", str(tmp_path / "events.ndjson"), "--rejects", str(rejects))
    assert (result.exit_code, result.stdout) == (
        1,
        "3 lines: 1 imported, 0 known before, 2 rejected\n",
    )
    assert [json.loads(text)["line"] for text in rejects.read_text().splitlines()] == [2, 3]
    assert [text.partition(":")[0] for text in result.stderr.splitlines()] == ["line 2", "line 3"]


def test_versions_from_0_are_renumbered_and_times_restored(run: Run, store_url: str) -> None:
    command = [sys.executable, "-m", "store", "--url", store_url]
    command += ["import", "--renumber", "--restore"]
    subprocess.run(command, input=(line(0) + line(1)).encode(), check=True, timeout=60)
    events = documents(run("events", "user-9", "--json"))
    assert [event["version"] for event in events] == [1, 2]
    assert {event["recorded_at"] for event in events} == {"2026-01-02T00:00:00Z"}

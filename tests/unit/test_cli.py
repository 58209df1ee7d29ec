"""The command line where no store is needed: help, errors, files, closed output."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from store.cli import hindsight

COMMANDS = sorted(hindsight.commands)
LINE = {
    "event_id": "01890000-0000-7000-8000-000000000001",
    "aggregate_type": "user",
    "aggregate_id": "user-1",
    "version": 1,
    "event_type": "Created",
    "data": {},
    "occurred_at": "2026-01-01T00:00:00Z",
}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "store", *arguments]


def run(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real process, in a folder of its own."""
    clean = {name: value for name, value in os.environ.items() if "EVENT_STORE" not in name}
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=clean | {"PYTHONPATH": str(Path.cwd())} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def event_file(tmp_path: Path) -> Path:
    path = tmp_path / "events.ndjson"
    path.write_text(json.dumps(LINE) + "\n")
    return path


@pytest.mark.slow
def test_a_domain_is_looked_for_where_the_user_stands(tmp_path: Path, event_file: Path) -> None:
    (tmp_path / "shop.py").write_text(
        """
from msgspec import Struct
from store import Aggregate, Domain
class Created(Struct, frozen=True): ...
class Thing(Struct, frozen=True):
    created: bool = False
def apply(state, event):
    return Thing(True)
domain = Domain("shop", aggregates=[
    Aggregate("user", initial=Thing(), events=[Created], apply=apply)])
"""
    )
    installed = Path(sys.executable).with_name("hindsight")
    done = subprocess.run(
        [installed, "replay", "user-1", "--url", event_file, "--domain", "shop:domain"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"created": true' in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    help_text = CliRunner().invoke(hindsight, [name, "--help"]).output
    assert f"\n    hindsight {name}" in help_text.partition("Examples:")[2]


def test_no_command_shows_the_help() -> None:
    result = CliRunner().invoke(hindsight, [])
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("stats",), "no event store in data/events.db; run: hindsight migrate"),
        (("stats", "--url", "sqlite:///none.db"), "no event store in none.db"),
        (("verify", "--all", "--url", "nonsense"), "'nonsense' is no URL"),
        (("migrate", "--url", "mysql://x/y"), "mysql: use sqlite:///PATH or postgresql://"),
        (("migrate", "--url", "postgresql://h:port/x"), "is no URL"),
        (("migrate", "--url", "postgresql://me:secret@h:port/x"), "error: this is no URL"),
        (("migrate", "--url", "sqlite:////proc/none/x.db"), "/proc/none: No such file"),
        (("migrate", "--url", "sqlite:///x.db", "--app-role", "x"), "SQLite has no roles"),
        (("stats", "--url", "postgresql://u:secret@127.0.0.1:1/x"), "Connection refused"),
        (("migrate", "--url", "postgresql://u:secret@127.0.0.1:1/x"), "Connection refused"),
        (("events", "--url", "none.ndjson"), "none.ndjson: No such file or directory"),
        (("events", "nobody", "--url", "events.ndjson"), "no aggregate 'nobody'"),
        (("events", "--follow", "--url", "events.ndjson"), "'events.ndjson' is no URL"),
        (("append", "a", "b", "c", "--data", "{", "--url", "x"), "'--data': no JSON"),
        (("open", "none.ndjson"), "none.ndjson: no such file"),
        (("stats", "--url", "sqlite:///events.ndjson"), "file is not a database"),
    ],
)
@pytest.mark.usefixtures("event_file")
@pytest.mark.slow
def test_an_error_of_the_process_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    result = run(*arguments, folder=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert (says in result.stderr, result.stderr.count("\n")) == (True, 1), result.stderr
    assert "secret" not in result.stderr


def test_a_store_without_a_schema_says_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    result = run("stats", "--url", "sqlite:///empty.db", folder=tmp_path)
    assert result.stderr == "error: no event store here; run: hindsight migrate\n"


@pytest.mark.slow
def test_the_flag_overrides_the_environment(tmp_path: Path) -> None:
    url = "sqlite:///here.db"
    assert run("migrate", folder=tmp_path, EVENT_STORE_URL=url).returncode == 0
    assert run("stats", folder=tmp_path, EVENT_STORE_URL=url).returncode == 0
    after = run("stats", "--url", url, folder=tmp_path, EVENT_STORE_URL="sqlite:///none.db")
    before = run("--url", url, "stats", folder=tmp_path, EVENT_STORE_URL="sqlite:///none.db")
    assert (after.returncode, before.returncode) == (0, 0)


@pytest.mark.parametrize("arguments", [("events",), ("events", "user-1"), ("stats",)])
def test_an_event_file_is_read_without_import(event_file: Path, arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(hindsight, [*arguments, "--url", str(event_file)])
    assert result.exit_code == 0, result.output
    assert "Created" in result.stdout


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_the_output_quietly(tmp_path: Path) -> None:
    lines = [LINE | {"version": n, "event_id": f"{n:032x}"} for n in range(1, 5_001)]
    path = tmp_path / "many.ndjson"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = command("events", "--json", "--url", str(path))
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (141, b"")


@pytest.mark.slow
def test_a_full_disk_is_one_line(event_file: Path) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            command("events", "--json", "--url", str(event_file)),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (result.returncode, result.stderr) == (2, b"error: output: No space left on device\n")


@pytest.mark.slow
def test_open_serves_the_dashboard_on_a_file(event_file: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"BROWSER": "true"}
    arguments = command("open", str(event_file), "--port", str(port))
    with subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE) as process:
        try:
            assert answers(f"http://127.0.0.1:{port}/healthz")
        finally:
            process.send_signal(signal.SIGTERM)


def answers(url: str) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url) as response:  # noqa: S310 (loopback)
                return bool(response.status == 200)
        except OSError:
            time.sleep(0.1)
    return False

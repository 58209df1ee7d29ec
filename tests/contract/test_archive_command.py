"""`hindsight archive`."""

import hashlib
import json
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from store import Hindsight
from store.cli import hindsight
from store.cli.archive import _Tally
from tests import sums, totals

pytestmark = pytest.mark.slow

Run = Callable[..., Result]
Fill = Callable[..., None]
LONG_AGO = datetime(2023, 3, 31, 23, 59, tzinfo=UTC)
POLICY = "older than 730 days, or beyond the newest 10,000,000"


@pytest.fixture
def run(store_url: str) -> Run:
    return lambda *arguments, code=0: call(store_url, *arguments, code=code)


def call(url: str, *arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(hindsight, ["archive", *arguments, "--url", url])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def fill(store_url: str) -> Fill:
    """Appends to an aggregate, as if at another time."""

    def append(aggregate_id: str, events: int, moment: datetime | None = None) -> None:
        put(store_url, aggregate_id, events, moment or datetime.now(UTC))

    return append


def put(url: str, aggregate_id: str, events: int, moment: datetime) -> None:
    with Hindsight(url, clock=lambda: moment, metrics=False) as store:
        totals.put(store, *range(20, 20 + events), aggregate_id=aggregate_id)


@pytest.fixture
def aged(fill: Fill, store: Hindsight) -> Iterator[Hindsight]:
    """Five old events of `a` in two months, three of `b`, and two of today."""
    fill("a", 3, LONG_AGO)
    fill("b", 3, LONG_AGO)
    fill("a", 2, LONG_AGO + timedelta(days=1))
    fill("a", 1)
    fill("b", 1)
    yield store
    assert store.database.connections.in_use == 0


def words(result: Result) -> list[str]:
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def refusal(result: Result) -> str:
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def active(store: Hindsight) -> int:
    [(count,)] = store.database.rows("SELECT count(*) FROM events", {})
    return int(count)


# plan


def test_there_may_be_nothing_to_plan(run: Run) -> None:
    assert words(run("plan"))[1:] == [f"policy {POLICY}", "moves nothing"]
    assert words(run("run")) == [f"nothing to archive; the policy: {POLICY}"]


def test_a_plan_tells_what_would_move_and_nothing_does(run: Run, aged: Hindsight) -> None:
    lines = words(run("plan"))
    assert lines[1:3] == [
        f"policy {POLICY}",
        "moves 8 events, up to position 8, recorded until 2023-04-01 23:59:00 UTC",
    ]
    assert "B now, " in lines[3]
    assert " in the archive: saves " in lines[3]
    assert lines[4:] == ["outbox 8 records would be published from the archive"]
    assert words(run("run", "--dry-run"))[1:] == lines[1:]
    assert active(aged) == 10


def test_a_plan_tells_who_would_read_on_in_the_archive(run: Run, store_url: str) -> None:
    with Hindsight(store_url, domain=sums.domain, clock=lambda: LONG_AGO) as store:
        sums.put(store, "a", 1, 2)
        sums.project(store)
        sums.put(store, "a", 3)
    lines = words(run("plan"))
    assert lines[4:] == [
        "projections sums would read on in the archive",
        "outbox 3 records would be published from the archive",
    ]
    assert json.loads(run("plan", "--json").stdout)["plan"]["projections"] == ["sums"]


@pytest.mark.usefixtures("aged")
def test_a_plan_tells_what_stays_and_why(run: Run, fill: Fill) -> None:
    run("restore", "b")
    fill("c", 2, LONG_AGO)
    lines = words(run("plan"))
    assert lines[2].startswith("moves 5 events, up to position 8,")
    assert lines[-2:] == [
        "held 3 events of aggregates that were restored stay",
        "behind 2 events stay, though old, behind younger ones",
    ]


@pytest.mark.usefixtures("aged")
@pytest.mark.parametrize(
    ("options", "events"),
    [
        ([], 8),
        (["--older-than", "36500d"], 0),
        (["--keep-active", "3"], 8),
        (["--keep-active", "1"], 9),
        (["--older-than", "36500d", "--keep-active", "7"], 3),
        (["--older-than", "0s"], 10),
    ],
)
def test_a_policy_may_be_given(run: Run, options: list[str], events: int) -> None:
    found = json.loads(run("plan", *options, "--json").stdout)
    assert found["plan"]["events"] == events
    assert found["policy"].keys() == {"older_than", "keep_active"}
    if events:
        assert f"{events} events archived" in run("run", *options).stdout


@pytest.mark.usefixtures("aged")
def test_the_policy_is_the_environment_s(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENT_STORE_ARCHIVE_AFTER", "36500d")
    monkeypatch.setenv("EVENT_STORE_KEEP_ACTIVE", "9")
    assert words(run("plan"))[1:3] == [
        "policy older than 36500 days, or beyond the newest 9",
        "moves 1 event, up to position 1, recorded until 2023-03-31 23:59:00 UTC",
    ]


# run


def test_old_events_are_archived_and_read_all_the_same(run: Run, aged: Hindsight) -> None:
    before = list(aged.feed())
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    [line] = words(run("run"))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert line.startswith("8 events archived in 1 batch, up to position 8: ")
    assert line.endswith(" bytes packed")
    assert active(aged) == 2
    assert list(aged.feed()) == before
    assert words(run("run")) == [f"nothing to archive; the policy: {POLICY}"]


def test_aggregates_that_go_on_get_a_snapshot_first(run: Run, aged: Hindsight) -> None:
    run("run", "--domain", "tests.sums:domain")
    assert aged.database.rows("SELECT aggregate_id, version FROM snapshots ORDER BY 1", {}) == [
        ("a", 6),
        ("b", 4),
    ]


def test_who_is_interrupted_ends_after_the_batch(
    run: Run, store: Hindsight, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(9):
        fill("a", 500, LONG_AGO)
    note = _Tally.note

    def note_and_interrupt(tally: _Tally, moved: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        note(tally, moved)

    monkeypatch.setattr(_Tally, "note", note_and_interrupt)
    handler = signal.getsignal(signal.SIGINT)
    result = run("run", code=130)
    assert result.stdout.startswith("2,000 events archived in 1 batch, up to position 2000: ")
    assert result.stderr == "stopped; the next run goes on there\n"
    assert store.archive.standing().ran_at is None
    assert signal.getsignal(signal.SIGINT) == handler
    monkeypatch.setattr(_Tally, "note", note)
    assert run("run").stdout.startswith("2,500 events archived in 2 batches, up to position 4500")


def test_told_twice_to_stop_it_does_so_at_once(
    run: Run, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("a", 1, LONG_AGO)

    def interrupt(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(_Tally, "note", interrupt)
    result = run("run", code=130)
    assert result.stdout == ""
    assert "stopped" not in result.stderr


def test_one_at_a_time_archives(postgres_url: str) -> None:
    put(postgres_url, "a", 3, LONG_AGO)
    with Hindsight(postgres_url) as store, store.database.transaction() as connection:
        connection.execute(text("SELECT FROM archive FOR UPDATE"))
        busy = "another process archives or restores just now; try again later"
        assert refusal(call(postgres_url, "run", code=2)) == busy
        assert refusal(call(postgres_url, "restore", "a", code=2)) == busy


def test_who_does_not_end_writing_is_told_of(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.archive.moving.PATIENCE", 0.01)
    put(postgres_url, "a", 3, LONG_AGO)
    with Hindsight(postgres_url) as store, store.database.transaction() as connection:
        connection.execute(text("SELECT FROM aggregates FOR UPDATE"))
        told = "somebody writes to what is to be moved, and does not end; try again later ("
        assert refusal(call(postgres_url, "run", code=2)).startswith(told)
        assert refusal(call(postgres_url, "restore", "a", code=2)).startswith(told)


# status


def test_an_empty_archive_is_fine(run: Run) -> None:
    assert words(run("status"))[1:] == [
        *("archived nothing", "active about 0 events", "last run never", f"policy {POLICY}"),
    ]


def test_the_status_tells_how_much_of_what_is_archived(run: Run, aged: Hindsight) -> None:
    run("run")
    lines = words(run("status"))
    assert lines[1:3] == [
        "archived 8 events in 3 packs, up to position 8",
        "recorded 2023-03-31 23:59:00 to 2023-04-01 23:59:00 UTC",
    ]
    assert " packed; an event " in lines[3]
    assert lines[3].endswith(" of what an active one takes")
    assert lines[4].startswith("active about 2 events, the oldest recorded 20")
    assert lines[5].startswith("last run 20")
    assert len(lines) == 7
    found = json.loads(run("status", "--json").stdout)
    standing = found["standing"]
    assert (standing["events"], standing["packs"], standing["active_events"]) == (8, 3, 2)
    assert found["bytes_per_archived_event"] == standing["size"] / 8
    assert found["bytes_per_active_event"] == standing["active_size"] / 2
    ratio = found["bytes_per_archived_event"] / found["bytes_per_active_event"]
    assert found["ratio"] == pytest.approx(ratio)


def test_what_the_planner_knows_is_what_is_active(postgres_url: str) -> None:
    put(postgres_url, "a", 3, LONG_AGO)
    with Hindsight(postgres_url) as store, store.database.transaction() as connection:
        connection.execute(text("ANALYZE events"))
    put(postgres_url, "a", 2, datetime.now(UTC))
    assert "active    about 3 events" in call(postgres_url, "status").stdout


def test_only_sizes_that_are_known_at_once_are_told_at_once(aged: Hindsight) -> None:
    standing, quick = aged.archive.standing(), aged.archive.standing(at_once=True)
    assert standing.size
    assert standing.active_size
    if aged.database.is_remote:
        assert quick == standing
    else:
        assert (quick.size, quick.active_size) == (None, None)


@pytest.mark.usefixtures("aged")
def test_the_status_tells_that_nobody_archives(run: Run) -> None:
    told = "behind nobody has archived since yesterday, and there are events that are too old"
    assert words(run("status"))[-1] == told
    assert json.loads(run("status", "--json").stdout)["is_behind"]
    run("run")
    assert told not in words(run("status"))


@pytest.mark.usefixtures("aged")
def test_who_was_restored_is_listed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("run")
    run("restore", "--all")
    lines = words(run("status"))
    assert lines[1] == "archived nothing"
    assert lines[-3] == "restored, and held since (UTC) by"
    assert [line.split()[0] for line in lines[-2:]] == ["a", "b"]
    monkeypatch.setattr(import_module("store.cli.archive"), "SHOWN", 1)
    assert words(run("status"))[-1] == "… and 1 more"


def test_a_partition_that_is_missing_is_told_and_made(postgres_url: str) -> None:
    put(postgres_url, "a", 3, LONG_AGO)
    call(postgres_url, "run")
    later = datetime.now(UTC)
    put(postgres_url, "a", 1, later)
    following = (later.replace(day=1) + timedelta(days=32)).strftime("%Y-%m")
    told = words(call(postgres_url, "status", code=1))
    line = f"missing partitions of {later:%Y-%m}, {following}; run: hindsight archive run"
    assert told[-1] == line
    call(postgres_url, "run")
    call(postgres_url, "status")


def test_packs_in_the_default_partition_are_told_and_brought_home(postgres_url: str) -> None:
    put(postgres_url, "a", 3, LONG_AGO)
    put(postgres_url, "b", 1, datetime.now(UTC))
    with Hindsight(postgres_url) as store:
        rename = "ALTER FUNCTION {} RENAME TO {}"
        with store.database.transaction() as connection:
            connection.execute(text(rename.format("create_archive_partition", "away")))
        call(postgres_url, "run")
        with store.database.transaction() as connection:
            connection.execute(text(rename.format("away", "create_archive_partition")))
    told = "default 1 pack in the default partition; restore their aggregates, and give them back"
    assert words(call(postgres_url, "status", code=1))[-1] == told
    call(postgres_url, "restore", "a")
    call(postgres_url, "give-back", "a")
    call(postgres_url, "run")
    lines = words(call(postgres_url, "status"))
    assert lines[1] == "archived 3 events in 1 pack, up to position 3"


# restore, give-back, export


def test_one_is_restored_and_given_back(run: Run, aged: Hindsight) -> None:
    before = list(aged.feed())
    run("run")
    assert run("restore", "a").stdout == "a: 5 events restored; held until it is given back\n"
    assert run("restore", "a").stdout == "a: 0 events restored; held until it is given back\n"
    assert active(aged) == 7
    assert run("give-back", "a").stdout == "a: 5 events archived again; no longer held\n"
    assert (active(aged), aged.archive.restored()) == (2, [])
    assert list(aged.feed()) == before


def test_all_are_restored_and_given_back(run: Run, aged: Hindsight) -> None:
    run("run")
    assert run("restore", "--all").stdout == "8 events of 2 aggregates restored\n"
    assert active(aged) == 10
    assert run("give-back", "--all").stdout == "8 events of 2 aggregates archived again\n"
    assert (active(aged), aged.archive.restored()) == (2, [])
    assert run("give-back", "--all").stdout == "nothing to be archived again\n"


@pytest.mark.usefixtures("aged")
def test_months_are_exported(run: Run, tmp_path: Path) -> None:
    run("run")
    folder = tmp_path / "copies"
    lines = run("export", str(folder)).stdout.splitlines()
    assert lines == [
        f"{folder}/events-2023-03.ndjson.gz  6 events",
        f"{folder}/events-2023-04.ndjson.gz  2 events",
        "8 events exported",
    ]
    for told in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = told.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    (tmp_path / "file").write_text("")
    refused = refusal(run("export", str(tmp_path / "file" / "in"), code=2))
    assert refused.endswith(": Not a directory")


def test_bad_input_is_one_line(store_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, told in (
        (["restore"], "give an ID or --all"),
        (["restore", "a", "--all"], "give an ID or --all"),
        (["give-back"], "give an ID or --all"),
        (["restore", "nobody"], "no aggregate 'nobody'"),
        (["give-back", "nobody"], "no aggregate 'nobody'"),
        (["plan", "--older-than", "3x"], "Invalid value for '--older-than': '3x' is no span"),
        (["plan", "--older-than", "99999d"], "Invalid value for '--older-than': '99999d' is no"),
        (["run", "--keep-active", "-1"], "Invalid value for '--keep-active': -1 is not in the"),
        (["export"], "Missing argument 'FOLDER'"),
    ):
        with pytest.raises(SystemExit) as ended:
            hindsight.main(["archive", *arguments, "--url", store_url])
        output = capsys.readouterr()
        assert (ended.value.code, output.out) == (2, "")
        [line] = output.err.splitlines()
        assert line.startswith(f"error: {told}"), line

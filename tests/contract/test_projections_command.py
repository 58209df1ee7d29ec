"""`hindsight projections`."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from store import Hindsight, NewEvent, any_
from store.cli import hindsight
from store.errors import ProjectionFailed
from store.work import working
from tests import sums
from tests.sums import project, put
from tests.waiting import until

pytestmark = pytest.mark.slow

Run = Callable[..., Result]


@pytest.fixture
def run(store_url: str) -> Run:
    def call(*arguments: str, code: int = 0, domain: str = "tests.sums:domain") -> Result:
        options = ["--url", store_url, "--domain", domain]
        result = CliRunner().invoke(hindsight, ["projections", *arguments, *options])
        assert result.exit_code == code, result.output
        return result

    return call


@pytest.fixture
def store(store_url: str) -> Iterator[Hindsight]:
    """A store with sums."""
    with Hindsight(store_url, domain=sums.domain) as opened:
        yield opened
        assert opened.database.connections.in_use == 0


@pytest.fixture
def kept(store: Hindsight) -> Hindsight:
    """Three sums, all events in them."""
    put(store, "a", 1, 2)
    put(store, "b", 120)
    put(store, "c", 3, 5)
    project(store)
    return store


def words(result: Result) -> list[str]:
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def change(store: Hindsight, sql: str) -> None:
    with store.database.transaction() as connection:
        connection.execute(text(sql))


def drift(store: Hindsight) -> None:
    """One row of each kind that should not be so."""
    change(store, "UPDATE sums SET total = 7, size = 'small' WHERE id = 'a'")
    change(store, "DELETE FROM sums WHERE id = 'b'")
    change(store, "UPDATE sums SET id = 'x' WHERE id = 'c'")
    change(store, "INSERT INTO sums SELECT 'c', 8, even, size, seen FROM sums WHERE id = 'x'")


# status


def test_the_status_tells_what_there_is_of_each(run: Run, kept: Hindsight) -> None:
    lines = words(run("status"))
    assert lines[0].startswith("store ")
    assert lines[1:4] == [
        "watermark position 5",
        "",
        "projection version state position behind for skipped drift checked (UTC)",
    ]
    assert lines[4:] == ["sums 1 up to date 5 0 – 0 – –"]
    put(kept, "a", 1)
    assert words(run("status"))[4].startswith("sums 1 behind 5 1 0 s 0 – –")


@pytest.mark.usefixtures("store")
def test_what_is_not_built_is_told(run: Run) -> None:
    assert words(run("status"))[4:] == [
        "sums 1 not built – 0 – 0 – –",
        "",
        "sums has no table yet; run: hindsight projections run",
    ]


def test_a_domain_without_projections_has_nothing_to_tell(run: Run) -> None:
    assert words(run("status", domain="tests.sums:bare"))[2:] == ["", "no projections"]


def test_where_one_stopped_is_told_and_found(run: Run, kept: Hindsight) -> None:
    put(kept, "a", 13)
    with pytest.raises(ProjectionFailed):
        project(kept)
    lines = words(run("status", code=1))
    assert lines[4].startswith("sums 1 stopped 5 1 0 s 0 – –")
    assert lines[5:] == [
        "",
        "sums waits at Added of a version 3, position 6: note_sum: ValueError: unlucky",
    ]
    [found] = json.loads(run("status", "--json", code=1).stdout)["projections"]
    assert (found["state"], found["failure"]["position"]) == ("stopped", 6)
    assert "Traceback" in found["failure"]["error"]


@pytest.mark.usefixtures("kept")
def test_other_code_is_told(run: Run) -> None:
    assert words(run("status", domain="tests.sums:mended"))[5:] == [
        "",
        "sums: the code changed, its version did not; run: hindsight projections rebuild sums",
    ]
    lines = words(run("status", domain="tests.sums:second"))
    assert lines[4].startswith("sums 2 outdated 5 0")
    told = "sums has a table of version 1, this code has version 2"
    assert lines[5:] == ["", f"{told}; run: hindsight projections rebuild sums"]


@pytest.mark.usefixtures("kept")
def test_code_that_is_older_than_the_table_is_not_told_to_rebuild(run: Run, store_url: str) -> None:
    with Hindsight(store_url, domain=sums.second) as newer:
        newer.projections.rebuild("sums")
    assert words(run("status"))[-1] == "sums has a table of version 2, this code has version 1"


def test_what_was_skipped_and_checked_is_told(
    run: Run, store: Hindsight, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENT_STORE_POISON_EVENTS", "skip")
    with Hindsight(store_url, domain=sums.domain) as skipping:
        put(skipping, "a", 13, 1)
        project(skipping)
    assert words(run("status"))[4] == "sums 1 up to date 2 0 – 1 – –"
    change(store, "UPDATE checkpoints SET drift = 1234, checked_at = moved_at")
    assert words(run("status"))[4].startswith("sums 1 up to date 2 0 – 1 1,234 20")


def test_what_is_being_built_is_told_with_how_far_it_is(run: Run, kept: Hindsight) -> None:
    columns = "projection, version, fingerprint, generation, moved_at, checked_at, drift"
    change(
        kept,
        f"INSERT INTO checkpoints ({columns}, target, position, goal, moved_by)"
        f" SELECT {columns}, 'rebuild', 450, 1000, 'host:12' FROM checkpoints",
    )
    change(
        kept,
        f"INSERT INTO checkpoints ({columns}, target, position, goal, moved_by)"
        f" SELECT {columns}, 'check', 0, NULL, 'host:13' FROM checkpoints WHERE target = 'live'",
    )
    lines = words(run("status"))
    assert lines[6].startswith("sums: a rebuild is at 45%, position 450 of 1000; host:12 moved it")
    assert lines[7].startswith("sums: a check has begun; host:13 moved it last at 20")
    assert lines[7].endswith(" UTC")


def test_more_events_than_are_counted_are_said(
    run: Run, kept: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("store.projections.standing"), "COUNTED", 2)
    put(kept, "a", 1, 2)
    assert words(run("status"))[4].startswith("sums 1 behind 5 2+ 0 s")


def test_who_holds_readers_is_told(postgres_url: str) -> None:
    with Hindsight(postgres_url, domain=sums.domain) as store:
        project(store)
        with store.database.transaction() as connection:
            late = [NewEvent("Added", {"number": 1})]
            store.append("total", "late", late, expected=any_(), connection=connection)
            put(store, "a", 2)
            options = ["--url", postgres_url, "--domain", "tests.sums:domain"]
            told = CliRunner().invoke(hindsight, ["projections", "status", "--json", *options])
            pid = json.loads(told.stdout)["watermark"]["holder"]["pid"]
            lines = words(CliRunner().invoke(hindsight, ["projections", "status", *options]))
            assert lines[1] == f"watermark position 0, held by pid {pid} for 0 s"
            assert lines[4].startswith("sums 1 behind 0 1 0 s")


# run


def test_once_takes_what_there_is(run: Run, store: Hindsight) -> None:
    put(store, "a", 1, 2)
    result = run("run", "--once")
    assert result.stdout == "table sums created for projection sums\nsums: 2 events, position 2\n"
    assert store.read_model("sums").get("a")
    put(store, "a", 1)
    assert run("run", "sums", "--once").stdout == "sums: 1 event, position 3\n"
    assert run("run", "--once", "sums", "sums").stdout == "sums: 0 events\n"


def test_of_those_that_are_not_named_no_table_is_created(run: Run, store: Hindsight) -> None:
    put(store, "a", 1, 2)
    result = run("run", "last", "--once", domain="tests.sums:several")
    assert result.stdout == "table last created for projection last\nlast: 2 events, position 2\n"
    assert "sums has no table yet" in run("status", domain="tests.sums:several").stdout
    result = run("run", "--once", domain="tests.sums:several")
    assert result.stdout.startswith("table sums created for projection sums\nsums: 2 events")


def test_once_ends_where_an_event_cannot_be_taken(run: Run, store: Hindsight) -> None:
    put(store, "a", 1, 13, 2)
    result = run("run", "--once", code=1)
    assert result.stderr == (
        "error: projection 'sums' stopped at Added of 'a' version 2 (position 2):"
        " handler 'note_sum': ValueError: unlucky\n"
    )
    assert result.stdout.splitlines()[1:] == ["sums: 1 event, position 1"]


def test_what_is_left_out_is_said(
    run: Run, store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENT_STORE_POISON_EVENTS", "skip")
    put(store, "a", 1, 13, 2)
    result = run("run", "--once")
    assert result.stderr == "error: sums left out Added of a version 2, position 2\n"
    assert result.stdout.splitlines()[1:] == ["sums: 3 events, position 3"]


def test_workers_say_what_they_leave_out(
    store: Hindsight,
    store_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("EVENT_STORE_POISON_EVENTS", "skip")
    put(store, "a", 13)
    options = ["--once", "--url", store_url, "--domain", "tests.sums:domain"]
    result = CliRunner().invoke(hindsight, ["work", *options])
    assert result.stderr == "error: sums left out Added of a version 1, position 1\n"
    with Hindsight(store_url, domain=sums.domain) as skipping:
        position = put(skipping, "a", 13)
        with working(skipping, relay=None, projectors=skipping.own_projectors()):
            skipping.wait_for("sums", position, timeout=20)
    assert "projection 'sums' left out Added of a version 2" in caplog.messages


@pytest.mark.usefixtures("kept")
def test_code_of_another_version_projects_nothing(run: Run) -> None:
    result = run("run", "--once", code=1, domain="tests.sums:second")
    assert result.stderr.startswith("error: projection 'sums': its table is version 1, this code")
    assert result.stdout == "sums: 0 events\n"


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_keeps_them_until_it_is_told_to_stop(
    store: Hindsight, store_url: str, ending: signal.Signals
) -> None:
    options = ["projections", "run", "--url", store_url, "--domain", "tests.sums:domain"]
    with subprocess.Popen(
        [sys.executable, "-m", "store", *options],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "table sums created for projection sums\n"
        assert process.stdout.readline().startswith("projecting sums on ")
        for number in range(1, 4):
            position = put(store, "a", number)
            store.wait_for("sums", position, timeout=20)
        # The table may be read before who wrote it has counted it.
        until(lambda: store.projections.standing()[0].state == "up to date")
        process.send_signal(ending)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "sums: 3 events, position 3\n", "")


# rebuild


def test_a_rebuild_tells_what_it_found_and_puts_in_place(run: Run, kept: Hindsight) -> None:
    assert words(run("rebuild", "sums")) == [
        "compared 3 rows of sums at position 5: no drift",
        "sums is in place: version 1, position 5",
    ]
    drift(kept)
    lines = words(run("rebuild", "sums"))
    assert lines[0] == "differing a"
    assert "total found 7, expected 3" in lines
    assert lines[-2:] == [
        "compared 3 rows of sums at position 5: 1 differing, 1 missing, 1 extra",
        "sums is in place: version 1, position 5",
    ]
    assert kept.projections.check("sums").compared.drift == 0
    found = json.loads(run("rebuild", "sums", "--json").stdout)
    assert (found["position"], found["checked"]["drift"]) == (5, 0)


@pytest.mark.usefixtures("kept")
def test_a_rebuild_takes_other_code_in(run: Run) -> None:
    lines = words(run("rebuild", "sums", domain="tests.sums:second"))
    assert lines[-1] == "sums is in place: version 2, position 5"
    assert "up to date" in run("status", domain="tests.sums:second").stdout


# check


@pytest.mark.usefixtures("kept")
def test_a_check_that_finds_nothing_is_fine(run: Run) -> None:
    assert words(run("check", "sums")) == ["compared 3 rows of sums at position 5: no drift"]
    assert words(run("status"))[4].startswith("sums 1 up to date 5 0 – 0 0 20")


def test_a_check_tells_rows_that_drifted_and_who_touched_them(run: Run, kept: Hindsight) -> None:
    drift(kept)
    lines = words(run("check", "sums", code=1))
    assert lines[:4] == [
        "differing a",
        "total found 7, expected 3",
        "size found small, expected NULL",
        lines[3],
    ]
    assert lines[3].startswith("touched last by Added of a version 2, position 2, at 20")
    assert lines[4:6] == ["extra x", lines[5]]
    assert lines[5].startswith('found {"id":"x","total":8,"even":true,"size":null,')
    assert lines[6] == "missing b"
    assert lines[7].startswith('expected {"id":"b","total":120,"even":true,"size":"large",')
    assert lines[8].startswith("touched last by Added of b version 1, position 3, at 20")
    assert lines[9:] == ["compared 3 rows of sums at position 5: 1 differing, 1 missing, 1 extra"]


def test_the_document_of_a_check_has_everything(run: Run, kept: Hindsight) -> None:
    drift(kept)
    found = json.loads(run("check", "sums", "--json", code=1).stdout)
    assert (found["position"], found["rows"], found["drift"]) == (5, 3, 3)
    assert (found["differing"], found["missing"], found["extra"]) == (1, 1, 1)
    differing, extra, missing = found["drifted"]
    assert (differing["kind"], differing["key"], differing["columns"]) == (
        *("differing", ["a"], ["total", "size"]),
    )
    assert (differing["found"]["total"], differing["expected"]["total"]) == (7, 3)
    touched = differing["touched_by"]
    assert (touched["event_type"], touched["aggregate_id"], touched["version"]) == (
        *("Added", "a", 2),
    )
    assert (touched["position"], touched["aggregate_type"]) == (2, "total")
    assert (extra["expected"], extra["touched_by"], missing["found"]) == (None, None, None)


def test_more_rows_than_are_told_are_counted(run: Run, kept: Hindsight) -> None:
    for number in range(120):
        put(kept, f"n{number:03}", number + 20)
    project(kept)
    change(kept, "UPDATE sums SET total = -1")
    lines = words(run("check", "sums", code=1))
    assert lines[-2:] == [
        "… and 23 more",
        "compared 123 rows of sums at position 125: 123 differing, 0 missing, 0 extra",
    ]


# query


def ids(result: Result) -> list[str]:
    return [line.split()[0] for line in words(result)[1:]]


@pytest.mark.usefixtures("kept")
def test_rows_are_shown_as_columns(run: Run) -> None:
    result = run("query", "sums")
    lines = words(result)
    assert lines[0] == "id total even size seen"
    assert lines[1].startswith("a 3 false NULL 20")
    assert lines[2].startswith("b 120 true large 20")
    assert (len(lines), result.stderr) == (4, "")


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--where", "total>=8"], ["b", "c"]),
        (["--where", "total>3", "--where", "total<120"], ["c"]),
        (["--where", "total<=3"], ["a"]),
        (["--where", "even=true", "--where", "id!=b"], ["c"]),
        (["--where", "size^lar"], ["b"]),
        (["--where", "seen>2000-01-01", "--sort", "total", "--desc"], ["b", "c", "a"]),
        (["--where", "id=a=b"], []),
        (["--where", "id="], []),
        (["--where", "size is null"], ["a", "c"]),
        (["--where", "size is not null"], ["b"]),
    ],
)
def test_rows_are_chosen(run: Run, options: list[str], found: list[str]) -> None:
    assert ids(run("query", "sums", *options)) == found


@pytest.mark.usefixtures("kept")
def test_what_a_table_shows_can_be_asked_for(run: Run) -> None:
    [line] = run("query", "sums", "--where", "id=b").stdout.splitlines()[1:]
    seen = line.split()[-1]
    assert ids(run("query", "sums", "--where", f"seen={seen}")) == ["b"]


@pytest.mark.usefixtures("kept")
def test_the_next_page_is_told(run: Run) -> None:
    result = run("query", "sums", "--sort", "total", "--limit", "2")
    assert ids(result) == ["a", "c"]
    told = "there are more rows; the next ones: --after "
    [line] = result.stderr.splitlines()
    assert line.startswith(told)
    cursor = line.removeprefix(told)
    result = run("query", "sums", "--sort", "total", "--limit", "2", "--after", cursor)
    assert (ids(result), result.stderr) == (["b"], "")
    found = json.loads(run("query", "sums", "--sort", "total", "--limit", "2", "--json").stdout)
    assert [row["total"] for row in found["rows"]] == [3, 8]
    assert found["next"] == cursor
    assert json.loads(run("query", "sums", "--json").stdout)["next"] is None


def test_a_value_that_a_terminal_would_obey_is_not_shown_as_it_is(
    run: Run, kept: Hindsight
) -> None:
    with kept.database.transaction() as connection:
        connection.execute(text("UPDATE sums SET size = :size"), {"size": "\x1b[2J"})
    assert "\x1b" not in run("query", "sums").stdout


# what is not there


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["check", "x"], "no projection 'x'; there are sums"),
        (["rebuild", "x"], "no projection 'x'; there are sums"),
        (["query", "x"], "no projection 'x'; there are sums"),
        (["run", "--once", "x"], "no projection 'x'; there are sums"),
        (["query", "sums", "--where", "total"], "'total': write COLUMN=VALUE"),
        (["query", "sums", "--where", "=3"], "no column ''; there are id"),
        (["query", "sums", "--where", "sum=3"], "no column 'sum'; there are id, total, even"),
        (["query", "sums", "--where", "total=x"], "total: 'x' is no whole number"),
        (["query", "sums", "--where", "total^1"], "total: only a text begins with another"),
        (["query", "sums", "--where", "seen=now"], "seen: 'now' is no time such as 2026-"),
        (["query", "sums", "--where", "sum is null"], "no column 'sum'; there are id, total, even"),
        (["query", "sums", "--sort", "sum"], "no column 'sum'; there are id, total, even"),
        (["query", "sums", "--after", "x"], "after: not where a page ended"),
        (["query", "sums", "--limit", "0"], "Invalid value for '--limit': 0 is not in the range"),
    ],
)
def test_bad_input_is_one_line(
    store_url: str, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    options = ["--url", store_url, "--domain", "tests.sums:domain"]
    with pytest.raises(SystemExit) as ended:
        hindsight.main(["projections", *arguments, *options])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {told}")
    assert error.count("\n") == 1


def test_without_a_domain_there_is_nothing_to_ask(
    store_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVENT_STORE_DOMAIN", raising=False)
    for arguments in (["status"], ["run", "--once"], ["check", "a"], ["query", "a"]):
        with pytest.raises(SystemExit) as ended:
            hindsight.main(["projections", *arguments, "--url", store_url])
        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith("error: no domain named; give --domain MODULE:")


def test_there_must_be_something_to_run(store_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--url", store_url, "--domain", "tests.sums:bare"]
    with pytest.raises(SystemExit) as ended:
        hindsight.main(["projections", "run", *options])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: the domain declares no projections")


def test_before_there_is_a_table_one_is_told(
    store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--url", store_url, "--domain", "tests.sums:domain"]
    for action in ("query", "check", "rebuild"):
        with pytest.raises(SystemExit) as ended:
            hindsight.main(["projections", action, "sums", *options])
        assert ended.value.code == 2
        assert capsys.readouterr().err == (
            "error: projection 'sums' has no table yet; run: hindsight projections run\n"
        )

"""`hindsight conflicts`."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result

from store import Hindsight
from store.cli import hindsight
from store.conflict_log import Logged

Run = Callable[..., Result]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def run(store_url: str) -> Run:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(hindsight, ["conflicts", *arguments, "--url", store_url])

    return call


def logged(**changed: Any) -> Logged:
    fields: dict[str, Any] = {
        "occurred_at": NOON,
        "aggregate_type": "user",
        "aggregate_id": "user-1",
        "expected": 3,
        "actual": 4,
        "losing": "ChangeEmail",
        "command": "ChangeEmail",
        "event_types": ("EmailChanged",),
        "winning": "LockAccount",
        "winners": (),
        "attempt": 1,
        "outcome": "absorbed",
        "verdict": "same",
        "actor": "ada",
        "correlation_id": "c-1",
        "process": "host:1",
    }
    return Logged(**fields | changed)


def fill(url: str, rows: Sequence[Logged]) -> None:
    with Hindsight(url) as store:
        store.conflicts.write(rows)


def test_the_newest_are_shown_with_both_sides(run: Run, store_url: str) -> None:
    fill(
        store_url,
        [
            logged(),
            logged(
                occurred_at=NOON + timedelta(minutes=1),
                aggregate_id=None,
                outcome="escaped",
                verdict="rejected",
                winning=None,
                weight=1_200,
            ),
        ],
    )
    result = run()
    assert (result.exit_code, result.stderr) == (0, "")
    [titles, newest, older] = [line.split("  ") for line in result.stdout.splitlines()]
    assert [part.strip() for part in titles if part][-1] == "had it to be"
    assert [part.strip() for part in newest if part.strip()] == [
        *("2026-01-01 12:01:00", "escaped", "1,200", "several", "3", "4", "ChangeEmail", "–"),
        "yes: rejected now",
    ]
    assert [part.strip() for part in older if part.strip()] == [
        *("2026-01-01 12:00:00", "absorbed", "1", "user-1", "3", "4", "ChangeEmail"),
        *("LockAccount", "no: the same decision"),
    ]


@pytest.mark.parametrize(
    ("by", "line"),
    [
        ("aggregate", "3 2 1 2 user user-1"),
        ("command", "3 2 1 2 ChangeEmail"),
        ("pair", "3 2 1 2 ChangeEmail LockAccount"),
        ("hour", "3 2 1 2 2026-01-01 12:00"),
    ],
)
def test_they_are_counted_by_what_is_asked(run: Run, store_url: str, by: str, line: str) -> None:
    fill(store_url, [logged(weight=2), logged(outcome="escaped", verdict="other")])
    result = run("--by", by)
    assert result.exit_code == 0
    [titles, counted] = result.stdout.splitlines()
    assert titles.split()[:4] == ["detected", "absorbed", "escaped", "needless"]
    assert " ".join(counted.split()) == line


def test_the_document_has_everything(run: Run, store_url: str) -> None:
    fill(store_url, [logged()])
    [found] = json.loads(run("--json").stdout)["conflicts"]
    assert (found["actor"], found["event_types"], found["weight"]) == ("ada", ["EmailChanged"], 1)
    [found] = json.loads(run("--by", "pair", "--json").stdout)["conflicts"]
    assert found == {
        "losing": "ChangeEmail",
        "winning": "LockAccount",
        "detected": 1,
        "absorbed": 1,
        "escaped": 0,
        "needless": 1,
        "last_at": "2026-01-01T12:00:00Z",
    }


def test_since_takes_a_time_and_a_span(run: Run, store_url: str) -> None:
    now = datetime.now(UTC)
    rows = [logged(occurred_at=now - timedelta(hours=hours)) for hours in (0, 2, 50)]
    fill(store_url, rows)

    def found(since: str) -> int:
        return len(json.loads(run("--since", since, "--json").stdout)["conflicts"])

    assert [found(since) for since in ("30min", "3h", "7d", "90s")] == [1, 2, 3, 1]
    assert found((now - timedelta(hours=1)).isoformat()) == 1


@pytest.mark.parametrize(
    ("since", "why"),
    [
        ("yesterday", "is no time such as"),
        ("7w", "is no time such as"),
        ("2026-01-01T00:00:00", "has no time zone"),
        ("999999999d", "is longer ago than time goes back"),
    ],
)
def test_what_is_no_time_is_one_line(since: str, why: str, capsys: Any, store_url: str) -> None:
    with pytest.raises(SystemExit) as exited:
        hindsight.main(["conflicts", "--since", since, "--url", store_url])
    assert exited.value.code == 2
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("--by", "hour")])
def test_without_conflicts_it_says_so(run: Run, arguments: Sequence[str]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (0, "no conflicts\n")


def test_what_a_terminal_would_obey_is_not_sent_to_it(run: Run, store_url: str) -> None:
    fill(store_url, [logged(aggregate_id="\x1b[31mred", losing="\x1b[2J", winning="\x07")])
    for arguments in [(), ("--by", "pair"), ("--by", "aggregate")]:
        assert not {"\x1b", "\x07"} & set(run(*arguments).stdout)

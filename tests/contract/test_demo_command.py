"""`hindsight demo`: sample activity through real commands, by several processes at once."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import users
from store import Domain, Hindsight, NewEvent, any_
from store.cli import hindsight
from store.domain import load_domains
from store.verification import verify

mute = Domain("mute", aggregates=[users.user])


def run(*arguments: str, domain: str | None = "users:domain") -> Result:
    environment = {"EVENT_STORE_DOMAIN": domain}
    return CliRunner(env=environment).invoke(hindsight, ["demo", *arguments])


@pytest.mark.slow
def test_processes_meet_and_what_they_leave_is_sound(store_url: str) -> None:
    result = run("--events", "1500", "--processes", "4", "--url", store_url)
    assert result.exit_code == 0, result.output
    told = re.fullmatch(
        r"([\d,]+) events of ([\d,]+) aggregates by 4 processes;"
        r" ([\d,]+) commands rejected, ([\d,]+) conflicts absorbed, ([\d,]+) escaped\n",
        result.stdout,
    )
    assert told is not None, result.stdout
    events, aggregates, rejected, absorbed, escaped = (
        int(number.replace(",", "")) for number in told.groups()
    )
    with Hindsight(store_url) as store:
        counts = store.counts()
        found = verify(store.log, domains=load_domains("users:domain"))
        newest = max(event.recorded_at for event in store.feed() if event.recorded_at)
    assert (counts.events, counts.aggregates) == (events, aggregates)
    assert 1_300 <= events <= 1_700
    assert min(rejected, absorbed) > 0
    assert escaped <= absorbed
    assert (found.findings, found.replayed) == ((), events)
    assert newest <= datetime.now(UTC)


def test_a_store_with_events_is_left_alone(store_url: str) -> None:
    with Hindsight(store_url) as store:
        store.append("thing", "a", [NewEvent("Happened", {})], expected=any_())
    result = run("--url", store_url)
    assert result.exit_code == 2
    assert "has events already" in result.stderr
    with Hindsight(store_url) as store:
        assert store.counts().events == 1


def test_a_store_is_made_where_there_is_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('demo') / 'new' / 'demo.db'}"
    result = run("--events", "20", "--processes", "1", "--url", url)
    assert result.exit_code == 0, result.output
    with Hindsight(url) as store:
        assert store.counts().events > 10


@pytest.mark.parametrize(
    ("domain", "message"),
    [(None, "no domain named"), (f"{__name__}:mute", "domain 'mute' makes no sample")],
)
def test_a_domain_that_makes_no_sample_is_named(
    sqlite_url: str, domain: str | None, message: str
) -> None:
    result = run("--url", sqlite_url, domain=domain)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.slow
def test_a_process_that_fails_is_told_at_once(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "frail.py").write_text(
        """
import multiprocessing, os
from users import domain
if multiprocessing.parent_process() is not None:
    try:
        os.mkdir("first")
    except FileExistsError:
        pass
    else:
        raise RuntimeError("the first to come is not up to it")
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "store", "demo", "--domain", "frail:domain", "--url", sqlite_url],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "RuntimeError: the first to come is not up to it" in done.stderr
    assert len(done.stderr.splitlines()) == 1

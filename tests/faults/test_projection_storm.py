"""Projectors and rebuilds killed while they write: each event takes effect once, no reader notices.

`--log-cli-level INFO` tells what was seen.
"""

import itertools
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from store import Hindsight, NewEvent, Row, any_, migrate
from store.errors import CommandRejected, ConcurrencyError, OutcomeUnknown, StoreUnavailable
from store.projections.checkpoints import Checkpoint, Checkpoints
from store.records import AggregateSummary
from tests.faults.projecting import GAVE_IN, domain
from tests.servers import PostgresServer
from tests.waiting import until
from users.commands import (
    ChangeEmail,
    ChangePassword,
    CreateUser,
    LockAccount,
    RecordFailedLogin,
    RecordLogin,
    UnlockAccount,
    UpdateProfile,
)
from users.state import User

_log = logging.getLogger(__name__)

WRITERS = 8
WORKERS = 4
USERS = 200
Process = subprocess.Popen[bytes]


class Compared(NamedTuple):
    """What was compared with the events, and found to be equal."""

    events: int
    rows: int


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        path = f"sqlite:///{tmp_path / 'store.db'}"
        migrate(path)
        return path
    server: PostgresServer = request.getfixturevalue("own_postgres")
    migrate(server.url())
    return server.url()


@pytest.fixture
def server(request: pytest.FixtureRequest, url: str) -> PostgresServer | None:
    """The server to restart, where there is one."""
    return None if url.startswith("sqlite") else request.getfixturevalue("own_postgres")


@pytest.fixture
def store(url: str) -> Iterator[Hindsight]:
    """The store as the test itself sees it: each state comes from a full replay."""
    with Hindsight(url, domain=domain, snapshots=False, cache=False) as opened:
        opened.projections.build_missing()
        yield opened


def started(*arguments: str) -> Process:
    return subprocess.Popen([sys.executable, "-m", "tests.faults.projecting", *arguments])


class Workers:
    """Processes that project; each that is killed is replaced at once."""

    def __init__(self, store: Hindsight, url: str) -> None:
        self._checkpoints = Checkpoints(store.database)
        self._url = url
        self._chosen = random.Random(3)
        self._processes = [started("project", url) for _ in range(WORKERS)]

    def kill(self) -> None:
        """Kill one of them: as often as not, the one that moved a checkpoint last."""
        victim = self._mover() or self._chosen.choice(self._processes)
        os.kill(victim.pid, signal.SIGKILL)
        assert victim.wait(20) == -signal.SIGKILL
        self._processes.remove(victim)
        self._processes.append(started("project", self._url))

    def end(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            # One that has just been started may not have got to hear of it.
            assert process.wait(20) in {0, -signal.SIGTERM}

    def _mover(self) -> Process | None:
        if self._chosen.random() < 0.5:
            return None
        try:
            checkpoint = self._checkpoints.read("users")
        except StoreUnavailable:
            return None
        assert checkpoint is not None
        by_pid = {str(process.pid): process for process in self._processes}
        return by_pid.get(checkpoint.moved_by.rpartition(":")[2])


def command(chosen: random.Random) -> Any:
    """Something that somebody may want of a user."""
    number, at = chosen.randrange(10_000), datetime.now(UTC)
    commands = (
        CreateUser(
            username=f"u{number}",
            email=f"u{number}@a.example",
            full_name=f"U {number}",
            password_hash=f"{number}",
        ),
        UpdateProfile(full_name=f"V {number}"),
        ChangeEmail(email=f"v{number}@a.example"),
        ChangePassword(password_hash=f"{number}"),
        RecordLogin(at=at, ip_address="10.0.0.1"),
        RecordFailedLogin(at=at, ip_address="10.0.0.2"),
        LockAccount(reason="asked for"),
        UnlockAccount(),
    )
    return chosen.choice(commands)


def write(url: str, number: int, ended: threading.Event) -> int:
    """Run commands until it is told to stop; how many did something."""
    chosen, done = random.Random(number), 0
    with Hindsight(url, domain=domain) as store:
        while not ended.is_set():
            try:
                executed = store.execute(f"user-{chosen.randrange(USERS)}", command(chosen))
            except CommandRejected:
                continue
            except (StoreUnavailable, OutcomeUnknown, ConcurrencyError):
                time.sleep(0.02)
                continue
            done += bool(executed.events)
            time.sleep(chosen.random() * 0.02)
    return done


def read(url: str, ended: threading.Event) -> int:
    """Ask the read model until told to stop: it is never empty, and no row ever goes back."""
    seen: dict[str, int] = {}
    asked = 0
    with Hindsight(url, domain=domain) as store:
        model = store.read_model("users")
        while not ended.is_set():
            try:
                page = model.query(limit=50)
                row = model.get(f"user-{asked % USERS}")
            except StoreUnavailable:
                time.sleep(0.02)
                continue
            assert len(page.rows) == 50
            assert row is not None
            for each in (*page.rows, row):
                assert each["version"] >= seen.get(each["user_id"], 0)
                seen[each["user_id"]] = each["version"]
            asked += 1
            time.sleep(0.002)
    return asked


def watch(url: str, ended: threading.Event) -> int:
    """See to it that what is being built never goes back; how many tables were begun."""
    generations: dict[int, int] = {}
    with Hindsight(url, domain=domain) as store:
        checkpoints = Checkpoints(store.database)
        while not ended.is_set():
            try:
                built = checkpoints.read("users", "rebuild")
            except StoreUnavailable:
                built = None
            if built is not None:
                assert built.position >= generations.get(built.generation, 0)
                generations[built.generation] = built.position
            time.sleep(0.002)
    return len(generations)


@contextmanager
def beside(*tasks: Callable[[threading.Event], int]) -> Iterator[list[int]]:
    """Run each in a thread until the block ends; then there is what they came to."""
    ended, found = threading.Event(), list[int]()
    with ThreadPoolExecutor(len(tasks)) as pool:
        running = [pool.submit(task, ended) for task in tasks]
        try:
            yield found
        finally:
            ended.set()  # or the pool would wait for them for ever
        found += [each.result(60) for each in running]


@contextmanager
def working(store: Hindsight, url: str) -> Iterator[Workers]:
    """Workers until the block ends, and the read models have come to the end of the feed."""
    workers = Workers(store, url)
    try:
        yield workers
        until(lambda: all(each.state == "up to date" for each in store.projections.standing()), 120)
    finally:
        workers.end()


def fill(store: Hindsight, events: int) -> None:
    """Give the users long histories, events of one beside those of another."""
    for number in range(USERS):
        store.execute(
            f"user-{number}",
            CreateUser(
                username=f"u{number}",
                email="u@a.example",
                full_name="U",
                password_hash="x",  # noqa: S106
            ),
        )
    kinds: Sequence[tuple[str, Any]] = (
        ("ProfileUpdated", {"full_name": "W"}),
        ("EmailChanged", {"email": "w@a.example"}),
        ("LoginFailed", {"at": "2026-11-28T09:30:00Z", "ip_address": "10.0.0.3", "reason": None}),
    )
    for number in range(events // 50):
        made = [NewEvent(*kinds[each % len(kinds)]) for each in range(50)]
        store.append("user", f"user-{number % USERS}", made, expected=any_())


def rows(store: Hindsight, name: str) -> dict[Any, Row]:
    """All rows of a read model, by key."""
    model, found, after = store.read_model(name), dict[Any, Row](), None
    while True:
        page = model.query(limit=1_000, after=after)
        found |= {model.key_of(row): row for row in page.rows}
        after = page.next
        if after is None:
            return found


def heads(store: Hindsight) -> Iterator[AggregateSummary]:
    after = None
    while True:
        page = store.aggregates(after=after, limit=1_000)
        yield from page.items
        after = page.next
        if after is None:
            return


def replayed(store: Hindsight, head: AggregateSummary) -> Row:
    """The row of a user as a full replay has it."""
    loaded, events = store.load(head.aggregate_id), list(store.events(head.aggregate_id))
    assert loaded.source == "replay"
    user: User = loaded.state
    return {
        "user_id": head.aggregate_id,
        "username": user.username,
        "email": user.email,
        "full_name": user.full_name,
        "total_logins": user.total_logins,
        "last_login_at": user.last_login_at,
        "failed_login_attempts": user.failed_login_attempts,
        "account_locked": user.account_locked,
        "version": loaded.version,
        "created_at": events[0].occurred_at,
        "updated_at": events[-1].occurred_at,
    }


def counted(store: Hindsight) -> tuple[int, dict[Any, Row]]:
    """How many events there are, and how many of each type a user has."""
    number, found = 0, dict[Any, Row]()
    for event in store.feed():
        number += 1
        key = (event.aggregate_id, event.event_type)
        found[key] = {
            "user_id": key[0],
            "event_type": key[1],
            "events": found[key]["events"] + 1 if key in found else 1,
            "last_version": event.version,
        }
    return number, found


def checkpoint(store: Hindsight, name: str) -> Checkpoint:
    found = Checkpoints(store.database).read(name)
    assert found is not None
    return found


def compared(store: Hindsight) -> Compared:
    """Both read models have, row by row, what the events make of them: found out in two ways."""
    users = rows(store, "users")
    for head in heads(store):
        assert users[head.aggregate_id,] == replayed(store, head)
    assert len(users) == sum(1 for _ in heads(store))
    events, expected = counted(store)
    counts = rows(store, "counts")
    assert counts == expected
    assert sum(row["events"] for row in counts.values()) == events
    last = next(store.feed(backward=True, limit=1)).position
    for name, found in (("users", users), ("counts", counts)):
        checked = store.projections.check(name)
        assert (checked.compared.drift, checked.compared.rows) == (0, len(found))
        assert checkpoint(store, name).position >= last
    return Compared(events, len(users) + len(counts))


def tell(**figures: object) -> None:
    """Say what was seen."""
    _log.info("%s", ", ".join(f"{name} {value}" for name, value in figures.items()))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.soak)])
def test_projectors_that_die_all_the_time_have_each_event_take_effect_once(
    store: Hindsight, url: str, server: PostgresServer | None, seconds: int
) -> None:
    began, restarts = time.monotonic(), 0

    def writer(number: int) -> Callable[[threading.Event], int]:
        return lambda ended: write(url, number, ended)

    with working(store, url) as workers:
        with beside(*map(writer, range(WRITERS))) as written:
            for second in range(seconds):
                time.sleep(1)
                workers.kill()
                if server is not None and second % 5 == 2:
                    server.restart("immediate")
                    restarts += 1
        assert min(written) > seconds
    found = compared(store)
    assert found.events > 100 * seconds / 6
    tell(
        kills=seconds,
        restarts=restarts,
        **found._asdict(),
        seconds=round(time.monotonic() - began, 1),
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.soak)])
def test_a_rebuild_that_dies_all_the_time_goes_on_and_nobody_who_reads_notices(
    store: Hindsight, url: str, server: PostgresServer | None, seconds: int
) -> None:
    fill(store, 3_000 * seconds)
    began, chosen = time.monotonic(), random.Random(4)
    kills = restarts = 0
    with working(store, url) as workers:
        until(lambda: checkpoint(store, "users").position >= 3_000 * seconds, 120)
        with beside(
            lambda ended: write(url, 1, ended),
            lambda ended: write(url, 2, ended),
            lambda ended: read(url, ended),
            lambda ended: watch(url, ended),
        ) as done:
            for turn in itertools.count():
                if time.monotonic() > began + seconds and kills > seconds / 6:
                    break
                process = started("rebuild", url, f"{chosen.randint(1, 300)}")
                if turn % 3 == 2:
                    workers.kill()
                if server is not None and turn % 4 == 1:
                    server.restart("immediate")
                    restarts += 1
                code = process.wait(60)
                assert code in {0, -signal.SIGKILL}
                kills += code != 0
            assert started("rebuild", url, "0").wait(120) == 0
    swaps = checkpoint(store, "users").generation - 1
    assert swaps > 0
    assert min(done) > 0
    found = compared(store)
    tell(
        kills=kills,
        restarts=restarts,
        swaps=swaps,
        reads=done[2],
        begun=done[3],
        **found._asdict(),
        seconds=round(time.monotonic() - began, 1),
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_of_two_rebuilds_at_once_one_gives_in(store: Hindsight, url: str, times: int) -> None:
    fill(store, 10_000)
    gave_in = 0
    with working(store, url):
        for _ in range(times):
            with ExitStack() as stack:
                both = [stack.enter_context(started("rebuild", url, "0")) for _ in range(2)]
                codes = sorted(process.wait(120) for process in both)
            assert codes in ([0, 0], [0, GAVE_IN])  # two in turn where one was late
            gave_in += GAVE_IN in codes
    assert gave_in > 0
    tell(gave_in=gave_in, **compared(store)._asdict())

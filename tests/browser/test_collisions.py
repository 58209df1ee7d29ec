"""Two processes collide, and the page shows it within ten seconds, right."""

import multiprocessing
import time
from contextlib import suppress
from multiprocessing.synchronize import Barrier, Event
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Page, expect
from prometheus_client import CollectorRegistry

import users
from store import Conflict, Hindsight, Metrics
from store.errors import VersionConflict
from tests.browser.conftest import Serve
from tests.browser.monitored import figure, placed, table_rows
from users.commands import ChangeEmail, CreateUser, UpdateProfile

pytestmark = pytest.mark.browser

ADA = CreateUser(username="ada", email="a@a.example", full_name="Ada", password_hash="…")  # noqa: S106
ROUNDS = 30


class Shared(NamedTuple):
    """What the processes and the test tell one another."""

    meet: Barrier
    began: Any
    answers: Any
    seen: Event


def collide(url: str, number: int, shared: Shared) -> None:
    """Change the user again and again; what was told of it, and when it began."""
    told: list[Conflict] = []

    def tell(conflict: Conflict) -> None:
        with shared.began.get_lock():
            shared.began.value = shared.began.value or time.monotonic()
        told.append(conflict)

    with Hindsight(
        url, domain=users.domain, on_conflict=tell, metrics=Metrics(CollectorRegistry())
    ) as store:
        for turn in range(ROUNDS):
            shared.meet.wait(60)
            command = (
                ChangeEmail(email=f"{number}-{turn}@a.example")
                if number
                else UpdateProfile(full_name=f"Ada {turn}")
            )
            with suppress(VersionConflict):
                store.execute("ada", command, attempts=2)
            time.sleep(0.05)
        outcomes = [each.outcome for each in told]
        shared.answers.put((outcomes.count("absorbed"), outcomes.count("escaped")))
        # Who ends writes everything at once; these go on.
        assert shared.seen.wait(60)


def test_two_processes_that_collide_are_seen_within_ten_seconds(
    page: Page, serve: Serve, store_url: str
) -> None:
    with Hindsight(store_url, domain=users.domain, metrics=False) as store:
        store.execute("ada", ADA)
    page.goto(f"{serve(store_url)}/monitoring")
    placed(page)
    expect(page.get_by_text("Nothing has been measured yet")).to_be_visible()
    context = multiprocessing.get_context("spawn")
    shared = Shared(context.Barrier(2), context.Value("d"), context.Queue(), context.Event())
    processes = [
        context.Process(target=collide, args=(store_url, number, shared)) for number in range(2)
    ]
    for process in processes:
        process.start()
    expect(figure(page, "Conflicts").locator("strong")).not_to_have_text("0")
    assert 0 < time.monotonic() - shared.began.value < 10
    outcomes = [shared.answers.get(timeout=60) for _ in processes]
    absorbed, escaped = (sum(each) for each in zip(*outcomes, strict=True))
    assert absorbed > 0
    detected = absorbed + escaped
    for name, count in (("Conflicts", detected), ("Absorbed", absorbed), ("Escaped", escaped)):
        expect(figure(page, name).locator("strong")).to_have_text(str(count), timeout=10_000)
    expect(figure(page, "Needless")).to_contain_text(f"of {detected} logged", timeout=10_000)
    hottest = table_rows(page, "Hottest aggregates")
    expect(hottest).to_have_count(1)
    expect(hottest).to_contain_text(f"ada user {detected} {absorbed} {escaped}".replace(" ", ""))
    pairs = page.get_by_role("table", name="Who loses to whom")
    expect(pairs).to_contain_text("ChangeEmail")
    expect(pairs).to_contain_text("UpdateProfile")
    recent = table_rows(page, "Recent conflicts")
    expect(recent.first).to_contain_text("No: the same decision")
    shared.seen.set()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0

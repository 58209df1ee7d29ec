"""The Operations page: what waits, what was given up, and what its user does about it."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import BrowserContext, Locator, Page, expect

from store import Hindsight, NewEvent, any_
from store.outbox import ATTEMPTS, Relay
from store.outbox.operations import Operations
from tests.archiving import keeping
from tests.browser.conftest import LOOKS, OTHER_LOOKS, Serve
from tests.browser.test_app_shell import OVERFLOWING, WCAG
from tests.published import Recording
from tests.waiting import until

pytestmark = pytest.mark.browser

NewContext = Callable[..., BrowserContext]
HOSTILE = "<img src=x onerror=alert(1)>"


def put(store: Hindsight, aggregate_id: str, *types: str) -> None:
    events = [NewEvent(each, {}) for each in types]
    store.append("thing", aggregate_id, events, expected=any_())


def give_up(store: Hindsight) -> None:
    """Have what is due fail until it is given up."""
    relay = Relay(store.database, Recording(lambda _: True))
    for _ in range(ATTEMPTS):
        with store.database.transaction() as connection:
            connection.exec_driver_sql("UPDATE outbox SET next_attempt_at = NULL")
        relay.once()


@pytest.fixture
def stuck(store_url: str) -> str:
    """Two aggregates that wait for a dead letter each, and one that is due."""
    with Hindsight(store_url) as store:
        put(store, "order-1", "Made", "Paid", "Sent")
        put(store, "order-2", HOSTILE)
        give_up(store)
        put(store, "order-3", "Made")
    return store_url


def table(page: Page, name: str) -> Locator:
    return page.get_by_role("table", name=name)


def row(page: Page, name: str, aggregate_id: str) -> Locator:
    return table(page, name).get_by_role("row").filter(has_text=aggregate_id)


def figure(page: Page, name: str) -> Locator:
    return page.locator(".figures > div").filter(has_text=name)


def test_it_shows_what_waits_for_what_and_why(page: Page, serve: Serve, stuck: str) -> None:
    page.goto(f"{serve(stuck)}/operations")
    expect(figure(page, "Pending")).to_contain_text("3")
    expect(figure(page, "Dead letters")).to_contain_text("2")
    first = row(page, "Dead letters", "order-1")
    expect(first).to_contain_text("tests.published.Refused: no Made today")
    first.locator("summary").click()
    expect(first.locator("pre")).to_contain_text("Refused: no Made today")
    expect(row(page, "Dead letters", "order-2")).to_contain_text(HOSTILE)
    expect(row(page, "Head of the line", "order-1")).to_contain_text("dead letter: held")
    expect(row(page, "Head of the line", "order-3")).to_contain_text("due")
    first.get_by_role("link").click()
    expect(page).to_have_url(f"{serve(stuck)}/timeline?aggregate=order-1&version=1")
    page.go_back()
    expect(row(page, "Dead letters", "order-1")).to_be_visible()


def test_who_only_looks_is_told_how_to_operate(page: Page, serve: Serve, stuck: str) -> None:
    page.goto(f"{serve(stuck)}/operations")
    expect(page.get_by_text("open the dashboard with --operate")).to_be_visible()
    expect(page.get_by_role("button", name="Redrive")).to_have_count(0)


def test_a_dead_letter_is_redriven_with_a_reason_by_keyboard_alone(
    page: Page, serve: Serve, stuck: str
) -> None:
    page.goto(f"{serve(stuck, operate=True)}/operations")
    row(page, "Dead letters", "order-1").get_by_role("button", name="Redrive").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Redrive order-1 version 1?")
    expect(dialog.get_by_role("textbox", name="Reason")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")  # without a reason
    expect(dialog).to_be_visible()
    page.keyboard.type("the sink is back")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.get_by_text("Redriven: order-1 version 1.")).to_be_visible()
    expect(row(page, "Dead letters", "order-1")).to_have_count(0)
    expect(row(page, "Head of the line", "order-1")).to_contain_text("due")
    expect(row(page, "Who did what", "order-1")).to_contain_text("the sink is back")


def test_one_that_is_skipped_lets_the_others_go_on(page: Page, serve: Serve, stuck: str) -> None:
    page.goto(f"{serve(stuck, operate=True)}/operations")
    row(page, "Dead letters", "order-1").get_by_role("button", name="Skip").click()
    page.get_by_role("textbox", name="Reason").fill("a test order")
    page.get_by_role("dialog").get_by_role("button", name="Skip").click()
    expect(page.get_by_text("Skipped: order-1 version 1.")).to_be_visible()
    expect(row(page, "Head of the line", "order-1")).to_contain_text("2")
    with Hindsight(stuck) as store:
        publisher = Recording()
        relay = Relay(store.database, publisher)
        while relay.once().claimed:
            pass
        assert publisher.versions()["order-1"] == [2, 3]
    expect(row(page, "Head of the line", "order-1")).to_have_count(0)


def test_what_cannot_be_done_is_said_where_it_was_asked(
    page: Page, serve: Serve, stuck: str
) -> None:
    page.goto(f"{serve(stuck, operate=True)}/operations?live=0")
    row(page, "Dead letters", "order-1").get_by_role("button", name="Skip").click()
    with Hindsight(stuck) as store:
        Operations(store.database, actor="another").skip("order-1", 1, reason="quicker")
    page.get_by_role("textbox", name="Reason").fill("too late")
    page.get_by_role("dialog").get_by_role("button", name="Skip").click()
    alert = page.get_by_role("dialog").get_by_role("alert")
    expect(alert).to_contain_text("'order-1' version 1")


def test_where_there_is_more_than_it_shows_it_says_so(
    page: Page, serve: Serve, sqlite_url: str
) -> None:
    with Hindsight(sqlite_url) as store:
        for number in range(101):
            put(store, f"order-{number:03}", "Made")
        address = f"{serve(sqlite_url)}/operations"
        page.goto(address)
        heads = page.get_by_role("heading", name="Head of the line").locator("xpath=..")
        expect(heads).to_contain_text("the first 100 by aggregate")
        expect(table(page, "Head of the line").get_by_role("row")).to_have_count(101)
        relay = Relay(store.database, Recording())
        while relay.once().claimed:
            pass
    expect(heads).not_to_contain_text("the first 100")


def test_an_empty_store_has_nothing_to_operate(page: Page, serve: Serve, sqlite_url: str) -> None:
    page.goto(f"{serve(sqlite_url)}/operations")
    expect(page.get_by_text("Nothing has been given up")).to_be_visible()
    expect(page.get_by_text("Everything has been published")).to_be_visible()
    with Hindsight(sqlite_url) as store:
        put(store, "order-1", "Made")
        until(lambda: store.outbox.standing().pending)
    expect(row(page, "Head of the line", "order-1")).to_be_visible()


@pytest.fixture
def archive(store_url: str) -> str:
    """Ten old events of `order-1` and `order-2`, of which eight were archived; one is held."""
    with Hindsight(store_url, clock=lambda: datetime(2023, 1, 31, tzinfo=UTC)) as store:
        for _ in range(5):
            put(store, "order-1", "Made")
            put(store, "order-2", "Made")
        list(store.archive.run(keeping(2)))
        store.archive.restore("order-2")
    return store_url


def archived(page: Page) -> Locator:
    return page.get_by_role("region", name="Archive")


def archived_figure(page: Page, name: str) -> Locator:
    return archived(page).locator(".figures > div").filter(has=page.get_by_text(name, exact=True))


def test_an_empty_archive_is_one_line(page: Page, serve: Serve, sqlite_url: str) -> None:
    page.goto(f"{serve(sqlite_url)}/operations")
    quiet = "Nothing is archived. Workers archive what is older than 730 d, or beyond the newest"
    expect(archived(page)).to_contain_text(quiet)
    expect(archived(page).locator(".figures")).to_be_hidden()
    expect(table(page, "Restored")).to_be_hidden()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_it_shows_how_much_is_archived_and_who_is_held(
    page: Page, serve: Serve, archive: str
) -> None:
    page.goto(f"{serve(archive)}/operations")
    expect(archived_figure(page, "Archived")).to_contain_text("42023-01-31 to 2023-01-31")
    expect(archived_figure(page, "Active")).to_contain_text("~6the oldest 3 y ago")
    expect(archived_figure(page, "Last run")).to_contain_text(" ago")
    expect(archived(page)).to_contain_text("older than 730 d, or beyond the newest 10,000,000")
    expect(page.get_by_role("alert")).to_have_count(0)
    row(page, "Restored", "order-2").get_by_role("link").click()
    expect(page).to_have_url(f"{serve(archive)}/timeline?aggregate=order-2")
    page.go_back()
    with Hindsight(archive) as store:
        store.archive.give_back("order-2")
    expect(table(page, "Restored")).to_be_hidden()
    expect(archived_figure(page, "Restored")).to_contain_text("none is held")


def test_it_warns_where_nobody_archives(page: Page, serve: Serve, postgres_url: str) -> None:
    with Hindsight(postgres_url, clock=lambda: datetime(2023, 1, 31, tzinfo=UTC)) as store:
        put(store, "order-1", "Made", "Paid")
        list(store.archive.run(keeping(1)))
        with store.database.transaction() as connection:
            connection.exec_driver_sql("DROP TABLE events_archive_2023_02")
            connection.exec_driver_sql("UPDATE archive SET ran_at = '2026-01-05'")
            connection.exec_driver_sql("UPDATE archive_batches SET archived_at = '2026-01-05'")
    page.goto(f"{serve(postgres_url)}/operations")
    expect(page.get_by_role("alert")).to_have_count(2)
    missing, behind = page.get_by_role("alert").all_inner_texts()
    assert missing.startswith("The archive has no partition for 2023-02: hindsight archive run")
    told = "Nobody has archived since 2026-01-05, though the oldest active event was recorded 3 y"
    assert behind.startswith(told)


def test_an_event_file_says_that_it_has_no_outbox(page: Page, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(b"")
    page.goto(f"{serve(path)}/operations")
    expect(page.get_by_text("These events are in no store")).to_be_visible()


@pytest.mark.parametrize(("theme", "width"), [*LOOKS, *OTHER_LOOKS])
def test_it_fits_and_everybody_can_use_it(
    new_context: NewContext, serve: Serve, stuck: str, theme: str, width: int
) -> None:
    with Hindsight(stuck, clock=lambda: datetime(2023, 1, 31, tzinfo=UTC)) as store:
        put(store, "order-9", "Made", "Paid")
        list(store.archive.run(keeping(1)))
        store.archive.restore("order-1")
    address = f"{serve(stuck, operate=True)}/operations"
    page = new_context(color_scheme=theme, width=width).new_page()
    page.goto(address)
    expect(row(page, "Dead letters", "order-1")).to_be_visible()
    main = page.get_by_role("main", name="Operations")
    expect(row(page, "Restored", "order-1")).to_be_visible()
    assert main.evaluate(OVERFLOWING) == []
    row(page, "Dead letters", "order-1").get_by_role("button", name="Skip").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    results = Axe().run(page, options=WCAG)
    assert results.violations_count == 0, results.generate_report()

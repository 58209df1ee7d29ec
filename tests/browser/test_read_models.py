"""The Read models page: how projections stand, their rows, and a row beside the replay."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import BrowserContext, Locator, Page, expect
from sqlalchemy import text, update

from store import Hindsight, NewEvent, any_
from store.errors import ProjectionFailed
from store.tables import moment_text
from store.work import project_due
from tests.browser.conftest import LOOKS, OTHER_LOOKS, Serve
from tests.browser.test_app_shell import OVERFLOWING, WCAG
from tests.read_models import several
from tests.totals import put
from users import domain
from users.commands import ChangeEmail, CreateUser, RecordFailedLogin, RecordLogin
from users.read_model import user_read_model

pytestmark = pytest.mark.browser

NewContext = Callable[..., BrowserContext]
AT = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
USERS = "users:domain"


def created(name: str, full_name: str = "") -> CreateUser:
    return CreateUser(
        username=name,
        email=f"{name}@a.example",
        full_name=full_name or name.title(),
        password_hash="x",  # noqa: S106
    )


def take(store: Hindsight) -> None:
    """Have the table take what it can."""
    with suppress(ProjectionFailed):
        project_due(store.projections.projector("users"))


@pytest.fixture
def store_url(sqlite_url: str) -> str:
    """What is drawn is the same on both databases: what is answered has its tests on both."""
    return sqlite_url


@pytest.fixture
def people(store_url: str) -> Iterator[Hindsight]:
    """Four users in the table, one of them hostile, one who failed to log in twice."""
    with Hindsight(store_url, domain=domain) as store:
        store.projections.build_missing()
        for name in ("ada", "bob", "eve"):
            store.execute(name, created(name))
        store.execute("mallory", created("mallory", HOSTILE))
        store.execute("ada", RecordLogin(at=AT, ip_address="10.0.0.1"))
        for _ in range(2):
            store.execute("bob", RecordFailedLogin(at=AT, ip_address="10.0.0.2"))
        take(store)
        yield store


@pytest.fixture
def address(people: Hindsight, store_url: str, serve: Serve) -> str:
    del people
    return f"{serve(store_url, domain=USERS)}/read-models"


def figure(page: Page, name: str) -> Locator:
    return page.locator(".figures > div").filter(has=page.locator("dt", has_text=name))


def rows(page: Page) -> Locator:
    return page.get_by_role("table", name="Rows", exact=True).locator("tbody tr")


def names(page: Page, *expected: str) -> None:
    expect(rows(page).locator("td:first-child")).to_have_text(list(expected))


def row(page: Page, key: str) -> Locator:
    return rows(page).filter(has=page.get_by_role("link", name=key, exact=True))


def beside(page: Page) -> Locator:
    return page.get_by_role("region", name="Chosen row")


def field(page: Page, name: str) -> Locator:
    table = page.get_by_role("table", name="Row and replay")
    return table.locator("tbody tr").filter(has=page.get_by_role("rowheader", name=name))


def narrow(page: Page, column: str, operator: str, value: str | None = None) -> None:
    form = page.get_by_role("form", name="Filter rows")
    form.get_by_label("Column").select_option(column)
    form.get_by_label("Comparison").select_option(label=operator)
    if value is not None:
        form.get_by_label("Value").fill(value)
    form.get_by_role("button", name="Filter").click()


def test_it_shows_how_it_stands_and_its_rows(page: Page, address: str) -> None:
    page.goto(address)
    names(page, "ada", "bob", "eve", "mallory")
    expect(figure(page, "State")).to_contain_text("up to date")
    expect(figure(page, "Version")).to_contain_text("as this code has")
    expect(figure(page, "Position")).to_contain_text("7")
    expect(figure(page, "Lag")).to_contain_text("0 events")
    expect(figure(page, "Watermark")).to_contain_text("not held")
    expect(figure(page, "Last check")).to_contain_text("never")
    expect(page.get_by_text("4 rows")).to_be_visible()
    expect(row(page, "ada")).to_contain_text("2026-11-28 09:30:00")
    expect(row(page, "bob")).to_contain_text("NULL")
    expect(row(page, "mallory")).to_contain_text(HOSTILE)
    expect(page).to_have_title(re.compile("Read models"))
    assert page.get_by_role("link", name="Read models").count() == 1


def test_it_follows_by_itself(page: Page, address: str, people: Hindsight) -> None:
    page.goto(address)
    names(page, "ada", "bob", "eve", "mallory")
    people.execute("zoe", created("zoe"))
    expect(figure(page, "State")).to_contain_text("behind")
    expect(figure(page, "Lag")).to_contain_text("1 event")
    take(people)
    expect(figure(page, "State")).to_contain_text("up to date")
    names(page, "ada", "bob", "eve", "mallory", "zoe")


def test_filters_are_added_told_in_the_address_and_taken_back(page: Page, address: str) -> None:
    page.goto(address)
    narrow(page, "failed_login_attempts", "≥", "1")
    names(page, "bob")
    expect(page).to_have_url(f"{address}?where=failed_login_attempts%3E%3D1")
    page.get_by_role("button", name="Remove the filter failed_login_attempts ≥ 1").click()
    names(page, "ada", "bob", "eve", "mallory")
    narrow(page, "email", "begins with", "b")
    narrow(page, "account_locked", "no")
    names(page, "bob")
    page.reload()
    names(page, "bob")
    page.get_by_role("button", name="Show all rows").click()
    narrow(page, "last_login_at", "is NULL")
    names(page, "bob", "eve", "mallory")
    narrow(page, "created_at", "from", "2100-01-01T00:00")
    expect(page.get_by_text("No row is like that.")).to_be_visible()
    page.go_back()
    names(page, "bob", "eve", "mallory")
    page.go_back()
    names(page, "ada", "bob", "eve", "mallory")


def test_a_header_sorts_up_down_and_not_at_all(page: Page, address: str) -> None:
    page.goto(address)
    header = page.get_by_role("columnheader", name="username")
    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    header.get_by_role("button").press("Enter")
    names(page, "mallory", "eve", "bob", "ada")
    expect(header).to_have_attribute("aria-sort", "descending")
    expect(header.get_by_role("button")).to_be_focused()
    expect(page).to_have_url(f"{address}?sort=username&order=desc")
    header.get_by_role("button").click()
    names(page, "ada", "bob", "eve", "mallory")
    expect(header).to_have_attribute("aria-sort", "none")


def test_pages_go_on_and_back(page: Page, serve: Serve, sqlite_url: str) -> None:
    with Hindsight(sqlite_url, domain=domain) as store:
        store.projections.build_missing()
        values: dict[str, Any] = {
            "total_logins": 0,
            "failed_login_attempts": 0,
            "account_locked": False,
        }
        values |= {"version": 1, "created_at": AT, "updated_at": AT}
        many = [values | {"user_id": f"u{number:03}"} for number in range(250)]
        with store.database.transaction() as connection:
            connection.execute(user_read_model.insert(), many)
    page.goto(f"{serve(sqlite_url, domain=USERS)}/read-models")
    expect(page.get_by_text("The first 100 rows")).to_be_visible()
    back, on = (page.get_by_role("button", name=name, exact=True) for name in ("Back", "Next"))
    expect(back).to_be_disabled()
    first = rows(page).locator("td:first-child").first
    on.click()
    expect(first).to_have_text("u100")
    on.click()
    expect(first).to_have_text("u200")
    expect(rows(page)).to_have_count(50)
    expect(on).to_be_disabled()
    page.reload()
    expect(first).to_have_text("u200")
    back.click()
    expect(first).to_have_text("u100")
    expect(rows(page)).to_have_count(100)
    page.go_back()
    expect(first).to_have_text("u200")
    page.get_by_role("button", name="First").click()
    expect(first).to_have_text("u000")


def test_a_row_stands_beside_its_replay(page: Page, address: str, people: Hindsight) -> None:
    page.goto(address)
    row(page, "ada").locator("td").nth(3).click()
    expect(page).to_have_url(f"{address}?row=ada")
    expect(row(page, "ada")).to_have_attribute("aria-current", "true")
    expect(beside(page)).to_contain_text("The row says what the replay says")
    expect(field(page, "email").locator("td")).to_have_text(["ada@a.example"] * 2)
    expect(field(page, "user_id").locator("td")).to_have_text(["ada", "–"])
    expect(field(page, "phone_verified").locator("td")).to_have_text(["–", "false"])
    people.execute("ada", ChangeEmail(email="ada@b.example"))
    page.reload()
    expect(beside(page)).to_contain_text("has not taken 1 later event yet")
    expect(beside(page)).to_contain_text("The row says what the replay says")
    take(people)
    expect(field(page, "email").locator("td")).to_have_text(["ada@b.example"] * 2)
    beside(page).get_by_role("link", name="Timeline").click()
    expect(page).to_have_url(re.compile(r"/timeline\?aggregate=ada&version=3$"))
    page.go_back()
    beside(page).get_by_role("link", name="Replay").click()
    expect(page).to_have_url(re.compile(r"/replay\?aggregate=ada&version=3$"))


def test_a_row_is_chosen_and_left_by_keyboard(page: Page, address: str) -> None:
    page.goto(address)
    row(page, "ada").get_by_role("link").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(beside(page).get_by_role("heading", name="bob")).to_be_visible()
    page.keyboard.press("Escape")
    expect(beside(page)).to_be_hidden()
    expect(row(page, "bob").get_by_role("link")).to_be_focused()
    page.go_back()
    expect(beside(page)).to_be_visible()


def test_a_row_that_is_wrong_is_marked(page: Page, address: str, people: Hindsight) -> None:
    wrong = {"failed_login_attempts": 3, "full_name": "x" * 2500}
    with people.database.transaction() as connection:
        chosen = user_read_model.c.user_id == "bob"
        connection.execute(update(user_read_model).where(chosen).values(wrong))
    page.goto(f"{address}?row=bob")
    alert = beside(page).get_by_role("alert")
    expect(alert).to_contain_text("2 values differ from the replay")
    expect(alert).to_contain_text("failed_login_attempts: the row says 3, the replay 2")
    expect(field(page, "failed_login_attempts")).to_have_class("differs")
    expect(field(page, "username")).not_to_have_class("differs")
    field(page, "full_name").get_by_role("button", name="all 2,500 characters").click()
    expect(field(page, "full_name").locator("pre")).to_have_text("x" * 2500)


def test_it_tells_what_it_waits_at_and_why(page: Page, address: str, people: Hindsight) -> None:
    event = NewEvent("LoginFailed", {"at": "2026-11-28T09:30:00Z", "client": 7})
    people.append("user", "eve", [event], expected=any_())
    people.execute("bob", ChangeEmail(email="bob@b.example"))
    take(people)
    page.goto(address)
    expect(figure(page, "State")).to_contain_text("stopped")
    expect(figure(page, "Lag")).to_contain_text("2 events")
    notice = page.get_by_role("alert").filter(has_text="It waits at LoginFailed of eve version 2")
    expect(notice).to_be_visible()
    notice.locator("summary").click()
    expect(notice.locator("pre")).to_contain_text("Traceback")
    page.wait_for_timeout(2_500)  # a poll leaves it as it is
    expect(notice.locator("pre")).to_be_visible()
    notice.get_by_role("link").click()
    expect(page).to_have_url(re.compile(r"/timeline\?aggregate=eve&version=2$"))


def test_an_open_transaction_is_told(page: Page, serve: Serve, postgres_url: str) -> None:
    with Hindsight(postgres_url, domain=domain) as store:
        store.projections.build_missing()
        with store.database.transaction() as connection:
            late = [NewEvent("ProfileUpdated", {"full_name": "Late"})]
            store.append("user", "late", late, expected=any_(), connection=connection)
            store.execute("ada", created("ada"))
            take(store)
            page.goto(f"{serve(postgres_url, domain=USERS)}/read-models")
            expect(figure(page, "State")).to_contain_text("behind")
            expect(figure(page, "Lag")).to_contain_text("1 event")
            expect(figure(page, "Watermark")).to_contain_text("held")
            expect(figure(page, "Watermark")).to_contain_text("process")
        take(store)
        expect(figure(page, "State")).to_contain_text("up to date")
        expect(figure(page, "Watermark")).to_contain_text("not held")


def test_who_is_kept_by_nobody_is_told_to_run_a_worker(
    page: Page, serve: Serve, sqlite_url: str
) -> None:
    past = datetime.now(UTC) - timedelta(minutes=5)
    with Hindsight(sqlite_url, domain=domain, clock=lambda: past) as store:
        store.projections.build_missing()
        store.execute("ada", created("ada"))
    address = f"{serve(sqlite_url, domain=USERS)}/read-models"
    page.goto(address)
    expect(figure(page, "Lag")).to_contain_text("5 min")
    expect(page.get_by_role("alert")).to_have_count(0)  # the table has moved just now
    with Hindsight(sqlite_url) as store, store.database.transaction() as connection:
        connection.execute(
            text("UPDATE checkpoints SET moved_at = :past"), {"past": moment_text(past)}
        )
    expect(page.get_by_role("alert")).to_contain_text("hindsight work")


WRONG = {
    "projection=nothing": "no projection 'nothing'; there are users",
    "where=colour=red": "no column 'colour'; there are user_id",
    "where=version%3Dmany": "version: 'many' is no whole number",
    "where=email~x": "write COLUMN=VALUE",
    "sort=colour": "no column 'colour'",
    "after=garbage!": "after: not where a page ended",
    "row=%00": "is no text",
}


def test_what_cannot_be_asked_is_one_line(page: Page, address: str) -> None:
    for query, told in WRONG.items():
        page.goto(f"{address}?{query}")
        alert = page.get_by_role("main").get_by_role("alert")
        expect(alert).to_contain_text(told)
        expect(alert).to_have_count(1)
        expect(page.get_by_text("Traceback")).to_have_count(0)


def test_one_of_several_is_picked_and_may_have_keys_of_its_own(
    page: Page, serve: Serve, sqlite_url: str
) -> None:
    with Hindsight(sqlite_url, domain=several) as store:
        store.projections.build_missing()
        put(store, 4, 5, 5)
        for name in store.projections.declared:
            project_due(store.projections.projector(name))
    page.goto(f"{serve(sqlite_url, domain='tests.read_models:several')}/read-models")
    names(page, "a")
    page.get_by_label("Projection").select_option("numbers")
    names(page, "4", "5")
    expect(page).to_have_url(re.compile(r"\?projection=numbers$"))
    row(page, "5").click()
    expect(beside(page)).to_contain_text("No single aggregate is behind this row")
    expect(field(page, "times").locator("td")).to_have_text(["2"])
    narrow(page, "times", "=", "2")
    names(page, "5")
    page.reload()
    names(page, "5")
    expect(page.get_by_label("Projection")).to_have_value("numbers")
    expect(beside(page)).to_contain_text("No single aggregate is behind this row")


def test_code_of_another_version_is_told_with_what_to_run(
    page: Page, address: str, people: Hindsight
) -> None:
    with people.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE checkpoints SET version = 0")
    page.goto(address)
    expect(figure(page, "State")).to_contain_text("outdated")
    expect(figure(page, "Version")).to_contain_text("this code has 1")
    expect(page.get_by_role("alert")).to_contain_text("hindsight projections rebuild users")
    names(page, "ada", "bob", "eve", "mallory")


def test_what_is_under_way_and_what_was_left_out_is_told(
    page: Page, address: str, people: Hindsight
) -> None:
    with people.database.transaction() as connection:
        connection.exec_driver_sql(
            "INSERT INTO checkpoints (projection, target, version, fingerprint, generation,"
            " position, goal, moved_at, moved_by) SELECT projection, 'rebuild', version,"
            " fingerprint, 9, 2, 8, moved_at, moved_by FROM checkpoints"
        )
        connection.exec_driver_sql(
            "UPDATE checkpoints SET drift = 2, checked_at = moved_at WHERE target = 'live'"
        )
        connection.exec_driver_sql(
            "INSERT INTO projection_failures (projection, position, aggregate_id, version,"
            " event_type, handler, error, failed_at, skipped) SELECT projection, 6, 'bob', 2,"
            " 'LoginFailed', 'login_failed', 'Traceback: ValueError: no', moved_at, TRUE"
            " FROM checkpoints WHERE target = 'live'"
        )
    page.goto(f"{address}?row=bob")
    expect(page.get_by_text("Being rebuilt: position 2 of 8, 25%")).to_be_visible()
    expect(page.get_by_role("progressbar", name="Being rebuilt")).to_have_attribute("value", "0.25")
    expect(figure(page, "Last check")).to_contain_text("2 rows differed")
    expect(page.get_by_role("alert")).to_contain_text("hindsight projections rebuild users")
    page.get_by_text("1 event was left out").click()
    left_out = page.locator(".left-out")
    expect(left_out).to_contain_text("LoginFailed of bob version 2")
    expect(left_out).to_contain_text("ValueError: no")
    expect(beside(page)).to_contain_text("The projection left out version 2")


def test_what_takes_too_long_is_one_line(page: Page, address: str) -> None:
    refused = (
        '{"error": "canceling statement due to statement timeout", "kind": "StatementTimeout"}'
    )
    page.route(
        "**/documents/rows*",
        lambda route: route.fulfill(status=503, body=refused, content_type="application/json"),
    )
    page.goto(address)
    expect(page.get_by_role("alert")).to_contain_text("ask by a column that has an index")


def test_an_empty_store_says_that_nothing_is_there(
    page: Page, serve: Serve, sqlite_url: str
) -> None:
    page.goto(f"{serve(sqlite_url, domain=USERS)}/read-models")
    expect(figure(page, "State")).to_contain_text("not built")
    expect(page.get_by_text("It has no table yet")).to_be_visible()
    with Hindsight(sqlite_url, domain=domain) as store:
        store.projections.build_missing()
        expect(figure(page, "State")).to_contain_text("up to date")
        expect(page.get_by_text("No row yet.")).to_be_visible()
        store.execute("ada", created("ada"))
        take(store)
    names(page, "ada")


def test_without_projections_it_says_what_to_do(
    page: Page, serve: Serve, sqlite_url: str, tmp_path: Path
) -> None:
    page.goto(f"{serve(sqlite_url)}/read-models")
    expect(page.get_by_text("No domain here declares a projection")).to_be_visible()
    expect(page.get_by_role("link", name="Monitoring")).to_have_count(1)
    expect(page.get_by_role("link", name="Read models")).to_have_count(0)
    path = tmp_path / "events.ndjson"
    path.write_bytes(b"")
    page.goto(f"{serve(path)}/read-models")
    expect(page.get_by_text("These events are in no store")).to_be_visible()


def test_who_operates_keeps_it(page: Page, serve: Serve, sqlite_url: str) -> None:
    page.goto(f"{serve(sqlite_url, domain=USERS, operate=True)}/read-models")
    with Hindsight(sqlite_url, domain=domain) as store:
        store.execute("ada", created("ada"))
    names(page, "ada")


@pytest.mark.parametrize(("theme", "width"), [*LOOKS, *OTHER_LOOKS])
def test_it_fits_and_everybody_can_use_it(
    new_context: NewContext, address: str, people: Hindsight, theme: str, width: int
) -> None:
    with people.database.transaction() as connection:
        connection.execute(update(user_read_model).values(failed_login_attempts=4))
    event = NewEvent("LoginFailed", {"at": "2026-11-28T09:30:00Z", "client": 7})
    people.append("user", "eve", [event], expected=any_())
    take(people)
    asked: dict[str, Any] = {"row": "bob", "where": "email is not null"}
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    page = new_context(color_scheme=theme, width=width).new_page()
    page.goto(f"{address}?{query}")
    expect(beside(page).get_by_role("alert")).to_be_visible()
    expect(row(page, "bob")).to_be_visible()
    main = page.get_by_role("main", name="Read models")
    assert main.evaluate(OVERFLOWING) == []
    results = Axe().run(page, options=WCAG)
    assert results.violations_count == 0, results.generate_report()

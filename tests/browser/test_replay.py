"""A history stepped through in a browser: every gesture, the keyboard, the address."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect

from store import Context, Hindsight, NewEvent, any_, migrate
from tests.browser.conftest import Serve
from tests.browser.elsewhere import append_by_command
from tests.browser.replaying import at, chosen_field, event, field, open_replay, said, slider
from users import domain
from users.commands import ChangeEmail, CreateUser, RecordLogin

pytestmark = pytest.mark.browser

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
JANUARY = datetime(2026, 1, 31, 12, tzinfo=UTC)
LOGINS = 6


DOMAIN = "users:domain"


def write_ada(url: str) -> None:
    """Ada: created, six logins with a change of email after the third, and what nobody can read."""
    clock = [JANUARY]
    login = RecordLogin(at=JANUARY, ip_address="192.0.2.7")
    commands: list[CreateUser | RecordLogin | ChangeEmail] = [
        CreateUser(username="ada", email="a@b.example", full_name="Ada", password_hash="scrypt:1"),  # noqa: S106
        *[login] * 3,
        ChangeEmail(email="ada@b.example"),
        *[login] * 3,
    ]
    with Hindsight(url, domain=domain, clock=lambda: clock[-1]) as store:
        for number, command in enumerate(commands):
            context = Context(actor=f"actor-{number}", correlation_id="c-1")
            store.execute("ada", command, context=context)
            clock.append(clock[-1] + timedelta(hours=1))
        store.append("user", "ada", [NewEvent("EmailChanged", {})], expected=any_())


@pytest.fixture(scope="module")
def address(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Her replay: 9 versions, of which the last cannot be applied. Nobody may append to it."""
    url = f"sqlite:///{tmp_path_factory.mktemp('replay') / 'store.db'}"
    migrate(url)
    write_ada(url)
    return serve(url, domain=DOMAIN) + "/replay?aggregate=ada"


@pytest.fixture(scope="module")
def counted(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The replay of things no domain knows: `digits` and `orders`."""
    url = f"sqlite:///{tmp_path_factory.mktemp('counted') / 'store.db'}"
    migrate(url)
    digits = {"big": 9_007_199_254_740_993, "one": 1.0, "small": 1e-7, "__proto__": {"x": 1}}
    deep = {"a": {"b": {"c": {"d": {"e": "needle"}}}}}
    histories: dict[str, list[dict[str, Any]]] = {
        "digits": [digits, {"__proto__": {"x": 2}}],
        "orders": [
            {"items": [{"id": each} for each in order], "deep": deep}
            for order in ([1, 2], [3, 2, 1], [2, 1])
        ],
    }
    with Hindsight(url) as store:
        for name, history in histories.items():
            events = [NewEvent("Counted", data) for data in history]
            store.append("thing", name, events, expected=any_())
    return serve(url) + "/replay"


def alert(page: Page, text: str) -> Locator:
    return page.get_by_role("alert").filter(has_text=text)


def test_arrows_home_and_end_step_and_the_address_follows(page: Page, address: str) -> None:
    open_replay(page, address)
    at(page, 9)
    page.keyboard.press("ArrowLeft")
    at(page, 8)
    expect(page).to_have_url(f"{address}&version=8")
    expect(field(page, "/total_logins")).to_contain_text("5 6")
    page.keyboard.press("Home")
    at(page, 0)
    expect(event(page)).to_contain_text("Before the first event")
    page.keyboard.press("ArrowRight")
    at(page, 1)
    expect(event(page)).to_contain_text("UserCreated")
    page.keyboard.press("End")
    at(page, 9)
    expect(page).to_have_url(address)


def test_a_step_marks_what_it_changed(page: Page, address: str) -> None:
    open_replay(page, f"{address}&version=5")
    email = field(page, "/email")
    expect(email).to_contain_text('"a@b.example" "ada@b.example"')
    expect(email).to_have_class("state-row replace")
    expect(field(page, "/total_logins")).to_have_class("state-row")
    changed = event(page).get_by_role("list", name="What it changed")
    expect(changed).to_contain_text('/email "a@b.example" → "ada@b.example"')
    expect(event(page)).to_contain_text("by actor-4")
    expect(event(page)).to_contain_text("1 h after the one before")


def test_the_slider_is_dragged(page: Page, address: str) -> None:
    open_replay(page, f"{address}&version=1")
    box = slider(page).bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2

    def place(version: int) -> float:
        assert box is not None
        return box["x"] + 8 + (box["width"] - 16) * version / 9

    page.mouse.move(place(1), middle)
    page.mouse.down()
    page.mouse.move(place(6), middle, steps=10)
    at(page, 6)
    page.mouse.move(place(4), middle, steps=5)
    page.mouse.up()
    at(page, 4)
    expect(page).to_have_url(f"{address}&version=4")


def test_a_drag_goes_on_when_streamlit_has_a_place_for_the_view(page: Page, address: str) -> None:
    open_replay(page, f"{address}&version=1")
    streamlit = page.get_by_test_id("stMain").get_by_role("main", name="Replay")
    expect(streamlit).to_be_visible()
    held: list[Route] = []
    page.route("**/_stcore/**", lambda route: held.append(route))  # noqa: PLW0108 - no builtin
    page.reload()
    expect(page.locator(".state-row").first).to_be_visible()
    box = slider(page).bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    left, step = box["x"] + 8, (box["width"] - 16) / 9
    page.mouse.move(left + step, middle)
    page.mouse.down()
    page.mouse.move(left + 3 * step, middle, steps=3)
    at(page, 3)
    assert streamlit.count() == 0, "Streamlit was quicker"
    for route in held:
        route.continue_()
    page.unroute("**/_stcore/**")
    expect(page.get_by_test_id("stBidiComponentIsolated")).to_be_attached()
    page.wait_for_timeout(500)  # and has told the view of it
    page.mouse.move(left + 6 * step, middle, steps=3)
    at(page, 6)
    page.mouse.up()
    expect(streamlit).to_be_visible()
    at(page, 6)
    expect(page).to_have_url(f"{address}&version=6")


def test_space_plays_to_the_end_and_pauses(page: Page, address: str) -> None:
    open_replay(page, f"{address}&version=2")
    page.get_by_role("button", name="4×").click()
    page.locator(".title").click()
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    at(page, 9)
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    page.get_by_role("button", name="1×").click()
    page.get_by_role("button", name="Play").click()
    expect(slider(page)).not_to_have_value("9")
    page.locator(".title").click()
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    stopped = slider(page).input_value()
    page.wait_for_timeout(800)
    expect(slider(page)).to_have_value(stopped)


def test_as_it_happened_idle_time_is_cut(page: Page, address: str) -> None:
    open_replay(page, f"{address}&version=6")
    page.get_by_role("button", name="Real").click()
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(1_000)
    at(page, 6)  # an hour, cut to two seconds
    at(page, 7)


def test_a_version_and_a_time_are_jumped_to(page: Page, address: str) -> None:
    open_replay(page, address)
    version = page.get_by_role("textbox", name="Go to version")
    version.fill("3")
    version.press("Enter")
    at(page, 3)
    page.keyboard.press("ArrowRight")
    at(page, 4)
    moment = page.get_by_role("textbox", name="Go to the version at a time")
    moment.fill("2026-01-31 16:30Z")
    moment.press("Enter")
    at(page, 5)
    moment.fill("2020-01-01")
    moment.press("Enter")
    expect(said(page)).to_contain_text("ada")
    moment.fill("tea time")
    moment.press("Enter")
    expect(said(page)).to_contain_text("Write a time such as 2026-01-31 12:00Z")
    version.fill("x")
    version.press("Enter")
    expect(said(page)).to_contain_text("'x' is no version")
    at(page, 5)
    version.fill("77")
    version.press("Enter")
    at(page, 9)
    expect(alert(page, "There is no version 77; ada is at 9.")).to_be_visible()


def test_a_click_on_a_field_tells_who_set_it(page: Page, address: str) -> None:
    open_replay(page, f"{address}&version=8")
    field(page, "/email").click()
    expect(chosen_field(page)).to_contain_text("Set by 5 EmailChanged")
    expect(chosen_field(page)).to_contain_text("actor-4")
    expect(chosen_field(page)).to_contain_text("correlation id c-1")
    expect(page).to_have_url(f"{address}&version=8&field=%2Femail")
    link = chosen_field(page).get_by_role("link", name="The event on the Timeline")
    expect(link).to_have_attribute("href", address.replace("/replay", "/timeline") + "&version=5")
    history = chosen_field(page).get_by_role("table", name="History of the field")
    expect(history.get_by_role("row")).to_have_count(2)
    history.get_by_role("button", name="1", exact=True).click()
    at(page, 1)
    expect(chosen_field(page)).to_contain_text("Set by 1 UserCreated")
    page.keyboard.press("Escape")
    expect(chosen_field(page)).to_be_hidden()


def test_a_pinned_field_is_charted_and_its_changes_are_stepped_through(
    page: Page, address: str
) -> None:
    open_replay(page, f"{address}&version=1&field=/email")
    chosen_field(page).get_by_role("button", name="Pin").click()
    expect(page.get_by_role("img", name="/email: 2 changes")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator(".title").click()
    page.keyboard.press("n")
    at(page, 5)
    page.keyboard.press("n")
    expect(said(page)).to_contain_text("No change of a pinned field is known after this version")
    page.keyboard.press("p")
    at(page, 1)
    page.get_by_role("button", name="Unpin").click()
    expect(page.get_by_role("img", name="/email: 2 changes")).to_have_count(0)
    expect(page).to_have_url(f"{address}&version=1")


def test_a_pinned_number_is_a_line(page: Page, address: str) -> None:
    open_replay(page, f"{address}&pin=/total_logins")
    chart = page.get_by_role("img", name="/total_logins: 6 changes")
    expect(chart.locator("path.pin-line")).to_have_count(1)
    expect(page.locator(".pin-head")).to_contain_text("6")


def test_the_next_event_that_cannot_be_applied_is_found(page: Page, address: str) -> None:
    open_replay(page, f"{address}&version=2")
    page.keyboard.press("e")
    at(page, 9)
    expect(event(page).get_by_role("alert")).to_contain_text("'ada' version 9 (EmailChanged,")
    expect(field(page, "/email")).to_contain_text("ada@b.example")


def test_a_search_marks_what_is_here_and_tells_where_it_was(page: Page, address: str) -> None:
    open_replay(page, f"{address}&version=8")
    page.get_by_role("searchbox", name="Find a key or value in the state").fill("a@b.")
    places = page.get_by_role("table", name="Where it appears")
    expect(places.get_by_role("row")).to_have_count(2)
    expect(places.get_by_role("row").last).to_have_text("/emailada@b.example19")
    expect(field(page, "/email")).to_have_class("state-row found")
    expect(page).to_have_url(f"{address}&version=8&find=a%40b.")
    places.get_by_role("button", name="1", exact=True).click()
    at(page, 1)
    expect(field(page, "/email")).to_contain_text("a@b.example")


def test_a_question_is_answered_at_every_version(page: Page, address: str) -> None:
    open_replay(page, f"{address}&version=8")
    question = page.get_by_role("textbox", name="Where does this hold?")
    question.fill("total_logins == 3")
    question.press("Enter")
    answers = page.get_by_role("table", name="Answers")
    expect(answers.get_by_role("row")).to_have_text(
        [
            "FromToAnswerSinceBy",
            "13does not holdUserCreatedactor-0",
            "45holdsLoginInfoUpdatedactor-3",
            "69does not holdLoginInfoUpdatedactor-5",
        ]
    )
    expect(page.get_by_role("region", name="Bisect")).to_contain_text(
        "It holds at 2 versions, in 1 stretch"
    )
    lane = page.get_by_role("img", name="total_logins == 3: 3 stretches")
    expect(lane.locator("rect.bar-true")).to_have_count(1)
    expect(page).to_have_url(f"{address}&version=8&where=total_logins+%3D%3D+3")
    answers.get_by_role("button", name="4", exact=True).click()
    at(page, 4)
    question.fill("total_logins ==")
    question.press("Enter")
    expect(alert(page, "expression 'total_logins =='")).to_be_visible()
    expect(lane).to_have_count(0)


def test_questions_are_suggested(page: Page, address: str) -> None:
    open_replay(page, f"{address}&version=8")
    page.get_by_role("button", name='email == "ada@b.example"').click()
    expect(page.get_by_role("region", name="Bisect")).to_contain_text(
        "It holds at 5 versions, in 1 stretch"
    )


def test_the_state_is_walked_by_keys(page: Page, address: str) -> None:
    open_replay(page, f"{address}&version=5")
    tree = page.get_by_role("tree", name="State")
    tree.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".state-row.active")).to_contain_text("email")
    active = page.locator(".state-row.active").get_attribute("id")
    expect(tree).to_have_attribute("aria-activedescendant", str(active))
    page.keyboard.press("Enter")
    expect(chosen_field(page)).to_contain_text("Set by 5 EmailChanged")
    page.keyboard.press("ArrowLeft")
    at(page, 4)
    expect(chosen_field(page)).to_contain_text("Set by 1 UserCreated")


def test_back_a_reload_and_a_pasted_link_show_the_same(
    page: Page, address: str, new_context: Callable[..., BrowserContext]
) -> None:
    open_replay(page, f"{address}&version=5")
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(f"{address}&version=6")
    field(page, "/email").click()
    expect(page).to_have_url(f"{address}&version=6&field=%2Femail")
    page.reload()
    at(page, 6)
    expect(chosen_field(page)).to_contain_text("Set by 5 EmailChanged")
    other = new_context(color_scheme="dark", width=800).new_page()
    open_replay(other, page.url)
    at(other, 6)
    expect(chosen_field(other)).to_contain_text("Set by 5 EmailChanged")
    page.go_back()
    expect(chosen_field(page)).to_be_hidden()
    page.go_back()
    at(page, 5)


def test_a_page_that_is_left_while_it_plays_leaves_the_other_s_address_alone(
    page: Page, address: str
) -> None:
    open_replay(page, f"{address}&version=1")
    page.get_by_role("button", name="Play").click()
    expect(slider(page)).not_to_have_value("1")
    page.get_by_role("link", name="Timeline").first.click()
    expect(page.get_by_role("main", name="Timeline")).not_to_be_empty()
    there = page.url
    page.wait_for_timeout(1_500)
    assert page.url == there
    assert "/timeline" in there


def test_back_within_a_window_tells_of_the_field_of_then(page: Page, address: str) -> None:
    open_replay(page, f"{address}&version=8&field=/email")
    expect(chosen_field(page)).to_contain_text("Set by 5")
    page.keyboard.press("Home")
    expect(page).to_have_url(f"{address}&version=0&field=%2Femail")
    expect(chosen_field(page)).to_contain_text("As every state begins")
    page.go_back()
    at(page, 8)
    expect(chosen_field(page)).to_contain_text("Set by 5")


def test_what_is_appended_meanwhile_is_there_at_the_end(
    page: Page, serve: Serve, sqlite_url: str
) -> None:
    write_ada(sqlite_url)
    open_replay(page, serve(sqlite_url, domain=DOMAIN) + "/replay?aggregate=ada")
    at(page, 9)
    append_by_command(
        sqlite_url, "user", "ada", "EmailChanged", "--data", '{"email": "new@b.example"}'
    )
    expect(page.locator(".position")).to_contain_text("of 10", timeout=15_000)
    at(page, 10)


def test_a_stored_form_is_shown_beside_what_the_code_reads(
    page: Page, serve: Serve, sqlite_url: str
) -> None:
    old = {"username": "ada", "email": "a@b.example", "full_name": "Ada", "password_hash": "x"}
    with Hindsight(sqlite_url) as store:
        store.append("user", "old", [NewEvent("UserCreated", old)], expected=any_())
    address = serve(sqlite_url, domain=DOMAIN)
    open_replay(page, f"{address}/replay?aggregate=old&version=1")
    expect(event(page)).to_contain_text("Data, as it is read today: UserCreated 2")
    event(page).get_by_role("button", name="As it was stored, in schema version 1").click()
    expect(event(page)).to_contain_text("Stored as UserCreated 1")
    expect(event(page)).to_contain_text("+ /phone_verified false")


def test_numbers_keep_all_their_digits(page: Page, counted: str) -> None:
    open_replay(page, f"{counted}?aggregate=digits")
    expect(field(page, "/big")).to_contain_text("9007199254740993")
    expect(field(page, "/one")).to_contain_text("1.0")
    expect(field(page, "/__proto__/x")).to_contain_text("1 2")
    expect(page.locator(".crumbs")).to_contain_text("no domain code")


def test_a_moved_item_is_marked_where_it_stands_and_folded_ones_are_counted(
    page: Page, counted: str
) -> None:
    open_replay(page, f"{counted}?aggregate=orders&version=2&find=needle")
    expect(field(page, "/items/0, added")).to_have_count(1)
    moved = page.locator('.state-row[title$="moved by this event"]:visible')
    expect(moved).to_have_count(1)
    expect(moved).to_have_attribute("title", re.compile("^/items/2,"))
    expect(page.locator(".state-search-head")).to_contain_text("1 here")
    page.keyboard.press("ArrowRight")
    gone = page.locator(".state-row.gone:visible")
    expect(gone).to_have_count(1)
    gone.click()
    expect(chosen_field(page)).to_be_hidden()


def test_a_long_history_is_stepped_through_in_windows(
    page: Page, serve: Serve, data_sets: Path
) -> None:
    log = data_sets / "scoop_main" / "events.ndjson.gz"
    open_replay(page, f"{serve(log)}/replay?aggregate=main/aws&version=998")
    for version in range(999, 1_004):
        page.keyboard.press("ArrowRight")
        at(page, version)
    for version in (1_002, 1_001, 1_000, 999):
        page.keyboard.press("ArrowLeft")
        at(page, version)
        expect(event(page)).to_contain_text("PackageVersionReleased")
    page.goto(f"{serve(log)}/replay?aggregate=main/aws&version=1001")
    at(page, 1_001)
    field = page.get_by_role("textbox", name="Go to version")
    field.fill("1000")
    field.press("Enter")
    at(page, 1_000)
    expect(event(page)).to_contain_text("PackageVersionReleased")
    page.keyboard.press("Home")
    at(page, 0)
    expect(page.locator(".state-row:visible")).to_have_text("state: {}")


NOWHERE = {
    "aggregate=ada&version=x": "version: 'x' is not a number",
    "version=3": "version: which aggregate's?",
    "aggregate=nobody": "nobody",
    "aggregate=ada&version=77": "There is no version 77; ada is at 9.",
    "aggregate=ada&field=email": "'email' is no JSON pointer",
}


def test_an_address_that_leads_nowhere_says_so(page: Page, address: str) -> None:
    for query, message in NOWHERE.items():
        page.goto(f"{address.partition('?')[0]}?{query}")
        expect(alert(page, message)).to_be_visible()


def test_an_aggregate_is_chosen_from_the_finder(page: Page, address: str) -> None:
    page.goto(address.partition("?")[0])
    expect(page.get_by_role("main", name="Replay")).to_contain_text("Choose an aggregate")
    page.get_by_role("list", name="Aggregates found").get_by_role("link").first.click()
    at(page, 9)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_anybody_from_using_it(
    address: str, scheme: str, new_context: Callable[..., BrowserContext]
) -> None:
    page = new_context(color_scheme=scheme).new_page()
    open_replay(page, f"{address}&version=5&field=/email&pin=/total_logins&find=ada")
    expect(chosen_field(page)).to_contain_text("Set by 5")
    expect(page.get_by_role("table", name="Where it appears")).to_be_visible()
    found = Axe().run(page, options=WCAG)
    assert found.violations_count == 0, found.response["violations"]

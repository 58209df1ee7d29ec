"""One aggregate's history over real event logs, in a real browser."""

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from store import Hindsight
from store.transfer import import_events
from tests.browser.conftest import Serve
from tests.browser.timeline import (
    HISTORY,
    chosen_event,
    chosen_row,
    drag,
    event_panel,
    mark_at,
    marks,
    matches,
    open_view,
    rows,
    search,
    search_field,
    section,
)

pytestmark = pytest.mark.browser

NewContext = Callable[..., BrowserContext]


@pytest.fixture
def scoop(serve: Serve, data_sets: Path) -> str:
    return serve(data_sets / "scoop_main" / "events.ndjson.gz") + "/timeline"


@pytest.fixture
def wikipedia(serve: Serve, data_sets: Path) -> str:
    return serve(data_sets / "wikipedia_edits" / "events.ndjson.gz") + "/timeline"


@pytest.fixture
def github(serve: Serve, data_sets: Path) -> str:
    return serve(data_sets / "gh_bitcoin_gui" / "events.ndjson.gz") + "/timeline"


def test_a_page_asks_for_nothing_that_is_not_there(page: Page, scoop: str) -> None:
    missing: list[str] = []
    page.on("response", lambda answer: missing.append(answer.url) if answer.status == 404 else None)
    open_view(page, f"{scoop}?aggregate=main/aws")
    expect(chosen_event(page)).to_be_visible()
    assert missing == []


def test_an_event_is_never_shown_with_what_another_one_changed(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws&version=600")
    expect(section(page, "What it changed")).to_contain_text("2.13.25")
    page.route("**/documents/effect?*", lambda _: None)  # an answer that never comes
    rows(page, HISTORY).nth(0).click()
    expect(chosen_event(page)).to_contain_text("610 ")
    expect(section(page, "What it changed").get_by_role("table")).to_have_count(0)
    expect(page.get_by_text("Folding the events")).to_be_visible()


def test_typing_finds_an_aggregate_and_a_click_shows_its_events(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    search(page, "main/aw")
    expect(matches(page).nth(1)).to_contain_text("main/aws-amplify")
    matches(page).first.click()
    expect(page.get_by_role("heading", name="main/aws")).to_be_visible()
    expect(rows(page, HISTORY).first).to_contain_text("1,225")
    expect(chosen_event(page)).to_have_text("1,225 PackageVersionReleased")


def test_a_slash_leads_to_the_search_and_enter_to_the_first_match(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    expect(matches(page).first).to_be_visible()
    page.keyboard.press("/")
    expect(search_field(page)).to_be_focused()
    page.keyboard.type("main/aws-a")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="main/aws-amplify")).to_be_visible()


def test_arrows_lead_from_the_search_to_a_match(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?q=main/aws")
    expect(matches(page).nth(1)).to_contain_text("main/aws-amplify")
    search_field(page).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="main/aws-amplify")).to_be_visible()


def test_an_event_is_found_by_its_id(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    search(page, "721cbff9-eeeb-522c-8015-36899a1eb928")
    page.keyboard.press("Enter")
    expect(chosen_event(page)).to_have_text("600 PackageVersionReleased")
    expect(page).to_have_url(f"{scoop}?aggregate=main%2Faws&version=600")


def test_an_id_that_no_event_has_is_said_to_be_none(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    search(page, "00000000-0000-4000-8000-000000000000")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No event has this id.")).to_be_visible()


def test_a_prefix_finds_among_tens_of_thousands(page: Page, wikipedia: str) -> None:
    open_view(page, wikipedia)
    search(page, "de.wikipedia:Z")
    expect(matches(page).first).to_contain_text("de.wikipedia:Z")


def test_more_aggregates_follow_the_first_page(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    page.get_by_role("button", name="More", exact=True).click()
    expect(page.get_by_text("First 100 found")).to_be_visible()


def test_a_row_of_the_list_shows_its_event_in_full(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws&version=1")
    rows(page, HISTORY).nth(8).click()
    expect(chosen_event(page)).to_have_text("2 PackageVersionReleased")
    expect(section(page, "Data")).to_contain_text("from")
    expect(chosen_row(page, HISTORY)).to_contain_text("2")
    expect(event_panel(page)).to_contain_text("2018-12-01 04:00:23 UTC")


def test_the_stored_bytes_are_shown_on_demand(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/runat&version=2")
    section(page, "Raw bytes").locator("summary").click()
    raw = section(page, "Raw bytes").get_by_label("data as stored", exact=True)
    expect(raw).to_contain_text('{"from":0.1,"to":null')


def test_a_click_on_a_mark_chooses_its_event(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws")
    expect(chosen_event(page)).to_be_visible()
    page.mouse.click(*mark_at(page, 0))
    expect(chosen_event(page)).to_have_text("1 PackageAdded")


def test_a_mark_tells_what_it_is_when_pointed_at(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws")
    expect(marks(page).first).to_be_visible()
    page.mouse.move(*mark_at(page, 0))
    expect(page.locator(".tip")).to_contain_text("PackageAdded")
    expect(page.locator(".tip")).to_contain_text("2018-12-01 03:41:53 UTC")


def test_a_drag_over_the_axis_looks_closer(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws")
    expect(chosen_event(page)).to_be_visible()
    x, y = mark_at(page, 5)
    drag(page, (x, y), (x + 200, y))
    expect(page.get_by_text("of 1,225 events")).to_be_visible()
    expect(page).to_have_url(re.compile("since=20.*until=20"))
    page.get_by_role("button", name="Whole history").click()
    expect(page.get_by_text("of 1,225 events")).not_to_be_visible()


def test_looking_closer_and_from_further_away_by_buttons(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws&version=600")
    page.get_by_role("button", name="Closer").click()
    expect(page.get_by_text("of 1,225 events")).to_be_visible()
    page.get_by_role("button", name="Whole history").click()
    expect(page).to_have_url(f"{scoop}?aggregate=main%2Faws&version=600")


def test_idle_time_is_collapsed_and_shown(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/runat")
    button = page.get_by_role("button", name="Collapse idle time")
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".chart .idle rect").first).to_be_attached()
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".chart .idle rect")).to_have_count(0)
    expect(page).to_have_url(re.compile("idle=shown"))


def test_keys_step_through_the_history(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws&version=600")
    expect(chosen_event(page)).to_contain_text("600 ")
    for key, version in [
        ("ArrowRight", "601 "),
        ("ArrowLeft", "600 "),
        ("Home", "1 PackageAdded"),
        ("End", "1,225 "),
    ]:
        page.keyboard.press(key)
        expect(chosen_event(page)).to_contain_text(version)
    page.keyboard.press("Enter")
    expect(event_panel(page)).to_be_focused()


def test_what_is_drawn_anew_meanwhile_takes_back_no_step(page: Page, scoop: str) -> None:
    held: list[Route] = []
    page.route(
        "**/documents/event?*version=601*",
        lambda route: held.append(route),  # noqa: PLW0108 - no builtin
    )
    open_view(page, f"{scoop}?aggregate=main/aws&version=600")
    expect(chosen_event(page)).to_contain_text("600 ")
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile("version=601"))
    local = page.get_by_role("button", name="Local")
    local.click()
    expect(local).to_have_attribute("aria-pressed", "true")
    page.wait_for_timeout(300)
    for route in held:
        route.continue_()
    expect(chosen_event(page)).to_contain_text("601 ")
    page.get_by_role("button", name="UTC", exact=True).click()


def test_a_step_beyond_the_page_turns_it(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws&version=596")
    expect(chosen_row(page, HISTORY)).to_contain_text("596")
    page.keyboard.press("ArrowLeft")
    expect(chosen_row(page, HISTORY)).to_contain_text("595")


def test_letters_typed_into_a_field_are_no_shortcuts(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws&version=600")
    expect(chosen_event(page)).to_contain_text("600 ")
    search(page, "rc/")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Home")
    expect(search_field(page)).to_have_value("rc/")
    expect(chosen_event(page)).to_contain_text("600 ")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_list_turns_round_and_pages(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws&version=1225")
    page.get_by_role("button", name="Newest first").click()
    expect(page.get_by_text("1,216 to 1,225 of 1,225")).to_be_visible()
    page.get_by_role("button", name="Older").click()
    expect(page.get_by_text("1,201 to 1,215 of 1,225")).to_be_visible()


def test_the_address_reproduces_the_view_elsewhere(
    page: Page, new_context: NewContext, scoop: str
) -> None:
    open_view(page, scoop)
    search(page, "main/aws")
    expect(matches(page).nth(1)).to_contain_text("main/aws-amplify")
    matches(page).first.click()
    rows(page, HISTORY).nth(3).click()
    expect(chosen_event(page)).to_contain_text("1,222 ")
    elsewhere = new_context().new_page()
    open_view(elsewhere, page.url)
    expect(chosen_event(elsewhere)).to_contain_text("1,222 ")
    expect(search_field(elsewhere)).to_have_value("main/aws")
    elsewhere.reload()
    expect(chosen_event(elsewhere)).to_contain_text("1,222 ")


def test_back_returns_to_the_event_before(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws")
    for row, version in ((3, "1,222 "), (7, "1,218 ")):
        rows(page, HISTORY).nth(row).click()
        expect(chosen_event(page)).to_contain_text(version)
    page.go_back()
    expect(chosen_event(page)).to_contain_text("1,222 ")
    page.go_forward()
    expect(chosen_event(page)).to_contain_text("1,218 ")


def test_times_are_shown_in_the_viewers_zone_or_in_utc(new_context: NewContext, scoop: str) -> None:
    page = new_context(timezone="Asia/Kolkata").new_page()
    open_view(page, f"{scoop}?aggregate=main/aws&version=600")
    expect(event_panel(page)).to_contain_text("2023-10-06 20:24:05 UTC")
    page.get_by_role("button", name="Asia/Calcutta").or_(
        page.get_by_role("button", name="Asia/Kolkata")
    ).click()
    expect(event_panel(page)).to_contain_text("2023-10-07 01:54:05 +05:30")
    expect(chosen_row(page, HISTORY)).to_contain_text("2023-10-07 01:54:05")
    page.reload()
    expect(event_panel(page)).to_contain_text("2023-10-07 01:54:05 +05:30")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("JSON", '"aggregate_id":"main/aws","version":600,"event_type":"PackageVersionReleased"'),
        ("Command", "hindsight replay --version=600 --url "),
        ("Link", "/timeline?aggregate=main%2Faws&version=600"),
    ],
)
def test_an_event_is_copied_as(
    new_context: NewContext, scoop: str, name: str, expected: str
) -> None:
    context = new_context()
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    open_view(page, f"{scoop}?aggregate=main/aws&version=600")
    page.get_by_role("group", name="Copy as").get_by_role("button", name=name).click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert expected in page.evaluate("navigator.clipboard.readText()")


def test_many_types_and_a_large_payload_are_shown(page: Page, github: str) -> None:
    open_view(page, f"{github}?order=longest")
    matches(page).first.click()
    expect(rows(page, HISTORY)).to_have_count(15)
    expect(chosen_event(page)).to_contain_text("293 ")


def test_a_history_is_found_and_read_on_postgresql(
    page: Page, serve: Serve, postgres_url: str, data_sets: Path
) -> None:
    log = data_sets / "receipt_wabo" / "events.ndjson.gz"
    with Hindsight(postgres_url) as store, log.open("rb") as stream:
        import_events(store.log, stream)
        longest = store.aggregates(order="longest", limit=1).items[0].aggregate_id
    open_view(page, serve(postgres_url) + "/timeline?order=longest")
    search(page, longest)
    matches(page).first.click()
    expect(page.get_by_role("heading", name=longest)).to_be_visible()
    expect(chosen_event(page)).to_contain_text("25 ")
    rows(page, HISTORY).nth(1).click()
    expect(chosen_event(page)).to_contain_text("24 ")
    expect(event_panel(page)).to_contain_text("Recorded")
    expect(section(page, "Identity")).to_contain_text("Written as")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("aggregate=main/nosuch", "There is no aggregate main/nosuch here."),
        ("aggregate=main/aws&version=9999", "'main/aws' has no version 9999; it is at 1225"),
        ("aggregate=main/aws&version=x", "version: 'x' is not a number"),
        ("aggregate=main/aws&since=yesterday", "since: 'yesterday' is not a time"),
        ("version=3", "version: which aggregate's?"),
    ],
)
def test_a_wrong_address_gets_one_clear_line(
    page: Page, scoop: str, query: str, message: str
) -> None:
    open_view(page, f"{scoop}?{query}")
    expect(page.get_by_role("alert")).to_have_count(1)
    expect(page.get_by_role("alert")).to_contain_text(message)


def test_an_aggregate_that_is_not_there_leads_on(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/nosuch")
    page.get_by_role("link", name="ids that begin with main/").click()
    expect(matches(page).first).to_contain_text("main/")


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
def test_an_event_at_the_end_of_time_is_shown(
    page: Page, serve: Serve, tmp_path: Path, at: str
) -> None:
    line = {
        "event_id": "00000000-0000-4000-8000-000000000001",
        "aggregate_type": "lease",
        "aggregate_id": "lease-1",
        "version": 1,
        "event_type": "Granted",
        "data": {"until": None},
        "occurred_at": at,
    }
    log = tmp_path / "log.ndjson"
    log.write_text(json.dumps(line) + "\n")
    open_view(page, serve(log) + "/timeline?aggregate=lease-1")
    expect(chosen_event(page)).to_have_text("1 Granted")
    expect(event_panel(page)).to_contain_text(at[:10])
    expect(marks(page)).to_have_count(1)


def test_a_row_opens_in_another_tab_and_this_one_stays(
    page: Page, context: BrowserContext, scoop: str
) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws&version=600")
    expect(chosen_event(page)).to_contain_text("600 ")
    with context.expect_page() as opened:
        rows(page, HISTORY).nth(0).get_by_role("link").click(modifiers=["ControlOrMeta"])
    expect(chosen_event(opened.value)).to_contain_text("610 ")
    opened.value.close()
    expect(chosen_event(page)).to_contain_text("600 ")


def test_looking_closer_is_about_the_chosen_event(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws&version=600")
    expect(chosen_event(page)).to_contain_text("600 ")
    page.keyboard.press("Home")
    expect(chosen_event(page)).to_contain_text("1 PackageAdded")
    page.get_by_role("button", name="Closer").click()
    expect(rows(page, HISTORY).last).to_contain_text("PackageAdded")


def test_days_begin_at_midnight_on_both_sides_of_a_changed_clock(
    new_context: NewContext, serve: Serve, tmp_path: Path
) -> None:
    log = tmp_path / "log.ndjson"
    lines = [
        {
            "event_id": f"00000000-0000-4000-8000-{day:012}",
            "aggregate_type": "shift",
            "aggregate_id": "shift-1",
            "version": day,
            "event_type": "Worked",
            "data": {},
            "occurred_at": f"2026-10-{19 + day}T10:00:00Z",
        }
        for day in range(1, 13)
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = new_context(timezone="Europe/Berlin").new_page()
    open_view(page, serve(log) + "/timeline?aggregate=shift-1")
    page.get_by_role("button", name="Europe/Berlin").click()
    labels = page.locator(".chart .grid text").all_text_contents()
    days = [int(label.split()[0]) for label in labels if "Oct" in label]
    assert {later - day for day, later in pairwise(days)} == {2}

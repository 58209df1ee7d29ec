"""The Timeline page over real event logs, in a real browser."""

from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import (  # type: ignore[import-untyped]  # no types
    Axe,
)
from playwright.sync_api import BrowserContext, Page, expect

from store import Hindsight
from store.transfer import import_events
from tests.browser.conftest import Serve
from tests.browser.timeline import (
    EVENTS,
    MATCHES,
    NEWEST,
    cell,
    chosen_event,
    click_mark,
    click_row,
    event_data,
    open_view,
    search,
    settled,
)

pytestmark = pytest.mark.browser

NewContext = Callable[..., BrowserContext]


@pytest.fixture
def scoop(serve: Serve, data_sets: Path) -> str:
    return serve(data_sets / "scoop_main" / "events.ndjson.gz") + "/timeline"


@pytest.fixture
def wikipedia(serve: Serve, data_sets: Path) -> str:
    return serve(data_sets / "wikipedia_edits" / "events.ndjson.gz") + "/timeline"


def test_the_root_shows_the_store_and_its_newest_events(page: Page, scoop: str) -> None:
    open_view(page, scoop.removesuffix("timeline"))
    expect(page.get_by_test_id("stMetric").first).to_contain_text("24,635")
    expect(cell(page, NEWEST, 0, 0)).to_have_text("2026-08-22 16:29:46")


def test_a_newest_event_leads_to_its_place_in_its_history(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    expect(cell(page, NEWEST, 0, 1)).to_have_text("main/ty")
    click_row(page, NEWEST, 0)
    expect(chosen_event(page)).to_have_text("64 PackageVersionReleased")
    expect(page).to_have_url(f"{scoop}?aggregate=main%2Fty&version=64")


def test_typing_finds_an_aggregate_and_a_click_shows_its_events(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    search(page, "main/aw")
    expect(cell(page, MATCHES, 1, 0)).to_have_text("main/aws-amplify")
    click_row(page, MATCHES, 0)
    expect(page.get_by_role("heading", name="main/aws")).to_be_visible()
    expect(cell(page, EVENTS, 0, 0)).to_have_text("1225")


def test_a_prefix_finds_among_tens_of_thousands(page: Page, wikipedia: str) -> None:
    open_view(page, wikipedia)
    search(page, "de.wikipedia:Z")
    expect(cell(page, MATCHES, 0, 0)).to_contain_text("de.wikipedia:Z")


def test_more_aggregates_follow_the_first_page(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    page.get_by_role("button", name="More").click()
    expect(page.get_by_text("First 100 found")).to_be_visible()


def test_a_row_of_the_list_shows_its_event_in_full(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws&version=1")
    click_row(page, EVENTS, 8)
    expect(chosen_event(page)).to_have_text("2 PackageVersionReleased")
    expect(event_data(page)).to_contain_text('"from"')


def test_the_stored_bytes_are_shown_on_demand(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/runat&version=2")
    page.get_by_role("radio", name="Raw").click()
    expect(page.get_by_test_id("stCode").first).to_contain_text('{"from":0.1,"to":null')


def test_a_click_on_a_mark_chooses_its_event(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws")
    click_mark(page, 0)
    expect(chosen_event(page)).to_have_text("1 PackageAdded")


def test_keys_step_through_the_history(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws&version=600")
    expect(page.locator(".js-plotly-plot .points path").first).to_be_visible()
    page.keyboard.press("j")
    expect(chosen_event(page)).to_contain_text("601 ")
    page.keyboard.press("h")
    expect(chosen_event(page)).to_contain_text("1 PackageAdded")


def test_looking_closer_shows_a_shorter_stretch(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws&version=600")
    page.get_by_role("button", name="Closer").click()
    expect(page.get_by_text("of 1,225 events")).to_be_visible()
    page.get_by_role("button", name="Whole history").click()
    expect(page).to_have_url(f"{scoop}?aggregate=main%2Faws&version=600")


def test_the_address_reproduces_the_view_elsewhere(
    page: Page, new_context: NewContext, scoop: str
) -> None:
    open_view(page, scoop)
    search(page, "main/aws")
    click_row(page, MATCHES, 0)
    click_row(page, EVENTS, 3)
    expect(chosen_event(page)).to_contain_text("1222 ")
    elsewhere = new_context().new_page()
    open_view(elsewhere, page.url)
    expect(chosen_event(elsewhere)).to_contain_text("1222 ")
    expect(elsewhere.get_by_role("searchbox")).to_have_value("main/aws")


def test_back_returns_to_the_event_before(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws")
    for row, version in ((3, "1222 "), (7, "1218 ")):
        click_row(page, EVENTS, row)
        expect(chosen_event(page)).to_contain_text(version)
        settled(page)
    page.go_back()
    expect(chosen_event(page)).to_contain_text("1222 ")
    click_row(page, EVENTS, 7)
    expect(chosen_event(page)).to_contain_text("1218 ")


def test_a_history_is_found_and_read_on_postgresql(
    page: Page, serve: Serve, postgres_url: str, data_sets: Path
) -> None:
    log = data_sets / "receipt_wabo" / "events.ndjson.gz"
    with Hindsight(postgres_url) as store, log.open("rb") as stream:
        import_events(store.log, stream)
        longest = store.aggregates(order="longest", limit=1).items[0].aggregate_id
    open_view(page, serve(postgres_url) + "/timeline?order=Longest")
    expect(page.get_by_test_id("stMetric").first).to_contain_text("8,577")
    search(page, longest)
    click_row(page, MATCHES, 0)
    expect(page.get_by_role("heading", name=longest)).to_be_visible()
    expect(chosen_event(page)).to_contain_text("25 ")
    click_row(page, EVENTS, 1)
    expect(chosen_event(page)).to_contain_text("24 ")
    expect(page.get_by_role("row", name="Recorded")).to_be_visible()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("aggregate=main/nosuch", "There is no aggregate main/nosuch here."),
        ("aggregate=main/aws&version=9999", "no version 9999 on this page, which has 1 to 1225."),
        ("aggregate=main/aws&version=x", "version: 'x' is not a version number"),
        ("aggregate=main/aws&since=yesterday", "since: 'yesterday' is not a time"),
    ],
)
def test_a_wrong_address_gets_one_clear_line(
    page: Page, scoop: str, query: str, message: str
) -> None:
    open_view(page, f"{scoop}?{query}")
    expect(page.get_by_test_id("stAlert")).to_contain_text(message)


def test_an_empty_store_says_how_to_fill_it(page: Page, serve: Serve, tmp_path: Path) -> None:
    empty = tmp_path / "empty.ndjson"
    empty.touch()
    open_view(page, serve(empty))
    expect(page.get_by_text("hindsight import events.ndjson.gz")).to_be_visible()


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("query", ["", "?aggregate=main/aws&version=600"])
def test_the_page_meets_wcag_a_and_aa(
    new_context: NewContext, scoop: str, color_scheme: str, query: str
) -> None:
    page = new_context(color_scheme).new_page()
    open_view(page, scoop + query)
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = Axe().run(page, options={"runOnly": tags})
    assert not found.response["violations"], found.generate_report()


def test_a_narrow_window_shows_what_happened_to_which_aggregate(
    new_context: NewContext, scoop: str
) -> None:
    page = new_context(width=800).new_page()
    open_view(page, scoop)
    # Columns out of sight have no cells.
    expect(cell(page, NEWEST, 0, 1)).to_have_text("main/ty")
    expect(cell(page, NEWEST, 0, 2)).to_have_text("PackageVersionReleased")
    table = page.locator(f".st-key-{NEWEST}").bounding_box()
    assert table is not None
    assert table["width"] > 400, "the third column is cut off"


def test_nothing_is_wider_than_a_narrow_window(new_context: NewContext, scoop: str) -> None:
    page = new_context(width=800).new_page()
    open_view(page, f"{scoop}?aggregate=main/aws")
    main = page.get_by_test_id("stMain")
    assert main.evaluate("element => element.scrollWidth <= element.clientWidth")

"""The Timeline page as its user sees it."""

from playwright.sync_api import Locator, Page, expect

from dashboard.picking import HEADER_HEIGHT, ROW_HEIGHT

MATCHES = "matches"
EVENTS = "events"
NEWEST = "newest"


def open_view(page: Page, address: str) -> None:
    page.goto(address)
    settled(page)


def settled(page: Page) -> None:
    """Wait until the page has been drawn and no script runs."""
    expect(page.get_by_test_id("stMainBlockContainer")).not_to_be_empty()
    running = page.locator("[data-testid=stApp][data-test-script-state=notRunning]")
    expect(running).to_be_attached()


def cell(page: Page, table: str, row: int, column: int) -> Locator:
    """A cell of a table: the grid is a canvas with a table for assistive technology inside."""
    return page.locator(f".st-key-{table} #glide-cell-{column}-{row}")


def click_row(page: Page, table: str, row: int) -> None:
    y = HEADER_HEIGHT + row * ROW_HEIGHT + ROW_HEIGHT / 2
    page.locator(f".st-key-{table} .dvn-scroller").click(position={"x": 30, "y": y})


def search(page: Page, text: str) -> None:
    page.get_by_role("searchbox", name="Find an aggregate").press_sequentially(text)


def chosen_event(page: Page) -> Locator:
    """The heading over the event shown in full."""
    return page.locator(".st-key-event").get_by_role("heading")


def event_data(page: Page) -> Locator:
    """The tree of the event shown in full."""
    return page.locator(".st-key-event").get_by_test_id("stJson")


def click_mark(page: Page, index: int) -> None:
    """Click a mark of the time axis; Plotly clicks what it has seen hovered."""
    box = page.locator(".js-plotly-plot .points path").nth(index).bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    expect(page.locator(".hoverlayer .hovertext")).to_be_visible()
    page.mouse.click(x, y)

"""The Timeline page as its user sees it."""

from playwright.sync_api import Locator, Page, expect

HISTORY = "Events of the aggregate"
STORE = "Events of the store"
LANES = "Events of the lanes"


def open_view(page: Page, address: str) -> None:
    page.goto(address)
    settled(page)


def settled(page: Page) -> None:
    """Wait until the page has been drawn."""
    expect(page.get_by_role("main", name="Timeline")).not_to_be_empty()


def rows(page: Page, table: str) -> Locator:
    """The rows of a list of events, without its head."""
    return page.get_by_role("table", name=table).locator("tbody tr")


def chosen_row(page: Page, table: str) -> Locator:
    return page.get_by_role("table", name=table).locator("tr[aria-current=true]")


def matches(page: Page) -> Locator:
    """The aggregates that the finder found."""
    return page.get_by_role("list", name="Aggregates found").get_by_role("link")


def search_field(page: Page) -> Locator:
    return page.get_by_role("searchbox", name="Find an aggregate or event")


def search(page: Page, text: str) -> None:
    search_field(page).press_sequentially(text)


def event_panel(page: Page) -> Locator:
    return page.get_by_role("region", name="Chosen event")


def chosen_event(page: Page) -> Locator:
    """The heading over the event shown in full."""
    return event_panel(page).get_by_role("heading", level=3)


def section(page: Page, name: str) -> Locator:
    """A part of the event shown in full, such as `What it changed`."""
    return (
        event_panel(page)
        .locator("details")
        .filter(has=page.get_by_role("heading", name=name, exact=True))
    )


def marks(page: Page) -> Locator:
    return page.locator(".chart .marks > *")


def mark_at(page: Page, index: int) -> tuple[float, float]:
    """Where a mark of the time axis stands, in pixels of the window."""
    expect(marks(page).nth(index)).to_be_visible()
    box = marks(page).nth(index).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, end[1], steps=4)
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def bars(page: Page) -> Locator:
    """The parts of the histogram's bars."""
    return page.locator(".bars rect[class*=look]")


def bar_at(page: Page, index: int) -> tuple[float, float]:
    """Where a part of a bar stands, in pixels of the window."""
    expect(bars(page).nth(index)).to_be_visible()
    box = bars(page).nth(index).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def type_chip(page: Page, name: str) -> Locator:
    """The histogram's legend for an event type, which filters by it."""
    return page.get_by_role("group", name="Event types").get_by_role("button", name=name)


def positions(page: Page) -> list[int]:
    """The positions of the events in the store's list, as they stand there."""
    found: list[int] = rows(page, STORE).evaluate_all(
        "rows => rows.map(row => +row.dataset.position)"
    )
    return found


def scroll(page: Page, pixels: int) -> None:
    """Turn the wheel over the list of the store's events."""
    page.mouse.move(700, 500)
    page.mouse.wheel(0, pixels)

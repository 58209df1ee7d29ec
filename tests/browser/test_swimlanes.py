"""Several aggregates on one time axis, and which event caused which."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from store import Context, Event, Hindsight, NewEvent, any_, migrate
from tests.browser.conftest import Serve
from tests.browser.timeline import (
    LANES,
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
    section,
)

pytestmark = pytest.mark.browser

NewContext = Callable[..., BrowserContext]

CHECKOUT = 'checkout 7/a & "b"'
SHIPMENT = "shipment/7 <b>'ä'</b>"
BEGUN = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def address(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An order, its payment and its shipment: four causes, one correlation id."""
    url = f"sqlite:///{tmp_path_factory.mktemp('lanes') / 'store.db'}"
    migrate(url)
    with Hindsight(url) as store:

        def append(aggregate_id: str, event_type: str, second: int, cause: Event | None) -> Event:
            context = Context(
                actor="ada",
                correlation_id=CHECKOUT,
                causation_id=str(cause.event_id) if cause else None,
            )
            new = NewEvent(event_type, {"n": second}, occurred_at=BEGUN + timedelta(seconds=second))
            kind = aggregate_id.partition("/")[0]
            appended = store.append(kind, aggregate_id, [new], expected=any_(), context=context)
            return appended.events[0]

        placed = append("order/7", "OrderPlaced", 0, None)
        paid = append("payment/7", "PaymentTaken", 3, placed)
        packed = append(SHIPMENT, "ShipmentPacked", 9, paid)
        append(SHIPMENT, "ShipmentSent", 60, packed)
        append("order/7", "OrderClosed", 61, packed)
        other = NewEvent("OrderPlaced", {"n": 8}, occurred_at=BEGUN)
        store.append("order", "order/8", [other], expected=any_())
    return serve(url) + "/timeline"


@pytest.fixture
def checkout(address: str) -> str:
    return f"{address}?as=lanes&correlation=checkout+7/a+%26+%22b%22"


@pytest.fixture
def scoop(serve: Serve, data_sets: Path) -> str:
    return serve(data_sets / "scoop_main" / "events.ndjson.gz") + "/timeline"


def lanes(page: Page) -> Locator:
    return page.locator(".swimlanes .chart .names > g")


def arrows(page: Page) -> Locator:
    return page.locator(".swimlanes .chart .arrows > g")


def test_a_correlation_id_gives_a_lane_each_and_arrows_from_cause_to_effect(
    page: Page, checkout: str
) -> None:
    open_view(page, checkout)
    expect(page.get_by_role("heading", level=2)).to_have_text(f"Correlation id {CHECKOUT}")
    expect(page.get_by_text("5 events of 3 aggregates within 1 min 1 s")).to_be_visible()
    expect(lanes(page).locator("text:first-of-type")).to_have_text(
        ["order/7", "payment/7", SHIPMENT]
    )
    expect(marks(page)).to_have_count(5)
    expect(arrows(page)).to_have_count(4)
    # The first leads from the order's lane down to the payment's, to the right.
    line = arrows(page).first.locator("line")
    x1, y1, x2, y2 = (float(line.get_attribute(name) or "") for name in ("x1", "y1", "x2", "y2"))
    assert x1 < x2
    assert y1 < y2
    expect(rows(page, LANES)).to_have_count(5)
    expect(rows(page, LANES).first).to_contain_text("OrderClosed")


def test_an_event_leads_to_all_that_belong_to_it(page: Page, address: str) -> None:
    open_view(page, f"{address}?aggregate=payment/7")
    section(page, "Causes and effects").get_by_role("link", name="on one axis").click()
    expect(lanes(page)).to_have_count(3)
    expect(arrows(page)).to_have_count(4)


def test_a_causation_id_leads_to_the_event_that_has_it(page: Page, address: str) -> None:
    open_view(page, f"{address}?aggregate=payment/7")
    section(page, "Identity").get_by_title("Search for the event").click()
    page.get_by_role("button", name="Find the event with this id").click()
    expect(page.get_by_role("heading", name="order/7")).to_be_visible()
    expect(chosen_event(page)).to_have_text("1 OrderPlaced")


def test_the_list_of_a_correlation_id_leads_to_its_lanes(page: Page, address: str) -> None:
    open_view(page, address)
    page.get_by_role("textbox", name="Correlation id").fill(CHECKOUT)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="On one axis").click()
    expect(lanes(page)).to_have_count(3)
    page.go_back()
    expect(page.get_by_role("textbox", name="Correlation id")).to_have_value(CHECKOUT)


def test_lanes_are_picked_by_hand_and_taken_away(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws")
    page.get_by_role("link", name="Beside others").click()
    expect(lanes(page)).to_have_count(1)
    search(page, "main/git")
    expect(matches(page).first).to_contain_text("main/git")
    matches(page).first.click()
    expect(lanes(page)).to_have_count(2)
    expect(page).to_have_url(re.compile("lane=main%2Faws&lane=main%2Fgit"))
    page.get_by_title("Take main/aws away").click()
    expect(lanes(page)).to_have_count(1)
    page.locator(".title .chip").click()
    expect(page.get_by_text("Choose aggregates on the left")).to_be_visible()
    page.go_back()
    expect(lanes(page)).to_have_count(1)


def test_a_mark_and_a_row_show_their_event(page: Page, checkout: str) -> None:
    open_view(page, checkout)
    expect(rows(page, LANES)).to_have_count(5)
    page.mouse.click(*mark_at(page, 1))
    expect(chosen_event(page)).to_have_text("1 PaymentTaken")
    expect(chosen_row(page, LANES)).to_contain_text("PaymentTaken")
    rows(page, LANES).nth(2).click()
    expect(chosen_event(page)).to_have_text("1 ShipmentPacked")
    expect(page.locator(".chart .chosen circle")).to_be_visible()
    page.get_by_role("button", name="Local (UTC)").click()
    expect(chosen_row(page, LANES)).to_contain_text("ShipmentPacked")
    page.go_back()
    expect(chosen_event(page)).to_have_text("1 PaymentTaken")


def test_a_mark_tells_whose_it_is_when_pointed_at(page: Page, checkout: str) -> None:
    open_view(page, checkout)
    expect(marks(page).nth(2)).to_be_visible()
    page.mouse.move(*mark_at(page, 2))
    expect(page.locator(".tip")).to_contain_text("ShipmentPacked")
    expect(page.locator(".tip")).to_contain_text(SHIPMENT)
    expect(page.locator(".tip")).to_contain_text("2026-01-31 12:00:09")


def test_a_drag_looks_closer_and_keeps_every_lane(page: Page, checkout: str) -> None:
    open_view(page, checkout)
    expect(marks(page)).to_have_count(5)
    x, y = mark_at(page, 2)
    drag(page, (x - 30, y), (x + 60, y))
    expect(page).to_have_url(re.compile("since=.*until="))
    expect(rows(page, LANES)).to_have_count(1)
    expect(lanes(page)).to_have_count(3)
    page.get_by_role("button", name="Whole time").click()
    expect(rows(page, LANES)).to_have_count(5)


def test_keys_step_through_all_lanes(page: Page, checkout: str) -> None:
    open_view(page, checkout)
    expect(rows(page, LANES)).to_have_count(5)
    for key, shown in [
        ("Home", "1 OrderPlaced"),
        ("ArrowRight", "1 PaymentTaken"),
        ("ArrowRight", "1 ShipmentPacked"),
        ("ArrowLeft", "1 PaymentTaken"),
        ("End", "2 OrderClosed"),
    ]:
        page.keyboard.press(key)
        expect(chosen_event(page)).to_have_text(shown)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="order/7")).to_be_visible()


def test_the_address_reproduces_the_lanes(
    page: Page, new_context: NewContext, checkout: str
) -> None:
    open_view(page, checkout)
    expect(rows(page, LANES)).to_have_count(5)
    rows(page, LANES).nth(1).click()
    expect(chosen_event(page)).to_have_text("2 ShipmentSent")
    page.reload()
    expect(chosen_event(page)).to_have_text("2 ShipmentSent")
    elsewhere = new_context().new_page()
    open_view(elsewhere, page.url)
    expect(chosen_event(elsewhere)).to_have_text("2 ShipmentSent")
    expect(chosen_row(elsewhere, LANES)).to_contain_text("ShipmentSent")
    expect(lanes(elsewhere)).to_have_count(3)
    expect(page.get_by_role("heading", level=2)).to_contain_text(CHECKOUT)


def test_long_histories_share_an_axis(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?lane=main/aws&lane=main/runat&lane=main/git")
    expect(lanes(page)).to_have_count(3)
    counts = lanes(page).locator(".count")
    expect(counts.filter(has_text="1,225")).to_have_count(1)
    # They began long apart; the first to begin is on top.
    expect(lanes(page).first).to_contain_text("main/runat")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("lane=order/7&lane=order/nosuch", "no aggregate 'order/nosuch'"),
        ("lane=order/7&since=yesterday", "since: 'yesterday' is not a time"),
    ],
)
def test_lanes_that_cannot_be_get_one_clear_line(
    page: Page, address: str, query: str, message: str
) -> None:
    open_view(page, f"{address}?{query}")
    expect(page.get_by_role("alert")).to_have_count(1)
    expect(page.get_by_role("alert")).to_contain_text(message)


def test_a_lane_that_is_not_there_is_taken_away(page: Page, address: str) -> None:
    open_view(page, f"{address}?lane=order/7&lane=order/nosuch")
    page.get_by_title("Take order/nosuch away").click()
    expect(lanes(page)).to_have_count(1)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_correlation_id_that_no_event_has(page: Page, address: str) -> None:
    open_view(page, f"{address}?as=lanes&correlation=nosuch")
    expect(page.get_by_text("No event has this correlation id.")).to_be_visible()
    expect(event_panel(page)).not_to_be_visible()

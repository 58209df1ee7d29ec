"""The Timeline over message-db's table of messages."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import foreign
from tests.browser.conftest import Serve
from tests.browser.replaying import at, chosen_field, event, field, open_replay, slider
from tests.browser.timeline import (
    HISTORY,
    chosen_event,
    matches,
    open_view,
    rows,
    search,
    section,
)
from tests.servers import PostgresServer

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(postgres_server: PostgresServer, serve: Serve, data_sets: Path) -> Iterator[str]:
    postgres_server.execute("CREATE DATABASE foreign_browser")
    url = postgres_server.url("foreign_browser")
    foreign.build_message_db(url)
    log = foreign.lines_of(data_sets / "receipt_wabo" / "events.ndjson.gz")
    foreign.fill_message_db(url, map(foreign.as_messages, log))
    yield serve(url) + "/timeline"
    postgres_server.execute("DROP DATABASE foreign_browser WITH (FORCE)")


def test_a_stream_is_found_and_its_first_message_shown(page: Page, address: str) -> None:
    open_view(page, address)
    search(page, "case-928")
    expect(matches(page)).to_have_count(2)
    matches(page).filter(has_text="case-9289").click()
    expect(rows(page, HISTORY)).to_have_count(15)
    open_view(page, f"{address}?aggregate=case-9289&version=0")
    expect(chosen_event(page)).to_have_text(re.compile("ConfirmationOfReceipt"))
    expect(section(page, "What it changed")).to_contain_text("activity")
    expect(page.get_by_text("no domain code").first).to_be_visible()


def test_nothing_is_offered_that_there_is_not(page: Page, address: str) -> None:
    open_view(page, address)
    orders = page.get_by_role("group", name="Order").get_by_role("button")
    expect(orders).to_have_text(["Recent", "Id"])
    expect(page.get_by_role("link", name="Monitoring")).to_have_count(0)


def test_a_stream_is_replayed_from_its_version_zero(page: Page, address: str) -> None:
    open_replay(page, f"{address.replace('/timeline', '/replay')}?aggregate=case-9289&version=0")
    at(page, 0)
    expect(event(page)).to_contain_text("ConfirmationOfReceipt")
    field(page, "/activity").click()
    expect(chosen_field(page)).to_contain_text("Set by 0")
    page.keyboard.press("Home")
    expect(slider(page)).to_have_value("-1")
    expect(event(page)).to_contain_text("Before the first event")
    expect(page).to_have_url(re.compile("version=-1"))
    expect(chosen_field(page)).to_contain_text("No event has set it until here")
    page.reload()
    expect(event(page)).to_contain_text("Before the first event")
    page.keyboard.press("End")
    at(page, 24)


def test_states_of_a_stream_are_compared_from_before_its_version_zero(
    page: Page, address: str
) -> None:
    page.goto(f"{address.replace('/timeline', '/diff')}?aggregate=case-9289&from=-1&to=2")
    main = page.get_by_role("main", name="Diff")
    expect(main).to_contain_text("activity")
    expect(page.get_by_role("table", name=re.compile("between")).get_by_role("row")).to_have_count(
        4
    )

"""What an event changed and the state after it, as a browser shows them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from store import Hindsight, NewEvent, any_, migrate
from tests.browser.conftest import Serve
from tests.browser.timeline import HISTORY, chosen_event, open_view, rows, section
from users import domain
from users.commands import ChangeEmail, CreateUser, RecordLogin

pytestmark = pytest.mark.browser

HASH = "scrypt:1"


def changes(page: Page) -> Locator:
    return section(page, "What it changed")


def state(page: Page) -> Locator:
    return section(page, "State after")


@pytest.fixture(scope="module")
def address(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A user's timeline: created, moved, logged in, and an event of no shape the domain knows."""
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    url = f"sqlite:///{tmp_path_factory.mktemp('state') / 'store.db'}"
    migrate(url)
    with Hindsight(url, domain=domain) as store:
        for command in (
            CreateUser(
                username="ada", email="ada@example.org", full_name="Ada", password_hash=HASH
            ),
            ChangeEmail(email="ada@example.com"),
            RecordLogin(at=at, ip_address="192.0.2.7"),
        ):
            store.execute("ada", command)
        store.append("user", "ada", [NewEvent("EmailChanged", {})], expected=any_())
    return serve(url, domain="users:domain") + "/timeline?aggregate=ada"


def test_an_event_shows_what_it_changed_and_the_state_after_it(page: Page, address: str) -> None:
    open_view(page, f"{address}&version=3")
    row = changes(page).get_by_role("row", name="total_logins")
    expect(row).to_contain_text("0 → 1")
    rows(page, HISTORY).nth(2).click()
    expect(chosen_event(page)).to_contain_text("2 EmailChanged")
    expect(changes(page).get_by_role("row")).to_have_count(1)
    row = changes(page).get_by_role("row", name="email")
    expect(row).to_contain_text('"ada@example.org" → "ada@example.com"')
    expect(state(page)).to_contain_text('email: "ada@example.com"')
    expect(state(page)).not_to_contain_text("no domain code")


def test_an_event_that_cannot_be_folded_is_one_line_beside_the_state_reached(
    page: Page, address: str
) -> None:
    open_view(page, f"{address}&version=4")
    expect(changes(page).get_by_role("alert")).to_contain_text("'ada' version 4 (EmailChanged)")
    expect(state(page)).to_contain_text("State reached, after version 3")
    expect(state(page)).to_contain_text('email: "ada@example.com"')


def test_a_value_is_text_and_no_link(page: Page, address: str) -> None:
    open_view(page, f"{address}&version=2")
    expect(changes(page).get_by_role("row", name="email")).to_be_visible()
    expect(changes(page).get_by_role("link")).to_have_count(0)


def test_without_domain_code_the_data_is_merged_and_labelled(
    page: Page, serve: Serve, data_sets: Path
) -> None:
    log = data_sets / "scoop_main" / "events.ndjson.gz"
    open_view(page, f"{serve(log)}/timeline?aggregate=main/aws&version=1225")
    expect(state(page)).to_contain_text("no domain code")
    expect(state(page)).to_contain_text('path: "aws.json"')

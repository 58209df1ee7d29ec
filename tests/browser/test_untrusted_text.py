"""Ids, types and payloads are strangers' text: shown as they are, never obeyed."""

import json
from urllib.parse import quote
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Serve
from tests.browser.timeline import (
    HISTORY,
    STORE,
    chosen_event,
    event_panel,
    open_view,
    rows,
    section,
)

pytestmark = pytest.mark.browser

HOSTILE = [
    "de.wikipedia:*foo*_bar_",
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "a`b``c",
    "$x^2$ :smile: [link](https://example.org) ~~s~~",
    "# heading",
    "&lt;b&gt;",
]


@pytest.fixture(scope="module")
def address(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("hostile") / "hostile.ndjson"
    path.write_text("".join(json.dumps(_event(text)) + "\n" for text in HOSTILE))
    return serve(path) + "/timeline"


def _event(text: str) -> dict[str, object]:
    return {
        "event_id": str(uuid4()),
        "aggregate_type": text,
        "aggregate_id": text,
        "version": 1,
        "event_type": text,
        "schema_version": 1,
        "data": {text: text, "id": 9007199254740993},
        "metadata": {"actor": text},
        "occurred_at": "2026-01-31T12:00:00Z",
    }


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_shown_letter_by_letter(page: Page, address: str, text: str) -> None:
    open_view(page, f"{address}?aggregate={quote(text)}")
    expect(page.get_by_role("heading", level=2)).to_have_text(text)
    expect(chosen_event(page)).to_have_text(f"1 {text}")
    expect(rows(page, HISTORY).first).to_contain_text(text)
    expect(event_panel(page).locator(".facts").first).to_contain_text(text)
    expect(section(page, "Data")).to_contain_text(text.replace('"', r"\""))
    expect(page.locator(".chart .names text").first).to_have_text(_shortened(text))
    expect(page).to_have_title(f"{text} · Hindsight")


def _shortened(text: str) -> str:
    return text if len(text) <= 25 else f"{text[:16]}…{text[-8:]}"


def test_whole_numbers_beyond_what_javascript_counts_are_exact(page: Page, address: str) -> None:
    open_view(page, f"{address}?aggregate={quote(HOSTILE[0])}")
    expect(section(page, "Data")).to_contain_text("9007199254740993")


@pytest.mark.parametrize("text", HOSTILE)
def test_text_found_and_filtered_by_is_text(page: Page, address: str, text: str) -> None:
    open_view(page, f"{address}?actor={quote(text)}")
    expect(rows(page, STORE)).to_have_count(1)
    rows(page, STORE).get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=2)).to_have_text(text)
    assert page.title() != "owned"

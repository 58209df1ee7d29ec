"""The whole store: its bars, its filters, its list, and what arrives while one looks."""

import gzip
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import msgspec
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from store import Hindsight, migrate
from store.transfer import import_events
from tests.browser.conftest import Serve
from tests.browser.elsewhere import append_elsewhere
from tests.browser.timeline import (
    HISTORY,
    STORE,
    bar_at,
    bars,
    chosen_event,
    chosen_row,
    drag,
    open_view,
    positions,
    rows,
    scroll,
    type_chip,
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


@pytest.fixture(scope="module")
def growing_url(tmp_path_factory: pytest.TempPathFactory, data_sets: Path) -> str:
    """A store that others append to, with a real log in it."""
    url = f"sqlite:///{tmp_path_factory.mktemp('growing') / 'store.db'}"
    migrate(url)
    log = data_sets / "receipt_wabo" / "events.ndjson.gz"
    with Hindsight(url) as store, log.open("rb") as stream:
        import_events(store.log, stream)
    return url


@pytest.fixture
def growing(serve: Serve, growing_url: str) -> str:
    return serve(growing_url) + "/timeline"


def asked(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def moments(page: Page) -> list[datetime]:
    """When the listed events occurred, in UTC."""
    texts = rows(page, STORE).locator(".when").all_inner_texts()
    return [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in texts]


def fill(page: Page, field: str, text: str) -> None:
    page.get_by_role("textbox", name=field).fill(text)
    page.keyboard.press("Enter")


def tool(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


# Bars


def test_a_drag_over_the_bars_narrows_them_and_the_list(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    x, y = bar_at(page, 60)
    drag(page, (x, y), (x + 150, y))
    expect(page).to_have_url(re.compile("since=.*until="))
    since, until = (datetime.fromisoformat(asked(page)[name][0]) for name in ("since", "until"))
    all_times = page.get_by_title("All times")
    expect(all_times).to_contain_text(f"{since:%Y-%m-%d}")
    expect(rows(page, STORE).first).to_contain_text(f"{until:%Y}")
    assert all(since <= moment < until for moment in moments(page))
    all_times.click()
    expect(page).to_have_url(scoop)
    expect(rows(page, STORE).first).to_contain_text("2026-08-22 16:29:46")


def test_a_click_on_a_bar_narrows_to_it(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?type=PackageReadded")
    expect(bars(page)).not_to_have_count(0)
    expect(rows(page, STORE)).to_have_count(5)
    page.mouse.click(*bar_at(page, 0))
    expect(page).to_have_url(re.compile("since="))
    expect(rows(page, STORE)).to_have_count(1)


def test_a_bar_tells_what_it_holds(page: Page, github: str) -> None:
    open_view(page, github)
    expect(bars(page).nth(30)).to_be_visible()
    page.mouse.move(*bar_at(page, 30))
    expect(page.locator(".bars + .tip")).to_contain_text(
        re.compile(r"\d+ within .*from 20.* Commented")
    )


def test_bars_are_as_high_as_their_sum_however_many_types_there_are(
    page: Page, github: str
) -> None:
    open_view(page, github)
    expect(bars(page).nth(30)).to_be_visible()
    tops = bars(page).evaluate_all("parts => parts.map(part => +part.getAttribute('y'))")
    lines = page.locator(".bars .grid line")
    top = lines.evaluate_all("lines => Math.min(...lines.map(line => +line.getAttribute('y1')))")
    assert min(tops) == pytest.approx(top, abs=0.01)


# Filters


def test_types_are_chosen_by_their_chips(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    type_chip(page, "PackageReadded").click()
    expect(rows(page, STORE)).to_have_count(5)
    type_chip(page, "ManifestBroken").click()
    expect(rows(page, STORE)).to_have_count(10)
    assert asked(page)["type"] == ["PackageReadded", "ManifestBroken"]
    type_chip(page, "PackageReadded").click()
    expect(rows(page, STORE)).to_have_count(5)
    expect(rows(page, STORE).filter(has_text="ManifestBroken")).to_have_count(5)
    # The keyboard goes on from where it was.
    page.keyboard.press("Space")
    expect(rows(page, STORE)).to_have_count(10)


def test_every_type_is_among_the_chips(page: Page, github: str) -> None:
    open_view(page, github)
    page.get_by_role("button", name="23 more types").click()
    type_chip(page, "CopilotWorkStarted").click()
    expect(rows(page, STORE)).to_have_count(1)


def test_an_aggregate_type_an_actor_and_a_correlation_id_narrow(page: Page, github: str) -> None:
    open_view(page, github)
    filters = page.get_by_role("form", name="Filters")
    kinds = filters.get_by_role("combobox", name="Aggregate type")
    kinds.select_option("issue")
    expect(page).to_have_url(f"{github}?kind=issue")
    expect(rows(page, STORE).first).to_contain_text("bitcoin-core/gui#")
    fill(page, "By", "fanquake")
    expect(page).to_have_url(f"{github}?kind=issue&actor=fanquake")
    expect(rows(page, STORE).filter(has_not_text="fanquake")).to_have_count(0)
    fill(page, "Correlation id", "none has it")
    expect(page.get_by_text("No event is like this.")).to_be_visible()
    tool(page, "Clear").click()
    expect(page).to_have_url(github)
    expect(rows(page, STORE)).to_have_count(30)
    expect(page.get_by_role("textbox", name="By")).to_have_value("")


def test_what_a_field_of_the_payload_equals(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    fill(page, "Payload field", "/patch/version")
    fill(page, "equals", "0.0.74")
    expect(rows(page, STORE).filter(has_not_text='patch: {"version":"0.0.74"')).to_have_count(0)
    expect(rows(page, STORE).first).to_contain_text("main/ty")
    expect(page.get_by_text("The bars leave the payload filter aside.")).to_be_visible()


@pytest.fixture
def repeated(serve: Serve, data_sets: Path, tmp_path: Path) -> str:
    """A real log three times over: too much to be searched within one step's patience."""
    log = gzip.decompress((data_sets / "wikipedia_edits" / "events.ndjson.gz").read_bytes())
    rare: list[bytes] = []
    rest: list[bytes] = []
    for line in log.splitlines(keepends=True):
        (rare if b"Atractus apophis" in line else rest).append(line)
    path = tmp_path / "repeated.ndjson"
    with path.open("wb") as file:
        file.writelines(rare)
        for copy in range(3):
            for line in rest:
                event = msgspec.json.decode(line)
                event["aggregate_id"] += f" {copy}"
                event["event_id"] = str(uuid4())
                file.write(msgspec.json.encode(event) + b"\n")
    return serve(path) + "/timeline"


def test_a_rare_text_is_searched_for_step_by_step(page: Page, repeated: str) -> None:
    open_view(page, repeated)
    fill(page, "Payload contains", "ATRACTUS APOPHIS")
    expect(page.get_by_text(re.compile(r"0 events found in the [\d,]+ newest"))).to_be_visible()
    further = tool(page, "Search further")
    reached = None
    for _ in range(50):
        if rows(page, STORE).count():
            break
        told = page.get_by_text(re.compile("back to #")).inner_text()
        assert told != reached
        reached = told
        further.click()
        expect(page.get_by_text(told, exact=True)).to_have_count(0)
        expect(page.get_by_text("Searching …")).to_have_count(0)
    expect(rows(page, STORE)).to_have_count(1)
    expect(rows(page, STORE)).to_contain_text("vi.wikipedia:Atractus apophis")
    expect(further).to_have_count(0)


def test_a_wrong_pointer_is_told_in_one_line(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    fill(page, "Payload field", "patch")
    expect(page.get_by_role("alert")).to_have_count(1)
    expect(page.get_by_role("alert")).to_contain_text("'patch' is no JSON pointer")
    assert page.get_by_text("is no JSON pointer").count() == 1
    expect(bars(page)).not_to_have_count(0)


# The list


def test_pages_lead_on_and_back_without_gap_or_repeat(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    expect(rows(page, STORE)).to_have_count(30)
    pages = [positions(page)]
    expect(tool(page, "Newer")).to_be_disabled()
    for _ in range(2):
        tool(page, "Older").click()
        expect(rows(page, STORE).first).to_have_attribute("data-position", str(pages[-1][-1] - 1))
        pages.append(positions(page))
    together = [position for one in pages for position in one]
    assert all(after == before - 1 for before, after in pairwise(together))
    for known in (pages[1], pages[0]):
        tool(page, "Newer").click()
        expect(rows(page, STORE).first).to_have_attribute("data-position", str(known[0]))
        assert positions(page) == known
    tool(page, "Newer").click()
    expect(page).to_have_url(scoop)


def test_pages_of_a_filtered_list_lead_on_and_back(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?type=ManifestMoved")
    expect(rows(page, STORE)).to_have_count(30)
    first = positions(page)
    for _ in range(5):
        tool(page, "Older").click()
        expect(tool(page, "Newer")).to_be_enabled()
        expect(rows(page, STORE).first).not_to_have_attribute("data-position", str(first[0]))
    expect(rows(page, STORE)).to_have_count(172 - 150)
    expect(tool(page, "Older")).to_be_disabled()


def test_keys_turn_pages_and_choose_rows(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    expect(rows(page, STORE)).to_have_count(30)
    newest = positions(page)
    page.keyboard.press("ArrowRight")
    expect(rows(page, STORE).first).to_have_attribute("data-position", str(newest[-1] - 1))
    page.keyboard.press("End")
    expect(rows(page, STORE).last).to_have_attribute("data-position", "1")
    expect(tool(page, "Older")).to_be_disabled()
    page.keyboard.press("ArrowLeft")
    expect(rows(page, STORE).last).to_have_attribute("data-position", "31")
    page.keyboard.press("Home")
    expect(rows(page, STORE).first).to_have_attribute("data-position", str(newest[0]))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(chosen_row(page, STORE)).to_have_attribute("data-position", str(newest[0]))
    name = rows(page, STORE).first.get_by_role("link").first.inner_text()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


def test_a_row_leads_to_its_event_from_its_top_and_back_to_the_list(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?type=PackageAdded")
    expect(rows(page, STORE)).to_have_count(30)
    scroll(page, 3000)
    row = rows(page, STORE).nth(25)
    name = row.get_by_role("link").first.inner_text()
    row.click()
    heading = page.get_by_role("heading", name=name, exact=True)
    expect(chosen_event(page)).to_have_text("1 PackageAdded")
    expect(heading).to_be_in_viewport()
    page.go_back()
    expect(rows(page, STORE)).to_have_count(30, timeout=2_000)
    expect(rows(page, STORE).first).to_be_visible(timeout=2_000)


def test_the_selection_is_exported(page: Page, scoop: str, tmp_path: Path) -> None:
    open_view(page, f"{scoop}?type=PackageRemoved&contains=bucket")
    expect(rows(page, STORE).first).to_be_visible()
    with page.expect_download() as started:
        page.get_by_role("link", name="Export").click()
    assert started.value.suggested_filename == "events.ndjson"
    file = tmp_path / "events.ndjson"
    started.value.save_as(file)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert events
    assert {event["event_type"] for event in events} == {"PackageRemoved"}
    assert all("bucket" in json.dumps(event["data"]) for event in events)
    assert [event["position"] for event in events][::-1][:30] == positions(page)


def test_filters_and_pages_are_in_the_address(
    page: Page, new_context: NewContext, scoop: str
) -> None:
    open_view(page, scoop)
    type_chip(page, "ManifestEdited").click()
    expect(page).to_have_url(f"{scoop}?type=ManifestEdited")
    fill(page, "By", "Luke Sampson")
    expect(page).to_have_url(re.compile("actor=Luke"))
    expect(rows(page, STORE).filter(has_not_text="Luke Sampson")).to_have_count(0)
    newest = positions(page)
    tool(page, "Older").click()
    expect(page).to_have_url(re.compile("before="))
    expect(rows(page, STORE).first).not_to_have_attribute("data-position", str(newest[0]))
    shown = positions(page)
    page.reload()
    expect(rows(page, STORE).first).to_have_attribute("data-position", str(shown[0]))
    assert positions(page) == shown
    elsewhere = new_context().new_page()
    open_view(elsewhere, page.url)
    expect(rows(elsewhere, STORE).first).to_have_attribute("data-position", str(shown[0]))
    expect(elsewhere.get_by_role("textbox", name="By")).to_have_value("Luke Sampson")
    expect(type_chip(elsewhere, "ManifestEdited")).to_have_attribute("aria-pressed", "true")
    for _ in range(3):
        page.go_back()
    expect(page).to_have_url(scoop)
    expect(rows(page, STORE).first).to_contain_text("2026-08-22 16:29:46")
    expect(page.get_by_role("textbox", name="By")).to_have_value("")


def test_a_type_has_one_look_everywhere(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    drawn = type_chip(page, "PackageReadded").locator(".swatch").get_attribute("class")
    assert drawn is not None
    [look] = [name for name in drawn.split() if name.startswith("look-")]
    swatch = re.compile(rf"swatch {look} shape-0")
    type_chip(page, "PackageReadded").click()
    expect(rows(page, STORE)).to_have_count(5)
    expect(bars(page).first).to_have_class(look)
    expect(rows(page, STORE).first.locator(".swatch")).to_have_class(swatch)
    rows(page, STORE).first.click()
    expect(chosen_event(page).locator(".swatch")).to_have_class(swatch)
    expect(
        rows(page, HISTORY).filter(has_text="PackageReadded").locator(".swatch").first
    ).to_have_class(swatch)
    expect(page.locator(".chart .marks").locator(f".{look}").first).to_be_visible()


# Live


def test_events_of_another_process_join_the_list(
    page: Page, growing: str, growing_url: str
) -> None:
    open_view(page, f"{growing}?live=1")
    expect(rows(page, STORE)).to_have_count(30)
    append_elsewhere(growing_url, "note-joins", events=2)
    expect(rows(page, STORE).nth(1)).to_contain_text("note-joins")
    expect(rows(page, STORE).first).to_contain_text("number: 1")
    expect(rows(page, STORE)).to_have_count(30)
    page.get_by_role("button", name="more types").click()
    expect(type_chip(page, "Noted")).to_be_visible()


def test_nothing_moves_while_one_reads_further_down(
    page: Page, growing: str, growing_url: str
) -> None:
    page.set_viewport_size({"width": 1440, "height": 600})
    open_view(page, f"{growing}?live=1")
    expect(rows(page, STORE)).to_have_count(30)
    shown = positions(page)
    scroll(page, 600)
    expect(rows(page, STORE).first).not_to_be_in_viewport()
    box = rows(page, STORE).nth(20).bounding_box()
    append_elsewhere(growing_url, "note-waits", events=3)
    news = page.get_by_role("button", name="3 new", exact=True)
    expect(news).to_be_attached()
    expect(news).to_be_in_viewport()
    assert positions(page) == shown
    assert rows(page, STORE).nth(20).bounding_box() == box
    append_elsewhere(growing_url, "note-waits", events=1)
    tool(page, "4 new").click()
    expect(rows(page, STORE).nth(3)).to_contain_text("note-waits")
    expect(rows(page, STORE).first).to_be_in_viewport()
    expect(page.get_by_role("button", name=re.compile("new$"))).to_have_count(0)


def test_only_what_passes_the_filters_is_new(page: Page, growing: str, growing_url: str) -> None:
    open_view(page, f"{growing}?live=1&kind=note&type=Wanted")
    expect(page.get_by_text("No event is like this.")).to_be_visible()
    append_elsewhere(growing_url, "note-filtered", event_type="Unwanted", events=2)
    append_elsewhere(growing_url, "note-filtered", event_type="Wanted")
    expect(rows(page, STORE)).to_have_count(1)
    expect(rows(page, STORE).first).to_contain_text("Wanted")


def test_live_is_switched_on_and_off(page: Page, growing: str, growing_url: str) -> None:
    open_view(page, growing)
    expect(rows(page, STORE)).to_have_count(30)
    shown = positions(page)
    append_elsewhere(growing_url, "note-switched")
    page.wait_for_timeout(1_500)
    assert positions(page) == shown
    tool(page, "Live").click()
    expect(page).to_have_url(f"{growing}?live=1")
    expect(rows(page, STORE).first).to_contain_text("note-switched")
    expect(tool(page, "Live")).to_have_attribute("aria-pressed", "true")
    tool(page, "Live").click()
    expect(page).to_have_url(growing)


def test_a_page_further_back_stays_and_says_what_is_new(
    page: Page, growing: str, growing_url: str
) -> None:
    open_view(page, f"{growing}?live=1&before=4000")
    expect(rows(page, STORE).first).to_have_attribute("data-position", "3999")
    page.wait_for_timeout(1_500)
    append_elsewhere(growing_url, "note-further", events=2)
    expect(tool(page, "2 new")).to_be_visible()
    expect(rows(page, STORE).first).to_have_attribute("data-position", "3999")
    tool(page, "2 new").click()
    expect(rows(page, STORE).first).to_contain_text("note-further")


def test_the_row_the_keys_chose_stays_chosen_when_others_join(
    page: Page, growing: str, growing_url: str
) -> None:
    open_view(page, f"{growing}?live=1")
    expect(rows(page, STORE)).to_have_count(30)
    page.keyboard.press("ArrowDown")
    chosen = chosen_row(page, STORE).get_attribute("data-position")
    append_elsewhere(growing_url, "note-beside")
    expect(rows(page, STORE).first).to_contain_text("note-beside")
    expect(chosen_row(page, STORE)).to_have_attribute("data-position", str(chosen))

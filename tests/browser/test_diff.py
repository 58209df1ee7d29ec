"""Two states beside one another in a browser: every gesture, the keyboard, the address."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonpatch
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import BrowserContext, Locator, Page, expect

from store import Hindsight, NewEvent, any_, migrate
from tests.browser.comparing import (
    between,
    compared,
    difference,
    open_diff,
    point,
    thumb,
    versions,
)
from tests.browser.conftest import Serve
from tests.browser.elsewhere import append_by_command

pytestmark = pytest.mark.browser

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
PROSE = "It was the best of times, it was the worst of times, it was the age of wisdom"
CARTS = [
    {
        "items": [{"id": number, "name": f"item {number}"} for number in range(4)],
        "kept": {"a": 1, "b": 2, "c": 3},
        "note": PROSE,
        "old": True,
        "price": 1,
        "size": 1,
    },
    {
        "items": [{"id": number, "name": f"item {number}"} for number in (3, 0, 1, 2, 9)],
        "note": PROSE.replace("worst", "very worst"),
        "old": None,
        "price": 2,
        "young": {"x": 1},
    },
    {"price": 3},
    {},
    {"price": 9_007_199_254_740_993},
]


DOMAIN = "users:domain"


def write_carts(url: str) -> None:
    """Cart c of five events an hour apart, cart d of one, and user ada, stored in old versions."""
    ada = {"username": "ada", "email": "a@b.example", "full_name": "Ada", "password_hash": "x"}
    with Hindsight(url) as store:
        for name, changes in (("c", CARTS), ("d", CARTS[:1])):
            events = [
                NewEvent(
                    "CartChanged",
                    data,
                    occurred_at=NOON + hour * timedelta(hours=1),
                    metadata={"actor": f"actor-{hour}"},
                )
                for hour, data in enumerate(changes)
            ]
            store.append("cart", name, events, expected=any_())
        store.append("user", "ada", [NewEvent("UserCreated", ada)], expected=any_())
        store.append("user", "eve", [NewEvent("Unheard", {})], expected=any_())


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The carts, for all to look at and nobody to append to."""
    url = f"sqlite:///{tmp_path_factory.mktemp('diff') / 'store.db'}"
    migrate(url)
    write_carts(url)
    return url


@pytest.fixture(scope="module")
def address(serve: Serve, url: str) -> str:
    return serve(url, domain=DOMAIN) + "/diff?aggregate=c"


def row(page: Page, kind: str, text: str) -> Locator:
    return difference(page).locator(f"li.{kind}").filter(has_text=text)


def alert(page: Page, text: str) -> Locator:
    return page.get_by_role("alert").filter(has_text=text)


def shown_as(page: Page, name: str) -> Locator:
    return page.get_by_role("group", name="Show as").get_by_role("button", name=name)


def test_the_newest_is_compared_with_the_version_before_it(page: Page, address: str) -> None:
    open_diff(page, address)
    versions(page, 4, 5)
    expect(row(page, "replace", "price")).to_have_text("~price: 3 → 9007199254740993")


def test_a_difference_is_told_by_signs_as_well_as_colours(page: Page, address: str) -> None:
    open_diff(page, f"{address}&from=1&to=2")
    expect(row(page, "replace", "price")).to_have_text("~price: 1 → 2")
    expect(row(page, "remove", "old")).to_have_text("−old: true")
    expect(row(page, "add", "young").get_by_role("img", name="added").first).to_have_text("+")
    expect(row(page, "move", "from /items/3")).to_contain_text(">0 from /items/3")
    expect(row(page, "add", "item 9")).to_be_visible()
    expect(row(page, "replace", "note").locator("ins")).to_have_text("very ")
    expect(page.locator(".summary")).to_have_text("2 changed · 2 added · 1 removed · 1 moved")


def test_what_is_the_same_is_folded_until_it_is_asked_for(page: Page, address: str) -> None:
    open_diff(page, f"{address}&from=1&to=2")
    expect(difference(page)).not_to_contain_text("item 1")
    difference(page).get_by_role("button", name="3 unchanged").click()
    expect(difference(page).locator(".unfolded > li")).to_have_count(3)
    difference(page).locator(".unfolded summary").nth(1).click()
    expect(difference(page)).to_contain_text("item 1")


def test_both_sides_are_dragged(page: Page, address: str) -> None:
    open_diff(page, f"{address}&from=1&to=2")

    def drag(letter: str, start: int, stop: int) -> None:
        box = thumb(page, letter).bounding_box()
        assert box is not None
        middle = box["y"] + box["height"] / 2
        place = [box["x"] + 8 + (box["width"] - 16) * version / 5 for version in (start, stop)]
        page.mouse.move(place[0], middle)
        page.mouse.down()
        page.mouse.move(place[1], middle, steps=8)
        page.mouse.up()

    drag("B", 2, 5)
    versions(page, 1, 5)
    expect(page).to_have_url(f"{address}&from=1&to=5")
    drag("A", 1, 3)
    versions(page, 3, 5)
    expect(page).to_have_url(f"{address}&from=3&to=5")
    page.go_back()


def test_arrows_move_the_side_that_has_the_focus(page: Page, address: str) -> None:
    open_diff(page, f"{address}&from=1&to=3")
    thumb(page, "A").focus()
    page.keyboard.press("ArrowRight")
    versions(page, 2, 3)
    thumb(page, "B").focus()
    page.keyboard.press("End")
    versions(page, 2, 5)
    page.keyboard.press("ArrowLeft")
    versions(page, 2, 4)
    expect(page).to_have_url(f"{address}&from=2&to=4")


def test_brackets_and_buttons_step_both(page: Page, address: str) -> None:
    open_diff(page, f"{address}&from=1&to=3")
    page.keyboard.press("]")
    versions(page, 2, 4)
    page.keyboard.press("[")
    versions(page, 1, 3)
    both = page.get_by_role("group", name="Step both")
    both.get_by_role("button").last.click()
    both.get_by_role("button").last.click()
    versions(page, 3, 5)
    expect(both.get_by_role("button").last).to_be_disabled()
    page.keyboard.press("]")
    versions(page, 3, 5)
    both.get_by_role("button").first.click()
    versions(page, 2, 4)


def test_sides_are_swapped(page: Page, address: str) -> None:
    open_diff(page, f"{address}&from=1&to=3")
    page.keyboard.press("s")
    versions(page, 3, 1)
    expect(row(page, "add", "old")).to_have_text("+old: true")
    page.get_by_role("button", name="Swap").click()
    versions(page, 1, 3)
    expect(page).to_have_url(f"{address}&from=1&to=3")


def test_versions_and_times_are_typed(page: Page, address: str) -> None:
    open_diff(page, address)
    point(page, "A").fill("1")
    point(page, "A").press("Enter")
    versions(page, 1, 5)
    point(page, "B").fill("2026-01-31 14:30Z")
    point(page, "B").press("Enter")
    compared(page, "version 1", "version 3, as of 2026-01-31 14:30:00 UTC")
    expect(page).to_have_url(f"{address}&from=1&to=2026-01-31T14%3A30%3A00Z")
    expect(thumb(page, "B")).to_have_value("3")
    point(page, "B").fill("tea time")
    point(page, "B").press("Enter")
    expect(page.locator(".sides")).to_contain_text("Write a version, or a time such as")
    point(page, "A").fill("77")
    point(page, "A").press("Enter")
    expect(alert(page, "'c' has no version 77; it is at 5")).to_be_visible()
    expect(difference(page)).to_be_hidden()
    point(page, "A").fill("2")
    point(page, "A").press("Enter")
    compared(page, "version 2", "version 3, as of 2026-01-31 14:30:00 UTC")
    expect(alert(page, "no version")).to_have_count(0)


def test_times_are_of_either_axis(page: Page, address: str) -> None:
    open_diff(page, f"{address}&from=1&to=2030-01-01T00:00:00Z")
    page.get_by_role("combobox", name="The time that A and B speak of").select_option("recorded")
    expect(page).to_have_url(f"{address}&from=1&to=2030-01-01T00%3A00%3A00Z&axis=recorded")
    expect(point(page, "B")).to_have_value("2030-01-01T00:00:00Z")


def test_another_aggregate_is_compared(page: Page, address: str) -> None:
    open_diff(page, f"{address}&from=2&to=3")
    beside = page.get_by_role("textbox", name="Another aggregate as B")
    beside.fill("d")
    beside.press("Enter")
    expect(page.locator("h2")).to_have_text("c version 2 → d version 1")
    expect(thumb(page, "B")).to_have_attribute("max", "1")
    expect(page).to_have_url(f"{address}&from=2&with=d")
    expect(row(page, "add", "old")).to_be_visible()
    expect(page.get_by_role("region", name="Events between")).to_have_count(0)
    page.keyboard.press("s")
    expect(page.locator("h2")).to_have_text("d version 1 → c version 2")
    expect(thumb(page, "A")).to_have_attribute("max", "1")
    beside.fill("nobody")
    beside.press("Enter")
    expect(alert(page, "no aggregate 'nobody'")).to_be_visible()
    beside.fill("")
    beside.press("Enter")
    expect(page.locator("h2")).to_have_text("d version 1 → version 1")


def test_it_is_shown_as_text(page: Page, address: str) -> None:
    open_diff(page, f"{address}&from=1&to=2")
    shown_as(page, "Text").click()
    expect(page).to_have_url(f"{address}&from=1&to=2&as=text")
    text = page.get_by_role("region", name="Unified text")
    expect(text.locator(".line.remove").filter(has_text="price")).to_have_text('−  "price": 1,')
    expect(text.locator(".line.add").filter(has_text="price")).to_have_text('+  "price": 2,')
    hidden = text.locator(".line").filter(has_text='"name": "item 1"')
    expect(hidden).to_have_count(0)
    text.get_by_role("button", name="unchanged lines").first.click()
    expect(hidden).to_have_count(1)


def test_it_is_shown_as_a_patch_and_copied(
    page: Page, address: str, context: BrowserContext
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_diff(page, f"{address}&from=4&to=5")
    shown_as(page, "Patch").click()
    whole = '[{"op":"replace","path":"/price","value":9007199254740993}]'
    expect(page.locator("pre.patch")).to_contain_text(whole.strip("[]"))
    copies = page.get_by_role("group", name="Copy as")
    for name, copied in [
        ("Patch", whole),
        ("Command", "hindsight diff -- c 4 5"),
        ("Link", f"{address}&from=4&to=5&as=patch"),
    ]:
        copies.get_by_role("button", name=name).click()
        expect(copies.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == copied
        expect(copies.get_by_role("button", name="Copied")).to_be_hidden()


def test_the_patch_and_both_states_are_saved(page: Page, address: str) -> None:
    open_diff(page, f"{address}&from=1&to=2")
    found = {}
    for name in ("Save patch", "Save both states"):
        with page.expect_download() as saving:
            page.get_by_role("link", name=name).click()
        found[saving.value.suggested_filename] = json.loads(Path(saving.value.path()).read_text())
    assert list(found) == ["c.1-2.patch.json", "c.1-2.states.json"]
    patch, states = found.values()
    one, other = states["one"]["state"], states["other"]["state"]
    assert jsonpatch.JsonPatch(patch).apply(one) == other


def test_the_events_between_lead_to_their_replay_and_back(page: Page, address: str) -> None:
    open_diff(page, f"{address}&from=1&to=4&as=text")
    expect(between(page).get_by_role("row")).to_have_text(
        [
            "VersionOccurred (UTC)TypeActorWhat it contributed",
            "22026-01-31 13:00:00CartChangedactor-1/items/0, /items/4, /note, /old, /price, /young",
            "32026-01-31 14:00:00CartChangedactor-2/price",
            "42026-01-31 15:00:00CartChangedactor-3nothing",
        ]
    )
    between(page).get_by_role("row").nth(2).click()
    expect(page.locator(".position")).to_contain_text("3 of 5")
    page.go_back()
    versions(page, 1, 4)
    expect(shown_as(page, "Text")).to_have_attribute("aria-pressed", "true")


def test_no_difference_is_said(page: Page, address: str) -> None:
    open_diff(page, f"{address}&from=3&to=4")
    for name in ("Tree", "Text", "Patch"):
        shown_as(page, name).click()
        expect(difference(page)).to_have_text("Nothing differs.")
    point(page, "A").fill("4")
    point(page, "A").press("Enter")
    expect(page.get_by_role("region", name="Events between")).to_contain_text("None")


def test_what_is_too_large_is_told_by_its_changes(
    page: Page, serve: Serve, sqlite_url: str
) -> None:
    big = {f"k{number:06}": "x" * 90 for number in range(21_000)}
    with Hindsight(sqlite_url) as store:
        events = [NewEvent("Filled", big), NewEvent("Filled", {"k000007": "y"})]
        store.append("thing", "t", events, expected=any_())
    open_diff(page, f"{serve(sqlite_url)}/diff?aggregate=t")
    expect(difference(page)).to_contain_text("only what changed is shown")
    changes = page.get_by_role("list", name="Changes").get_by_role("listitem")
    expect(changes).to_have_text([f'~/k000007 "{"x" * 90}" → "y"'])
    shown_as(page, "Text").click()
    expect(difference(page)).to_contain_text("Save the patch or both states")


def test_a_side_that_cannot_be_folded_says_so(page: Page, address: str) -> None:
    open_diff(page, address.replace("=c", "=eve"))
    expect(alert(page, "aggregate 'user' has no event 'Unheard'")).to_be_visible()
    expect(difference(page)).to_have_text("Nothing differs.")


def test_a_snapshot_is_compared_with_its_replay(page: Page, address: str) -> None:
    open_diff(page, address.replace("=c", "=ada"))
    page.get_by_role("link", name="its snapshot beside its replay").click()
    expect(alert(page, "no snapshot of 'ada'")).to_be_visible()
    page.go_back()
    versions(page, 0, 1)


def test_an_event_is_shown_as_stored_and_after_each_upcaster(page: Page, address: str) -> None:
    open_diff(page, address.replace("=c", "=ada"))
    shown_as(page, "Upcasters").click()
    expect(page).to_have_url(address.replace("=c", "=ada") + "&as=lab")
    stored = page.get_by_role("article", name="UserCreated 1, as it was stored")
    expect(stored).to_contain_text('username: "ada"')
    read = page.get_by_role("article", name="UserCreated 2, as the code reads it")
    expect(read.locator("li.add")).to_have_text("+phone_verified: false")
    expect(read.get_by_role("button", name="4 unchanged")).to_be_visible()
    rows = page.get_by_role("table", name="Stored versions").get_by_role("row")
    expect(rows).to_have_text(
        [
            "AggregateEventVersionEventsRead asVersionChain",
            "cartCartChanged16––no domain code",
            "userUnheard11––! no such event",
            "userUserCreated11UserCreated2complete",
        ]
    )


def test_the_events_of_the_upcasters_are_stepped_through(page: Page, address: str) -> None:
    open_diff(page, f"{address}&as=lab&event=2")
    event = page.get_by_role("region", name="Forms of an event")
    expect(event).to_contain_text("There is no domain code for this type")
    event.get_by_role("button", name="Next").click()
    expect(page).to_have_url(f"{address}&as=lab&event=3")
    expect(event.get_by_role("article")).to_contain_text("price: 3")
    event.get_by_role("button", name="Previous").click()
    expect(event.get_by_role("article")).to_contain_text("price: 2")
    event.get_by_role("textbox", name="Event").fill("77")
    event.get_by_role("textbox", name="Event").press("Enter")
    expect(alert(page, "'c' has no version 77")).to_be_visible()


def test_without_domain_code_the_upcasters_say_so(page: Page, serve: Serve, url: str) -> None:
    page.goto(f"{serve(url)}/diff")
    page.get_by_role("link", name="Which schema versions are stored").click()
    stored = page.get_by_role("region", name="Stored versions", exact=True)
    expect(stored).to_contain_text("No domain code: name it with EVENT_STORE_DOMAIN")
    expect(stored.get_by_role("row")).to_have_count(4)


def test_back_a_reload_and_a_pasted_link_show_the_same(
    page: Page, address: str, new_context: Callable[..., BrowserContext]
) -> None:
    open_diff(page, f"{address}&from=1&to=2")
    point(page, "B").fill("3")
    point(page, "B").press("Enter")
    versions(page, 1, 3)
    shown_as(page, "Patch").click()
    expect(page.locator("pre.patch")).to_be_visible()
    page.reload()
    versions(page, 1, 3)
    expect(page.locator("pre.patch")).to_be_visible()
    other = new_context(color_scheme="dark", width=800).new_page()
    open_diff(other, page.url)
    versions(other, 1, 3)
    expect(other.locator("pre.patch")).to_be_visible()
    page.go_back()
    expect(page.locator("pre.patch")).to_have_count(0)
    page.go_back()
    versions(page, 1, 2)


def test_what_is_appended_meanwhile_can_be_gone_to(
    page: Page, serve: Serve, sqlite_url: str
) -> None:
    write_carts(sqlite_url)
    open_diff(page, f"{serve(sqlite_url, domain=DOMAIN)}/diff?aggregate=c&from=1&to=2")
    append_by_command(sqlite_url, "cart", "c", "CartChanged", "--data", '{"price": 6}')
    point(page, "B").fill("6")
    point(page, "B").press("Enter")
    versions(page, 1, 6)
    expect(thumb(page, "A")).to_have_attribute("max", "6")


def test_replay_and_timeline_lead_here(page: Page, address: str) -> None:
    page.goto(address.replace("/diff", "/replay") + "&version=3")
    page.get_by_role("link", name="Diff with…").click()
    versions(page, 2, 3)
    page.goto(address.replace("/diff", "/timeline") + "&version=1")
    page.get_by_role("link", name="Diff with…").click()
    versions(page, 0, 1)
    page.go_back()
    expect(page.get_by_role("region", name="Chosen event")).to_contain_text("CartChanged")


def test_an_aggregate_is_chosen_from_the_finder(page: Page, address: str) -> None:
    page.goto(address.partition("?")[0])
    expect(page.get_by_role("main", name="Diff")).to_contain_text("Choose an aggregate")
    page.keyboard.press("/")
    page.keyboard.type("c")
    page.keyboard.press("Enter")
    versions(page, 4, 5)


NOWHERE = {
    "aggregate=c&from=x": "from: 'x' is neither a version nor a time",
    "aggregate=c&to=77": "'c' has no version 77; it is at 5",
    "aggregate=nobody": "no aggregate 'nobody'",
    "aggregate=c&with=nobody": "no aggregate 'nobody'",
    "aggregate=c&to=2020-01-01T00:00:00Z": "'c' has no event by 2020",
    "aggregate=c&axis=x": "axis: 'x' is neither occurred nor recorded",
    "aggregate=c&as=x": "as: 'x' is none of text, patch and lab",
    "aggregate=c&as=lab&event=x": "event: 'x' is not a number",
    "from=3": "from: which aggregate's?",
}


def test_an_address_that_leads_nowhere_says_so(page: Page, address: str) -> None:
    for query, message in NOWHERE.items():
        page.goto(f"{address.partition('?')[0]}?{query}")
        expect(alert(page, message)).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_anybody_from_using_it(
    address: str, scheme: str, new_context: Callable[..., BrowserContext]
) -> None:
    page = new_context(color_scheme=scheme).new_page()
    for view in ("", "&as=text", "&as=patch"):
        open_diff(page, f"{address.partition('?')[0]}?aggregate=c&from=1&to=2{view}")
        expect(between(page)).to_be_visible()
        check_rules(page)
    open_diff(page, f"{address.partition('?')[0]}?aggregate=ada&as=lab&event=1")
    expect(page.get_by_role("table", name="Stored versions")).to_be_visible()
    check_rules(page)


def check_rules(page: Page) -> None:
    found = Axe().run(page, options=WCAG)
    assert found.violations_count == 0, found.response["violations"]

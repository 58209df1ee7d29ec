"""The Monitoring page: which conflicts there are, told at once, right and without a jump."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import BrowserContext, Page, Route, expect

from store import Hindsight, NewEvent, any_, migrate
from tests.browser.conftest import LOOKS, OTHER_LOOKS, Serve
from tests.browser.monitored import (
    SECOND,
    Document,
    Told,
    busy,
    chart,
    conflict,
    figure,
    huge,
    legend,
    main,
    now,
    panel,
    placed,
    quiet,
    table_rows,
    unasked,
    unsampled,
)
from tests.browser.test_app_shell import OVERFLOWING, WCAG
from tests.browser.timeline import chosen_event

pytestmark = pytest.mark.browser

NewContext = Callable[..., BrowserContext]

HOTTEST = "Hottest aggregates"
RECENT = "Recent conflicts"
CACHE = "Cache"
HOSTILE = [
    "orders/2026/№ 7",
    'Ron "Pigpen" McKernan & sons #1 100%+?',
    "<img src=x onerror=\"document.title='owned'\">",
    "</table><script>document.title='owned'</script>",
    'ד"ר סוס (סדרת טלוויזיה)',  # noqa: RUF001 (it is Hebrew)
    "$x^2$ :smile: [link](https://example.org)",
]


@pytest.fixture(scope="module")
def address(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('monitored') / 'store.db'}"
    migrate(url)
    with Hindsight(url) as store:
        for aggregate_id in ["user-1", *HOSTILE]:
            events = [NewEvent(name, {}) for name in ("UserCreated", "EmailChanged", "Locked")]
            store.append("user", aggregate_id, events, expected=any_())
    return serve(url) + "/monitoring"


def shown(page: Page, address: str, document: Document) -> Told:
    told = Told(page, document)
    page.goto(address)
    placed(page)
    return told


# What it tells


def test_figures_say_how_many_conflicts_there_are_and_who_saw_them(
    page: Page, address: str
) -> None:
    shown(page, address, busy(conflicts=6))
    expect(figure(page, "Conflicts")).to_contain_text("65 per 100 saves")
    expect(figure(page, "Escaped")).to_contain_text("116.7% seen by callers")
    expect(figure(page, "Absorbed")).to_contain_text("583.3% by retries")
    expect(figure(page, "Needless")).to_contain_text("2of 6 logged")
    expect(figure(page, "Save p95")).to_contain_text("3 msp50 1 ms")
    expect(figure(page, "Store size")).to_contain_text("1.5 MB+500 kB in this range")
    expect(figure(page, "Feed lag")).to_contain_text("0watermark 200 ms old")
    expect(page).to_have_title("Monitoring · Hindsight")


def test_a_chart_says_what_it_shows(page: Page, address: str) -> None:
    shown(page, address, busy(conflicts=6))
    conflicts = chart(page, "Conflicts over time")
    expect(conflicts).to_have_accessible_name(
        re.compile("Conflicts over time, conflicts in each 1 min, .* UTC: Escaped 1, Absorbed 5")
    )
    expect(chart(page, "Save")).to_have_accessible_name(
        re.compile("Save, ms, .*: p50 at most 1 ms, p95 at most 3 ms, p99 at most 7 ms")
    )
    expect(legend(page, "Conflicts over time")).to_have_text(["Escaped1", "Absorbed5"])
    expect(legend(page, "Events by type")).to_have_text(["EmailChanged180", "UserCreated60"])
    assert conflicts.locator("path.escaped").get_attribute("d")


def test_what_was_not_measured_is_a_gap(page: Page, address: str) -> None:
    document = quiet()
    document["levels"]["feed_lag"] = [1, 1, None, *[2] * 56, None]
    shown(page, address, document)
    line = chart(page, "Feed lag").locator("path.line")
    assert (line.get_attribute("d") or "").count("M") == 2
    expect(legend(page, "Feed lag")).to_have_text("Feed lag2")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("same", "No: the same decision"),
        ("commutes", "No: the same in either order"),
        ("other", "Yes: another decision"),
        ("rejected", "Yes: rejected now"),
        ("nothing", "Yes: nothing left to do"),
        ("order", "Yes: the order matters"),
        ("unknown", "Not known"),
    ],
)
def test_whether_a_conflict_had_to_be_is_said_in_words(
    page: Page, address: str, verdict: str, words: str
) -> None:
    document = busy() | {"recent": [conflict(now(), verdict=verdict, weight=14, outcome="escaped")]}
    shown(page, address, document)
    row = table_rows(page, RECENT)
    expect(row.locator("td")).to_have_text(
        [
            re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"),
            "escaped",
            "user-1",
            "1 → 2",
            "ChangeEmail",
            "LockAccount",
            f"{words} ×14 alike",
        ]
    )


def test_what_is_not_known_is_said_to_be_so(page: Page, address: str) -> None:
    unknown = {"aggregate_id": None, "expected": None, "actual": None, "winning": None}
    document = busy(aggregate_id=None) | {"recent": [conflict(now(), **unknown)]}
    document["pairs"][0]["winning"] = None
    shown(page, address, document)
    cells = table_rows(page, RECENT).locator("td")
    expect(cells.nth(2)).to_have_text("not known")
    expect(cells.nth(3)).to_have_text("– → –")
    expect(cells.nth(5)).to_have_text("not known")
    expect(table_rows(page, HOTTEST).locator("td").first).to_have_text("not known")
    pairs = page.get_by_role("table", name="Who loses to whom")
    expect(pairs.get_by_role("columnheader")).to_have_text(["not known"])


def test_heat_maps_are_tables_that_can_be_walked_by_keys(page: Page, address: str) -> None:
    shown(page, address, busy("24h"))
    hours = page.get_by_role("table", name="Conflicts by hour")
    assert hours.get_by_role("columnheader").count() in (24, 25)
    expect(hours.get_by_role("rowheader")).to_have_text(["user"])
    expect(hours.locator("td.hot")).to_have_text("33 detected, 1 escaped, 2 needless")
    part = panel(page, "Who loses to whom")
    part.get_by_role("group").focus()
    page.keyboard.press("ArrowRight")
    told = "ChangeEmail × LockAccount: 3 detected, 1 escaped, 2 needless"
    expect(part.get_by_text(told)).to_be_visible()
    panel(page, "Conflicts by hour").locator("td.hot").hover()
    expect(panel(page, "Conflicts by hour").locator(".said")).to_contain_text("user × the hour")


def test_much_of_everything_is_cut_to_what_can_be_read(page: Page, address: str) -> None:
    shown(page, f"{address}?range=24h", huge())
    expect(legend(page, "Events by type")).to_have_count(9)
    expect(legend(page, "Events by type").last).to_contain_text("192 other types")
    hours = page.get_by_role("table", name="Conflicts by hour")
    expect(hours.get_by_role("rowheader")).to_have_count(7)
    expect(hours.get_by_role("rowheader").last).to_have_text("54 more types")
    expect(table_rows(page, RECENT)).to_have_count(20)


# The cache


def test_a_cache_is_a_line_for_each_level_and_who_answered(page: Page, address: str) -> None:
    document = quiet()
    document["cache"]["ratios"] = {"l1": [0.9] * 59 + [1.0], "l2": [0.5, None] * 29 + [None, 0.25]}
    shown(page, address, document)
    expect(chart(page, CACHE)).to_have_accessible_name(
        re.compile("Cache, hit ratio, .* UTC: L1 at most 100%, L2 at most 50%")
    )
    expect(legend(page, CACHE)).to_have_text(["L1100%", "L225%"])
    line = chart(page, CACHE).locator("path.line.l2")
    assert (line.get_attribute("d") or "").count("M") == 30
    for name, told in {
        "Looked up": "1,000in this range",
        "From L1": "90%900 in the process",
        "From L2": "5%50 in Redis",
        "From the database": "5%50 read anew",
        "Dropped": "0not borne out",
        "Errors": "0Redis did not answer",
        "Read from Redis": "20 kB",
        "Written to Redis": "10 kB",
    }.items():
        expect(figure(page, name)).to_contain_text(told)
        expect(figure(page, name).locator(".warned")).to_have_count(0)


def test_a_share_is_drawn_upon_all_there_is(page: Page, address: str) -> None:
    document = quiet()
    document["cache"]["ratios"] = {"l1": [0.02] * 60}
    shown(page, address, document)
    marks = chart(page, CACHE).locator(".grid text[text-anchor=end]")
    expect(marks.filter(has_text="%")).to_have_text(["0%", "50%", "100%"])


def test_a_cache_that_nobody_asked_says_so_and_draws_nothing(page: Page, address: str) -> None:
    told = shown(page, address, quiet() | {"cache": unasked()})
    nothing = "Nothing was looked up in this range: no loads, or the cache is off"
    expect(chart(page, CACHE)).to_contain_text(nothing)
    expect(chart(page, CACHE).locator("path")).to_have_count(0)
    expect(legend(page, CACHE)).to_have_text(["L1–"])
    expect(figure(page, "From L1")).to_contain_text("–")
    expect(figure(page, "Read from Redis")).to_have_count(0)
    box = panel(page, CACHE).bounding_box()
    told.document = quiet()
    expect(figure(page, "Read from Redis")).to_be_visible()
    assert panel(page, CACHE).bounding_box() == box, "it jumps"


def test_a_level_that_nobody_asked_has_no_line(page: Page, address: str) -> None:
    document = quiet()
    del document["cache"]["ratios"]["l2"]
    document["cache"] |= {"answered": {"l1": 900, "l2": 0, "database": 100}}
    document["cache"]["redis_bytes"] = {"read": 0, "written": 0}
    shown(page, address, document)
    expect(legend(page, CACHE)).to_have_text(["L190%"])
    expect(figure(page, "From L2")).to_contain_text("0%")
    expect(figure(page, "Written to Redis")).to_have_count(0)


@pytest.mark.parametrize(("name", "key"), [("Dropped", "dropped"), ("Errors", "errors")])
def test_what_a_cache_should_not_meet_is_coloured(
    page: Page, address: str, name: str, key: str
) -> None:
    document = quiet()
    document["cache"][key] = 3
    shown(page, address, document)
    expect(figure(page, name).locator(".warned")).to_have_text("3")
    expect(page.locator(".warned")).to_have_count(1)
    expect(figure(page, "Dropped")).to_have_attribute("title", re.compile("read anew"))


# How old it is


def test_how_old_the_newest_sample_is_stands_over_all(page: Page, address: str) -> None:
    told = shown(page, address, quiet())
    line = page.locator(".fresh-line")
    expect(line).to_have_text(re.compile(r"^Last sample \d+ s ago from host:123\.$"))
    document = quiet()
    document["newest"]["at"] -= 40 * SECOND
    told.document = document
    stale = r"^Last sample 4\d s ago from host:123: nothing has changed since, or nobody writes\.$"
    expect(line).to_have_text(re.compile(stale))
    told.document = quiet() | {
        "source": {"kind": "prometheus", "name": "http://prometheus:9090"},
        "newest": None,
    }
    expect(line).to_have_text("From Prometheus at http://prometheus:9090.")


def test_a_store_without_samples_says_what_is_missing(page: Page, address: str) -> None:
    told = shown(page, address, unsampled())
    expect(page.get_by_role("heading", name="Nothing has been measured yet")).to_be_visible()
    expect(page.get_by_text("they are written every 10 s")).to_be_visible()
    expect(page.locator(".fresh-line")).to_contain_text("No samples yet")
    expect(figure(page, "Conflicts")).not_to_be_visible()
    told.document = busy()
    expect(figure(page, "Conflicts")).to_be_visible()
    expect(page.get_by_text("Nothing has been measured yet")).not_to_be_visible()


def test_a_range_without_conflicts_says_so(page: Page, address: str) -> None:
    shown(page, address, quiet())
    expect(figure(page, "Conflicts")).to_contain_text("0")
    expect(panel(page, "Conflicts by hour")).to_contain_text("No conflicts in this range")
    expect(panel(page, RECENT)).to_contain_text("No conflict was logged in this range")
    expect(chart(page, "Conflicts over time")).to_contain_text("No conflicts in this range")


def test_a_server_that_fails_leaves_the_last_picture_and_its_age(page: Page, address: str) -> None:
    told = shown(page, address, busy())
    expect(table_rows(page, RECENT)).to_have_count(3)
    told.refusal = (503, "Unavailable", "the database is locked")
    expect(page.get_by_role("alert")).to_have_text("the database is locked")
    expect(page.locator(".fresh-line")).to_have_text(re.compile(r"^This picture is \d+ s old\.$"))
    expect(table_rows(page, RECENT)).to_have_count(3)
    told.refusal = None
    expect(page.get_by_role("alert")).to_have_count(0)


def test_an_event_file_has_no_metrics_and_no_place_in_the_navigation(
    page: Page, serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "log.ndjson").touch()
    told = Told(page, quiet())
    line = "An event file has no metrics; open a store to watch it."
    told.refusal = (404, "NothingToWatch", line)
    page.goto(serve(tmp_path / "log.ndjson") + "/monitoring")
    placed(page)
    expect(main(page)).to_have_text(line, use_inner_text=True)
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("link", name="Monitoring")).to_have_count(0)


# Addresses


def test_the_range_stands_in_the_address(page: Page, address: str) -> None:
    told = shown(page, address, busy())
    chosen = page.get_by_role("group", name="Range").locator("[aria-pressed=true]")
    expect(chosen).to_have_text("1 h")
    page.get_by_role("button", name="6 h").click()
    expect(page).to_have_url(re.compile(r"range=6h$"))
    expect(chosen).to_have_text("6 h")
    page.get_by_role("button", name="15 min").click()
    expect(chosen).to_have_text("15 min")
    page.go_back()
    expect(chosen).to_have_text("6 h")
    page.reload()
    placed(page)
    expect(chosen).to_have_text("6 h")
    assert [asked for asked in told.questions if asked != "range=1h"][-1] == "range=6h"
    page.goto(f"{address}?range=2h")
    expect(page.get_by_role("alert")).to_contain_text("range: '2h' is none of 15m, 1h, 6h, 24h")


def test_what_the_pointer_rests_on_is_asked_beforehand(page: Page, address: str) -> None:
    told = shown(page, f"{address}?live=0", busy())
    page.get_by_role("button", name="6 h").hover()
    page.wait_for_timeout(300)
    assert told.questions[-1] == "range=6h"
    asked = len(told.questions)
    page.get_by_role("button", name="6 h").click()
    expect(page).to_have_url(re.compile("range=6h"))
    page.wait_for_timeout(300)
    assert len(told.questions) == asked


def test_ids_are_text_and_lead_to_their_timeline_at_that_moment(page: Page, address: str) -> None:
    told = Told(page, busy())
    for aggregate_id in HOSTILE:
        told.document = busy(aggregate_id=aggregate_id)
        page.goto(address)
        placed(page)
        link = table_rows(page, HOTTEST).get_by_role("link")
        expect(link).to_have_text(aggregate_id)
        expect(table_rows(page, RECENT).first.get_by_role("link")).to_have_text(aggregate_id)
        link.click()
        expect(page.get_by_role("heading", level=2)).to_have_text(aggregate_id)
        expect(chosen_event(page)).to_have_text("2 EmailChanged")
        assert quote(aggregate_id, safe="") in page.url.replace("+", "%20")


def test_the_navigation_leads_from_page_to_page(page: Page, address: str) -> None:
    shown(page, address, busy())
    page.get_by_role("button", name=re.compile("^Local")).click()
    page.get_by_role("link", name="Timeline").click()
    expect(page.get_by_role("main", name="Timeline")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^Local"))).to_have_attribute(
        "aria-pressed", "true"
    )
    page.get_by_role("button", name="UTC", exact=True).click()
    page.get_by_role("link", name="Monitoring").click()
    expect(table_rows(page, HOTTEST)).to_have_count(1)
    expect(page.get_by_role("button", name="UTC", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(page).to_have_title("Monitoring · Hindsight")


def test_a_reload_shows_the_page_before_streamlit_has_a_place_for_it(
    page: Page, address: str
) -> None:
    shown(page, f"{address}?range=6h", busy("6h"))
    expect(table_rows(page, RECENT)).to_have_count(3)
    before = main(page).bounding_box()
    held: list[Route] = []
    page.route("**/_stcore/**", lambda route: held.append(route))  # noqa: PLW0108 - no builtin
    page.reload()
    expect(table_rows(page, RECENT)).to_have_count(3)
    assert main(page).bounding_box() == before
    assert page.get_by_test_id("stMain").get_by_role("main").count() == 0, "Streamlit was quicker"
    for route in held:
        route.continue_()
    page.unroute("**/_stcore/**")
    placed(page)
    expect(main(page)).to_have_count(1)
    assert main(page).bounding_box() == before


# Live


SHIFTS = """
() => {
  window.shifts = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.shifts += entry.value;
  }).observe({ type: "layout-shift" });
}
"""
HEIGHT = "main => main.getBoundingClientRect().height"


def test_news_is_drawn_in_place(page: Page, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = now()
    monkeypatch.setattr("tests.browser.monitored.now", lambda: moment)  # no step ends meanwhile
    told = shown(page, address, quiet())
    expect(panel(page, RECENT)).to_contain_text("No conflict was logged")
    page.mouse.move(700, 500)
    page.mouse.wheel(0, 400)
    focused = chart(page, "Conflicts over time")
    focused.focus()
    page.keyboard.press("End")
    page.wait_for_timeout(500)
    page.evaluate(SHIFTS)
    before = focused.bounding_box()
    height = main(page).evaluate(HEIGHT)
    told.document = busy(conflicts=9) | {"alerts": quiet()["alerts"]}
    expect(table_rows(page, RECENT)).to_have_count(9)
    expect(legend(page, "Conflicts over time")).to_have_text(["Escaped1", "Absorbed8"])
    expect(focused).to_be_focused()
    assert focused.bounding_box() == before
    assert main(page).evaluate(HEIGHT) == height
    assert page.evaluate("window.shifts") == 0


def test_a_link_that_has_the_focus_keeps_it_over_news(page: Page, address: str) -> None:
    told = shown(page, address, busy())
    link = table_rows(page, HOTTEST).get_by_role("link")
    link.focus()
    told.document = busy(conflicts=7)
    expect(table_rows(page, RECENT)).to_have_count(7)
    expect(link).to_be_focused()


def test_live_can_be_turned_off(page: Page, address: str) -> None:
    told = shown(page, address, busy())
    live = page.get_by_role("button", name="Live")
    expect(live).to_have_attribute("aria-pressed", "true")
    live.click()
    expect(page).to_have_url(re.compile(r"live=0$"))
    expect(live).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".fresh-line")).to_contain_text("Not live: as of")
    asked = len(told.questions)
    page.wait_for_timeout(3_000)
    assert len(told.questions) == asked
    live.click()
    expect(page).to_have_url(re.compile(r"/monitoring$"))
    page.wait_for_timeout(3_000)
    assert len(told.questions) >= asked + 2


SEEN = """
(state) => {
  Object.defineProperty(document, "hidden", { value: state === "hidden", configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""


def test_nobody_is_asked_while_nobody_looks(page: Page, address: str) -> None:
    told = shown(page, address, busy())
    expect(table_rows(page, RECENT)).to_have_count(3)
    page.evaluate(SEEN, "hidden")
    page.wait_for_timeout(300)
    asked = len(told.questions)
    page.wait_for_timeout(3_000)
    assert len(told.questions) == asked
    told.document = busy(conflicts=5)
    page.evaluate(SEEN, "visible")
    expect(table_rows(page, RECENT)).to_have_count(5)


# The cursor


def test_a_cursor_tells_each_step(page: Page, address: str) -> None:
    told = shown(page, address, busy(conflicts=6))
    part = panel(page, "Conflicts over time")
    chart(page, "Conflicts over time").focus()
    page.keyboard.press("End")
    expect(part.locator("header")).to_contain_text(
        re.compile(r"\d\d:\d\d to \d\d:\d\d UTC, so far")
    )
    expect(legend(page, "Conflicts over time")).to_have_text(["Escaped1", "Absorbed5"])
    page.keyboard.press("ArrowLeft")
    expect(legend(page, "Conflicts over time")).to_have_text(["Escaped0", "Absorbed0"])
    time = part.locator("header .right").text_content() or ""
    expect(part.locator("[aria-live]")).to_have_text(f"{time}: Escaped 0, Absorbed 0")
    told.document = busy(conflicts=8)
    expect(figure(page, "Conflicts")).to_contain_text("8")
    expect(part.locator("header .right")).to_have_text(time)
    page.keyboard.press("Escape")
    expect(part.locator("header .right")).to_have_text("in this range")
    box = chart(page, "Conflicts over time").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 12, box["y"] + 60)
    expect(legend(page, "Conflicts over time")).to_have_text(["Escaped1", "Absorbed7"])
    page.mouse.move(box["x"] + 200, box["y"] - 200)
    expect(part.locator("header .right")).to_have_text("in this range")


# Every theme, every width


@pytest.mark.parametrize(("theme", "width"), [*LOOKS, *OTHER_LOOKS])
def test_the_page_breaks_no_rule_and_fits(
    new_context: NewContext, address: str, theme: str, width: int
) -> None:
    page = new_context(color_scheme=theme, width=width).new_page()
    documents = {"quiet": quiet(), "unsampled": unsampled(), "busy": busy(), "huge": huge()}
    found = {}
    for name, document in documents.items():
        shown(page, f"{address}?range={document['range']}", document)
        expect(page.locator(".fresh-line")).not_to_be_empty()
        page.wait_for_timeout(300)
        assert main(page).evaluate(OVERFLOWING) == []
        results = Axe().run(page, options=WCAG)
        found[name] = [
            (violation["id"], [node["html"] for node in violation["nodes"]])
            for violation in results.response["violations"]
        ]
        page.unroute_all()
    assert found == {name: [] for name in found}
    assert "busy" in found

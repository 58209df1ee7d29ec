"""What surrounds every view: navigation, states without content, themes, narrow windows, keys."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import BrowserContext, Page, Route, WebSocket, WebSocketRoute, expect

from store import Context, Hindsight, NewEvent, any_, migrate
from tests.browser.conftest import Serve, started
from tests.browser.elsewhere import append_by_command, append_elsewhere
from tests.browser.timeline import (
    HISTORY,
    LANES,
    STORE,
    bars,
    chosen_event,
    event_panel,
    matches,
    open_view,
    rows,
    search,
    search_field,
)

pytestmark = pytest.mark.browser

NewContext = Callable[..., BrowserContext]

# What the rules of WCAG 2.0 to 2.2, levels A and AA, are filed under.
WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}


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
def empty(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('empty') / 'store.db'}"
    migrate(url)
    return serve(url) + "/timeline"


@pytest.fixture(scope="module")
def related(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two aggregates, one event the cause of the other."""
    url = f"sqlite:///{tmp_path_factory.mktemp('related') / 'store.db'}"
    migrate(url)
    with Hindsight(url) as store:
        first = Context(actor="ada", correlation_id="c-1")
        cause = store.append("a", "a-1", [NewEvent("Asked", {})], expected=any_(), context=first)
        effect = Context(correlation_id="c-1", causation_id=str(cause.events[0].event_id))
        store.append("b", "b-1", [NewEvent("Answered", {})], expected=any_(), context=effect)
    return serve(url) + "/timeline"


@pytest.fixture
def views(scoop: str, github: str, empty: str, related: str) -> dict[str, str]:
    """Each view, and what is to be seen on it before it is complete."""
    return {
        f"{github}?live=1&type=Commented": f"table[aria-label='{STORE}'] tbody tr",
        f"{scoop}?aggregate=main/aws&version=600": ".event .state .tree",
        f"{related}?as=lanes&correlation=c-1&aggregate=b-1&version=1": ".event .branches",
        f"{scoop}?lane=main/aws&lane=main/git": f"table[aria-label='{LANES}'] tbody tr",
        empty: "h2",
        f"{scoop}?aggregate=main/nosuch": "[role=alert]",
    }


# Every theme, every width


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.soak)])
def test_no_view_breaks_the_accessibility_rules(
    new_context: NewContext, views: dict[str, str], theme: str
) -> None:
    page = new_context(color_scheme=theme).new_page()
    found = {}
    for address, awaited in views.items():
        open_view(page, address)
        page.locator(awaited).first.wait_for()
        results = Axe().run(page, options=WCAG)
        found[address] = [
            (violation["id"], [node["html"] for node in violation["nodes"]])
            for violation in results.response["violations"]
        ]
    assert found == {address: [] for address in views}


OVERFLOWING = """
(main) => {
  const app = main.closest(".app");
  const framed = (element) =>
    element !== app &&
    (getComputedStyle(element).overflowX !== "visible" || framed(element.parentElement));
  return [...app.querySelectorAll("*")]
    .filter((element) => element.getBoundingClientRect().right > innerWidth + 0.5)
    .filter((element) => !framed(element.parentElement))
    .map((element) => element.outerHTML.slice(0, 120));
}
"""


def test_nothing_is_wider_than_a_narrow_window(
    new_context: NewContext, views: dict[str, str]
) -> None:
    page = new_context(width=800).new_page()
    for address, awaited in views.items():
        open_view(page, address)
        locator = page.locator(awaited).first
        locator.wait_for()
        assert page.get_by_role("main", name="Timeline").evaluate(OVERFLOWING) == []


def test_the_finder_of_a_narrow_window_opens_by_its_key(
    new_context: NewContext, scoop: str
) -> None:
    page = new_context(width=800).new_page()
    open_view(page, scoop)
    expect(rows(page, STORE).first).to_be_visible()
    expect(matches(page).first).not_to_be_visible()
    page.keyboard.press("/")
    expect(search_field(page)).to_be_focused()
    expect(matches(page).first).to_be_visible()
    page.keyboard.type("main/aws")
    expect(matches(page).nth(1)).to_contain_text("main/aws-amplify")
    box = page.get_by_role("list", name="Aggregates found").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 800
    matches(page).first.click()
    expect(page.get_by_role("heading", name="main/aws")).to_be_visible()
    expect(chosen_event(page)).to_contain_text("1,225 ")


# Nothing jumps


def boxes(page: Page) -> list[object]:
    """Where the list and the panel of an aggregate stand."""
    frames = [
        page.locator(".plot"),
        page.get_by_role("table", name=HISTORY),
        event_panel(page),
    ]
    found = [frame.bounding_box() for frame in frames]
    return [(box["x"], box["y"], box["width"]) for box in found if box]


def test_nothing_jumps_over_a_step(page: Page, scoop: str) -> None:
    open_view(page, f"{scoop}?aggregate=main/aws&version=602")
    expect(chosen_event(page)).to_contain_text("602 ")
    expect(page.locator(".event .state .tree")).to_be_visible()
    before = boxes(page)
    assert len(before) == 3
    for version in (601, 600):
        page.keyboard.press("ArrowLeft")
        expect(chosen_event(page)).to_contain_text(f"{version} ")
        assert boxes(page) == before
    # Over the border of two pages of the list, too.
    for version in (599, 598, 597, 596, 595):
        page.keyboard.press("ArrowLeft")
        expect(chosen_event(page)).to_contain_text(f"{version} ")
    expect(rows(page, HISTORY).first).to_contain_text("595")
    assert boxes(page) == before


def test_nothing_jumps_when_streamlit_runs_again(page: Page, scoop: str) -> None:
    frames: list[object] = []

    def follow(socket: WebSocket) -> None:
        socket.on("framesent", lambda _: frames.append("sent"))
        socket.on("framereceived", lambda _: frames.append("received"))

    page.on("websocket", follow)
    open_view(page, f"{scoop}?aggregate=main/aws&version=600")
    expect(chosen_event(page)).to_contain_text("600 ")
    expect(page.locator(".event .state .tree")).to_be_visible()
    page.wait_for_timeout(500)
    main = page.get_by_role("main", name="Timeline").element_handle()
    before = boxes(page)
    frames.clear()
    page.keyboard.press("r")
    for _ in range(10):
        page.wait_for_timeout(100)
        assert boxes(page) == before
    assert {"sent", "received"} <= set(frames)
    assert main is not None
    assert main.evaluate("main => main.isConnected"), "the page was drawn anew"
    expect(chosen_event(page)).to_contain_text("600 ")


PLACE = """
(main) => {
  const { x, y, width } = main.getBoundingClientRect();
  const colour = getComputedStyle(main).color;
  return { x, y, width, colour, font: getComputedStyle(main).fontFamily };
}
"""
SCROLLED = """
(main) => {
  let sum = 0;
  for (let at = main; at; at = at.parentElement ?? at.getRootNode().host) sum += at.scrollTop;
  return sum;
}
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 800])
def test_a_reload_shows_the_view_at_its_place_before_streamlit_has_one(
    new_context: NewContext, scoop: str, theme: str, width: int
) -> None:
    page = new_context(color_scheme=theme, width=width).new_page()
    open_view(page, f"{scoop}?aggregate=main/aws&version=600")
    expect(page.locator(".event .state .tree")).to_be_visible()
    main = page.get_by_role("main", name="Timeline")
    placed = main.evaluate(PLACE)
    held: list[Route] = []
    page.route("**/_stcore/**", lambda route: held.append(route))  # noqa: PLW0108 - no builtin
    page.reload()
    expect(chosen_event(page)).to_contain_text("600 ")
    assert main.evaluate(PLACE) == placed
    page.keyboard.press("ArrowLeft")
    expect(chosen_event(page)).to_contain_text("599 ")
    page.keyboard.press("/")
    page.keyboard.type("main/git")
    page.mouse.move(width / 2, 900)
    page.mouse.wheel(0, 150)
    page.wait_for_function(f"main => ({SCROLLED})(main) === 150", arg=main.element_handle())
    scrolled = placed | {"y": placed["y"] - 150}
    assert main.evaluate(PLACE) == scrolled
    streamlit = page.get_by_test_id("stMain").get_by_role("main", name="Timeline")
    assert streamlit.count() == 0, "Streamlit was quicker"
    for route in held:
        route.continue_()
    page.unroute("**/_stcore/**")
    expect(streamlit).to_be_visible()
    expect(main).to_have_count(1)
    assert main.evaluate(PLACE) == scrolled
    expect(search_field(page)).to_be_focused()
    expect(search_field(page)).to_have_value("main/git")
    expect(chosen_event(page)).to_contain_text("599 ")


def test_going_back_before_streamlit_has_started_leads_back_and_no_further(
    new_context: NewContext, scoop: str
) -> None:
    page = new_context().new_page()
    for version in (600, 601, 602):
        open_view(page, f"{scoop}?aggregate=main/aws&version={version}")
        expect(chosen_event(page)).to_contain_text(f"{version} ")
    page.keyboard.press("ArrowLeft")  # a view of the same document
    expect(chosen_event(page)).to_contain_text("601 ")
    told: list[tuple[WebSocketRoute, str | bytes]] = []
    held = True

    def hold(socket: WebSocketRoute) -> None:
        """Streamlit hears that there is a session, and not yet what pages there are."""
        server = socket.connect_to_server()

        def tell(message: str | bytes) -> None:
            told.append((socket, message))
            if not held or len(told) == 1:
                socket.send(message)

        server.on_message(tell)

    page.route_web_socket("**/_stcore/stream", hold)
    page.reload()
    expect(chosen_event(page)).to_contain_text("601 ")
    page.wait_for_timeout(1_000)  # Streamlit has asked, and not been answered
    page.go_back()
    expect(chosen_event(page)).to_contain_text("602 ")
    streamlit = page.get_by_test_id("stMain").get_by_role("main", name="Timeline")
    assert streamlit.count() == 0, "Streamlit was quicker"
    page.wait_for_timeout(1_000)
    held = False
    for socket, message in told[1:]:
        socket.send(message)
    expect(streamlit).to_be_visible()
    page.wait_for_timeout(500)
    assert page.url.endswith("version=602")
    page.go_back()
    expect(chosen_event(page)).to_contain_text("601 ")
    assert page.url.endswith("version=601")


# Stores without content, servers without life


def test_an_empty_store_says_how_to_fill_it_and_fills_by_itself(
    page: Page, serve: Serve, sqlite_url: str
) -> None:
    open_view(page, serve(sqlite_url) + "/timeline")
    expect(page.get_by_role("heading", name="This store has no events yet")).to_be_visible()
    expect(page.get_by_text("hindsight import events.ndjson.gz")).to_be_visible()
    expect(page.get_by_text("No aggregates yet.")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(rows(page, STORE)).to_have_count(0)
    append_elsewhere(sqlite_url, "note-1", events=3)
    expect(rows(page, STORE)).to_have_count(3)
    expect(bars(page).first).to_be_visible()
    expect(matches(page).first).to_contain_text("note-1")
    expect(page.get_by_text("This store has no events yet")).to_have_count(0)


def test_a_server_that_is_gone_is_one_clear_line(
    page: Page, data_sets: Path, pytestconfig: pytest.Config
) -> None:
    log = data_sets / "receipt_wabo" / "events.ndjson.gz"
    process, address = started(str(log), pytestconfig.rootpath)
    try:
        open_view(page, f"{address}/timeline?live=1")
        expect(rows(page, STORE).first).to_be_visible()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    gone = page.get_by_text("The server does not answer. Is it still running?")
    expect(gone).to_have_count(1)
    page.wait_for_timeout(2_000)
    expect(page.get_by_role("alert")).to_have_count(1)
    expect(rows(page, STORE).first).to_be_visible()


def test_what_a_monitor_asks_for(page: Page, scoop: str) -> None:
    for path in ("healthz", "readyz"):
        answer = page.request.get(scoop.replace("/timeline", f"/{path}"))
        assert (answer.status, answer.json()) == (200, {"status": "ok"})


def test_the_navigation_shows_only_what_there_is(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    expect(rows(page, STORE).first).to_be_visible()
    links = page.locator("header a[href]:not([href^='#'])")
    for address in links.evaluate_all("links => links.map(link => link.href)"):
        # The server answers every address; a page that is not there says so itself.
        page.goto(address)
        expect(page.locator("main main")).not_to_be_empty()
        expect(page.get_by_text("Page not found")).to_have_count(0)
    # Streamlit's own menu and its offer to deploy lead nowhere here.
    expect(page.get_by_test_id("stMainMenu")).to_have_count(0)
    expect(page.get_by_text("Deploy", exact=True)).to_have_count(0)


def test_the_logo_and_the_root_lead_to_the_whole_store(page: Page, scoop: str) -> None:
    page.goto(scoop.replace("/timeline", "/"))
    expect(rows(page, STORE).first).to_be_visible()
    expect(page).to_have_url(re.compile("/timeline$"))


# Addresses

IDS = [
    "en.wikipedia:Wikipedia:Administrators' noticeboard/Incidents",
    'en.wikipedia:Talk:Ron "Pigpen" McKernan/GA1',
    "de.wikipedia:Wikipedia:Teestube/Fragen/Wie geht das?",
    "en.wikipedia:Thomas & Friends (series 4)",
    "ru.wikipedia:Саша+Маша",
    'he.wikipedia:ד"ר סוס (סדרת טלוויזיה)',  # noqa: RUF001 (it is Hebrew)
    "ja.wikipedia:利用者:TOSHIFUMI NAGAO/sandbox",
]


def test_ids_of_any_script_are_found_and_kept_in_the_address(page: Page, wikipedia: str) -> None:
    open_view(page, wikipedia)
    expect(matches(page).first).to_be_visible()
    heading = page.get_by_role("heading", level=2)
    for aggregate_id in IDS:
        page.keyboard.press("/")
        search_field(page).fill(aggregate_id)
        expect(matches(page).first).to_contain_text(aggregate_id)
        page.keyboard.press("Enter")
        expect(heading).to_have_text(aggregate_id)
        search_field(page).blur()
    for aggregate_id in reversed(IDS):
        expect(heading).to_have_text(aggregate_id)
        page.reload()
        expect(heading).to_have_text(aggregate_id)
        expect(rows(page, HISTORY).first).to_be_visible()
        page.go_back()


def test_an_id_pasted_into_the_address_by_hand_works(page: Page, wikipedia: str) -> None:
    for aggregate_id in IDS:
        # A "+" in an address is a space, an "&" ends it: those two must be written as codes.
        by_hand = aggregate_id.replace("+", "%2B").replace("&", "%26")
        open_view(page, f"{wikipedia}?aggregate={by_hand}")
        expect(page.get_by_role("heading", level=2)).to_have_text(aggregate_id)


# News


def test_new_events_of_an_aggregate_are_told_and_shown(
    page: Page, serve: Serve, sqlite_url: str
) -> None:
    append_elsewhere(sqlite_url, "note-1", events=2)
    open_view(page, serve(sqlite_url) + "/timeline?aggregate=note-1&version=1")
    expect(chosen_event(page)).to_have_text("1 Noted")
    expect(page.locator(".event .state .tree")).to_be_visible()
    before = boxes(page)
    append_by_command(sqlite_url, "note", "note-1", "Renoted", "--data", '{"by": "hand"}')
    news = page.get_by_role("button", name="1 new event: show")
    expect(news).to_be_visible()
    assert boxes(page) == before
    expect(chosen_event(page)).to_have_text("1 Noted")
    append_by_command(sqlite_url, "note", "note-1", "Renoted", "--data", "{}")
    page.get_by_role("button", name="2 new events: show").click()
    expect(chosen_event(page)).to_have_text("4 Renoted")
    expect(rows(page, HISTORY)).to_have_count(4)
    expect(page.get_by_text(re.compile("^4 events in"))).to_be_visible()
    expect(page.get_by_role("button", name="show")).to_have_count(0)
    page.reload()
    expect(chosen_event(page)).to_have_text("4 Renoted")


@contextmanager
def held(url: str) -> Iterator[int]:
    """A transaction that has drawn a position and stays open; gives the pid of its backend."""
    with Hindsight(url) as store, store.database.transaction() as connection:
        late = [NewEvent("Late", {})]
        store.append("thing", "late", late, expected=any_(), connection=connection)
        yield connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()


def test_who_holds_readers_is_said_as_long_as_it_is_so(
    page: Page, serve: Serve, postgres_url: str
) -> None:
    append_elsewhere(postgres_url, "note-1", events=2)
    open_view(page, serve(postgres_url) + "/timeline?live=1")
    expect(rows(page, STORE)).to_have_count(2)
    line = page.get_by_text("Readers are held")
    main = page.get_by_role("main", name="Timeline")
    before = main.bounding_box()
    with held(postgres_url) as pid:
        append_elsewhere(postgres_url, "note-2")
        expect(line).to_contain_text(re.compile(rf"Readers are held at #2 by pid {pid} for \d+ s"))
        after = main.bounding_box()
    assert before is not None
    assert after is not None
    assert (after["x"], after["y"]) == (before["x"], before["y"])
    expect(line).to_have_count(0)
    expect(rows(page, STORE)).to_have_count(4)
    expect(rows(page, STORE).nth(1)).to_contain_text("Late")


def test_both_a_time_and_how_long_ago_are_told(page: Page, scoop: str) -> None:
    open_view(page, scoop)
    expect(rows(page, STORE).locator(".when").first).to_have_attribute("title", re.compile("ago$"))
    search(page, "main/aws")
    expect(matches(page).first).to_contain_text(re.compile("d ago|y ago"))

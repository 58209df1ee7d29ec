"""What a person with a browser waits for: pages that open, clicks and keys that are answered."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Literal, TypeAlias

from msgspec import Struct
from playwright.sync_api import BrowserContext, Locator, Page, WebSocket, sync_playwright

from tests import chromium

OPENED = "open"
CLICKED = "click"
OBSERVER = Path(__file__).with_name("observer.js").read_text()

_ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
_REST = 150  # ms between the pointer's arrival and the press
_SETTLED = 400  # ms: what a click has set off is done before the next
_QUIET = 1_000
_BLANK = "about:blank"

Times: TypeAlias = dict[str, float]
"""Milliseconds that each measure of a visit took, the median where it was done repeatedly."""


class Place(Struct, frozen=True):
    """A page that is visited; `kind` says what is shown there and what is done."""

    title: str
    kind: Literal["empty", "timeline", "replay", "store", "monitoring"]
    address: str


class Arrival(Struct, frozen=True):
    """A first visit, with nothing in the browser's cache or the server's."""

    milliseconds: float
    bytes: int
    websocket_bytes: int
    marks: int


class Visitor:
    """One person's browser, with a tab for each place; what was loaded once it has cached."""

    def __init__(self, context: BrowserContext, clicks: int) -> None:
        self._context = context
        self._clicks = clicks
        self._tabs: dict[str, Page] = {}

    def arrive(self, place: Place) -> Arrival:
        """Open the place for the first time; how much of our own data came."""
        page = self._context.new_page()
        received: list[int] = []
        page.on("websocket", lambda socket: _listen(socket, received))
        milliseconds = _open(page, place)
        page.wait_for_timeout(_QUIET)
        arrival = Arrival(
            milliseconds,
            page.evaluate("bench.bytes()"),
            sum(received),
            page.evaluate("bench.marks()"),
        )
        page.close()
        return arrival

    def visit(self, place: Place) -> Times:
        """Open the place, use it, leave it."""
        page = self._tab(place)
        times = {OPENED: _open(page, place)}
        page.wait_for_timeout(_SETTLED)
        times |= _USES[place.kind](page, self._clicks)
        page.goto(_BLANK)
        return times

    def open(self, place: Place) -> float:
        """Open the place and leave it; the milliseconds until it is ready."""
        page = self._tab(place)
        milliseconds = _open(page, place)
        page.wait_for_timeout(_SETTLED)
        page.goto(_BLANK)
        return milliseconds

    def _tab(self, place: Place) -> Page:
        page = self._tabs.get(place.title)
        if page is None:
            page = self._tabs[place.title] = self._context.new_page()
        page.bring_to_front()
        return page


@contextmanager
def visitor(clicks: int) -> Iterator[Visitor]:
    """Somebody who does everything `clicks` times on each visit."""
    with opened_browser() as context:
        context.add_init_script(OBSERVER)
        yield Visitor(context, clicks)


@contextmanager
def opened_browser() -> Iterator[BrowserContext]:
    """A Chromium as all measures have it."""
    path = chromium.find()
    if path is None:
        raise SystemExit("no Chromium: run `make browser` and try again")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        context = browser.new_context(viewport={"width": 1440, "height": 1000})
        context.set_default_timeout(30_000)
        yield context
        browser.close()


def _listen(socket: WebSocket, received: list[int]) -> None:
    socket.on("framereceived", lambda payload: received.append(len(payload)))


def _open(page: Page, place: Place) -> float:
    page.goto(place.address, wait_until="commit")
    milliseconds: float = page.evaluate(f"bench.ready('{place.kind}')")
    return milliseconds


def _measured(page: Page, act: Callable[[], None], kind: str, *names: str) -> Sequence[float]:
    """Milliseconds from the event that `act` sets off to the paint of each of `names`."""
    page.evaluate("([kind, names]) => bench.watch(kind, names)", [kind, names])
    act()
    times: list[float] = page.evaluate("bench.measured")
    page.wait_for_timeout(_SETTLED)
    return times


def _press(page: Page, target: Locator) -> Callable[[], None]:
    """Press what the pointer has come to and rested on, as a hand does."""
    target.hover()
    page.wait_for_timeout(_REST)
    return target.click


def _use_empty(page: Page, clicks: int) -> Times:
    button = page.locator(".st-key-more button")
    times = [_measured(page, _press(page, button), "click", "number") for _ in range(clicks)]
    return {CLICKED: median(number for (number,) in times)}


def _use_timeline(page: Page, clicks: int) -> Times:
    rows = page.get_by_role("table", name="Events of the aggregate").locator("tbody tr")
    # Each row once, none of them the chosen one or a neighbour that was looked ahead to.
    picked = [rows.nth(min(3 + 3 * index, 14)).locator("td.when") for index in range(clicks)]
    clicked = [_measured(page, _press(page, row), "click", "event", "effect") for row in picked]

    def step() -> None:
        page.keyboard.press("ArrowLeft")

    stepped = [_measured(page, step, "keydown", "event", "effect") for _ in range(clicks)]
    return {
        "row → its event": median(event for event, _ in clicked),
        "row → its event and what it changed": median(effect for _, effect in clicked),
        "← → the event before": median(event for event, _ in stepped),
        "← → the event before and what it changed": median(effect for _, effect in stepped),
    }


def _use_store(page: Page, clicks: int) -> Times:
    chips = page.get_by_role("group", name="Event types").get_by_role("button")
    kinds = chips.count()
    filtered = []
    for index in range(clicks):
        chip = chips.nth(index * (kinds - 1) // max(clicks - 1, 1))  # the commonest to the rarest
        filtered += [
            _measured(page, _press(page, chip), "click", "filtered") for _ in ("on", "off")
        ]
    older = page.get_by_role("button", name="Older")
    turned = [_measured(page, _press(page, older), "click", "list") for _ in range(clicks)]
    rows = page.get_by_role("table", name="Events of the store").locator("tbody tr td.when")
    opened = []
    for index in range(clicks):
        opened.append(_measured(page, _press(page, rows.nth(index)), "click", "opened"))
        page.go_back(wait_until="commit")
        page.evaluate("bench.ready('store')")
        page.wait_for_timeout(_SETTLED)
    return {
        "type → list and bars": median(one for (one,) in filtered),
        "older → page of the list": median(one for (one,) in turned),
        "row → its aggregate": median(one for (one,) in opened),
    }


def _use_replay(page: Page, clicks: int) -> Times:
    rows = page.locator(".state-row:visible")
    asked = []
    for index in range(clicks):
        target = rows.nth(index % rows.count())
        asked.append(_measured(page, _press(page, target), "click", "blame"))
        page.keyboard.press("Escape")
        page.wait_for_timeout(_SETTLED)
    return {"field → who set it": median(one for (one,) in asked)}


def _use_monitoring(page: Page, clicks: int) -> Times:
    ranges = page.get_by_role("group", name="Range").get_by_role("button")
    chosen = []
    for index in range(clicks):
        # Each is chosen from another one; an hour is what the page begins with.
        target = ranges.nth((0, 2, 1, 3)[index % 4])
        chosen.append(_measured(page, _press(page, target), "click", "range"))
    return {"range → all charts": median(one for (one,) in chosen)}


_USES: dict[str, Callable[[Page, int], Times]] = {
    "empty": _use_empty,
    "timeline": _use_timeline,
    "replay": _use_replay,
    "store": _use_store,
    "monitoring": _use_monitoring,
}

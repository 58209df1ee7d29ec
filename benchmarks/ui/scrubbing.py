"""Stepping through a history in a browser: what a key costs, and how soon a jump is answered."""

import random
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles

from msgspec import Struct
from playwright.sync_api import BrowserContext, Page

STEPS = 200
JUMPS = 40
_PRESS_GAP = 35  # ms, about a held key
_RECORDER = Path(__file__).with_name("steps.js").read_text()
_BLANK = """
<!doctype html><title>floor</title><p id="told"></p>
<script>
let count = 0;
addEventListener("keydown", () => { told.textContent = count += 1; });
</script>
"""


class Scrubbed(Struct, frozen=True, kw_only=True):
    """Milliseconds, the 95th percentile of all presses or jumps of a round.

    `painted` runs from a key to the paint after it, `floor` is that of an empty handler, `work` is
    what the page's main thread did for it. `paints` is the most that one frame had while keys came
    faster than frames; `jump` runs from the asking for a version that is not here to its paint.
    """

    painted: float
    floor: float
    work: float
    paints: int
    jump: float


def scrub(context: BrowserContext, address: str, versions: int) -> Scrubbed:
    """Step through the history of that many versions, and jump about in it."""
    floor, page = context.new_page(), context.new_page()
    try:
        floor.set_content(_BLANK)
        floor.bring_to_front()
        floor.evaluate(_RECORDER)
        least = _presses(floor)
        page.goto(f"{address}&version={versions // 2}")
        page.locator(".state-row").first.wait_for()
        page.bring_to_front()
        page.wait_for_timeout(1_500)
        page.evaluate(_RECORDER)
        steps = _presses(page)
        paints = page.evaluate("scrubbing.storm(300)")
        jumps = [_jump(page, number, versions) for number in range(JUMPS)]
        return Scrubbed(
            painted=_p95([each[0] for each in steps]),
            floor=_p95([each[0] for each in least]),
            work=_p95([each[1] for each in steps]),
            paints=paints,
            jump=_p95(jumps),
        )
    finally:
        floor.close()
        page.close()


def _presses(page: Page) -> Sequence[tuple[float, float]]:
    """For each press: milliseconds to its paint, and of work on the main thread."""
    found = []
    for number in range(STEPS):
        page.evaluate("scrubbing.watch()")
        page.keyboard.press("ArrowRight" if number % 40 < 30 else "ArrowLeft")
        found.append(tuple(page.evaluate("scrubbing.measured")))
        page.wait_for_timeout(_PRESS_GAP)
    return found


def _jump(page: Page, number: int, versions: int) -> float:
    chosen = random.Random(number).randrange(versions)
    milliseconds: float = page.evaluate("version => scrubbing.jump(version)", chosen)
    page.wait_for_timeout(50)
    return milliseconds


def _p95(values: Sequence[float]) -> float:
    return quantiles(values, n=20)[-1]

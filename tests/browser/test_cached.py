"""Processes share a cache, and the page shows what they counted."""

from collections.abc import Callable
from itertools import product

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.conftest import Serve
from tests.browser.monitored import chart, figure, legend, main, panel, placed
from tests.browser.test_app_shell import OVERFLOWING
from tests.lookups import look_up
from tests.servers import RedisServer

pytestmark = pytest.mark.browser

NewContext = Callable[..., BrowserContext]


def test_what_processes_found_in_the_cache_is_told_as_they_counted_it(
    page: Page, serve: Serve, store_url: str, own_redis: RedisServer
) -> None:
    counted = look_up(store_url, own_redis)
    page.goto(f"{serve(store_url)}/monitoring")
    placed(page)
    lookups = counted["l1", "hit"] + counted["l1", "miss"]
    expect(strong(page, "Looked up")).to_have_text(str(lookups))
    expect(figure(page, "From L1")).to_contain_text(f"{counted['l1', 'hit']} in the process")
    expect(figure(page, "From L2")).to_contain_text(f"{counted['l2', 'hit']} in Redis")
    database = counted["l1", "miss"] - counted["l2", "hit"]
    expect(figure(page, "From the database")).to_contain_text(f"{database} read anew")
    dropped = counted["l1", "dropped"] + counted["l2", "dropped"]
    expect(strong(page, "Dropped")).to_have_text(str(dropped))
    expect(strong(page, "Errors")).to_have_text(str(counted["l2", "error"]))
    expect(page.locator(".warned")).to_have_count(2)
    for name, direction in (("Read from Redis", "read"), ("Written to Redis", "written")):
        kilobytes = f"{counted[(direction,)] / 1000:.3g} kB"
        expect(strong(page, name)).to_have_text(kilobytes)
    expect(legend(page, "Cache").locator("bdi")).to_have_text(["L1", "L2"])
    for level in ("l1", "l2"):
        assert chart(page, "Cache").locator(f"path.{level}").get_attribute("d")


def test_the_numbers_stand_whole_within_the_panel(
    new_context: NewContext, serve: Serve, sqlite_url: str, own_redis: RedisServer
) -> None:
    look_up(sqlite_url, own_redis)
    address = f"{serve(sqlite_url)}/monitoring"
    for theme, width in product(("light", "dark"), (1440, 800)):
        page = new_context(color_scheme=theme, width=width).new_page()
        page.goto(address)
        placed(page)
        expect(panel(page, "Cache").locator("dt")).to_have_count(8)
        assert main(page).evaluate(OVERFLOWING) == []
        assert panel(page, "Cache").evaluate(CUT_OFF) == []
        assert panel(page, "Cache").evaluate(BESIDE) == (width == 1440)


CUT_OFF = """
(panel) => [...panel.querySelectorAll("dt, strong, small, bdi")]
  .filter((element) => element.scrollWidth > element.clientWidth + 1)
  .map((element) => element.textContent)
"""

# Whether the numbers stand right of the chart, and not below it.
BESIDE = """
(panel) => {
  const [head, chart, numbers] = ["header", ".series-frame", ".figures"]
    .map((part) => panel.querySelector(part).getBoundingClientRect());
  return chart.left === head.left && numbers.left > chart.right && numbers.top < chart.bottom;
}
"""


def strong(page: Page, name: str) -> Locator:
    return figure(page, name).locator("strong")

# ruff: noqa: INP001 - a program, not a package
"""`python -m scripts.screenshots`: the pictures of the README and the docs, in docs/images.

They show the sample of `users:domain`, always as of the same moment, so that a picture changes only
when the page it shows does.
"""

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import click
from playwright.sync_api import Browser, sync_playwright

from benchmarks.ui import serving
from dashboard.demo import PATH
from store import Hindsight, migrate
from store.sampling import Order, play
from tests import chromium

IMAGES = Path(__file__).parents[1] / "docs" / "images"
DOMAIN = "users:domain"
UNTIL = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
TAKEN = UNTIL + timedelta(minutes=5)
WIDTH, HEIGHT = 1440, 900
LANES = 6
READY = ".chart rect, .chart path, .answers-scroll, .comparison .list tbody tr"
"""What the pages show when they are drawn."""
TOLD = "AccountLocked"
"""The pictured history has events of this type; the last of them is the chosen one."""


@click.command()
@click.option("--into", type=click.Path(path_type=Path), default=IMAGES, show_default=True)
def main(*, into: Path) -> None:
    """Take each picture in light and in dark."""
    browser_path = chromium.find()
    if browser_path is None:
        raise SystemExit("no Chromium: run `make browser` and try again")
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="screenshots-") as place:
        directory = Path(place)
        views = _views(_store(directory))
        with (
            serving.dashboard(f"sqlite:///{PATH}", domain=DOMAIN, directory=directory) as address,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(
                executable_path=browser_path, args=["--no-sandbox", "--hide-scrollbars"]
            )
            for name, (path, view) in views.items():
                for scheme in ("light", "dark"):
                    file = into / f"{name}-{scheme}.png"
                    page = f"{address}/{path}?{urlencode(view, doseq=True)}"
                    file.write_bytes(_take(browser, page, dark=scheme == "dark"))
                    click.echo(f"{file}: {file.stat().st_size:,} bytes", err=True)
            browser.close()


def _store(directory: Path) -> str:
    """The sample, by one process: several would meet each other in another order each time."""
    (directory / PATH).parent.mkdir()
    url = f"sqlite:///{directory / PATH}"
    migrate(url)
    play(Order(url=url, domains=DOMAIN, until=UNTIL), processes=1)
    return url


def _views(url: str) -> Mapping[str, tuple[str, Mapping[str, str | list[str]]]]:
    """What is pictured: pages, and the parameters of their addresses."""
    with Hindsight(url, domain=DOMAIN) as store:
        counts: dict[str, int] = {}
        told: dict[str, int] = {}
        for event in store.feed():
            counts[event.aggregate_id] = counts.get(event.aggregate_id, 0) + 1
            if event.event_type == TOLD:
                told[event.aggregate_id] = event.version
    longest = sorted(told, key=lambda one: (-counts[one], one))
    chosen = longest[0]
    event = {"aggregate": chosen, "version": str(told[chosen])}
    asked = {
        "field": "/account_locked",
        "pin": "/failed_login_attempts",
        "where": "failed_login_attempts > 0",
    }
    return {
        "timeline": ("timeline", event),
        "store": ("timeline", {}),
        "swimlanes": ("timeline", {"lane": longest[:LANES]}),
        "replay": ("replay", event | asked),
        "diff": ("diff", {"aggregate": chosen, "from": "13", "to": str(told[chosen])}),
    }


def _take(browser: Browser, address: str, *, dark: bool) -> bytes:
    page = browser.new_page(
        viewport={"width": WIDTH, "height": HEIGHT},
        color_scheme="dark" if dark else "light",
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    page.clock.set_fixed_time(TAKEN)  # "2 days ago" stays two days
    page.goto(address)
    page.locator(READY).first.wait_for(state="attached")
    page.wait_for_load_state("networkidle")
    page.evaluate("document.fonts.ready")
    picture = page.screenshot(animations="disabled", caret="hide")
    page.close()
    return picture


if __name__ == "__main__":
    main()

"""A real server over a real log, and a real browser to look at it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

# Two cores may have a database, a server and a browser to serve at once.
PATIENCE = 20_000
expect.set_options(timeout=PATIENCE)


LOOKS = [("light", 1440), ("dark", 800)]
"""Theme and width of a window, in pixels."""
OTHER_LOOKS = [
    pytest.param(theme, width, marks=pytest.mark.soak)
    for theme, width in (("light", 800), ("dark", 1440))
]


class Serve(Protocol):
    """Gives the address of a dashboard over a source."""

    def __call__(self, source: str | Path, *, domain: str = "", operate: bool = False) -> str: ...


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.soak)])
def store_url(request: pytest.FixtureRequest) -> str:
    """A fresh store of each kind. What a page shows is a document, which contract tests compare."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture(scope="session")
def serve(pytestconfig: pytest.Config) -> Iterator[Serve]:
    """Starts `python -m dashboard` over a source, once for each domain; gives its address.

    A server of its own costs a test seconds: of the start, and of scripts that no browser has yet.
    """
    running: dict[tuple[str, str, bool], tuple[subprocess.Popen[str], str]] = {}

    def start(source: str | Path, *, domain: str = "", operate: bool = False) -> str:
        key = (str(source), domain, operate)
        if key not in running:
            root = pytestconfig.rootpath
            running[key] = started(str(source), root, domain=domain, operate=operate)
        return running[key][1]

    yield start
    for process, _ in running.values():
        process.terminate()
        # uvicorn stops cleanly and then dies of the signal it was sent, as shells expect.
        assert process.wait(20) == -signal.SIGTERM
        assert process.stdout is not None
        process.stdout.close()


def started(
    source: str, root: Path, *, domain: str = "", operate: bool = False
) -> tuple[subprocess.Popen[str], str]:
    """A server over a source, and the address it listens on."""
    command = [sys.executable, "-m", "dashboard", "--source", source, "--port", "0"]
    command += ["--operate"] if operate else []
    environment = os.environ | {"EVENT_STORE_DOMAIN": domain}
    process = subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    greeting = process.stdout.readline()
    found = re.search(r"http://\S+", greeting)
    assert found, f"the server did not say where it listens: {greeting!r}"
    return process, found.group()


@pytest.fixture(scope="session")
def browser(chromium_path: str) -> Iterator[Browser]:
    arguments = [
        "--no-sandbox",
        "--disable-background-networking",
        "--disable-component-update",
        # Pages of one person share a process, and with it the scripts that are compiled already.
        "--process-per-site",
        # A graphics card that is emulated costs a tenth of the time.
        "--disable-gpu",
        "--disable-software-rasterizer",
    ]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium_path, args=arguments)
        yield started
        started.close()


def _open_context(
    browser: Browser, color_scheme: str = "light", width: int = 1440, timezone: str = "UTC"
) -> BrowserContext:
    context = browser.new_context(
        viewport={"width": width, "height": 1000},
        color_scheme="dark" if color_scheme == "dark" else "light",
        timezone_id=timezone,
    )
    context.set_default_timeout(PATIENCE)
    return context


@pytest.fixture
def new_context(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Opens fresh browser contexts: other people's browsers."""
    opened: list[BrowserContext] = []

    def open_context(
        color_scheme: str = "light", width: int = 1440, timezone: str = "UTC"
    ) -> BrowserContext:
        opened.append(_open_context(browser, color_scheme, width, timezone))
        return opened[-1]

    yield open_context
    for context in opened:
        context.close()


@pytest.fixture(scope="session")
def context(browser: Browser) -> BrowserContext:
    """One person's browser: what it has loaded once it has cached."""
    opened = _open_context(browser)
    # A tab that stays open keeps the process of all servers on this host, and what it compiled.
    kept = opened.new_page()
    kept.route("**", lambda route: route.fulfill(content_type="text/html", body="open"))
    kept.goto("http://127.0.0.1/")
    return opened


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    opened = context.new_page()
    yield opened
    opened.close()

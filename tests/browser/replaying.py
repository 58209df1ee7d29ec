"""The Replay page as its user sees it."""

from playwright.sync_api import Locator, Page, expect


def open_replay(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator(".state-row").first).to_be_visible()


def at(page: Page, version: int) -> None:
    """Wait until the page shows a version, and its address says so."""
    expect(page.locator(".position")).to_contain_text(f"{version:,} of ")
    expect(slider(page)).to_have_value(str(version))


def slider(page: Page) -> Locator:
    return page.get_by_role("slider", name="Version")


def field(page: Page, path: str) -> Locator:
    """The row of a field in the state."""
    return page.locator(f'.state-row[title^="{path}"]:visible')


def event(page: Page) -> Locator:
    """What is told about the event of the version."""
    return page.get_by_role("region", name="Event of this version")


def chosen_field(page: Page) -> Locator:
    """What is told about the field that was clicked."""
    return page.get_by_role("region", name="Chosen field")


def said(page: Page) -> Locator:
    """What the player answers."""
    return page.locator(".jump-told")

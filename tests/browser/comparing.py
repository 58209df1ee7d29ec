"""The Diff page as its user sees it."""

from playwright.sync_api import Locator, Page, expect


def open_diff(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator(".difference > *, .form").first).to_be_visible()


def compared(page: Page, one: str, other: str) -> None:
    """Wait until the page shows the two sides."""
    expect(page.locator(".compared h2 .position").first).to_have_text(one)
    expect(page.locator(".compared h2 .position").last).to_have_text(other)


def versions(page: Page, one: int, other: int) -> None:
    compared(page, f"version {one}", f"version {other}")
    expect(thumb(page, "A")).to_have_value(str(one))
    expect(thumb(page, "B")).to_have_value(str(other))


def thumb(page: Page, letter: str) -> Locator:
    return page.get_by_role("slider", name=f"Version of {letter}")


def point(page: Page, letter: str) -> Locator:
    """The field of a side's version or time."""
    return page.get_by_role("textbox", name=f"{letter}: version or time")


def difference(page: Page) -> Locator:
    return page.get_by_role("region", name="Difference")


def between(page: Page) -> Locator:
    return page.get_by_role("table", name="Events between")

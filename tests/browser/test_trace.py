"""A trace opened from disk, without a network: every gesture, and strangers' text."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from click.testing import CliRunner
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, expect

from store import Context, Hindsight, NewEvent, any_
from store.analysis import Stepper, blame
from store.application import open_source
from store.cli import hindsight
from store.domain import Domains
from store.repository import Repository
from tests.browser.replaying import at, chosen_field, event, field, slider
from users import domain
from users.commands import ChangeEmail, CreateUser, UpdateProfile

pytestmark = pytest.mark.browser

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "<!--<script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "line\u2028paragraph\u2029",
    "__proto__",
    "&lt;b&gt;",
]

Open = Callable[..., Page]


@pytest.fixture
def opened(new_context: Callable[..., BrowserContext]) -> Iterator[Open]:
    """Opens a file in a browser that has no network; the console stays empty."""
    said: list[str] = []
    asked: list[str] = []

    def open_file(path: Path, **options: Any) -> Page:
        context = new_context(**options)
        context.set_offline(True)
        page = context.new_page()
        page.on("console", lambda message: said.append(_text(message)))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(_address(request)))
        page.goto(path.as_uri())
        expect(page.locator(".state-row").first).to_be_visible()
        return page

    yield open_file
    assert said == []
    assert {address.partition("#")[0].rpartition(".")[2] for address in asked} == {"html"}
    assert all(address.startswith("file://") for address in asked)


def _text(message: ConsoleMessage) -> str:
    return message.text


def _address(request: Request) -> str:
    return request.url


def trace(path: Path, *arguments: str) -> Path:
    result = CliRunner().invoke(hindsight, ["trace", *arguments, "-o", str(path)])
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def file(sqlite_url: str, tmp_path: Path) -> Path:
    """Ada, created, renamed, twice with another address; the fifth event cannot be applied."""
    commands: list[CreateUser | UpdateProfile | ChangeEmail] = [
        CreateUser(username="ada", email="a@b.example", full_name="Ada", password_hash="scrypt:1"),  # noqa: S106
        UpdateProfile(full_name="Lovelace"),
        ChangeEmail(email="ada@b.example"),
        ChangeEmail(email="a@b.example"),
    ]
    with Hindsight(sqlite_url, domain=domain) as store:
        for number, command in enumerate(commands):
            store.execute("user-7", command, context=Context(actor=f"actor-{number}"))
        store.append("user", "user-7", [NewEvent("EmailChanged", {})], expected=any_())
    return trace(tmp_path / "t.html", "user-7", "--url", sqlite_url, "--domain", "users:domain")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 800])
def test_it_opens_and_everybody_can_use_it(
    opened: Open, file: Path, scheme: str, width: int
) -> None:
    page = opened(file, color_scheme=scheme, width=width)
    expect(page.get_by_role("heading", level=1)).to_contain_text("user-7")
    for label in ("personal fields masked", "versions 1 to 5", "from store.db"):
        expect(page.locator("header")).to_contain_text(label)
    field(page, "/email").click()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".step-data:not(.stale)")).to_contain_text("email")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = Axe().run(page, options=WCAG)
    assert found.violations_count == 0, found.generate_report()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")


def test_keys_and_buttons_step_and_the_slider_follows(opened: Open, file: Path) -> None:
    page = opened(file)
    at(page, 5)
    page.keyboard.press("ArrowLeft")
    at(page, 4)
    page.keyboard.press("Home")
    at(page, 0)
    expect(page.get_by_role("button", name="Back")).to_be_disabled()
    expect(event(page)).to_contain_text("Before event 1")
    page.keyboard.press("ArrowRight")
    at(page, 1)
    page.keyboard.press("End")
    at(page, 5)
    page.get_by_role("button", name="First").click()
    at(page, 0)
    page.get_by_role("button", name="Last").click()
    at(page, 5)
    slider(page).fill("2")
    at(page, 2)


def test_space_plays_from_the_beginning_and_stops(opened: Open, file: Path) -> None:
    page = opened(file)
    page.clock.install()
    page.keyboard.press("Space")
    at(page, 0)
    page.clock.run_for(1_100)
    at(page, 2)
    page.keyboard.press("Space")
    page.clock.run_for(2_000)
    at(page, 2)
    page.keyboard.press("Space")
    page.clock.run_for(9_000)
    at(page, 5)
    expect(page.get_by_role("button", name="Play")).to_have_attribute("aria-pressed", "false")


def test_changes_are_marked_and_the_event_is_told(opened: Open, file: Path) -> None:
    page = opened(file)
    expect(page.get_by_role("alert")).to_contain_text("version 5 (EmailChanged): ValidationError")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    at(page, 3)
    expect(page.locator(".state-row.replace:visible")).to_have_count(1)
    expect(field(page, "/email")).to_have_class("state-row replace")
    expect(event(page)).to_contain_text("EmailChanged")
    expect(event(page)).to_contain_text("by actor-2")
    expect(page.locator(".step-data")).to_contain_text("command")


def test_a_field_tells_who_set_it(opened: Open, file: Path) -> None:
    page = opened(file)
    field(page, "/email").click()
    expect(chosen_field(page).locator(".origin")).to_contain_text("Set by 4 EmailChanged")
    expect(chosen_field(page).get_by_role("row")).to_have_count(3)
    page.keyboard.press("Home")
    expect(chosen_field(page)).to_contain_text("No event has set it until here.")
    page.keyboard.press("End")
    chosen_field(page).get_by_role("row").nth(1).get_by_role("button").first.click()
    at(page, 3)
    expect(chosen_field(page).locator(".origin")).to_contain_text("Set by 3 EmailChanged")
    page.keyboard.press("Escape")
    expect(page.locator(".field[hidden]")).to_have_count(1)
    field(page, "/email").click()
    page.get_by_role("button", name="Close").click()
    expect(page.locator(".field[hidden]")).to_have_count(1)


def test_two_versions_are_compared(opened: Open, file: Path) -> None:
    page = opened(file)
    other = page.get_by_role("textbox", name="Compare with version")
    compare = page.get_by_role("region", name="Differences")
    other.fill("1")
    other.press("Enter")
    expect(compare).to_contain_text("1 → 5: 1 difference")
    expect(compare.get_by_role("listitem")).to_contain_text("/full_name")
    other.fill("3")
    page.get_by_role("button", name="Compare").click()
    expect(compare).to_contain_text("3 → 5: 1 difference")
    expect(compare.get_by_role("listitem")).to_contain_text("/email")
    other.fill("5")
    other.press("Enter")
    expect(compare).to_contain_text("nothing differs")
    for wrong in ("6", "x", ""):
        other.fill(wrong)
        other.press("Enter")
        expect(compare).to_contain_text("Write a version from 0 to 5.")


def test_what_looks_alike_and_is_not_differs(opened: Open, tmp_path: Path) -> None:
    events = tmp_path / "e.ndjson"
    one: list[Any] = [{"a": [7], "b": 1, "c": "1", "d": [1, 2], "e": None}]
    other = {"a": {"0": 7}, "b": 1.0, "c": 1, "d": [1], "e": 2**60}
    events.write_text(line("a", 1, one) + line("a", 2, [other]))
    page = opened(trace(tmp_path / "t.html", "a", "--url", str(events)))
    page.get_by_role("button", name="Compare").click()
    found = page.get_by_role("region", name="Differences").get_by_role("listitem")
    expect(found).to_have_text(
        [
            '/0/a [7] → {"0":7}',
            "/0/b 1 → 1.0",
            '/0/c "1" → 1',
            "/0/d/1 2 → absent",
            "/0/e null → 1152921504606846976",
        ]
    )


def test_a_text_is_found_here_and_in_other_versions(opened: Open, file: Path) -> None:
    page = opened(file)
    page.keyboard.press("/")
    page.keyboard.type("MAIL")
    expect(page.locator(".state-row.found:visible")).to_have_count(1)
    expect(page.locator(".state-search-head")).to_contain_text("1 here")
    page.keyboard.press("Enter")
    at(page, 1)
    page.get_by_role("button", name="Next").nth(1).click()
    at(page, 3)
    page.get_by_role("searchbox").fill("no such text")
    page.keyboard.press("Enter")
    expect(page.locator(".state-search-head")).to_contain_text("nowhere")
    at(page, 3)


def test_a_part_says_so(opened: Open, sqlite_url: str, file: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.html"
    trace(part, "user-7", "--url", sqlite_url, "--from", "2", "--to", "3", "--unmasked")
    page = opened(part)
    at(page, 3)
    expect(page.locator("header")).to_contain_text("versions 2 to 3 of 5")
    expect(page.locator("header")).to_contain_text("nothing masked")
    expect(page.locator("header")).to_contain_text("there was no domain code")
    page.keyboard.press("Home")
    at(page, 1)
    expect(field(page, "/email")).to_contain_text("a@b.example")
    field(page, "/username").click()
    expect(chosen_field(page)).to_contain_text("those before are left out")


def line(aggregate_id: str, version: int, data: Any, **changes: Any) -> str:
    fields = {
        "event_id": str(UUID(int=version)),
        "aggregate_type": "thing",
        "aggregate_id": aggregate_id,
        "version": version,
        "event_type": "Set",
        "data": data,
        "occurred_at": "2026-01-31T12:00:00Z",
    }
    return json.dumps(fields | changes) + "\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_strangers_text_is_shown_letter_by_letter(opened: Open, tmp_path: Path, text: str) -> None:
    events = tmp_path / "e.ndjson"
    name = text.replace("\u2028", "").replace("\u2029", "")
    data = {text: text, "~n": 9007199254740993}
    events.write_text(
        line(name, 1, data, event_type=name, aggregate_type=name, metadata={"actor": name})
        + line(name, 2, {text: f"{text}{text}"}, aggregate_type=name)
    )
    page = opened(trace(tmp_path / "t.html", name, "--url", str(events)))
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    expect(page).to_have_title(f"{name} · Hindsight trace")
    page.keyboard.press("ArrowLeft")
    at(page, 1)
    expect(event(page)).to_contain_text(name)
    row = page.locator(".state-row:visible").nth(0)
    expect(row.locator(".key")).to_have_text(text)
    expect(page.locator(".state-row:visible").nth(1)).to_contain_text("9007199254740993")
    expect(page.locator(".step-data")).to_contain_text(text)
    row.click()
    expect(chosen_field(page)).to_contain_text("Set by 1")
    page.keyboard.press("End")
    expect(chosen_field(page)).to_contain_text("Set by 2")
    page.get_by_role("searchbox").fill(text)
    expect(page.locator(".state-search-head")).to_contain_text("1 here")


@pytest.mark.slow
def test_who_set_what_is_what_the_command_line_says(opened: Open, tmp_path: Path) -> None:
    chance = random.Random(7)
    items: list[Any] = []
    lines = []
    for version in range(1, 450):
        for _ in range(chance.randint(1, 3)):
            items = _shuffled(items, chance, version)
        lines.append(line("a", version, {"items": items, "box": {"n": version // 9}}))
    events = tmp_path / "e.ndjson"
    events.write_text("".join(lines))
    page = opened(trace(tmp_path / "t.html", "a", "--url", str(events)))
    with open_source(str(events)) as source:
        stepper = Stepper(Repository(source, Domains()), "a")
        for version in (3, 120, 200, 201, 449):
            expected = blame(stepper.steps(last=version), initial=stepper.initial)
            slider(page).fill(str(version))
            shown = page.evaluate(
                "([paths, version]) => { const { blamed } = modules['blamed.js'];"
                " const { Told } = modules['told.js']; const { parseExact } = modules['exact.js'];"
                " const told = new Told([], parseExact(document.getElementById('trace')"
                ".textContent)); const changes = (at) => told.changes[at - 1];"
                " return [told.state(version), paths.map((path) =>"
                " blamed(changes, version, 1, path).next().value?.version)]; }",
                [[each.path for each in expected.fields()], version],
            )
            assert shown[0] == expected.document
            found = [each.origin and each.origin.version for each in expected.fields()]
            assert shown[1] == found


def _shuffled(items: list[Any], chance: random.Random, version: int) -> list[Any]:
    """The list with an item more or less, in another place or with another value."""
    changed = [dict(item) for item in items]
    kind = chance.choice(["add", "add", "remove", "move", "set"])
    if kind == "add" or not changed:
        name = f"{version}-{chance.random()}"
        changed.insert(chance.randint(0, len(changed)), {"id": name, "n": 0})
    elif kind == "remove":
        del changed[chance.randrange(len(changed))]
    elif kind == "move":
        moved = changed.pop(chance.randrange(len(changed)))
        changed.insert(chance.randint(0, len(changed)), moved)
    else:
        changed[chance.randrange(len(changed))]["n"] = version
    return changed

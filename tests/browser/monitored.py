"""What a server may tell the Monitoring page, and the page as its user sees it."""

import json
import time
from typing import Any

from playwright.sync_api import Locator, Page, Route, expect

SECOND = 1_000_000
HOUR = 3600 * SECOND
STEPS = {
    "15m": (15 * SECOND, 60),
    "1h": (60 * SECOND, 60),
    "6h": (300 * SECOND, 72),
    "24h": (900 * SECOND, 96),
}
ADDRESS = "**/documents/monitoring?*"

Document = dict[str, Any]


def now() -> int:
    return time.time_ns() // 1000


def quiet(span: str = "1h") -> Document:
    """A store that holds something and has had no conflict."""
    step, steps = STEPS[span]
    at = now()
    measured = {name: [0.001 * times] * steps for name, times in _QUANTILES.items()}
    return {
        "range": span,
        "step": step,
        "start": at // step * step - (steps - 1) * step,
        "steps": steps,
        "now": at,
        "source": {"kind": "samples", "name": None},
        "newest": {"at": at - 4 * SECOND, "process": "host:123"},
        "conflicts": {"absorbed": [0] * steps, "escaped": [0] * steps},
        "saves": [2] * steps,
        "events": {"UserCreated": [1] * steps, "EmailChanged": [3] * steps},
        "latency": {"save": measured, "replay": measured, "handlers": {}},
        "quantiles": {"save": {"p50": 0.001, "p95": 0.003, "p99": 0.007}},
        "levels": {
            "size": [1_000_000] * steps,
            "feed_lag": [0] * steps,
            "watermark_age": [None] * (steps - 1) + [0.2],
        },
        "level": {"size": 1_500_000, "feed_lag": 0, "watermark_age": 0.2},
        "alerts": {"by": "dashboard", "rules": 19, "firing": []},
        "cache": {
            "ratios": {"l1": [0.9] * steps, "l2": [0.5] * steps},
            "lookups": 1_000,
            "answered": {"l1": 900, "l2": 50, "database": 50},
            "dropped": 0,
            "errors": 0,
            "redis_bytes": {"read": 20_000, "written": 10_000},
        },
        "logged": {"detected": 0, "absorbed": 0, "escaped": 0, "needless": 0},
        "hours": [],
        "pairs": [],
        "hottest": [],
        "recent": [],
    }


_QUANTILES = {"p50": 1, "p95": 3, "p99": 7}


def unsampled() -> Document:
    """A store for which nothing has been measured."""
    nothing = [None] * 60
    unknown = dict.fromkeys(_QUANTILES)
    return quiet() | {
        "newest": None,
        "saves": [0] * 60,
        "events": {},
        "latency": {name: dict.fromkeys(_QUANTILES, nothing) for name in ("save", "replay")}
        | {"handlers": {}},
        "quantiles": {"save": unknown},
        "levels": dict.fromkeys(("size", "feed_lag", "watermark_age"), nothing),
        "level": None,
        "cache": unasked(),
    }


def unasked() -> Document:
    """A cache in which nothing was looked up."""
    return {
        "ratios": {},
        "lookups": 0,
        "answered": {"l1": 0, "l2": 0, "database": 0},
        "dropped": 0,
        "errors": 0,
        "redis_bytes": {"read": 0, "written": 0},
    }


def busy(span: str = "1h", *, aggregate_id: str | None = "user-1", conflicts: int = 3) -> Document:
    """Two processes collide: all conflicts but one of the newest step were absorbed."""
    document = quiet(span)
    steps = document["steps"]
    at = document["now"]
    counts = {"detected": conflicts, "escaped": 1, "needless": 2}
    document["conflicts"] = {
        "absorbed": [0] * (steps - 1) + [conflicts - 1],
        "escaped": [0] * (steps - 1) + [1],
    }
    document["alerts"]["firing"] = [
        {
            "name": "EventStoreDeadLetters",
            "severity": "critical",
            "summary": "Dead letters: 2; what follows them in their aggregates waits",
            "since": at - 90 * SECOND,
        },
        {
            "name": "EventStoreConflictsEscape",
            "severity": "warning",
            "summary": "Callers see conflicts: 5% of appends",
            "since": None,
        },
    ]
    document["logged"] = counts | {"absorbed": conflicts - 1}
    document["hours"] = [counts | {"hour": at // HOUR * HOUR, "aggregate_type": "user"}]
    document["pairs"] = [counts | {"losing": "ChangeEmail", "winning": "LockAccount"}]
    document["hottest"] = [
        counts
        | {
            "aggregate_type": "user",
            "aggregate_id": aggregate_id,
            "absorbed": conflicts - 1,
            "last_at": at - 5 * SECOND,
            "last_version": 2,
        }
    ]
    document["recent"] = [
        conflict(at - (5 + age) * SECOND, aggregate_id=aggregate_id) for age in range(conflicts)
    ]
    return document


def conflict(at: int, **changes: object) -> Document:
    """One line of the newest conflicts."""
    return {
        "occurred_at": at,
        "outcome": "absorbed",
        "aggregate_type": "user",
        "aggregate_id": "user-1",
        "expected": 1,
        "actual": 2,
        "losing": "ChangeEmail",
        "winning": "LockAccount",
        "verdict": "commutes",
        "weight": 1,
        "actor": "ada",
    } | changes


def huge(span: str = "24h") -> Document:
    """As much of everything as the document may hold."""
    document = busy(span, aggregate_id="x" * 500)
    steps, start, at = document["steps"], document["start"], document["now"]
    counts = {"detected": 123_456, "escaped": 23_456, "needless": 3_456}
    types = [f"an_aggregate_type_of_the_number_{number}" for number in range(60)]
    commands = [f"ChangeSomethingOfTheNumber{number}" for number in range(10)]
    hours = range(start // HOUR * HOUR, at, HOUR)
    document["events"] = {
        f"SomethingOfTheNumber{number}Happened": [2_000_000 - number] * steps
        for number in range(200)
    }
    document["latency"]["handlers"] = {
        f"domain.handlers:handler_of_the_number_{number}": document["latency"]["save"]
        for number in range(20)
    }
    document["hours"] = [
        counts | {"hour": hour, "aggregate_type": name} for hour in hours for name in types
    ]
    document["pairs"] = [
        counts | {"losing": loser, "winning": winner} for loser in commands for winner in commands
    ]
    document["hottest"] = document["hottest"] * 10
    document["cache"] |= {
        "lookups": 1_234_567_890,
        "answered": {"l1": 1_234_000_000, "l2": 500_000, "database": 67_890},
        "dropped": 12_345_678,
        "errors": 12_345_678,
        "redis_bytes": {"read": 123_400_000_000, "written": 999_900_000_000},
    }
    document["recent"] = [
        conflict(at, aggregate_id="x" * 500, losing="y" * 300, winning="z" * 300, weight=50_000)
    ] * 20
    return document


class Told:
    """Answers the page with `document`, or as `refusal` says; counts the questions."""

    def __init__(self, page: Page, document: Document) -> None:
        self.document = document
        self.refusal: tuple[int, str, str] | None = None
        self.questions: list[str] = []
        page.route(ADDRESS, self._answer)

    def _answer(self, route: Route) -> None:
        self.questions.append(route.request.url.partition("?")[2])
        if self.refusal:
            status, kind, message = self.refusal
            body = json.dumps({"error": message, "kind": kind})
            route.fulfill(status=status, content_type="application/json", body=body)
            return
        route.fulfill(content_type="application/json", body=json.dumps(self.document))


def main(page: Page) -> Locator:
    return page.get_by_role("main", name="Monitoring")


def panel(page: Page, title: str) -> Locator:
    """A part of the page, by its heading."""
    heading = page.get_by_role("heading", name=title, exact=True)
    return page.locator("section.panel").filter(has=heading)


def legend(page: Page, title: str) -> Locator:
    """What a chart says of each of its rows."""
    return panel(page, title).locator(".legend li")


def chart(page: Page, title: str) -> Locator:
    return panel(page, title).get_by_role("img")


def figure(page: Page, name: str) -> Locator:
    return page.locator(".figures > div").filter(has=page.get_by_text(name, exact=True))


def table_rows(page: Page, name: str) -> Locator:
    return page.get_by_role("table", name=name).locator("tbody tr")


def placed(page: Page) -> None:
    """Wait until Streamlit has given the page its place."""
    expect(page.get_by_test_id("stMain").get_by_role("main", name="Monitoring")).to_be_visible()

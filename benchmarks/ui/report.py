"""The results as Markdown."""

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from msgspec import Struct

from benchmarks.rounds import Ratio

RESULTS = Path(__file__).parents[1] / "UI.md"

_INTRODUCTION = """
Ratios of times, so less is better: pages take turns round by round, each ratio compares one
round's visits, the table tells the median and (lowest–highest). The **empty page** is a Streamlit
page with a button that counts its clicks, served as the dashboard is: uvicorn, `st.App`,
`gc.freeze`.

*open* runs from the start of the navigation, with a warm browser cache, to the paint of the rows,
the chart and, on a Timeline, the chosen event; the page answers by then. A click or key runs from
the event's own timestamp to the paint that shows all of what is named, and is beside the click on
the empty page's button. The pointer rests 150 ms on what it presses, on every page, as a hand's
does. Milliseconds are this machine's and drift; the ratios are what counts.
"""


_STEPPING = """
The 95th percentiles of 200 presses of an arrow key and 40 jumps a round. The **empty handler** sets
one text on a page of its own, in the same browser. *Main thread* is the key's handlers, and the
frame from its beginning to the end of its painting.
"""


class Comparison(Struct, frozen=True):
    """How many times as long one thing took as another; `ours` and `other` are milliseconds."""

    place: str
    title: str
    ratio: Ratio
    target: float | None
    ours: float
    other: float


class Amount(Struct, frozen=True):
    """How much of something a place has, and how much it may."""

    place: str
    title: str
    amount: int
    target: int


class Bound(Struct, frozen=True):
    """How much something came to in each round, and how much it may, in the median."""

    place: str
    title: str
    found: Sequence[float]
    target: float | None


def compared(
    place: str, title: str, ours: Sequence[float], other: Sequence[float], target: float | None
) -> Comparison:
    """Times beside those of the same rounds."""
    ratios = [mine / its for mine, its in zip(ours, other, strict=True)]
    ratio = Ratio(median(ratios), min(ratios), max(ratios))
    return Comparison(place, title, ratio, target, median(ours), median(other))


def render(
    pages: Sequence[Comparison],
    loads: Sequence[Comparison],
    amounts: Sequence[Amount],
    bounds: Sequence[Bound],
    rounds: int,
) -> str:
    """The whole page."""
    parts = ["# Results of `make bench-ui`", _INTRODUCTION.strip()]
    if pages:
        head = ["page", "measure", "ours / empty page", "target", "ours, ms", "empty page, ms"]
        parts.append(_comparisons(head, pages))
    if loads:
        head = ["page", "measure", "20 sessions / one", "target", "20, ms", "one, ms"]
        parts += ["## Twenty sessions that think for two seconds", _comparisons(head, loads)]
    if bounds:
        parts += ["## Stepping through a history", _STEPPING.strip(), _bounds(bounds)]
    if amounts:
        parts += ["## How much a page holds", _amounts(amounts)]
    return "\n\n".join([*parts, "## Measured with", _environment(rounds)]) + "\n"


def summary(found: Comparison) -> str:
    """One line for whoever waits."""
    times = f"{found.ours:.0f} ms beside {found.other:.0f}"
    return f"{found.place}, {found.title}: {_ratio(found.ratio)}, {times}, {_target(found)}"


def told(bound: Bound) -> str:
    """One line for whoever waits."""
    return f"{bound.place}, {bound.title}: {_found(bound)}, {_bounded(bound)}"


def _bounds(found: Iterable[Bound]) -> str:
    rows = ([one.place, one.title, _found(one), _bounded(one)] for one in found)
    return _table(["page", "what", "p95, median (lowest–highest) of the rounds", "target"], rows)


def _found(bound: Bound) -> str:
    return f"{median(bound.found):.1f} ({min(bound.found):.1f}–{max(bound.found):.1f})"


def _bounded(bound: Bound) -> str:
    if bound.target is None:
        return "–"
    return f"≤ {bound.target:g} {_verdict(met=median(bound.found) <= bound.target)}"


def _comparisons(head: Sequence[str], found: Iterable[Comparison]) -> str:
    return _table(
        head,
        (
            [
                one.place,
                one.title,
                _ratio(one.ratio),
                _target(one),
                f"{one.ours:.0f}",
                f"{one.other:.0f}",
            ]
            for one in found
        ),
    )


def _amounts(found: Iterable[Amount]) -> str:
    rows = (
        [
            one.place,
            one.title,
            f"{one.amount:,}",
            f"≤ {one.target:,} {_verdict(met=one.amount <= one.target)}",
        ]
        for one in found
    )
    return _table(["page", "what", "how much", "target"], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.median:.2f} ({ratio.lowest:.2f}–{ratio.highest:.2f})"


def _target(found: Comparison) -> str:
    if found.target is None:
        return "–"
    return f"≤ {found.target:.2f} {_verdict(met=found.ratio.median <= found.target)}"


def _verdict(*, met: bool) -> str:
    return "met" if met else "**missed**"


def _environment(rounds: int) -> str:
    packages = ("streamlit", "uvicorn", "playwright")
    facts = [
        f"`make bench-ui`, {rounds} rounds, {datetime.now(UTC):%Y-%m-%d}",
        f"{os.cpu_count()} cores for the servers and a headless Chromium, {platform.system()}",
        f"hindsight {version('hindsight-event-store')}, Python {platform.python_version()}",
        ", ".join(f"{package} {version(package)}" for package in packages),
        "stores on SQLite, payloads of about 200 bytes, no domain code",
    ]
    return "\n".join(f"- {fact}" for fact in facts)

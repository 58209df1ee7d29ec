"""The results as a part of the page of results, with a plot."""

import os
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from msgspec import Struct

from benchmarks.rounds import Ratio
from benchmarks.scale.measures import Taken

PLOT = Path(__file__).parents[1] / "scale.svg"
BOUND = 1.5

_INTRODUCTION = """
Ratios of times on a large store to those on the smallest, so 1 is best: calls on stores of all
sizes take turns round by round, each ratio compares one round's, the table tells the median and
(lowest–highest). The stores are generated (`hindsight demo --generate`): users with histories of 2
events to a hundredth of all, at most 100,000, over two years. All is warm, asked for before, but a
*first touch*: there it is counted how many blocks of tables and indexes a load touches, wherever
they are, and the loads of each store are compared by rank. Page 1,000 is the middle page where
there are fewer than 2,000. Milliseconds are this machine's and drift; the ratios are what counts.
"""


class Flatness(Struct, frozen=True):
    """How something grows with the store: milliseconds, or blocks, by the events of the store."""

    title: str
    database: str
    taken: Taken
    unit: str = "ms"

    @property
    def smallest(self) -> float:
        """The median in the smallest store."""
        return median(self.taken[min(self.taken)])

    def ratios(self) -> Iterator[tuple[int, Ratio]]:
        """How many times as much it takes on the larger stores."""
        base = self.taken[min(self.taken)]
        for events, found in sorted(self.taken.items())[1:]:
            each = sorted(one / other for one, other in zip(found, base, strict=True))
            middle = median(each) if self.unit == "ms" else median(found) / median(base)
            yield events, Ratio(middle, each[0], each[-1])

    @property
    def worst(self) -> float:
        """The largest of the ratios."""
        return max((ratio.median for _, ratio in self.ratios()), default=1.0)


def render(found: Sequence[Flatness], rounds: int) -> str:
    """The part of the page."""
    parts = [
        "# Results of `make bench-scale`",
        _INTRODUCTION.strip(),
        f"![Ratios by the size of the store]({PLOT.name})",
        _table(found),
        "## Measured at scale with",
        _environment(rounds),
    ]
    return "\n\n".join(parts) + "\n"


def summary(one: Flatness) -> str:
    """One line for whoever waits."""
    ratios = ", ".join(f"{events:,}: {_ratio(ratio)}" for events, ratio in one.ratios())
    return f"{one.database}, {one.title}: {one.smallest:.2f} {one.unit}; {ratios}; {_verdict(one)}"


def _table(found: Sequence[Flatness]) -> str:
    sizes = sorted({events for one in found for events in one.taken})
    head = ["measure", "database", f"{sizes[0]:,} events"]
    head += [f"{events:,}" for events in sizes[1:]] + ["target"]
    lines = [head, ["---"] * len(head)]
    for one in found:
        ratios = dict(one.ratios())
        cells = [_ratio(ratios[events]) if events in ratios else "–" for events in sizes[1:]]
        lines.append(
            [one.title, one.database, f"{one.smallest:.2f} {one.unit}", *cells, _verdict(one)]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.median:.2f} ({ratio.lowest:.2f}–{ratio.highest:.2f})"


def _verdict(one: Flatness) -> str:
    return f"≤ {BOUND:.2f} {'met' if one.worst <= BOUND else '**missed**'}"


def _environment(rounds: int) -> str:
    facts = [
        f"`make bench-scale`, {rounds} rounds, {datetime.now(UTC):%Y-%m-%d}",
        f"{os.cpu_count()} cores, {platform.system()}",
        f"hindsight {version('hindsight-event-store')}, Python {platform.python_version()}",
        "PostgreSQL with its default settings, fsync on; SQLite in WAL mode, synchronous FULL",
        "loads with the domain's code, no cache, no snapshots; pages in a headless Chromium",
    ]
    return "\n".join(f"- {fact}" for fact in facts)

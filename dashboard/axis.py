"""A time axis on which long idle stretches take little room.

It is piecewise linear: knots say which moment (UTC µs) lies at which share of the axis' length.
"""

import msgspec
import numpy as np
import numpy.typing as npt

from dashboard.outline import Integers

Shares = npt.NDArray[np.float64]

MOST_IDLE = 12
IDLE_WIDTH = 0.03
LEAST_SHARE = 0.08
SHORTEST = 1_000
LEAST_TIMES_MEDIAN = 20


class Knot(msgspec.Struct, frozen=True, array_like=True):
    """A moment and its place on the axis, 0 at the start and 1 at the end."""

    moment: int
    place: float


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """The stretch of time (UTC µs), its knots, and which parts between two knots are idle."""

    start: int
    end: int
    knots: tuple[Knot, ...]
    idle: tuple[tuple[int, int], ...]

    def places(self, moments: Integers) -> Shares:
        """Where moments lie; those outside lie at the ends."""
        return np.interp(
            moments, [knot.moment for knot in self.knots], [knot.place for knot in self.knots]
        )


def axis_of(moments: Integers, start: int, end: int, *, collapse: bool) -> Axis:
    """The axis from `start` to `end` over events at `moments`; `collapse` shortens idle parts."""
    # A browser counts whole milliseconds to the end of time, and no microseconds after year 2255.
    end = max(end, start + SHORTEST)
    idle = _idle(moments, start, end) if collapse else []
    busy = (end - start) - sum(until - since for since, until in idle)
    scale = (1 - IDLE_WIDTH * len(idle)) / busy
    knots, place, at = [Knot(start, 0.0)], 0.0, start
    for since, until in idle:
        place += (since - at) * scale
        knots.append(Knot(since, place))
        place += IDLE_WIDTH
        knots.append(Knot(until, place))
        at = until
    knots.append(Knot(end, 1.0))
    return Axis(start=start, end=end, knots=tuple(knots), idle=tuple(idle))


def _idle(moments: Integers, start: int, end: int) -> list[tuple[int, int]]:
    """The longest gaps, while each is far beyond what is usual and a good part of what is left."""
    inside = np.sort(moments[(moments >= start) & (moments < end)], kind="stable")
    apart = np.flatnonzero(np.diff(inside))
    if len(apart) < 2:
        return []
    gaps = inside[apart + 1] - inside[apart]
    long = np.flatnonzero(gaps >= LEAST_TIMES_MEDIAN * float(np.median(gaps)))
    left = end - start
    found = []
    for index in long[np.argsort(-gaps[long], kind="stable")[:MOST_IDLE]].tolist():
        gap = int(gaps[index])
        if gap < LEAST_SHARE * left:
            break
        found.append((int(inside[apart[index]]), int(inside[apart[index] + 1])))
        left -= gap
    return sorted(found)

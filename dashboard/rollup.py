"""Counts of events by stretch of time and type, to draw bars from.

Plain arrays, 40 bytes a row: ten million events are some 127,000 rows of an hour each, from which
any picture is made in milliseconds.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from dashboard.moments import to_microseconds
from store.records import FeedFilter, Tally

Integers = npt.NDArray[np.int64]
Choice = npt.NDArray[np.bool_]

_SECOND = 1_000_000
HOUR = 3_600 * _SECOND
_DAY = 24 * HOUR
WIDTHS: tuple[int, ...] = (
    *(m * 10**e for e in range(5) for m in (1, 2, 5)),
    *(m * 100_000 for m in (1, 2, 5)),
    *(m * _SECOND for m in (1, 2, 5, 10, 15, 30)),
    *(m * 60 * _SECOND for m in (1, 2, 5, 10, 15, 30)),
    *(m * HOUR for m in (1, 2, 3, 6, 12)),
    *(m * _DAY for m in (1, 2, 7, 14, 30, 90, 180)),
    *(m * 365 * _DAY for m in (1, 2, 5, 10, 20, 50, 100, 1_000, 10_000)),
)
"""Round widths of a bar in µs, each a part or a multiple of an hour."""


def round_width(start: int, end: int, bars: int) -> int:
    """The smallest round width with which at most `bars` bars, at least two, span `start` to `end`.

    Bars lie at multiples of their width since 1970. All in µs.
    """
    return next((w for w in WIDTHS if -(-end // w) - start // w <= bars), WIDTHS[-1])


class Rollup(msgspec.Struct, frozen=True, kw_only=True):
    """How many events of which kind lie in which stretch, and the first and last position of them.

    `kinds` pairs aggregate type and event type; `kind` are indexes into it. `starts` are UTC µs. A
    stretch and kind may have several rows until the rollup is `compact`.
    """

    kinds: tuple[tuple[str, str], ...]
    starts: Integers
    kind: Integers
    events: Integers
    firsts: Integers
    lasts: Integers

    def __len__(self) -> int:
        return len(self.starts)

    def extended(self, tallies: Sequence[Tally]) -> "Rollup":
        """This rollup and the events of `tallies`."""
        return self.joined(_rollup(tallies)) if tallies else self

    def joined(self, other: "Rollup") -> "Rollup":
        """This rollup and another."""
        if not len(other):
            return self
        numbers = dict(zip(self.kinds, range(len(self.kinds)), strict=True))
        kinds = [numbers.setdefault(kind, len(numbers)) for kind in other.kinds]
        return Rollup(
            kinds=tuple(numbers),
            starts=np.concatenate([self.starts, other.starts]),
            kind=np.concatenate([self.kind, np.array(kinds, dtype=np.int64)[other.kind]]),
            events=np.concatenate([self.events, other.events]),
            firsts=np.concatenate([self.firsts, other.firsts]),
            lasts=np.concatenate([self.lasts, other.lasts]),
        )

    def compact(self) -> "Rollup":
        """The same with one row for each stretch and kind."""
        if not len(self):
            return self
        order = np.lexsort((self.kind, self.starts))
        starts, kind = self.starts[order], self.kind[order]
        is_first = np.ones(len(order), dtype=bool)
        is_first[1:] = (np.diff(starts) != 0) | (np.diff(kind) != 0)
        at = np.flatnonzero(is_first)
        return Rollup(
            kinds=self.kinds,
            starts=starts[at],
            kind=kind[at],
            events=np.add.reduceat(self.events[order], at),
            firsts=np.minimum.reduceat(self.firsts[order], at),
            lasts=np.maximum.reduceat(self.lasts[order], at),
        )

    def only(self, chosen: Choice) -> "Rollup":
        """The chosen rows."""
        return Rollup(
            kinds=self.kinds,
            starts=self.starts[chosen],
            kind=self.kind[chosen],
            events=self.events[chosen],
            firsts=self.firsts[chosen],
            lasts=self.lasts[chosen],
        )

    def of(self, where: FeedFilter) -> "Rollup":
        """The rows of the aggregate type and event types a filter asks for."""
        if where.aggregate_type is None and not where.event_types:
            return self
        types = set(where.event_types)
        wanted = [
            where.aggregate_type in {None, aggregate_type} and (not types or event_type in types)
            for aggregate_type, event_type in self.kinds
        ]
        return self.only(np.array(wanted, dtype=bool)[self.kind])

    def within(self, start: int | None, end: int | None) -> "Rollup":
        """The rows of hours that share a moment with the time from `start` until before `end`."""
        chosen = np.ones(len(self), dtype=bool)
        if start is not None:
            chosen &= self.starts >= start // HOUR * HOUR
        if end is not None:
            chosen &= self.starts < end
        return self.only(chosen)

    def by_name(self, part: int) -> dict[str, int]:
        """Events by aggregate type (`part` 0) or event type (1), the most frequent first."""
        return _ranked(self.kinds, part, self.events, self.kind)

    def bars(
        self, start: int, width: int, count: int
    ) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
        """Event types, the most frequent first, and the events of each in each of the bars."""
        bar = (self.starts - start) // width
        inside = (bar >= 0) & (bar < count)
        bar, kind, events = bar[inside], self.kind[inside], self.events[inside]
        names = tuple(_ranked(self.kinds, 1, events, kind))
        rows = {name: row for row, name in enumerate(names)}
        row_of = np.array([rows.get(name, -1) for _, name in self.kinds], dtype=np.int64)
        cell = row_of[kind] * count + bar
        counts = _summed(cell, events, len(names) * count).reshape(len(names), count)
        return names, tuple(map(tuple, counts.tolist()))


def _rollup(tallies: Sequence[Tally]) -> Rollup:
    numbers: dict[tuple[str, str], int] = {}
    rows = [
        (
            to_microseconds(tally.start),
            numbers.setdefault((tally.aggregate_type, tally.event_type), len(numbers)),
            tally.events,
            tally.first_position,
            tally.last_position,
        )
        for tally in tallies
    ]
    starts, kind, events, firsts, lasts = np.array(rows, dtype=np.int64).T
    return Rollup(
        kinds=tuple(numbers), starts=starts, kind=kind, events=events, firsts=firsts, lasts=lasts
    )


def _ranked(
    kinds: Sequence[tuple[str, str]], part: int, events: Integers, kind: Integers
) -> dict[str, int]:
    totals: dict[str, int] = {}
    for names, total in zip(kinds, _summed(kind, events, len(kinds)).tolist(), strict=True):
        if total:
            totals[names[part]] = totals.get(names[part], 0) + total
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))


def _summed(cell: Integers, events: Integers, cells: int) -> Integers:
    """The events of each cell; exact up to 2^53."""
    return np.bincount(cell, weights=events, minlength=cells).astype(np.int64)


_NO_ROWS = np.empty(0, dtype=np.int64)
EMPTY = Rollup(
    kinds=(), starts=_NO_ROWS, kind=_NO_ROWS, events=_NO_ROWS, firsts=_NO_ROWS, lasts=_NO_ROWS
)

"""Where each event of an event file is, and what it is listed and filtered by; no payloads.

Some forty bytes a line and the ids of the aggregates, so that a file of millions of lines opens.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice
from typing import Any

from store.errors import InvalidEvent
from store.identifiers import prefix_range
from store.records import (
    AggregateOrder,
    AggregateSummary,
    Axis,
    Counts,
    Event,
    FeedFilter,
    OutlineRow,
    Tally,
    utc,
)
from store.sources import start_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_UNKNOWN_TIME = -(2**63)
_BLANK = -1


class _Names:
    """Texts, each with a number, counted from 0 as they come."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        number = self.numbers.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(text)
        return number


class LineIndex:
    """Add every line of a file in order, `complete` it, then ask. Lines are numbered from 1."""

    first_version: int
    """The number of each aggregate's first event: 0 where the file has a version 0, else 1."""

    def __init__(self) -> None:
        self._ids, self._aggregate_types, self._event_types = _Names(), _Names(), _Names()
        # One entry a line:
        self._ends = array("Q", [0])
        self._aggregate_of, self._event_type_of = array("i"), array("i")
        self._version_of = array("I")
        self._moments: dict[Axis, array[int]] = {"occurred": array("q"), "recorded": array("q")}
        # One entry an aggregate:
        self._type_of, self._lengths = array("i"), array("I")
        self._starts = array("Q")
        # One entry an event: line numbers by aggregate and version.
        self._histories = array("I")
        self._rankings: dict[AggregateOrder, array[int]] = {}
        self._keys: dict[AggregateOrder, Callable[[int], Any]] = {
            "id": lambda number: self._ids.texts[number],
            "recent": lambda number: -self._newest_line(number),
            "longest": lambda number: (-self._lengths[number], self._ids.texts[number]),
        }

    def add_blank(self, size: int) -> None:
        """A line of `size` bytes without an event."""
        self._append(size, _BLANK, _BLANK, 0)
        self._append_moments(None, None)

    def add(self, size: int, event: Event) -> None:
        """A line of `size` bytes that holds `event`.

        Raises:
            InvalidEvent: an earlier line has the aggregate with another type.
        """
        aggregate = self._ids.number(event.aggregate_id)
        kind = self._aggregate_types.number(event.aggregate_type)
        if aggregate == len(self._lengths):
            self._type_of.append(kind)
            self._lengths.append(0)
        elif self._type_of[aggregate] != kind:
            earlier = self._aggregate_types.texts[self._type_of[aggregate]]
            raise InvalidEvent(
                f"{event.aggregate_id!r} is of type {earlier!r}, not {event.aggregate_type!r}"
            )
        self._lengths[aggregate] += 1
        event_type = self._event_types.number(event.event_type)
        self._append(size, aggregate, event_type, event.version)
        self._append_moments(event.occurred_at, event.recorded_at)

    def _append(self, size: int, aggregate: int, event_type: int, version: int) -> None:
        self._ends.append(self._ends[-1] + size)
        self._aggregate_of.append(aggregate)
        self._event_type_of.append(event_type)
        self._version_of.append(version)

    def _append_moments(self, occurred: datetime | None, recorded: datetime | None) -> None:
        self._moments["occurred"].append(_microseconds(occurred))
        self._moments["recorded"].append(_microseconds(recorded))

    def complete(self) -> None:
        """Order each aggregate's lines by version.

        Raises:
            InvalidEvent: a version is missing or there twice; the message names the line.
        """
        versions = (v for v, a in zip(self._version_of, self._aggregate_of, strict=True) if a >= 0)
        self.first_version = min(1, min(versions, default=1))
        self._starts = array("Q", accumulate(self._lengths, initial=0))
        self._histories = array("I", bytes(4 * self._starts[-1]))
        ahead = _BLANK
        for line, aggregate in enumerate(self._aggregate_of, 1):
            place = self._version_of[line - 1] - self.first_version
            if aggregate == _BLANK:
                continue
            if place >= self._lengths[aggregate]:
                ahead = aggregate
            else:
                self._place(line, self._starts[aggregate] + place)
        if ahead != _BLANK:
            raise InvalidEvent(self._gap(ahead))

    def _place(self, line: int, slot: int) -> None:
        if earlier := self._histories[slot]:
            aggregate_id = self._ids.texts[self._aggregate_of[line - 1]]
            version = self._version_of[line - 1]
            raise InvalidEvent(
                f"line {line}: {aggregate_id!r} has its version {version} on line {earlier} already"
            )
        self._histories[slot] = line

    def _gap(self, aggregate: int) -> str:
        line_of = {
            self._version_of[line - 1]: line
            for line, other in enumerate(self._aggregate_of, 1)
            if other == aggregate
        }
        missing = self.first_version
        while missing in line_of:
            missing += 1
        following = min(version for version in line_of if version > missing)
        return (
            f"line {line_of[following]}: {self._ids.texts[aggregate]!r} has version {following}, "
            f"but its version {missing} is nowhere in the file"
        )

    def span(self, line: int) -> tuple[int, int]:
        """Where `line` starts and how many bytes it has, in the plain file."""
        return self._ends[line - 1], self._ends[line] - self._ends[line - 1]

    def outline(self, aggregate_id: str, start: int, stop: int | None) -> list[OutlineRow]:
        """Version, type and moment of an aggregate's events, a slice of its history."""
        names, moments = self._event_types.texts, self._moments["occurred"]
        return [
            (self._version_of[line - 1], names[self._event_type_of[line - 1]], moments[line - 1])
            for line in self.history(aggregate_id)[start:stop]
        ]

    def counts(self) -> Counts:
        """Events and aggregates, in all and by type."""
        events = Counter(number for number in self._event_type_of if number != _BLANK)
        names, kinds = self._event_types.texts, self._aggregate_types.texts
        return Counts(
            events=len(self._histories),
            aggregates=len(self._lengths),
            last_position=len(self._aggregate_of),
            events_by_type={names[number]: count for number, count in events.items()},
            aggregates_by_type={kinds[n]: count for n, count in Counter(self._type_of).items()},
        )

    def summary(self, aggregate_id: str) -> AggregateSummary | None:
        """The head of an aggregate; None where no event of it is in the file."""
        number = self._ids.numbers.get(aggregate_id)
        return None if number is None else self._summary(number)

    def _summary(self, aggregate: int) -> AggregateSummary:
        lines = self._lines_of(aggregate)
        occurred = [self._moments["occurred"][line - 1] for line in lines]
        recorded = max(self._moments["recorded"][line - 1] for line in lines)
        return AggregateSummary(
            aggregate_id=self._ids.texts[aggregate],
            aggregate_type=self._aggregate_types.texts[self._type_of[aggregate]],
            version=self.first_version + len(lines) - 1,
            first_occurred_at=_EPOCH + min(occurred) * _MICROSECOND,
            last_occurred_at=_EPOCH + max(occurred) * _MICROSECOND,
            last_recorded_at=_moment(recorded),
        )

    def _lines_of(self, aggregate: int) -> Sequence[int]:
        start = self._starts[aggregate]
        return self._histories[start : start + self._lengths[aggregate]]

    def _newest_line(self, aggregate: int) -> int:
        return self._histories[self._starts[aggregate] + self._lengths[aggregate] - 1]

    def page(
        self,
        *,
        prefix: str,
        aggregate_type: str | None,
        order: AggregateOrder,
        after: str | None,
        limit: int,
    ) -> list[AggregateSummary]:
        """Up to `limit` heads in `order` from the one behind the aggregate `after`.

        Raises:
            InvalidEvent: `after` is in no page of this file, or there is no such order.
        """
        if order not in self._keys:
            raise InvalidEvent(f"order: {order!r} is none of {', '.join(self._keys)}")
        ranking = self._ranking(order)
        key = self._keys[order]
        start, stop = 0, len(ranking)
        if order == "id":
            low, high = prefix_range(prefix)
            start = bisect_left(ranking, low, key=key)
            stop = stop if high is None else bisect_left(ranking, high, key=key)
        if after is not None:
            start = max(start, bisect_right(ranking, key(self._number(after)), key=key))
        found = (
            number
            for number in islice(ranking, start, stop)
            if self._is_wanted(number, prefix, aggregate_type)
        )
        return [self._summary(number) for number in islice(found, limit)]

    def _number(self, cursor: str) -> int:
        number = self._ids.numbers.get(cursor)
        if number is None:
            raise InvalidEvent(f"after: {cursor!r} is no cursor of this file")
        return number

    def _is_wanted(self, aggregate: int, prefix: str, aggregate_type: str | None) -> bool:
        kind = self._aggregate_types.texts[self._type_of[aggregate]]
        return aggregate_type in {None, kind} and self._ids.texts[aggregate].startswith(prefix)

    def _ranking(self, order: AggregateOrder) -> Sequence[int]:
        if order not in self._rankings:
            numbers = range(len(self._lengths))
            self._rankings[order] = array("i", sorted(numbers, key=self._keys[order]))
        return self._rankings[order]

    def history(self, aggregate_id: str) -> Sequence[int]:
        """The aggregate's lines by version; none where it is unknown."""
        number = self._ids.numbers.get(aggregate_id)
        return [] if number is None else self._lines_of(number)

    def lines(self, after: int, before: int | None) -> range:
        """The line numbers between the two, exclusive."""
        end = len(self._aggregate_of) + 1
        return range(max(0, after) + 1, end if before is None else min(before, end))

    def matching(self, lines: Iterable[int], where: FeedFilter) -> Iterator[int]:
        """Those of `lines` that hold an event `where` wants, as far as the index knows.

        It knows nothing of correlation id, actor and event id.
        """
        types = {self._event_types.numbers.get(name) for name in where.event_types}
        found = (line for line in lines if self._aggregate_of[line - 1] != _BLANK)
        if types:
            found = (line for line in found if self._event_type_of[line - 1] in types)
        if where.aggregate_type is not None:
            kind = self._aggregate_types.numbers.get(where.aggregate_type)
            kinds, aggregates = self._type_of, self._aggregate_of
            found = (line for line in found if kinds[aggregates[line - 1]] == kind)
        return self.within(found, where.since, where.until, where.axis)

    def tally(self, lines: Iterable[int], width: timedelta, axis: Axis) -> list[Tally]:
        """The events on `lines`, in any order, by stretch of `width` and type."""
        stretch, moments = width // _MICROSECOND, self._moments[axis]
        groups: dict[tuple[int, int, int], tuple[int, int, int]] = {}
        for line in lines:
            moment = moments[line - 1]
            if moment == _UNKNOWN_TIME:
                continue
            kind = self._type_of[self._aggregate_of[line - 1]]
            key = (moment // stretch, kind, self._event_type_of[line - 1])
            events, first, last = groups.get(key, (0, line, line))
            groups[key] = (events + 1, min(first, line), max(last, line))
        tallies = (
            Tally(
                start=start_of(number, width),
                aggregate_type=self._aggregate_types.texts[kind],
                event_type=self._event_types.texts[event_type],
                events=events,
                first_position=first,
                last_position=last,
            )
            for (number, kind, event_type), (events, first, last) in groups.items()
        )
        return sorted(tallies, key=lambda one: (one.start, one.aggregate_type, one.event_type))

    def last_line(self) -> int:
        """The number of the last line; 0 where there is none."""
        return len(self._aggregate_of)

    def within(
        self, lines: Iterable[int], since: datetime | None, until: datetime | None, axis: Axis
    ) -> Iterator[int]:
        """Those of `lines` in the window; an event without a time on `axis` is in none."""
        if since is None and until is None:
            return iter(lines)
        low = _UNKNOWN_TIME + 1 if since is None else _microseconds(utc("since", since))
        high = 2**63 if until is None else _microseconds(utc("until", until))
        moments = self._moments[axis]
        return (line for line in lines if low <= moments[line - 1] < high)


def _microseconds(moment: datetime | None) -> int:
    return _UNKNOWN_TIME if moment is None else (moment - _EPOCH) // _MICROSECOND


def _moment(microseconds: int) -> datetime | None:
    return None if microseconds == _UNKNOWN_TIME else _EPOCH + microseconds * _MICROSECOND

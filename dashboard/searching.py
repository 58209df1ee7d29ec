"""Searching the feed a page at a time, however large the store and however rare what is wanted.

No query walks over more positions than a chunk has, and no page takes much longer than the reader's
patience: who wants more goes on from where the walk got to.
"""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from time import monotonic
from typing import Any

import msgspec

from store import payload
from store.errors import EventStoreError
from store.records import Event, FeedFilter
from store.sources import EVERYTHING, EventSource

PATIENCE = 0.4
"""Seconds a page may take."""
PAGE_EVENTS = 30
MOST_COUNTED = 1_000
FIRST_CHUNK = 5_000
LARGEST_CHUNK = 10_000_000
READ_BATCH = 200
FIRST_BATCH = 20
BATCH_BYTES = 4_000_000

_CHUNKS_WITHIN_PATIENCE = 4
_FASTEST_GROWTH = 4
_ALL_TIME = timedelta(days=365_000)
_POINTER = re.compile(r"(/([^~/]|~[01])*)*")
_INDEX = re.compile(r"0|[1-9][0-9]{0,17}")
_SHOWN = 60
_ABSENT = object()


class InvalidSearch(EventStoreError, ValueError):
    """A search for what cannot be; the message says what to correct."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The positions between which what is looked for lies, both inclusive; `last` None: no end."""

    first: int = 1
    last: int | None = None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are searched for.

    `contains` is in a text, key or number anywhere in the data, in upper or lower case. `path` is a
    JSON pointer such as /address/city to something that exists in the data, and `equals` the JSON
    value of it; what is no JSON is taken as a text.

    Raises:
        InvalidSearch: `path` is no JSON pointer, or there is none to what `equals`.
    """

    where: FeedFilter = EVERYTHING
    contains: str | None = None
    path: str | None = None
    equals: str | None = None

    def __post_init__(self) -> None:
        if self.path is None and self.equals is not None:
            raise InvalidSearch("equals: of what? add a path such as /address/city")
        if self.path is not None and not _POINTER.fullmatch(self.path):
            raise InvalidSearch(
                f"path: {self.path[:_SHOWN]!r} is no JSON pointer; one starts with / as in"
                " /address/city, and writes ~0 for ~, ~1 for / in a name"
            )


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a search, newest event first.

    `reached` is the last position that was walked over: `before` or `after` to go on from.
    `finished` says that nothing is left in that direction. `scanned` counts the positions walked
    over.
    """

    events: tuple[Event, ...]
    reached: int
    finished: bool
    scanned: int


class Pace:
    """How many positions the next query may walk over, so that several fit into `patience`."""

    def __init__(self, size: int, patience: float) -> None:
        self.size = size
        self._goal = patience / _CHUNKS_WITHIN_PATIENCE
        self._smallest = max(size // 10, 1)
        self._last = monotonic()
        self._deadline = self._last + patience

    def went_on(self) -> bool:
        """Note that a query ended, and say whether there is time for another."""
        now = monotonic()
        took, self._last = now - self._last, now
        factor = _FASTEST_GROWTH if took <= 0 else self._goal / took
        factor = min(max(factor, 1 / _FASTEST_GROWTH), _FASTEST_GROWTH)
        self.size = min(max(int(self.size * factor), self._smallest), LARGEST_CHUNK)
        return now < self._deadline

    def is_over(self) -> bool:
        """Whether patience is at an end."""
        return monotonic() >= self._deadline


def search(
    source: EventSource,
    wanted: Wanted,
    *,
    before: int | None = None,
    after: int | None = None,
    bounds: Bounds,
    limit: int = PAGE_EVENTS,
    patience: float = PATIENCE,
) -> Found:
    """Up to `limit` events backwards from `before`, by default from the newest.

    With `after` it goes forwards from there, up to `before`. Events outside of `bounds` are not
    found. Where events are rare it ends after `patience` seconds with those it met.
    """
    span = _span(source, bounds, after=after, before=before)
    forwards = after is not None
    walk = _Walk(source, wanted, span, forwards=forwards)
    events = list(walk.matches(limit=limit, patience=patience))
    left = walk.left
    return Found(
        events=tuple(reversed(events) if forwards else events),
        reached=left.start - 1 if forwards else left.stop,
        finished=not left,
        scanned=len(span) - len(left),
    )


def later(
    source: EventSource,
    wanted: Wanted,
    *,
    after: int,
    limit: int = MOST_COUNTED,
    patience: float = PATIENCE,
) -> int:
    """How many events are wanted of those beyond a position; at least so many.

    It counts no further than `limit` and no longer than `patience` seconds. Events are read only
    where their data is asked for.
    """
    span = _span(source, Bounds(), after=after, before=None)
    if _test(wanted) is None:
        return min(_tallied(source, wanted.where, span, limit, patience), limit)
    walk = _Walk(source, wanted, span)
    return sum(1 for _ in walk.matches(limit=limit, patience=patience))


def _tallied(
    source: EventSource, where: FeedFilter, span: range, limit: int, patience: float
) -> int:
    if where.since is None and where.until is None:
        # An event that has no time on the other axis is none the less wanted.
        where = msgspec.structs.replace(where, axis="occurred")
    pace = Pace(FIRST_CHUNK, patience)
    events = 0
    while span and events < limit:
        chunk, span = span[: pace.size], span[pace.size :]
        tallies = source.tally(
            width=_ALL_TIME, where=where, after=chunk.start - 1, before=chunk.stop
        )
        events += sum(tally.events for tally in tallies)
        if not pace.went_on():
            break
    return events


def _span(source: EventSource, bounds: Bounds, *, after: int | None, before: int | None) -> range:
    """The positions to walk over."""
    newest = next(iter(source.feed(backward=True, limit=1)), None)
    lasts = [
        newest.position if newest else 0,
        *([] if bounds.last is None else [bounds.last]),
        *([] if before is None else [before - 1]),
    ]
    return range(max(bounds.first, 1, (after or 0) + 1), min(lasts) + 1)


class _Walk:
    """A walk over the positions `left`, newest first or `forwards`."""

    def __init__(
        self, source: EventSource, wanted: Wanted, left: range, *, forwards: bool = False
    ) -> None:
        self.left = left
        self._source = source
        self._where = wanted.where
        self._test = _test(wanted)
        self._forwards = forwards
        self._batch = FIRST_BATCH

    def matches(self, *, limit: int, patience: float) -> Iterator[Event]:
        """Up to `limit` wanted events; what was walked over is no longer `left`."""
        pace = Pace(FIRST_CHUNK, patience)
        taken = 0
        while self.left and taken < limit:
            chunk = self.left[: pace.size] if self._forwards else self.left[-pace.size :]
            read = size = 0
            for event in self._read(chunk, limit - taken):
                read, size = read + 1, size + len(event.raw_data)
                if self._test is None or self._test(event):
                    taken += 1
                    self._pass(event.position)
                    yield event
                if taken == limit:
                    return
                if self._test and pace.is_over():
                    self._pass(event.position)
                    return
            if read:
                # Payloads may be small or megabytes: a batch is bounded by what they are here.
                self._batch = min(max(BATCH_BYTES * read // (size + 1), 1), READ_BATCH)
            self._pass(chunk[-1] if self._forwards else chunk[0])
            if not pace.went_on():
                return

    def _read(self, chunk: range, limit: int) -> Iterator[Event]:
        return self._source.feed(
            after=chunk.start - 1,
            before=chunk.stop,
            where=self._where,
            backward=not self._forwards,
            limit=limit if self._test is None else None,
            batch_size=self._batch,
        )

    def _pass(self, position: int) -> None:
        if self._forwards:
            self.left = range(position + 1, self.left.stop)
        else:
            self.left = range(self.left.start, position)


def _test(wanted: Wanted) -> Callable[[Event], bool] | None:
    """Whether an event's data is as wanted; None where nothing is asked of it."""
    contains, path = wanted.contains, wanted.path
    if not contains and path is None:
        return None
    text = (contains or "").casefold()
    steps = [] if path is None else _steps(path)
    equals = _ABSENT if wanted.equals is None else _json(wanted.equals)

    def test(event: Event) -> bool:
        value = _at(event.data, steps)
        if value is _ABSENT or not (equals is _ABSENT or _same(value, equals)):
            return False
        return not text or any(text in found for found in _texts(event.data))

    return test


def _steps(path: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


def _at(value: Any, steps: list[str]) -> Any:
    """What a pointer leads to."""
    for step in steps:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and _INDEX.fullmatch(step) and int(step) < len(value):
            value = value[int(step)]
        else:
            return _ABSENT
    return value


def _json(text: str) -> Any:
    try:
        return payload.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return text


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: 1 is 1.0, but not true."""
    waiting = [(one, other)]
    while waiting:
        one, other = waiting.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            waiting += [(value, other[key]) for key, value in one.items()]
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            waiting += zip(one, other, strict=True)
        elif isinstance(one, bool) != isinstance(other, bool) or one != other:
            return False
    return True


def _texts(data: Any) -> Iterator[str]:
    """Every text, key and number in the data, as they are compared."""
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value.casefold()
        elif isinstance(value, dict):
            waiting += value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield msgspec.json.encode(value).decode()

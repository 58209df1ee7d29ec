"""An NDJSON file as an `EventSource`: looked at where it is, without importing it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import IO, Self

from store.errors import AggregateNotFound, InvalidEvent, InvalidSource
from store.folding import HistoryRow
from store.interchange import is_gzipped, parse_line, read_lines
from store.records import (
    AggregateOrder,
    AggregatePage,
    AggregateSummary,
    Axis,
    Counts,
    Event,
    FeedFilter,
    OutlineRow,
    Tally,
    Watermark,
    Written,
    utc,
)
from store.sources import EVERYTHING, SourceInfo, check_reading, check_width, traces
from store.sources.line_index import LineIndex

HISTORY_BATCH = 500


class NdjsonSource:
    """The events of a plain or gzipped file in the import format, or of a trace.

    A position is a line number, that of a trace counts from its first event. Opening reads the file
    once, checks every line and keeps an index, not the events. A file that is gzipped, or a trace,
    is unpacked into an anonymous temporary file. Versions stay the file's own: each aggregate
    starts at 0 where the file has a version 0, else at 1. Safe to share between threads.

    Raises:
        InvalidSource: the file cannot be read, a line is no event, or an aggregate's versions have
            a gap or a double; the message names the line.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._index = LineIndex()
        self._lock = Lock()
        try:
            self._file = self._load()
        except OSError as error:
            raise InvalidSource(f"{self._path}: {error.strerror or error}") from None
        except (InvalidEvent, InvalidSource) as error:
            raise InvalidSource(f"{self._path}: {error}") from None

    def _load(self) -> IO[bytes]:
        """Index the lines; the file to read them from again."""
        with ExitStack() as opened:
            file = opened.enter_context(self._path.open("rb"))
            is_trace = traces.is_page(file)
            is_packed = is_trace or is_gzipped(file)
            unpacked = opened.enter_context(TemporaryFile()) if is_packed else None
            for number, line in traces.event_lines(file) if is_trace else read_lines(file):
                self._add(number, line)
                if unpacked is not None:
                    unpacked.write(line)
            self._index.complete()
            opened.pop_all()
        if unpacked is None:
            return file
        file.close()
        return unpacked

    def _add(self, number: int, line: bytes) -> None:
        if line.isspace():
            self._index.add_blank(len(line))
            return
        try:
            self._index.add(len(line), parse_line(line, position=number))
        except InvalidEvent as error:
            raise InvalidEvent(f"line {number}: {error}") from None

    def close(self) -> None:
        """Close the file; what is iterated after this raises ValueError."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(name=self._path.name, first_version=self._index.first_version)

    def aggregate(self, aggregate_id: str) -> AggregateSummary:
        summary = self._index.summary(aggregate_id)
        if summary is None:
            raise AggregateNotFound(aggregate_id)
        return summary

    def aggregates(
        self,
        *,
        prefix: str = "",
        aggregate_type: str | None = None,
        order: AggregateOrder = "id",
        after: str | None = None,
        limit: int = 100,
    ) -> AggregatePage:
        if limit < 1:
            raise InvalidEvent(f"limit: {limit} is not a number from 1")
        found = self._index.page(
            prefix=prefix,
            aggregate_type=aggregate_type,
            order=order,
            after=after,
            limit=limit + 1,
        )
        items = tuple(found[:limit])
        return AggregatePage(
            items=items, next=items[-1].aggregate_id if len(found) > limit else None
        )

    def events(
        self,
        aggregate_id: str,
        *,
        from_version: int | None = None,
        to_version: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        axis: Axis = "occurred",
        backward: bool = False,
        batch_size: int = 500,
    ) -> Iterator[Event]:
        check_reading(axis=axis, batch_size=batch_size)
        first = self._index.first_version
        start = max(0, (from_version or 0) - first)
        stop = None if to_version is None else max(0, to_version - first + 1)
        lines = self._index.history(aggregate_id)[start:stop]
        if backward:
            lines = lines[::-1]
        return self._read(self._index.within(lines, since, until, axis), batch_size)

    def history(
        self,
        aggregate_id: str,
        *,
        after: int | None = None,
        to_version: int | None = None,
        as_of: datetime | None = None,
        axis: Axis = "occurred",
    ) -> Iterator[Sequence[HistoryRow]]:
        check_reading(axis=axis, batch_size=HISTORY_BATCH)
        start = None if after is None else after + 1
        events = self.events(aggregate_id, from_version=start, to_version=to_version)
        if as_of is not None:
            bound, name = utc("as_of", as_of), f"{axis}_at"
            events = (e for e in events if (m := getattr(e, name)) is not None and m <= bound)
        rows = (
            (e.version, e.event_type, e.raw_data, e.aggregate_type, e.event_version) for e in events
        )
        while batch := list(islice(rows, HISTORY_BATCH)):
            yield batch

    def outline(
        self, aggregate_id: str, *, after: int | None = None, to_version: int | None = None
    ) -> Iterator[Sequence[OutlineRow]]:
        first = self._index.first_version
        start = 0 if after is None else max(0, after + 1 - first)
        stop = None if to_version is None else max(0, to_version - first + 1)
        if rows := self._index.outline(aggregate_id, start, stop):
            yield rows

    def feed(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        where: FeedFilter = EVERYTHING,
        backward: bool = False,
        limit: int | None = None,
        batch_size: int = 500,
    ) -> Iterator[Event]:
        check_reading(axis=where.axis, batch_size=batch_size, limit=limit)
        lines = self._index.lines(after, before)
        events = self._wanted(reversed(lines) if backward else lines, where, batch_size)
        return islice(events, limit)

    def counts(self) -> Counts:
        return self._index.counts()

    def written(self) -> Sequence[Written]:
        kinds = Counter(
            (event.aggregate_type, event.event_type, event.event_version) for event in self.feed()
        )
        return [
            Written(aggregate_type=kind[0], event_type=kind[1], event_version=kind[2], events=count)
            for kind, count in sorted(kinds.items())
        ]

    def tally(
        self,
        *,
        width: timedelta,
        where: FeedFilter = EVERYTHING,
        after: int = 0,
        before: int | None = None,
    ) -> Sequence[Tally]:
        width = check_width(width)
        check_reading(axis=where.axis)
        lines: Iterable[int] = self._index.lines(after, before)
        if _is_indexed(where):
            lines = self._index.matching(lines, where)
        else:
            lines = (event.position for event in self._wanted(lines, where, HISTORY_BATCH))
        return self._index.tally(lines, width, where.axis)

    def rolled_up(self) -> int:
        """See `EventSource.rolled_up`."""
        return 0

    def watermark(self) -> Watermark:
        return Watermark(position=self._index.last_line(), holder=None)

    def _wanted(self, lines: Iterable[int], where: FeedFilter, batch_size: int) -> Iterator[Event]:
        events = self._read(self._index.matching(lines, where), batch_size)
        if _is_indexed(where):
            return events
        return (event for event in events if _has_marks(event, where))

    def _read(self, lines: Iterator[int], batch_size: int) -> Iterator[Event]:
        while batch := list(islice(lines, batch_size)):
            with self._lock:
                texts = [self._line(number) for number in batch]
            for number, text in zip(batch, texts, strict=True):
                yield self._event(number, text)

    def _line(self, number: int) -> bytes:
        offset, size = self._index.span(number)
        self._file.seek(offset)
        return self._file.read(size)

    def _event(self, number: int, text: bytes) -> Event:
        try:
            return parse_line(text, position=number)
        except InvalidEvent as error:
            raise InvalidSource(f"{self._path}: line {number} has changed: {error}") from None


def _is_indexed(where: FeedFilter) -> bool:
    """Whether the index alone knows which events are wanted."""
    return where.correlation_id is None and where.actor is None and where.event_id is None


def _has_marks(event: Event, where: FeedFilter) -> bool:
    """Whether the event is wanted by what the index does not know."""
    return (
        where.correlation_id in {None, event.correlation_id}
        and where.actor in {None, event.actor}
        and where.event_id in {None, event.event_id}
    )

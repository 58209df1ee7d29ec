"""The lines of a stream as entries of a batch, some of them before their turn."""

import io
import os
import stat
from collections import deque
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from store.errors import InvalidEvent, InvalidSource
from store.interchange import parse_line, read_lines
from store.transfer.batch import Entry, entry

MAX_BYTES_AHEAD = 16 * 1024 * 1024


class Invalid(Struct, frozen=True):
    """A line that tells of no event, and why."""

    line: int
    content: bytes
    reason: str


class ParsedLines:
    """The lines in their order, but for blank ones; for the options see `import_events`.

    Raises, when the line before has been handed out:
        InvalidSource: the gzip data is damaged.
    """

    def __init__(self, stream: io.BufferedReader, *, restore: bool, renumber: bool) -> None:
        self._coming = _parsed(stream, restore=restore, renumber=renumber)
        self._ahead: deque[Entry | Invalid] = deque()
        self._bytes_ahead = 0
        self._damage: InvalidSource | None = None
        self._may_wait = _may_wait(stream)

    def __iter__(self) -> Iterator[Entry | Invalid]:
        return self

    def __next__(self) -> Entry | Invalid:
        if not self._ahead:
            if self._damage is not None:
                raise self._damage
            return next(self._coming)
        line = self._ahead.popleft()
        self._bytes_ahead -= len(line.content)
        return line

    def parse_ahead(self) -> None:
        """Parse one more line than was asked for, where there is one and room for it.

        Nothing of a pipe: a transaction would wait for whoever writes into that.
        """
        if self._may_wait or self._damage is not None or self._bytes_ahead > MAX_BYTES_AHEAD:
            return
        try:
            line = next(self._coming, None)
        except InvalidSource as damage:
            self._damage = damage
            return
        if line is not None:
            self._ahead.append(line)
            self._bytes_ahead += len(line.content)


def _may_wait(stream: io.BufferedReader) -> bool:
    """Whether to read may take as long as somebody else likes."""
    try:
        return not stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except io.UnsupportedOperation:  # in memory
        return False


def _parsed(
    stream: io.BufferedReader, *, restore: bool, renumber: bool
) -> Iterator[Entry | Invalid]:
    for number, content in read_lines(stream):
        if content.isspace():
            continue
        try:
            event = parse_line(content, position=number)
        except InvalidEvent as error:
            yield Invalid(number, content, str(error))
            continue
        if renumber:
            event = replace(event, version=event.version + 1)
        yield entry(event, content, recorded_at=event.recorded_at if restore else None)

"""The events in an HTML file that `hindsight trace` wrote."""

import io
from collections.abc import Iterator

from store.errors import InvalidSource

DOCTYPE = b"<!doctype html>"
EVENTS = b'<script type="application/x-ndjson" id="events">\n'
"""The line in front of the events, where they are a whole history."""
CUT_EVENTS = b'<script type="application/x-ndjson" id="events" data-cut>\n'
"""The line in front of them where versions before the first are left out."""
END = b"</script>\n"


def is_page(stream: io.BufferedReader) -> bool:
    """Whether `stream` is an HTML file; nothing is consumed."""
    return stream.peek(len(DOCTYPE))[: len(DOCTYPE)].lower() == DOCTYPE


def event_lines(stream: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    """The lines of the events with their numbers from 1, each with its newline.

    Raises:
        InvalidSource: it is no trace, begins in the midst of a history, or ends early.
    """
    for line in stream:
        if line == CUT_EVENTS:
            raise InvalidSource(
                "a trace that leaves out the first versions has no states to read;"
                " open it in a browser"
            )
        if line == EVENTS:
            break
    else:
        raise InvalidSource("an HTML file, but no trace")
    for number, line in enumerate(stream, 1):
        if line == END:
            return
        yield number, line
    raise InvalidSource("the trace ends early")

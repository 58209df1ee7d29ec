"""One look per event type, the same on every page of a store: a colour and a shape.

The colours themselves stand in `static/timeline.css`, for each theme its own eight: at least 3:1 on
the background, and apart for people who see red, green or blue alike (a test simulates them).
"""

from collections.abc import Iterable
from zlib import crc32

COLOURS = 8
SHAPES = 4


def looks(event_types: Iterable[str]) -> dict[str, int]:
    """A number for each of a store's event types: colour `n % 8`, shape `n // 8`.

    A type takes the colour its name points to, or the next free one, so a type that joins later
    rarely moves another. The first eight differ by colour, the first 32 by colour or shape.
    """
    chosen: dict[str, int] = {}
    for event_type in sorted(set(event_types)):
        if len(chosen) % COLOURS == 0:
            free = list(range(COLOURS))
        wanted = crc32(event_type.encode())
        preferred = wanted % COLOURS
        index = free.index(preferred) if preferred in free else wanted % len(free)
        shape = len(chosen) // COLOURS % SHAPES
        chosen[event_type] = shape * COLOURS + free.pop(index)
    return chosen

"""One colour per event type, the same on every page of a store.

The palette is readable on both themes (at least 3:1 on white and on the dark background) and keeps
its neighbours apart for people who see red and green alike; lanes and names say the same in words.
"""

from collections.abc import Iterable
from zlib import crc32

PALETTE = (
    "#0f7fc2",  # blue
    "#c8601a",  # orange
    "#14906a",  # green
    "#b8579e",  # pink
    "#8a7a1c",  # olive
    "#7a6ad8",  # violet
    "#1590a0",  # teal
    "#c94a56",  # red
    "#6b8a2f",  # moss
    "#8c6f5c",  # brown
)
OTHER = "#7f8894"


def colours(event_types: Iterable[str]) -> dict[str, str]:
    """A colour for each of a store's event types.

    A type takes the colour its name points to, or the next free one, so a type that joins later
    rarely moves another; once all are taken, colours repeat.
    """
    chosen: dict[str, str] = {}
    for event_type in sorted(set(event_types)):
        if len(chosen) % len(PALETTE) == 0:
            free = list(PALETTE)
        preferred = PALETTE[crc32(event_type.encode()) % len(PALETTE)]
        index = (
            free.index(preferred) if preferred in free else crc32(event_type.encode()) % len(free)
        )
        chosen[event_type] = free.pop(index)
    return chosen


def text_colour(colour: str | None, *, dark: bool) -> str:
    """A colour of the palette as text: at least 4.5:1 on the theme's background."""
    channels = bytes.fromhex((colour or OTHER).removeprefix("#"))
    towards, share = (255, 0.3) if dark else (0, 0.3)
    mixed = (round(channel + (towards - channel) * share) for channel in channels)
    return "#" + "".join(f"{channel:02x}" for channel in mixed)

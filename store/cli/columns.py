"""Aligned columns of text that may come from anywhere."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

_UNITS = (("s", 60, 1), ("min", 60, 60), ("h", 48, 3600))
"""Of spans of time: up to how many there are before the next is used, and seconds in one."""


class Columns:
    """Rows under titles, a batch at a time; a column grows with the widest text so far.

    Columns whose title starts with `>` are right-aligned. The last one is as wide as it is.
    """

    def __init__(self, *titles: str) -> None:
        self._right = [title.startswith(">") for title in titles]
        self._titles = [title.removeprefix(">") for title in titles]
        self._widths = [0] * len(titles)
        self._begun = False

    def lines(self, rows: Iterable[Sequence[str]]) -> Iterator[str]:
        """The rows as lines, the first time with the titles above them."""
        batch = [[shown(text) for text in row] for row in rows]
        if not self._begun:
            batch.insert(0, self._titles)
            self._begun = True
        for row in batch:
            self._widths = list(map(max, self._widths, map(len, row)))
        for row in batch:
            yield "  ".join(map(self._cell, row[:-1], self._widths, self._right)) + f"  {row[-1]}"

    def _cell(self, text: str, width: int, right: bool) -> str:  # noqa: FBT001 (of `map`)
        return text.rjust(width) if right else text.ljust(width)


def utc_text(moment: datetime, timespec: str = "auto") -> str:
    """The time in UTC, as columns that say so show it."""
    return moment.isoformat(sep=" ", timespec=timespec).removesuffix("+00:00")


def span_text(seconds: float) -> str:
    """A span of time in its largest unit."""
    for unit, limit, size in _UNITS:
        if seconds < limit * size:
            return f"{int(seconds) // size} {unit}"
    return f"{int(seconds) // 86_400} days"


def shown(text: str) -> str:
    """`text` with nothing in it that a terminal would obey."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def shortened(text: str, width: int) -> str:
    """`text`, cut where it is longer than `width`."""
    return text if len(text) <= width else f"{text[: max(width, 1) - 1]}…"


def bytes_text(count: int) -> str:
    """A number of bytes in its largest unit."""
    size, units = float(count), ["kB", "MB", "GB", "TB"]
    if count < 1_000:
        return f"{count} bytes"
    while size >= 1_000 and units:
        size, unit = size / 1_000, units.pop(0)
    return f"{size:,.{0 if size >= 10 else 1}f} {unit}"

"""Looking closer at a history, or from further away: which stretch of time the axis spans."""

import msgspec

ZOOM = 4
SHORTEST = 1_000


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time in UTC µs, `end` exclusive."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Microseconds."""
        return self.end - self.start


def closer(shown: Stretch, around: int) -> Stretch | None:
    """A quarter of what is shown, `around` the chosen moment; None where that shows no more."""
    length = shown.length // ZOOM
    if length < SHORTEST:
        return None
    return _around(around, length, shown)


def further(shown: Stretch, around: int, whole: Stretch) -> Stretch | None:
    """Four times what is shown; None where that is the whole history."""
    length = shown.length * ZOOM
    return None if length >= whole.length else _around(around, length, whole)


def _around(moment: int, length: int, within: Stretch) -> Stretch:
    start = min(max(moment - length // 2, within.start), within.end - length)
    return Stretch(start=start, end=start + length)

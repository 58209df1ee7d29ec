"""When this process last wrote, so that it sees its own writes whatever age it accepts."""

from collections.abc import Iterable
from time import monotonic

_SLOTS = 4_096


class Writes:
    """The time of the last write to each aggregate, or to one that shares its slot.

    Who shares one asks the database once more than needed. Safe to share between threads.
    """

    def __init__(self) -> None:
        self._written = [0.0] * _SLOTS

    def note(self, aggregate_ids: Iterable[str]) -> None:
        """They have been written to now."""
        now = monotonic()
        for aggregate_id in aggregate_ids:
            self._written[hash(aggregate_id) % _SLOTS] = now

    def last(self, aggregate_id: str) -> float:
        """The monotonic time after which it was not written to."""
        return self._written[hash(aggregate_id) % _SLOTS]

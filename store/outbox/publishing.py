"""Where a relay hands events to; whatever takes them is behind this."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from store.records import Event


class Publisher(Protocol):
    """Takes events to their subscribers."""

    def publish(self, events: Sequence[Event]) -> Mapping[int, Exception]:
        """Publish events; why some could not be, by position.

        Those of an aggregate stand in the order of their versions. Behind one that could not be
        published none of its aggregate is, and need not be told. An event may come again: who takes
        it knows it by aggregate id and version. What this raises holds for all of them.
        """
        ...

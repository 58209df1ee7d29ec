"""What every contender is asked to do, with the same payloads."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Protocol, TypeAlias
from uuid import uuid4

AGGREGATE_TYPE = "ticket"
EVENT_TYPE = "CommentAdded"
ACTOR = "ada.lovelace"
BATCH = 500
"""Events a query of a scan: the store's own default, given to each contender."""

PAYLOADS: Sequence[dict[str, Any]] = [
    {
        "ticket": 100_000 + number,
        "author": f"user-{number % 37:03}",
        "text": "The form loses what was typed when the session ends" + " again" * (number % 7),
        "labels": ["ui", "session"],
        "priority": number % 5,
        "minutes": number * 1.5,
        "internal": number % 2 == 0,
    }
    for number in range(1_000)
]
"""JSON of about 200 bytes each."""


class Conflict(Exception):
    """Another writer was first; nothing was written."""


class Contender(Protocol):
    """One way to write and read events. Its threads share it, its processes do not."""

    def append(self, aggregate_id: str, expected: int, count: int) -> None:
        """Append `count` events after version `expected`; 0 creates the aggregate.

        Raises:
            Conflict: the aggregate is at another version.
        """
        ...

    def reload(self, aggregate_id: str, version: int) -> int:
        """Read and decode an aggregate's events after `version`; the newest version."""
        ...

    def scan(self) -> int:
        """Read and decode every event in position order, in batches; how many."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


Opener: TypeAlias = Callable[[], Contender]
"""Opens a contender; it can be pickled, so that another process may call it."""


def payloads(expected: int, count: int) -> Sequence[dict[str, Any]]:
    """The payloads of the events after version `expected`."""
    start = expected % (len(PAYLOADS) - count)
    return list(islice(PAYLOADS, start, start + count))


def new_id() -> str:
    """An aggregate nobody has written to; a UUID's text, for the peer takes nothing else."""
    return str(uuid4())


def load(contender: Contender, events: int) -> None:
    """Write that many events, 100 an aggregate, where there are none yet."""
    for _ in range(events // 100):
        contender.append(new_id(), 0, 100)

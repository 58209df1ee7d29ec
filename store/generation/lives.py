"""What happens when, to whom: aggregates of very different lengths, active in bursts."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import msgspec
from msgspec import Struct

from store.database.batch import EncodedAppend, EncodedEvent
from store.domain import History
from store.errors import InvalidDomain

LONGEST = 100_000
"""Events of the longest history; in stores of under 10,000,000 events a hundredth of all."""
_LONGEST_OF_FEW = 50
_SHORTEST = 2
_TAIL = 1.1
"""The exponent of a Pareto distribution: 29 of 1,000 histories are longer than 50 events."""
_GOES_ON = 0.75
"""How likely a burst goes on behind an event."""
_WITHIN_BURST = timedelta(seconds=30)
_BETWEEN_BURSTS = timedelta(days=6)
"""In the mean, and less where a history has many events."""
_TRACED = 0.6
"""How many of the bursts have a correlation id."""
_DELAYS = (timedelta(milliseconds=3), timedelta(milliseconds=250))
"""How long after it occurred an event is recorded, at least and at most."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_encode = msgspec.json.Encoder().encode


class Kind(Struct, frozen=True):
    """The aggregates of a type: the history they have, and its events' schema versions."""

    aggregate_type: str
    history: History
    versions: dict[str, int]


def lengths(random: Random, events: int) -> list[int]:
    """How many events each aggregate has, `events` in all; the first one has the most."""
    longest = min(max(events // 100, _LONGEST_OF_FEW), LONGEST)
    found = [min(events, longest)]
    left = events - found[0]
    while left:
        drawn = int(_SHORTEST * (1 - random.random()) ** (-1 / _TAIL))
        found.append(min(drawn, longest, left))
        left -= found[-1]
    return found


class Life:
    """One aggregate from its first event, at `start`, to its last, by `end`.

    `next` is its next event that is not taken yet, None behind the last, and `at` when that is
    recorded.
    """

    def __init__(
        self,
        random: Random,
        kind: Kind,
        number: int,
        *,
        length: int,
        start: datetime,
        end: datetime,
    ) -> None:
        self.aggregate_id = f"{kind.aggregate_type}-{number}"
        self.at = start
        self.taken: list[EncodedEvent] = []
        self.place = 0
        self._version = 0
        self._random = random
        self._kind = kind
        self._length = length
        self._end = end
        self._metadata = b"{}"
        self._correlation: str | None = None
        self._actor: str | None = None
        self._coming = self._events()
        self.next = next(self._coming, None)

    def take(self) -> None:
        """Put the next event to those taken, and go on to the one behind it."""
        assert self.next is not None, "the life is over"  # noqa: S101
        self.taken.append(self.next)
        self.next = next(self._coming, None)

    def append(self) -> EncodedAppend:
        """The events taken since the last append."""
        append = EncodedAppend(
            self._kind.aggregate_type, self.aggregate_id, self._version, self.taken
        )
        self._version += len(self.taken)
        self.taken = []
        return append

    def _events(self) -> Iterator[EncodedEvent]:
        random, versions = self._random, self._kind.versions
        delay = _DELAYS[0] + random.random() * (_DELAYS[1] - _DELAYS[0])
        for event in self._kind.history(random, self._moments(delay)):
            name = type(event).__name__
            if name not in versions:
                raise self._invalid(f"makes {name!r}, which is none of its events")
            occurred_at = self.at - delay
            yield EncodedEvent(
                _event_id(random, occurred_at),
                name,
                versions[name],
                _encode(event),
                self._metadata,
                self._correlation,
                None,
                self._actor,
                occurred_at,
                self.at,
            )
        made = self._version + len(self.taken)
        if made != self._length:
            raise self._invalid(f"makes {made:,} events for {self._length:,} moments")

    def _moments(self, delay: timedelta) -> Iterator[datetime]:
        """When its events occur; what those of a burst have in common is drawn with the first."""
        random = self._random
        self._begin_burst()
        yield self.at - delay
        for left in range(self._length - 1, 0, -1):
            # Half of the time that is left is for bursts, half for what is between them.
            half = (self._end - self.at) / 2
            if random.random() < _GOES_ON:
                self._pass(min(_WITHIN_BURST, half / left))
            else:
                self._pass(min(_BETWEEN_BURSTS, half / (1 + left * (1 - _GOES_ON))))
                self._begin_burst()
            yield self.at - delay

    def _pass(self, mean: timedelta) -> None:
        random = self._random
        at = self.at + random.expovariate(1.0) * mean
        self.at = at if at < self._end else self.at + random.random() * (self._end - self.at)

    def _begin_burst(self) -> None:
        random = self._random
        self._actor = (
            self.aggregate_id if random.random() < 0.8 else f"support-{random.randint(1, 40)}"
        )
        self._correlation = None
        metadata = {"actor": self._actor}
        if random.random() < _TRACED:
            self._correlation = f"req-{random.getrandbits(40):010x}"
            metadata["correlation_id"] = self._correlation
        self._metadata = _encode(metadata)

    def _invalid(self, what: str) -> InvalidDomain:
        return InvalidDomain(f"aggregate {self._kind.aggregate_type!r}: its history {what}")


def _event_id(random: Random, at: datetime) -> UUID:
    """As `new_event_id` would have made it at that moment."""
    milliseconds, drawn = (at - _EPOCH) // _MILLISECOND, random.getrandbits(74)
    high, low = drawn >> 62, drawn & (1 << 62) - 1
    return UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low)

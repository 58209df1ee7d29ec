"""The way through both levels to the database, the same for all that is kept."""

from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol

from store.cache.flights import Flights
from store.cache.local import Entry, Local, Value
from store.cache.tails import Tail, Tails
from store.cache.writes import Writes
from store.errors import EventStoreError, InvalidEvent
from store.identifiers import is_storable
from store.metrics import Level, Metrics

if TYPE_CHECKING:
    from store.cache.shared import Found, Shared


class Answer(NamedTuple, Generic[Value]):
    """What is newest, the level that had it, and how many events have been read in addition."""

    value: Value
    level: Level
    more: int


class Kind(Protocol[Value]):
    """What is kept of aggregates: their states, or their histories."""

    name: str

    def tail(self, aggregate_id: str, version: int) -> Tail:
        """What is stored from that version on."""
        ...

    def extended(self, aggregate_id: str, value: Value, tail: Tail) -> Value | None:
        """The value with what came behind it; None where that is not to be kept.

        Raises:
            EventStoreError: it cannot be made of them.
        """
        ...

    def fingerprints(self) -> Sequence[str]:
        """Which code may have made a value that this code can use."""
        ...

    def encoded(self, value: Value) -> tuple[str, bytes] | None:
        """Its fingerprint, and the bytes that it comes back from; None: it would not."""
        ...

    def decoded(self, aggregate_id: str, fingerprint: str, found: "Found") -> Value:
        """What was encoded.

        Raises:
            ValueError: it is something else.
        """
        ...


_NUMBERS = frozenset({float, int})


class TwoLevels(Generic[Value]):
    """The newest of each aggregate, of one kind. Safe to share between threads."""

    def __init__(
        self,
        kind: Kind[Value],
        tails: Tails,
        writes: Writes,
        metrics: Metrics,
        shared: "Shared | None",
    ) -> None:
        self.local: Local[Value] = Local()
        self._kind = kind
        self._tails = tails
        self._writes = writes
        self._shared = shared
        self._flights = Flights()
        self._count = {
            (level, result): clicks.click
            for (level, of, result), clicks in metrics.lookups.items()
            if of == kind.name
        }
        self._hit_l1 = self._count["l1", "hit"]

    def fresh(self, aggregate_id: str, max_age: float | None) -> Value | None:
        """What this process keeps, where it is not older than `max_age` seconds.

        Without, where nobody has committed anything since it was checked. All of it stands here, as
        each call costs a tenth of the answer.

        Raises:
            InvalidEvent: it is no number of seconds.
        """
        now = monotonic()
        kept = self.local.get(aggregate_id, self._tails.generation, now)
        if kept is None:
            return None
        if max_age is None:
            if not self._is_newest(kept):
                return None
            kept.checked_at = now
        else:
            if type(max_age) not in _NUMBERS or not 0 <= max_age < inf:
                check_age(max_age)
            checked_at = kept.checked_at
            if now - checked_at > max_age or checked_at <= self._writes.last(aggregate_id):
                return None
        self._hit_l1()
        return kept.value

    def at_hand(self, aggregate_id: str, max_age: float | None) -> Answer[Value] | None:
        """What this process keeps, `fresh` or `checked`."""
        value = self.fresh(aggregate_id, max_age)
        if value is not None:
            return Answer(value, "l1", 0)
        return self.checked(aggregate_id, max_age)

    def checked(self, aggregate_id: str, max_age: float | None) -> Answer[Value] | None:
        """What this process keeps, as the database bears it out.

        None where it keeps nothing; or where some age will do, and other processes may keep that.
        """
        if max_age is not None and self._shared is not None:
            return None
        kept = self.local.get(aggregate_id, self._tails.generation, monotonic())
        return None if kept is None else self._checked("l1", aggregate_id, kept)

    def newest(
        self, aggregate_id: str, max_age: float | None, read: Callable[[], Value | None]
    ) -> Answer[Value] | None:
        """What is kept anywhere, where it was not `at_hand`.

        Where nothing is, `read` reads it from the database, for one thread at a time; the answer is
        None then, and what it returned is kept.
        """
        if not self._flights.lead(aggregate_id):
            # Where the one that was waited for has left nothing, all go on by themselves.
            answer = self.at_hand(aggregate_id, max_age)
            return answer or self._from_afar(aggregate_id, max_age, read)
        try:
            return self._from_afar(aggregate_id, max_age, read)
        finally:
            self._flights.land(aggregate_id)

    def _from_afar(
        self, aggregate_id: str, max_age: float | None, read: Callable[[], Value | None]
    ) -> Answer[Value] | None:
        found, clock = self._found(aggregate_id)
        now = monotonic()
        if found and max_age is not None and self._is_fresh(aggregate_id, found[0], max_age, now):
            self._count["l1", "miss"]()
            self.local.put(aggregate_id, found[0])
            return self._hit("l2", found[0])
        kept = self.local.get(aggregate_id, self._tails.generation, now)
        answer = None
        if kept and not (found and found[0].value.version > kept.value.version):
            answer = self._checked("l1", aggregate_id, kept)
        elif found:
            answer = self._checked("l2", aggregate_id, *found)
        if answer is None or answer.level == "l2":
            self._count["l1", "miss"]()
        value = self._read(aggregate_id, read) if answer is None else answer.value
        if clock is not None and (answer is None or answer.more or max_age is not None):
            self._share(aggregate_id, value, clock)
        return answer

    def _hit(self, level: Level, kept: Entry[Value], more: int = 0) -> Answer[Value]:
        self._count[level, "hit"]()
        return Answer(kept.value, level, more)

    def _is_fresh(self, aggregate_id: str, kept: Entry[Value], max_age: float, now: float) -> bool:
        checked_at = kept.checked_at
        return now - checked_at <= max_age and checked_at > self._writes.last(aggregate_id)

    def _is_newest(self, kept: Entry[Value]) -> bool:
        """Whether nobody has committed since it was checked, where that is told without a query."""
        commits = self._tails.look()
        return commits is not None and commits == kept.commits

    def _checked(
        self, level: Level, aggregate_id: str, kept: Entry[Value], found: "Found | None" = None
    ) -> Answer[Value] | None:
        """What is kept and what has come since; None where the database does not bear it out."""
        more = 0
        while True:
            started, commits = monotonic(), self._tails.commits
            tail = self._kind.tail(aggregate_id, kept.value.version)
            if tail.at != kept.value.mark or tail.epoch != kept.generation.epoch:
                self._drop(aggregate_id, kept, tail, found)
                return None
            if tail.rows:
                value = self._extended(aggregate_id, kept.value, tail)
                if value is None:
                    self.local.drop(aggregate_id)
                    return None
                kept, more = Entry(kept.generation, value, started, started), more + len(tail.rows)
            if not tail.more:
                break
        kept.checked_at, kept.commits = started, commits
        if more or level == "l2":
            self.local.put(aggregate_id, kept)
        return self._hit(level, kept, more)

    def _extended(self, aggregate_id: str, value: Value, tail: Tail) -> Value | None:
        try:
            return self._kind.extended(aggregate_id, value, tail)
        except EventStoreError:
            return None  # who reads all of it is told what is wrong

    def _drop(
        self, aggregate_id: str, kept: Entry[Value], tail: Tail, found: "Found | None"
    ) -> None:
        if found is not None and self._shared is not None:
            self._shared.drop(self._kind.name, found.key, found.head)
        else:
            self._count["l1", "dropped"]()
        self.local.drop(aggregate_id)
        if tail.epoch is not None and tail.epoch != kept.generation.epoch:
            self._tails.renew(tail.epoch)

    def _found(self, aggregate_id: str) -> "tuple[tuple[Entry[Value], Found] | None, int | None]":
        """What is kept in L2, and its time; see `Shared.get`."""
        if self._shared is None or not is_storable(aggregate_id):
            return None, None
        generation = self._tails.generation
        name, fingerprints = self._kind.name, self._kind.fingerprints()
        front = f"{generation.key}:{name}:"
        keys = [f"{front}{each}:{aggregate_id}" for each in fingerprints]
        found, clock = self._shared.get(name, keys)
        if found is None:
            return None, clock
        try:
            value = self._kind.decoded(aggregate_id, fingerprints[found.place], found)
        except ValueError:
            self._shared.drop(name, found.key, found.head)
            return None, clock
        return (Entry(generation, value, found.checked_at, found.asked_at), found), clock

    def _read(self, aggregate_id: str, read: Callable[[], Value | None]) -> Value | None:
        # Before anything is read: what is erased meanwhile is then of a generation before.
        generation, started = self._tails.generation, monotonic()
        value = read()
        if value is not None:
            self.local.put(aggregate_id, Entry(generation, value, started, started))
        return value

    def _share(self, aggregate_id: str, value: Value | None, clock: int) -> None:
        """Put the value into L2, if it is kept here; it was read behind that time of Redis'."""
        kept = self.local.get(aggregate_id, self._tails.generation, monotonic())
        if kept is None or kept.value is not value or self._shared is None:
            return
        encoded = self._kind.encoded(value)
        if encoded is not None:
            fingerprint, body = encoded
            key = f"{kept.generation.key}:{self._kind.name}:{fingerprint}:{aggregate_id}"
            self._shared.put(key, value.version, body, clock)


def check_age(max_age: float) -> None:
    """Raise `InvalidEvent` where it is no number of seconds."""
    if type(max_age) not in _NUMBERS or not 0 <= max_age < inf:
        raise InvalidEvent(f"max_age: {max_age!r} is not a number of seconds from 0")

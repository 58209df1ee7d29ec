"""The records that go in and come out: frozen, times in UTC."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from operator import attrgetter
from typing import Any, Generic, Literal, TypeAlias, TypeVar
from uuid import UUID

from msgspec import Struct, field
from msgspec.json import decode
from msgspec.structs import force_setattr

from store.errors import InvalidEvent
from store.identifiers import check_text, new_event_id
from store.versions import ExpectedVersion

State = TypeVar("State")
Axis: TypeAlias = Literal["occurred", "recorded"]
"""The time a bound speaks of: when the event happened, or when the store took it."""

AggregateOrder: TypeAlias = Literal["id", "recent", "longest"]
"""By id ascending, by newest event first, or by version, longest history first."""


class NewEvent(Struct, frozen=True, gc=False):
    """An event to append.

    `data` is any JSON value and `metadata` a JSON object, both made of dict, list, str, int, float,
    bool and None. `schema_version` says which shape `data` has. `occurred_at` is an aware datetime,
    by default the moment of the append. The same `event_id` is stored once, however often it is
    appended.
    """

    event_type: str
    data: Any
    event_id: UUID = field(default_factory=new_event_id)
    schema_version: int = 1
    metadata: Mapping[str, Any] = {}
    occurred_at: datetime | None = None

    def __post_init__(self) -> None:
        check_text("event_type", self.event_type)
        if not isinstance(self.event_id, UUID):
            raise InvalidEvent(f"event_id: {self.event_id!r} is not a UUID")
        version = self.schema_version
        if type(version) is not int or not 1 <= version <= 2**31 - 1:
            raise InvalidEvent(f"schema_version: {version!r} is not a whole number from 1")
        if self.occurred_at is not None:
            utc("occurred_at", self.occurred_at)


class EventHeader(Struct, frozen=True, gc=False):
    """Which event it is, and when, where and by whom it was stored; see `Event`."""

    position: int
    version: int
    occurred_at: datetime
    recorded_at: datetime | None
    event_version: int
    aggregate_id: str
    aggregate_type: str
    event_type: str
    correlation_id: str | None
    causation_id: str | None
    actor: str | None


class Event(Struct, frozen=True, kw_only=True, gc=False):
    """A stored event.

    `version` counts within the aggregate, `position` orders the whole store. `event_version` is the
    schema version it was written with, `schema_version` that of the `data` in hand. `raw_data` and
    `raw_metadata` are the JSON bytes as written, `upcast_data` the JSON of `data` where upcasters
    made that. What a source does not keep is None.
    """

    aggregate_type: str
    aggregate_id: str
    version: int
    position: int
    event_id: UUID
    event_type: str
    event_version: int
    schema_version: int
    correlation_id: str | None
    causation_id: str | None
    actor: str | None
    occurred_at: datetime
    recorded_at: datetime | None
    raw_data: bytes
    raw_metadata: bytes
    digest: bytes | None
    upcast_data: bytes | None = None
    _data: tuple[bytes, Any] | None = None
    _metadata: tuple[bytes, Any] | None = None

    @property
    def header(self) -> EventHeader:
        """The event without what is in it."""
        return EventHeader(*(getattr(self, name) for name in EventHeader.__struct_fields__))

    @property
    def data(self) -> Any:
        """The JSON value of the data, this object's own; decoded when it is first asked for."""
        raw = self.raw_data if self.upcast_data is None else self.upcast_data
        held = self._data
        if held is None or held[0] is not raw:
            held = (raw, decode(raw))
            force_setattr(self, "_data", held)
        return held[1]

    @property
    def metadata(self) -> dict[str, Any]:
        """The JSON object of the metadata, as `data` is; empty where a source has another value."""
        held = self._metadata
        if held is None or held[0] is not self.raw_metadata:
            found = decode(self.raw_metadata)
            held = (self.raw_metadata, found if isinstance(found, dict) else {})
            force_setattr(self, "_metadata", held)
        return held[1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and _stored(self) == _stored(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        named = zip(_STORED, _stored(self), strict=True)
        return f"Event({', '.join(f'{name}={value!r}' for name, value in named)})"


_STORED = tuple(name for name in Event.__struct_fields__ if not name.startswith("_"))
"""What an event is; the rest is only kept to be decoded once."""
_stored = attrgetter(*_STORED)


class Context(Struct, frozen=True, kw_only=True):
    """Who and what caused an append; joins the metadata of each event that lacks the key."""

    actor: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None

    def __post_init__(self) -> None:
        for name, value in self.as_metadata().items():
            check_text(name, value)

    def as_metadata(self) -> dict[str, str]:
        """The fields that are set, by name."""
        named = {
            "actor": self.actor,
            "correlation_id": self.correlation_id,
            "causation_id": self.causation_id,
        }
        return {name: value for name, value in named.items() if value is not None}


class Append(Struct, frozen=True, kw_only=True):
    """One aggregate's part of an `append_all`."""

    aggregate_type: str
    aggregate_id: str
    events: Sequence[NewEvent]
    expected: ExpectedVersion


class Appended(Struct, frozen=True, kw_only=True, eq=False, dict=True):
    """The events as stored, the aggregate's version and the store's position after them.

    `duplicate` means that all of them were stored before and nothing was written now.
    """

    version: int
    position: int
    duplicate: bool
    stored: Callable[[], tuple[Event, ...]]

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """The events as a reader would get them; made when they are first asked for."""
        return self.stored()


Source: TypeAlias = Literal["replay", "snapshot", "l1", "l2"]
"""What a state was made from: all its events, a snapshot, or what a level of the cache had.

The events since are in it wherever it came from.
"""


class Loaded(Struct, Generic[State], frozen=True, kw_only=True):
    """A state, and the version of the last event in it.

    `generic` says that no domain code was there to make it: the events' data is merged. `left_out`
    counts the earlier versions that are not in it, which happens as of an `occurred` time only.
    `folded` counts the events that were read for it; `ignored` says why a snapshot was not used.
    """

    aggregate_id: str
    aggregate_type: str
    state: State
    version: int
    source: Source
    generic: bool
    left_out: int = 0
    folded: int = 0
    ignored: str | None = None


class AggregateSummary(Struct, frozen=True, kw_only=True):
    """An aggregate's head: its type, its version and when it was active."""

    aggregate_id: str
    aggregate_type: str
    version: int
    first_occurred_at: datetime
    last_occurred_at: datetime
    last_recorded_at: datetime | None


class AggregatePage(Struct, frozen=True, kw_only=True):
    """Some aggregates, and the cursor to ask for those after them (None: there are none)."""

    items: tuple[AggregateSummary, ...]
    next: str | None


class FeedFilter(Struct, frozen=True, kw_only=True):
    """Which events of a feed are wanted; what is left out is not asked for.

    `since` is inclusive, `until` exclusive, both on `axis`. `event_types` empty means all. No index
    helps to find an actor or an event id: bound such a reading by positions.
    """

    aggregate_type: str | None = None
    event_types: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    axis: Axis = "occurred"
    correlation_id: str | None = None
    actor: str | None = None
    event_id: UUID | None = None


class Written(Struct, frozen=True, kw_only=True):
    """How many events of a type were written in one schema version."""

    aggregate_type: str
    event_type: str
    event_version: int
    events: int


OutlineRow: TypeAlias = tuple[int, str, int]
"""An event's version, its type, and when it occurred in microseconds since 1970."""


class Tally(Struct, frozen=True, kw_only=True):
    """How many events of a type fall into one stretch of time, and the first and last of them.

    `start` is a multiple of the stretch's width since 1970-01-01T00:00Z, or the earliest time there
    is where that multiple lies before it.
    """

    start: datetime
    aggregate_type: str
    event_type: str
    events: int
    first_position: int
    last_position: int


class Holder(Struct, frozen=True, kw_only=True):
    """An open transaction that readers wait for.

    `pid` is its server process; None where it was prepared to be committed later and has none.
    `since` is when it began, or was prepared; None where this role may not see it.
    """

    pid: int | None
    since: datetime | None


class Watermark(Struct, frozen=True, kw_only=True):
    """Up to `position` nothing can appear any more.

    `holder` is the oldest open transaction that may still fill the next position; None: nobody
    holds readers there.
    """

    position: int
    holder: Holder | None


class Counts(Struct, frozen=True, kw_only=True):
    """How much a source holds."""

    events: int
    aggregates: int
    last_position: int
    events_by_type: dict[str, int]
    aggregates_by_type: dict[str, int]


def utc(name: str, moment: datetime) -> datetime:
    """`moment` in UTC; a naive one is refused, for nobody knows which hour it means."""
    if not isinstance(moment, datetime):
        raise InvalidEvent(f"{name}: {moment!r} is not a datetime")
    if moment.utcoffset() is None:
        raise InvalidEvent(f"{name}: {moment.isoformat()} has no time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidEvent(f"{name}: {moment.isoformat()} is out of range in UTC") from None

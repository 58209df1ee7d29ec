"""What a service declares of its aggregates: events, state, fold and commands.

A domain is named by import path (`users:domain`), so the store knows no service's code beforehand.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from store.errors import ApplyFailed, CommandUnknown, EventStoreError, InvalidDomain
from store.fingerprint import fold_fingerprint
from store.identifiers import check_text
from store.projection import Projection
from store.records import Context, Event
from store.tables import NAMES
from store.upcasting import Decoders, Upcaster, Upcasting, encoded

State = TypeVar("State", bound=Struct)

SNAPSHOT_EVERY = 100


class Command(Protocol):
    """What somebody wants done to an aggregate; its class's name is the command's."""

    def decide(self, state: Any) -> Iterable[Struct]:
        """The events that follow; none where nothing is to change. Pure.

        Raises:
            CommandRejected: a rule forbids it.
        """
        ...

    def recorded(self) -> Mapping[str, Any]:
        """What is kept of the command beside its events, as JSON values: no secrets."""
        ...


class History(Protocol):
    """Makes up what happens to one aggregate, quickly: there may be millions of its events.

    It asks for a moment, when an event occurs, right before it makes that event.
    """

    def __call__(self, random: Random, moments: Iterable[datetime]) -> Iterable[Struct]:
        """An event at each of the moments, such as `apply` takes one after the other.

        They are the same for the same `random` numbers.
        """
        ...


class Aggregate(Generic[State]):
    """A kind of aggregate: the state it starts with, and how its events change that.

    `initial` and each of `events` are frozen `msgspec.Struct`s; an event's type is its class's
    name. `apply(state, event)` returns the state after the event, and changes nothing. `upcasters`
    bring what earlier code wrote to what `events` are now, a schema version at a time. `personal`
    names fields, of events and state, that tell of people. Raise `fold_version` when something that
    `apply` calls changes what states come out; a change of `apply` itself is noticed. A snapshot of
    the state is due when the version passes a multiple of `snapshot_every`; None takes none.
    `history` makes up events for large demos.

    Raises:
        InvalidDomain: a part does not fit; the message names it.
    """

    def __init__(
        self,
        aggregate_type: str,
        *,
        initial: State,
        events: Sequence[type[Struct]],
        apply: Callable[[State, Any], State],
        commands: Sequence[type[Command]] = (),
        upcasters: Sequence[Upcaster] = (),
        personal: Sequence[str] = (),
        fold_version: int = 1,
        snapshot_every: int | None = SNAPSHOT_EVERY,
        history: History | None = None,
    ) -> None:
        self.aggregate_type = check_text("aggregate_type", aggregate_type)
        self.initial = initial
        self.state_type = type(initial)
        self.events = tuple(events)
        self.apply = apply
        self.commands = tuple(commands)
        self.personal = frozenset(personal)
        self.fold_version = fold_version
        self.snapshot_every = snapshot_every
        self.history = history
        names = {event.__name__: event for event in events if isinstance(event, type)}
        try:
            _check_parts(self)
            self.upcasting = Upcasting(aggregate_type, names, upcasters)
        except InvalidDomain as fault:
            raise InvalidDomain(f"aggregate {aggregate_type!r}: {fault}") from None
        self.schema_versions = self.upcasting.schema_versions
        self.upcast = self.upcasting.upcast
        self.decoders = Decoders(self.upcasting, names)
        # Computed now, for a source that cannot be read is an error of the declaration.
        self.fingerprint = fold_fingerprint(
            aggregate_type=aggregate_type,
            fold_version=fold_version,
            initial=initial,
            event_versions=self.schema_versions,
            apply=apply,
        )

    def decode(self, event_type: str, data: bytes | str, event_version: int) -> Any:
        """The typed event in JSON of that schema version; fields it does not know are left out.

        Raises:
            SchemaTooNew, UpcasterMissing, UnknownEventType: this code cannot read it.
            UpcastFailed: a step on the way raised something.
            msgspec.ValidationError: the JSON does not fit the event's class.
        """
        return self.decoders[event_version][event_type](data)


class Activity(Struct, frozen=True, kw_only=True):
    """A command of a sample: what somebody wanted of an aggregate, and when."""

    at: datetime
    aggregate_id: str
    command: Command
    context: Context


class Sample(Protocol):
    """Makes activity to look at, the same for the same parameters."""

    def __call__(self, *, seed: int, events: int, until: datetime) -> Iterable[Activity]:
        """Activity in the order of time, the last by `until`, for about so many events."""
        ...


class Delivery(Struct, frozen=True):
    """A committed event brought to a handler: as it is stored, and typed as `data`.

    `state()` is the aggregate's after the event. The same delivery may come again, and does so
    after an error: its aggregate id and version tell it from any other.
    """

    event: Event
    data: Any
    state: Callable[[], Any]


class Handler(Struct, frozen=True):
    """What is to be done about events of these classes once they are committed.

    Those of an aggregate come in the order of their versions. What `handle` raises has the delivery
    made again, up to three times; `name` labels how long it takes.
    """

    name: str
    events: Sequence[type[Struct]]
    handle: Callable[[Delivery], None]


class Domain:
    """The aggregates of one service under a name, and what is to be done about their events.

    `projections` keep read models of them. `sample` makes activity for demos.
    """

    def __init__(
        self,
        name: str,
        *,
        aggregates: Sequence[Aggregate[Any]],
        handlers: Sequence[Handler] = (),
        projections: Sequence[Projection] = (),
        sample: Sample | None = None,
    ) -> None:
        self.name = check_text("domain", name)
        self.aggregates = tuple(aggregates)
        self.handlers = tuple(handlers)
        self.projections = tuple(projections)
        self.sample = sample
        if not aggregates:
            raise InvalidDomain(f"domain {name!r}: no aggregates")
        Domains([self])  # what does not go together among several does not within one


class Domains:
    """Every domain of a process: the aggregate of a stored type, and of a command."""

    def __init__(self, domains: Sequence[Domain] = ()) -> None:
        self.domains = tuple(domains)
        self._by_type: dict[str, Aggregate[Any]] = {}
        self._by_command: dict[type, Aggregate[Any]] = {}
        self._handlers: dict[str, Handler] = {}
        self._handler_names: set[str] = set()
        self._projections: dict[str, Projection] = {}
        homes: dict[str, str] = {}
        for domain in domains:
            for aggregate in domain.aggregates:
                kind = aggregate.aggregate_type
                if kind in homes:
                    raise InvalidDomain(
                        f"aggregate {kind!r} is in domains {homes[kind]!r} and {domain.name!r}"
                    )
                homes[kind] = domain.name
                self._by_type[kind] = aggregate
                self._add_commands(aggregate)
            for handler in domain.handlers:
                self._add_handler(domain, handler)
            for projection in domain.projections:
                self._add_projection(domain, projection)

    @property
    def aggregates(self) -> Iterable[Aggregate[Any]]:
        """Those of all domains."""
        return self._by_type.values()

    def aggregate(self, aggregate_type: str) -> Aggregate[Any] | None:
        """The aggregate of that type, None where no domain has it."""
        return self._by_type.get(aggregate_type)

    @property
    def handlers(self) -> Iterable[Handler]:
        """Those of all domains."""
        return self._handlers.values()

    @property
    def projections(self) -> Mapping[str, Projection]:
        """Those of all domains, by name."""
        return self._projections

    def upcast(self, event: Event) -> Event:
        """The event as this code reads it; where no domain has its aggregate, as it is.

        Its `event_version`, raw bytes and digest stay those it was written with.

        Raises:
            ApplyFailed: this code cannot read it; its `cause` says why, as `Aggregate.decode` does.
        """
        aggregate = self.aggregate(event.aggregate_type)
        if aggregate is None:
            return event
        try:
            path = aggregate.upcasting.path(event.event_type, event.event_version)
            if not path:
                return event
            # Decoded anew: a step that changes what it is given must not change somebody's event.
            data = encoded(path, msgspec.json.decode(event.raw_data))
        except EventStoreError as cause:
            raise ApplyFailed(
                aggregate_id=event.aggregate_id,
                version=event.version,
                event_type=event.event_type,
                cause=cause,
                position=event.position,
            ) from cause
        kind, version = path[-1].target
        return replace(event, event_type=kind, schema_version=version, upcast_data=data)

    def of_command(self, command: Command) -> Aggregate[Any]:
        """The aggregate the command is for.

        Raises:
            CommandUnknown: no domain has the command.
        """
        aggregate = self._by_command.get(type(command))
        if aggregate is None:
            raise CommandUnknown(command=type(command).__name__)
        return aggregate

    def _add_handler(self, domain: Domain, handler: Handler) -> None:
        named = f"domain {domain.name!r}: handler {check_text('handler', handler.name)!r}"
        self._name_handler(named, handler.name)
        if not handler.events:
            raise InvalidDomain(f"{named} handles no events")
        _check_known(domain, named, handler.events)
        self._handlers[handler.name] = handler

    def _add_projection(self, domain: Domain, projection: Projection) -> None:
        named = f"domain {domain.name!r}: projection {projection.name!r}"
        table = projection.table.name
        if projection.name in self._projections:
            raise InvalidDomain(f"{named} is there twice")
        if any(table == other.table.name for other in self._projections.values()):
            raise InvalidDomain(f"{named}: table {table!r} is another projection's, too")
        if table in NAMES:
            raise InvalidDomain(f"{named}: table {table!r} is the store's own")
        _check_known(domain, named, projection.handlers)
        for handler in dict.fromkeys(projection.handlers.values()):
            self._name_handler(f"{named}: handler {handler.__name__!r}", handler.__name__)
        self._projections[projection.name] = projection

    def _name_handler(self, named: str, name: str) -> None:
        """Handlers are told apart by their names, in metrics and messages."""
        if name in self._handler_names:
            raise InvalidDomain(f"{named} is there twice")
        self._handler_names.add(name)

    def _add_commands(self, aggregate: Aggregate[Any]) -> None:
        for command in aggregate.commands:
            owner = self._by_command.setdefault(command, aggregate)
            if owner is not aggregate:
                raise InvalidDomain(
                    f"command {command.__name__!r} is in {owner.aggregate_type!r}"
                    f" and {aggregate.aggregate_type!r}"
                )


def _check_known(domain: Domain, named: str, events: Iterable[type[Struct]]) -> None:
    known = {event for aggregate in domain.aggregates for event in aggregate.events}
    for event in events:
        if event not in known:
            name = getattr(event, "__name__", repr(event))
            raise InvalidDomain(f"{named}: {name!r} is no event of its aggregates")


def load_domains(paths: str) -> Domains:
    """The domains at import paths such as `users:domain`, separated by commas.

    Raises:
        InvalidDomain: a path leads to none; the message says where it ends.
    """
    named = [path.strip() for path in paths.split(",") if path.strip()]
    if not named:
        raise InvalidDomain("no domain named; give MODULE:NAME, such as users:domain")
    return Domains([_load(path) for path in named])


def _load(path: str) -> Domain:
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise InvalidDomain(f"{path}: not MODULE:NAME, such as users:domain")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise InvalidDomain(f"{path}: {_why(error, module_name)}") from error
    domain = getattr(module, attribute, None)
    if domain is None:
        close = difflib.get_close_matches(attribute, dir(module), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InvalidDomain(f"{path}: the module has no {attribute!r}{hint}")
    if not isinstance(domain, Domain):
        raise InvalidDomain(f"{path}: {_a(type(domain).__name__)} is not a store.Domain")
    return domain


def _why(error: BaseException, module_name: str) -> str:
    """Why the module, somebody else's code, cannot be imported."""
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        if module_name == error.name or module_name.startswith(f"{error.name}."):
            return f"no module {error.name!r}"
        return f"the module wants {error.name!r}, which is not there"
    if isinstance(error, InvalidDomain):
        return str(error)
    return f"the module cannot be imported: {type(error).__name__}: {error}"


def _check_parts(aggregate: Aggregate[Any]) -> None:
    if not isinstance(aggregate.initial, Struct):
        raise InvalidDomain(
            f"initial: {_a(type(aggregate.initial).__name__)} is not a msgspec.Struct"
        )
    _check_frozen("state", type(aggregate.initial))
    if not aggregate.events:
        raise InvalidDomain("no events")
    for event in aggregate.events:
        _check_frozen("event", event)
    _check_distinct("event", aggregate.events)
    _check_apply(aggregate.apply)
    for command in aggregate.commands:
        for method, call in (("decide", "decide(state)"), ("recorded", "recorded()")):
            if not callable(getattr(command, method, None)):
                raise InvalidDomain(f"command {command.__name__!r}: no {call}")
    _check_distinct("command", aggregate.commands)
    _check_personal(aggregate)
    _check_count("fold_version", aggregate.fold_version)
    if aggregate.snapshot_every is not None:
        _check_count("snapshot_every", aggregate.snapshot_every)


def _check_count(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise InvalidDomain(f"{name}: {value!r} is not a whole number from 1")


def _check_frozen(role: str, kind: type) -> None:
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        name = getattr(kind, "__name__", repr(kind))
        raise InvalidDomain(f"{role} {name!r}: not a msgspec.Struct")
    if not kind.__struct_config__.frozen:
        raise InvalidDomain(f"{role} {kind.__name__!r}: not frozen; declare it with frozen=True")


def _check_distinct(role: str, kinds: Sequence[type]) -> None:
    seen: set[str] = set()
    for kind in kinds:
        if kind.__name__ in seen:
            raise InvalidDomain(f"{role} {kind.__name__!r}: named twice")
        seen.add(kind.__name__)


def _check_apply(apply: object) -> None:
    if not inspect.isfunction(apply):
        raise InvalidDomain(f"apply: {apply!r} is not a function")
    names = list(inspect.signature(apply).parameters)
    if len(names) != 2:
        raise InvalidDomain(f"apply: takes ({', '.join(names)}), not (state, event)")


def _check_personal(aggregate: Aggregate[Any]) -> None:
    kinds = [type(aggregate.initial), *aggregate.events]
    fields = {name for kind in kinds for name in kind.__struct_fields__}
    for name in sorted(aggregate.personal - fields):
        raise InvalidDomain(f"personal {name!r}: no event and no state has such a field")


def _a(name: str) -> str:
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"

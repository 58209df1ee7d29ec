"""Tests of a domain, without a store: `given(aggregate, *events).when(command).then(*events)`."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from store.domain import Aggregate, Command
from store.errors import CommandRejected, InvalidDomain, UnknownEventType
from store.folding import applied

State = TypeVar("State", bound=Struct)


def given(aggregate: Aggregate[State], *events: Struct) -> "Given[State]":
    """An aggregate to which these events have happened.

    Raises:
        AssertionError: the store would not give an event back equal.
    """
    return Given(aggregate, _fold(aggregate, aggregate.initial, events))


class Given(Generic[State]):
    """An aggregate in a state."""

    def __init__(self, aggregate: Aggregate[State], state: State) -> None:
        self._aggregate = aggregate
        self.state = state

    def when(self, command: Command) -> "Decided[State]":
        """Let the command decide; its events are applied, a rejection is kept."""
        try:
            events = tuple(command.decide(self.state))
        except CommandRejected as rejection:
            return Decided(self.state, rejection)
        return Decided(_fold(self._aggregate, self.state, events), events)


class Decided(Generic[State]):
    """What a command came to: the state after it, and its events or why it was rejected."""

    def __init__(self, state: State, outcome: Sequence[Struct] | CommandRejected) -> None:
        self.state = state
        self.outcome = outcome

    def then(self, *expected: Struct | CommandRejected | type[Exception]) -> None:
        """Compare with events, with the kind of a rejection, or with one and its words.

        Raises:
            AssertionError: it came to something else.
        """
        if not _equal(self.outcome, expected):
            raise AssertionError(f"expected {_told(expected)}, got {_told(self.outcome)}")


def _fold(aggregate: Aggregate[State], state: State, events: Sequence[Struct]) -> State:
    for event in events:
        try:
            stored = _stored(aggregate, event)
        except UnknownEventType as error:
            raise AssertionError(str(error)) from None
        if stored != event:
            raise AssertionError(f"{type(event).__name__} comes back from JSON as {stored!r}")
        try:
            state = applied(aggregate, state, event)
        except InvalidDomain as error:
            raise AssertionError(f"{type(event).__name__}: {error}") from None
    return state


def _stored(aggregate: Aggregate[Any], event: Struct) -> Any:
    """The event as it comes back from the store."""
    name = type(event).__name__
    version = aggregate.schema_versions.get(name, 1)
    return aggregate.decode(name, msgspec.json.encode(event), version)


def _equal(outcome: Sequence[Struct] | CommandRejected, expected: Sequence[Any]) -> bool:
    if not isinstance(outcome, CommandRejected):
        return tuple(outcome) == tuple(expected)
    if len(expected) != 1:
        return False
    [rejection] = expected
    if isinstance(rejection, type):
        return issubclass(rejection, CommandRejected) and isinstance(outcome, rejection)
    return type(outcome) is type(rejection) and str(outcome) == str(rejection)


def _told(outcome: Any) -> str:
    if isinstance(outcome, tuple):
        return ", ".join(map(_told, outcome)) or "nothing"
    if isinstance(outcome, type):
        return outcome.__name__
    if isinstance(outcome, Struct):
        return f"{type(outcome).__name__} {msgspec.json.encode(outcome).decode()}"
    return f"{type(outcome).__name__}: {outcome}"

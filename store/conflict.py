"""Version conflicts as they are told: what lost, what came of it, and whether it had to be."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from store.domain import Command
from store.records import NewEvent

Outcome: TypeAlias = Literal["absorbed", "escaped"]

Verdict: TypeAlias = Literal["same", "other", "rejected", "nothing", "commutes", "order", "unknown"]
"""What became of the losing command, decided again after the winners' events.

`same`: the same events, `other`: other events, `rejected`: a rule forbids it now, `nothing`: there
is nothing left to do. Without a command, events alone were in conflict: `commutes`: the state is
the same in either order, `order`: it is not. `unknown`: it cannot be told.
"""

NEEDLESS: frozenset[Verdict] = frozenset({"same", "commutes"})
"""The conflicts that need not have been: nothing would have come out differently."""


class Conflict(Struct, frozen=True, kw_only=True):
    """An attempt that found the aggregate changed since it was loaded.

    It was absorbed where the command was settled all the same, be it by a rejection, and escaped
    where the caller got an error instead. `command` is None where events were appended without
    one. `expected` and `actual` are None where no version was expected, and where the database did
    not tell. `verdict` is None where it takes the winners' events to know.
    """

    aggregate_type: str
    aggregate_id: str
    command: str | None
    event_types: tuple[str, ...] = ()
    expected: int | None
    actual: int | None
    attempt: int
    outcome: Outcome
    verdict: Verdict | None = None
    actor: str | None = None
    correlation_id: str | None = None


class Lost(Struct, frozen=True, kw_only=True):
    """What an attempt wanted to append, and for which command."""

    command: Command | None
    events: Sequence[NewEvent]


ConflictHook: TypeAlias = Callable[[Conflict], None]
Tell: TypeAlias = Callable[[Conflict, Lost], None]


def same_decision(one: Sequence[NewEvent], other: Sequence[NewEvent]) -> bool:
    """Whether both are the same events, whatever their ids and times."""
    return [(event.event_type, event.data) for event in one] == [
        (event.event_type, event.data) for event in other
    ]

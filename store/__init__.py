"""An event store for Python services."""

from store.application import Hindsight, migrate
from store.domain import Activity, Aggregate, Command, Domain
from store.errors import CommandRejected
from store.execution import Conflict, Executed
from store.records import (
    Append,
    Appended,
    Context,
    Event,
    FeedFilter,
    NewEvent,
)
from store.repository import Loaded
from store.upcasting import Upcaster
from store.versions import any_, exact, none

__all__ = [
    "Activity",
    "Aggregate",
    "Append",
    "Appended",
    "Command",
    "CommandRejected",
    "Conflict",
    "Context",
    "Domain",
    "Event",
    "Executed",
    "FeedFilter",
    "Hindsight",
    "Loaded",
    "NewEvent",
    "Upcaster",
    "any_",
    "exact",
    "migrate",
    "none",
]

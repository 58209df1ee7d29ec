"""An event store for Python services."""

from store.application import Hindsight, migrate
from store.domain import Aggregate, Command, Domain
from store.errors import CommandRejected
from store.records import (
    Append,
    Appended,
    Context,
    Event,
    FeedFilter,
    NewEvent,
)
from store.versions import any_, exact, none

__all__ = [
    "Aggregate",
    "Append",
    "Appended",
    "Command",
    "CommandRejected",
    "Context",
    "Domain",
    "Event",
    "FeedFilter",
    "Hindsight",
    "NewEvent",
    "any_",
    "exact",
    "migrate",
    "none",
]

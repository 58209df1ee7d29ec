"""An event store for Python services."""

from store.application import Hindsight, migrate
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
    "Append",
    "Appended",
    "Context",
    "Event",
    "FeedFilter",
    "Hindsight",
    "NewEvent",
    "any_",
    "exact",
    "migrate",
    "none",
]

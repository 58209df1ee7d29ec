"""An event store for Python services."""

from store.application import Hindsight, migrate
from store.conflict import Conflict
from store.domain import Activity, Aggregate, Command, Delivery, Domain, Handler
from store.errors import CommandRejected, SinkUnavailable
from store.execution import Executed
from store.metrics import CONTENT_TYPE, Metrics
from store.projection import Projection, Row
from store.projections import Filter, Page, ReadModel
from store.records import (
    Append,
    Appended,
    Context,
    Event,
    EventHeader,
    FeedFilter,
    Loaded,
    NewEvent,
)
from store.tables import Moment
from store.upcasting import Upcaster
from store.versions import any_, exact, none

__all__ = [
    "CONTENT_TYPE",
    "Activity",
    "Aggregate",
    "Append",
    "Appended",
    "Command",
    "CommandRejected",
    "Conflict",
    "Context",
    "Delivery",
    "Domain",
    "Event",
    "EventHeader",
    "Executed",
    "FeedFilter",
    "Filter",
    "Handler",
    "Hindsight",
    "Loaded",
    "Metrics",
    "Moment",
    "NewEvent",
    "Page",
    "Projection",
    "ReadModel",
    "Row",
    "SinkUnavailable",
    "Upcaster",
    "any_",
    "exact",
    "migrate",
    "none",
]

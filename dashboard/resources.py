"""What all sessions of the process share: the one source, and what was read from it."""

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from dashboard.activity import Activity
from dashboard.outline import Outlines
from dashboard.states import States
from dashboard.steppers import Steppers
from store.application import Hindsight
from store.domain import Domains
from store.repository import Repository
from store.sources import EventSource


class _Shared(Struct, frozen=True, kw_only=True):
    source: EventSource
    domains: Domains
    file: str | None
    store: Hindsight | None
    operator: Hindsight | None
    activity: Activity
    outlines: Outlines
    states: States
    steppers: Steppers
    repository: Repository


_shared: list[_Shared] = []


@contextmanager
def shared(
    source: EventSource,
    domains: Domains,
    *,
    file: str | None = None,
    store: Hindsight | None = None,
    operator: Hindsight | None = None,
) -> Iterator[None]:
    """Let the pages read `source`, read and folded by `domains`, within the block.

    `file` is where the source lies, if it is an event file. `store` is whose log it is; it is
    nobody's if it is such a file or a table of another system. `operator` is that store once more,
    opened to be written to; without one nothing can be done to it.
    """
    repository = Repository(source, domains)
    now = _Shared(
        source=source,
        domains=domains,
        file=file,
        store=store,
        operator=operator,
        activity=Activity(source),
        outlines=Outlines(source),
        states=States(source, repository),
        steppers=Steppers(repository),
        repository=repository,
    )
    _shared.append(now)
    try:
        yield
    finally:
        _shared.remove(now)
        now.activity.close()


def source() -> EventSource:
    """The source that is served."""
    return _shared[-1].source


def domains() -> Domains:
    """Whose code events are read and folded by."""
    return _shared[-1].domains


def file() -> str | None:
    """Where the source lies if it is an event file; a store is named by the environment."""
    return _shared[-1].file


def store() -> Hindsight | None:
    """The store whose log is served, None where the events are kept elsewhere."""
    return _shared[-1].store


def operator() -> Hindsight | None:
    """The store as operations write to it, None where they are not allowed."""
    return _shared[-1].operator


def repository() -> Repository:
    """The states that the events lead to, without snapshots."""
    return _shared[-1].repository


def outlines() -> Outlines:
    """Outlines of the aggregates that were looked at lately."""
    return _shared[-1].outlines


def states() -> States:
    """States of the aggregates that were looked at lately."""
    return _shared[-1].states


def steppers() -> Steppers:
    """The histories that were stepped through lately."""
    return _shared[-1].steppers


def activity() -> Activity:
    """How much happened when, by type; exact once it has counted everything."""
    return _shared[-1].activity


def is_empty() -> bool:
    """Whether the source has no event."""
    return next(iter(source().feed(backward=True, limit=1)), None) is None

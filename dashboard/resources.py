"""What all sessions of the process share: the one source, and what was read from it."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import streamlit as st

from dashboard.counting import Counting
from dashboard.outline import Outlines
from dashboard.states import States
from store.domain import Domains
from store.records import Counts
from store.repository import Repository
from store.sources import EventSource

_sources: list[EventSource] = []
_countings: list[Counting] = []
_domains: list[Domains] = []


@contextmanager
def shared(source: EventSource, domains: Domains) -> Iterator[None]:
    """Let the pages read `source`, folded by `domains`, within the block."""
    counting = Counting(source)
    _sources.append(source)
    _countings.append(counting)
    _domains.append(domains)
    try:
        yield
    finally:
        _domains.remove(domains)
        _countings.remove(counting)
        _sources.remove(source)
        counting.close()
        st.cache_resource.clear()


def source() -> EventSource:
    """The source that is served."""
    return _sources[-1]


@st.cache_resource(show_spinner=False)
def outlines() -> Outlines:
    """Outlines of the aggregates that were looked at lately."""
    return Outlines(source())


@st.cache_resource(show_spinner=False)
def states() -> States:
    """States of the aggregates that were looked at lately."""
    return States(source(), Repository(source(), _domains[-1]))


def counts() -> Counts | None:
    """How much the source holds, as far as it was counted; None where it never was."""
    return _countings[-1].latest()


def event_types() -> Collection[str]:
    """The source's event types; none before it was counted."""
    known = counts()
    return known.events_by_type if known else ()


def is_empty() -> bool:
    """Whether the source has no event."""
    return next(iter(source().feed(backward=True, limit=1)), None) is None

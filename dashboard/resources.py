"""What all sessions of the process share: the one source, and the outlines read from it."""

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from dashboard.outline import Outlines
from store.records import Counts
from store.sources import EventSource

COUNTS_AGE = "2s"

_sources: list[EventSource] = []


@contextmanager
def shared(source: EventSource) -> Iterator[None]:
    """Let the pages read `source` within the block."""
    _sources.append(source)
    try:
        yield
    finally:
        _sources.remove(source)
        st.cache_resource.clear()


def source() -> EventSource:
    """The source that is served."""
    return _sources[-1]


@st.cache_resource(show_spinner=False)
def outlines() -> Outlines:
    """Outlines of the aggregates that were looked at lately."""
    return Outlines(source())


@st.cache_resource(ttl=COUNTS_AGE, show_spinner=False)
def counts() -> Counts:
    """How much the source holds, at most two seconds ago."""
    return source().counts()

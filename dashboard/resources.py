"""What all sessions of the process share: the one source, and what was read from it."""

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from dashboard.activity import Activity
from dashboard.outline import Outlines
from dashboard.states import States
from store.domain import Domains
from store.repository import Repository
from store.sources import EventSource

_sources: list[EventSource] = []
_activities: list[Activity] = []
_domains: list[Domains] = []
_files: list[str | None] = []


@contextmanager
def shared(source: EventSource, domains: Domains, *, file: str | None = None) -> Iterator[None]:
    """Let the pages read `source`, folded by `domains`, within the block.

    `file` is where the source lies, if it is an event file.
    """
    counted = Activity(source)
    _sources.append(source)
    _activities.append(counted)
    _domains.append(domains)
    _files.append(file)
    try:
        yield
    finally:
        _files.pop()
        _domains.remove(domains)
        _activities.remove(counted)
        _sources.remove(source)
        counted.close()
        st.cache_resource.clear()


def source() -> EventSource:
    """The source that is served."""
    return _sources[-1]


def file() -> str | None:
    """Where the source lies if it is an event file; a store is named by the environment."""
    return _files[-1]


@st.cache_resource(show_spinner=False)
def outlines() -> Outlines:
    """Outlines of the aggregates that were looked at lately."""
    return Outlines(source())


@st.cache_resource(show_spinner=False)
def states() -> States:
    """States of the aggregates that were looked at lately."""
    return States(source(), Repository(source(), _domains[-1]))


def activity() -> Activity:
    """How much happened when, by type; exact once it has counted everything."""
    return _activities[-1]


def is_empty() -> bool:
    """Whether the source has no event."""
    return next(iter(source().feed(backward=True, limit=1)), None) is None

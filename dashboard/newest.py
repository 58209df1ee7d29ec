"""The start: how much there is, and what happened last."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import resources
from dashboard.clock import now
from dashboard.colours import colours
from dashboard.literal import markdown
from dashboard.moments import relative
from dashboard.picking import ROW_HEIGHT, dressed, pick, table_height
from dashboard.tables import feed_rows, stamp_width
from dashboard.view import View
from store.records import Counts, Event

NEWEST_EVENTS = 50
EMPTY_WIDTH = 640
# The types take the last column, where there is room for all of them, else they go below.
COLUMNS = 4
COLUMN_WIDTH = 210
VISIBLE_ROWS = 22


def show() -> None:
    """Counts, once there are some, the newest events, and the event types."""
    counts = resources.counts()
    events = list(resources.source().feed(backward=True, limit=NEWEST_EVENTS))
    st.header(markdown(resources.source().info.name), anchor=False)
    if counts:
        _figures(counts, events)
    else:
        st.caption("Counting the events …")
    grid = st.grid(COLUMNS, min_column_width=COLUMN_WIDTH)
    with grid.cell(column_span=COLUMNS - 1):
        _newest(events)
    if counts:
        with grid.cell():
            _types(counts)


def show_empty() -> None:
    """What to do about a store without events."""
    with st.container(border=True, width=EMPTY_WIDTH):
        st.subheader("This store has no events yet", anchor=False)
        st.markdown("Append some from a service, or bring an event log in:")
        st.code("hindsight import events.ndjson.gz", language=None)
        st.caption("Then reload this page.")
        st.markdown("A file can also be looked at where it is:")
        st.code("hindsight open events.ndjson.gz", language=None)


@st.fragment(run_every=1)
def show_once_counted() -> None:
    """Show the page again, with figures and colours, when the source has been counted."""
    if resources.counts():
        st.rerun()


def _figures(counts: Counts, events: Sequence[Event]) -> None:
    with st.container(horizontal=True, gap="large"):
        st.metric("Events", f"{counts.events:,}", width="content")
        st.metric("Aggregates", f"{counts.aggregates:,}", width="content")
        st.metric("Event types", f"{len(counts.events_by_type):,}", width="content")
        if events:
            last = relative(events[0].occurred_at, now())
            st.metric("Last event", last, width="content")


def _newest(events: Sequence[Event]) -> None:
    st.subheader("Newest events", anchor=False)
    frame = feed_rows(events)
    pick(
        frame,
        [View(aggregate=e.aggregate_id, version=e.version) for e in events],
        key="newest",
        rows=min(len(events), VISIBLE_ROWS),
        columns=_columns(stamp_width(frame)),
        colours=colours(resources.event_types()),
        alt="Newest events of the store",
    )


def _columns(stamps: int) -> dict[str, Any]:
    return {
        "Occurred (UTC)": st.column_config.TextColumn(width=stamps),
        "Aggregate": st.column_config.TextColumn(width=150),
        "Event": st.column_config.TextColumn(width=156),
        "Version": st.column_config.NumberColumn(format="%d", width=60),
    }


def _types(counts: Counts) -> None:
    st.subheader("Event types", anchor=False)
    ranked = sorted(counts.events_by_type.items(), key=lambda item: (-item[1], item[0]))
    frame = pd.DataFrame(ranked, columns=["Event", "Events"])
    st.dataframe(
        dressed(frame, colours(counts.events_by_type)),
        height=table_height(min(len(frame), VISIBLE_ROWS)),
        row_height=ROW_HEIGHT,
        hide_index=True,
        column_config={"Events": st.column_config.NumberColumn(format="localized", width=80)},
        alt="Event types and how many events each has",
    )

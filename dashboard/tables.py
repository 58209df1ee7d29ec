"""Records as table rows."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pandas as pd

from dashboard.literal import summary
from dashboard.moments import relative, short_stamp, span
from store.records import AggregateSummary, Event


def stamp_width(frame: pd.DataFrame) -> int:
    """Pixels for the times in column `Occurred (UTC)`, which have milliseconds or not."""
    return 160 if (frame["Occurred (UTC)"].str.len() > 19).any() else 136


def aggregate_rows(
    aggregates: Sequence[AggregateSummary], *, first_version: int, now: datetime
) -> pd.DataFrame:
    """Aggregates with their number of events and last activity."""
    return pd.DataFrame(
        {
            "Aggregate": [a.aggregate_id for a in aggregates],
            "Events": [a.version - first_version + 1 for a in aggregates],
            "Active": [relative(a.last_occurred_at, now) for a in aggregates],
            "Type": [a.aggregate_type for a in aggregates],
        }
    )


def history_rows(events: Sequence[Event], gaps: Sequence[timedelta | None]) -> pd.DataFrame:
    """Events of one aggregate; `gaps` are the times since the event before each."""
    return pd.DataFrame(
        {
            "Version": [e.version for e in events],
            "Occurred (UTC)": [short_stamp(e.occurred_at) for e in events],
            "After": ["" if gap is None else span(gap) for gap in gaps],
            "Event": [e.event_type for e in events],
            "Data": [summary(e.data) for e in events],
        }
    )


def feed_rows(events: Sequence[Event]) -> pd.DataFrame:
    """Events of the whole store."""
    return pd.DataFrame(
        {
            "Occurred (UTC)": [short_stamp(e.occurred_at) for e in events],
            "Aggregate": [e.aggregate_id for e in events],
            "Event": [e.event_type for e in events],
            "Version": [e.version for e in events],
            "Data": [summary(e.data) for e in events],
        }
    )

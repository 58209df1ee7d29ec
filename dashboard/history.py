"""One aggregate: its events on a time axis, as a list, and one of them in full."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

import streamlit as st
from msgspec.structs import replace

from dashboard import charts, details, effect, navigation, resources
from dashboard.clock import now
from dashboard.colours import colours
from dashboard.lanes import Lanes, arrange
from dashboard.listing import ListPage, page_of
from dashboard.literal import code_span, markdown
from dashboard.moments import from_microseconds, relative, span, stamp, to_microseconds
from dashboard.outline import Outline
from dashboard.picking import pick
from dashboard.stretch import Stretch, closer, further
from dashboard.tables import history_rows, stamp_width
from dashboard.theme import is_dark
from dashboard.view import View
from store.errors import AggregateNotFound
from store.records import AggregateSummary, Event

LIST_COLUMNS, EVENT_COLUMNS = 3, 2
COLUMN_WIDTH = 165


def show(view: View) -> None:
    """The view's aggregate, or a line saying that there is none."""
    aggregate_id = view.aggregate or ""
    try:
        head = resources.source().aggregate(aggregate_id)
    except AggregateNotFound:
        st.warning(
            f"There is no aggregate {code_span(aggregate_id)} here. Find it by the beginning of "
            f"its id in the sidebar.",
            icon=":material/search_off:",
        )
        return
    outline = resources.outlines().outline(head)
    shown = outline.within(
        None if view.since is None else to_microseconds(view.since),
        None if view.until is None else to_microseconds(view.until),
    )
    left_out = resources.outlines().left_out(head, outline)
    _header(head, len(outline), left_out)
    chosen = _chosen(view, head, outline, shown)
    _chart(view, outline, shown, chosen)
    # Where there is no room beside the list, the event goes below it.
    grid = st.grid(LIST_COLUMNS + EVENT_COLUMNS, min_column_width=COLUMN_WIDTH)
    with grid.cell(column_span=LIST_COLUMNS):
        _list(view, outline, shown, chosen)
    with grid.cell(column_span=EVENT_COLUMNS), st.container(key="event"):
        event = details.show(view, outline, chosen)
    if event is None:
        return
    # Last of all: folding a long history takes a while.
    with grid.cell(column_span=LIST_COLUMNS), st.container(key="changes"):
        found = effect.show_changes(event)
    with grid.cell(column_span=EVENT_COLUMNS), st.container(key="state"):
        effect.show_state(event, found)


def _header(head: AggregateSummary, events: int, left_out: int) -> None:
    st.set_page_config(page_title=f"{head.aggregate_id} · Hindsight")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(code_span(head.aggregate_id), anchor=False)
        st.button(
            "Newest events",
            icon=":material/arrow_back:",
            help="The newest events of the whole store",
            on_click=navigation.go,
            args=(View(),),
        )
    active = f"last active {relative(head.last_occurred_at, now())}"
    st.caption(f"{markdown(head.aggregate_type)} · {_extent(head, events + left_out)} · {active}")
    if left_out:
        st.caption(f"Only the newest {events:,} events are on this page.")


def _extent(head: AggregateSummary, events: int) -> str:
    first, last = head.first_occurred_at, head.last_occurred_at
    if events == 1:
        return f"1 event at {stamp(last)} UTC"
    return f"{events:,} events in {span(last - first)}, {stamp(first)} to {stamp(last)} UTC"


def _chosen(view: View, head: AggregateSummary, outline: Outline, shown: Outline) -> int | None:
    """The chosen event's version: the one asked for, else the newest that is shown."""
    if view.version is None:
        return int(shown.versions[-1]) if len(shown) else None
    if outline.index_of(view.version) is not None:
        return view.version
    first = int(outline.versions[0])
    st.warning(
        f"{code_span(head.aggregate_id)} has no version {view.version} on this page, which has "
        f"{first} to {head.version}. Choose an event below.",
        icon=":material/error:",
    )
    return None


def _chart(view: View, outline: Outline, shown: Outline, chosen: int | None) -> None:
    span_shown = _stretch(view, outline)
    lanes = arrange(shown, start=span_shown.start, end=span_shown.end)
    key = "timeline"
    types = colours(resources.event_types())
    st.plotly_chart(
        charts.timeline(lanes, types, chosen=_place(lanes, shown, chosen), dark=is_dark()),
        key=key,
        height=charts.height(lanes),
        on_select=lambda: _on_chart(key, view),
        selection_mode="points",
        config=charts.CONFIG,
        alt=charts.alternative(lanes),
    )
    _zoom(view, outline, shown, chosen)


def _stretch(view: View, outline: Outline) -> Stretch:
    """The stretch of time the view asks for, by default the whole history."""
    return Stretch(
        start=int(outline.moments.min()) if view.since is None else to_microseconds(view.since),
        end=int(outline.moments.max()) + 1 if view.until is None else to_microseconds(view.until),
    )


def _zoom(view: View, outline: Outline, shown: Outline, chosen: int | None) -> None:
    """Buttons to look closer and from further away, around the chosen event."""
    stretch, whole = _stretch(view, outline), _stretch(View(), outline)
    index = None if chosen is None else outline.index_of(chosen)
    middle = stretch.start + stretch.length // 2
    around = middle if index is None else int(outline.moments[index])
    nearer = closer(stretch, around)
    zoomed = view.since is not None or view.until is not None
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        _zoom_button(view, "Closer", "zoom_in", nearer, enabled=nearer is not None)
        _zoom_button(view, "Further", "zoom_out", further(stretch, around, whole), enabled=zoomed)
        _zoom_button(view, "Whole history", "zoom_out_map", None, enabled=zoomed)
        st.caption(
            f"{len(shown):,} of {len(outline):,} events" if zoomed else "Click a mark to see it",
            width="stretch",
            text_alignment="right",
        )


def _place(lanes: Lanes, outline: Outline, chosen: int | None) -> tuple[int, int] | None:
    index = None if chosen is None else outline.index_of(chosen)
    if index is None:
        return None
    lane = lanes.lane_of(outline.types[int(outline.kinds[index])])
    return None if lane is None else (lane, int(outline.moments[index]))


def _on_chart(key: str, view: View) -> None:
    """A click chooses the mark's event."""
    points: Any = st.session_state[key]["selection"]["points"]
    if points:
        navigation.go(replace(view, version=int(points[0]["customdata"]), at=None))


def _zoom_button(
    view: View, name: str, icon: str, stretch: Stretch | None, *, enabled: bool
) -> None:
    since = None if stretch is None else from_microseconds(stretch.start)
    until = None if stretch is None else from_microseconds(stretch.end)
    st.button(
        name,
        icon=f":material/{icon}:",
        disabled=not enabled,
        on_click=navigation.go,
        args=(replace(view, since=since, until=until, at=None),),
    )


def _list(view: View, outline: Outline, shown: Outline, chosen: int | None) -> None:
    page = page_of(shown, at=view.at or chosen, newest_first=view.newest_first)
    if page is None:
        st.info("No event of this aggregate lies in this stretch of time.")
        return
    _list_controls(view, page)
    events = _events(view, page)
    frame = history_rows(events, [_gap(outline, event.version) for event in events])
    pick(
        frame,
        [replace(view, version=event.version) for event in events],
        key="events",
        rows=len(events),
        columns=_columns(stamp_width(frame)),
        chosen=next((i for i, event in enumerate(events) if event.version == chosen), None),
        colours=colours(resources.event_types()),
        alt="Events of the aggregate",
    )


def _list_controls(view: View, page: ListPage) -> None:
    # The text stands on the right: while the list is pointed at, its toolbar floats over it.
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        back, on = ("Newer", "Older") if view.newest_first else ("Older", "Newer")
        _page_button(view, back, "chevron_left", page.previous)
        _page_button(view, on, "chevron_right", page.following)
        st.button(
            "Newest first" if view.newest_first else "Oldest first",
            icon=":material/swap_vert:",
            help="Turn the list round",
            on_click=navigation.go,
            args=(replace(view, newest_first=not view.newest_first, at=None),),
        )
        st.caption(
            f"{page.first_row:,} to {page.last_row:,} of {page.rows:,}",
            width="stretch",
            text_alignment="right",
        )


def _page_button(view: View, name: str, icon: str, at: int | None) -> None:
    st.button(
        name,
        icon=f":material/{icon}:",
        disabled=at is None,
        on_click=navigation.go,
        args=(replace(view, at=at),),
    )


def _events(view: View, page: ListPage) -> Sequence[Event]:
    events = resources.source().events(
        view.aggregate or "",
        from_version=page.from_version,
        to_version=page.to_version,
        since=view.since,
        until=view.until,
        backward=view.newest_first,
    )
    return list(islice(events, page.last_row - page.first_row + 1))


def _gap(outline: Outline, version: int) -> timedelta | None:
    index = outline.index_of(version)
    if not index:
        return None
    return from_microseconds(int(outline.moments[index])) - from_microseconds(
        int(outline.moments[index - 1])
    )


def _columns(stamps: int) -> dict[str, Any]:
    return {
        "Version": st.column_config.NumberColumn(format="%d", width=58),
        "Occurred (UTC)": st.column_config.TextColumn(width=stamps),
        "After": st.column_config.TextColumn(width=74),
        "Event": st.column_config.TextColumn(width=156),
    }

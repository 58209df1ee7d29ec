"""Plotly figures, as plain dictionaries: building validated objects costs more than drawing."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from dashboard.colours import OTHER
from dashboard.lanes import Lane, Lanes, Mark
from dashboard.literal import plotly, shortened
from dashboard.moments import from_microseconds, span, stamp
from dashboard.ticks import ticks

LANE_HEIGHT = 28
NARROW_LANE_HEIGHT = 22
MANY_LANES = 9
AXIS_HEIGHT = 48
LABEL_LENGTH = 26
LABEL_WIDTH = 176
COUNT_WIDTH = 56
DOT_SIZE = 8
SHORTEST_TICK = 8
LONGEST_TICK = 20
TICK_WIDTH = 3
FULL_TICK = 12
RING_SIZE = 19
MARGIN_SHARE = 0.015
GRID = "rgba(127,136,148,0.22)"
POINTER_ON_LIGHT = "#1a2330"
POINTER_ON_DARK = "#e8edf3"

CONFIG = {"displayModeBar": False, "displaylogo": False, "doubleClick": False, "scrollZoom": False}


def timeline(
    lanes: Lanes, colours: Mapping[str, str], *, chosen: tuple[int, int] | None, dark: bool
) -> dict[str, Any]:
    """The marks on a time axis. `chosen` is the lane and moment (UTC µs) of the chosen event.

    Each mark's customdata is the version a click on it chooses.
    """
    marks = _marks(lanes, colours)
    pointer = POINTER_ON_DARK if dark else POINTER_ON_LIGHT
    traces = [marks] if chosen is None else [marks, _ring(chosen, pointer)]
    shapes = [] if chosen is None else [_pointer(chosen[1], pointer)]
    return {"data": traces, "layout": _layout(lanes) | {"shapes": shapes}}


def height(lanes: Lanes) -> int:
    """The figure's height in pixels; it depends on the number of lanes only."""
    rows = max(len(lanes.lanes), 2)
    return rows * (NARROW_LANE_HEIGHT if rows >= MANY_LANES else LANE_HEIGHT) + AXIS_HEIGHT


def alternative(lanes: Lanes) -> str:
    """The figure in words."""
    parts = ", ".join(f"{lane.events} {lane.name}" for lane in lanes.lanes)
    return (
        f"Events by type from {stamp(from_microseconds(lanes.start))} "
        f"to {stamp(from_microseconds(lanes.end))} UTC: {parts}"
    )


def _marks(lanes: Lanes, colours: Mapping[str, str]) -> dict[str, Any]:
    marks = lanes.marks
    colour_of_lane = [_colour(lane, colours) for lane in lanes.lanes]
    colour_of_mark = [colour_of_lane[mark.lane] for mark in marks]
    most = max([FULL_TICK, *(mark.events for mark in marks)])
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [_axis_time(mark.moment) for mark in marks],
        "y": [mark.lane for mark in marks],
        "customdata": [mark.version for mark in marks],
        "text": [_hover(mark, lanes.lanes[mark.lane]) for mark in marks],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "symbol": ["circle" if mark.events == 1 else "line-ns" for mark in marks],
            "size": [_size(mark.events, most) for mark in marks],
            "color": colour_of_mark,
            "opacity": 1,
            "line": {
                "width": [0 if mark.events == 1 else TICK_WIDTH for mark in marks],
                "color": colour_of_mark,
            },
        },
        # The ring says which event is chosen; the browser's own selection must not dim the others,
        # nor take the next click on the same mark for its end.
        "selectedpoints": None,
        "unselected": {"marker": {"opacity": 1}},
        "cliponaxis": False,
    }


def _ring(chosen: tuple[int, int], colour: str) -> dict[str, Any]:
    """A ring around the chosen event."""
    lane, moment = chosen
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [_axis_time(moment)],
        "y": [lane],
        "hoverinfo": "skip",
        "marker": {
            "symbol": "circle-open",
            "size": RING_SIZE,
            "color": colour,
            "opacity": 1,
            "line": {"width": 2, "color": colour},
        },
        "unselected": {"marker": {"opacity": 1}},
        "cliponaxis": False,
    }


def _colour(lane: Lane, colours: Mapping[str, str]) -> str:
    return colours.get(lane.name, OTHER) if len(lane.event_types) == 1 else OTHER


def _size(events: int, most: int) -> float:
    """Pixels: one event is a dot, more are a tick whose length grows with their number."""
    if events == 1:
        return DOT_SIZE
    return round(SHORTEST_TICK + (LONGEST_TICK - SHORTEST_TICK) * events / most, 1)


def _hover(mark: Mark, lane: Lane) -> str:
    name = plotly(shortened(lane.name, 60))
    if mark.events == 1:
        return f"<b>{name}</b><br>version {mark.version}<br>{_stamp(mark.first_moment)}"
    duration = span(timedelta(microseconds=mark.last_moment - mark.first_moment))
    return (
        f"<b>{mark.events:,} × {name}</b><br>"
        f"versions {mark.first_version:,} to {mark.version:,}<br>"
        f"{_stamp(mark.first_moment)}, within {duration}"
    )


def _stamp(microseconds: int) -> str:
    return f"{stamp(from_microseconds(microseconds))} UTC"


def _axis_time(microseconds: int) -> float:
    """Milliseconds since 1970: the ticks are ours, so the axis need not know dates."""
    return microseconds / 1000


def _layout(lanes: Lanes) -> dict[str, Any]:
    # A single instant still needs an axis: a minute around it.
    padding = int((lanes.end - lanes.start) * MARGIN_SHARE) or 30_000_000
    start, end = lanes.start - padding, lanes.end + padding
    marked = ticks(start, end)
    return {
        "height": height(lanes),
        "margin": {"l": LABEL_WIDTH, "r": COUNT_WIDTH, "t": 8, "b": AXIS_HEIGHT - 8, "pad": 0},
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "dragmode": False,
        "uirevision": "timeline",
        "xaxis": {
            "type": "linear",
            "range": [_axis_time(start), _axis_time(end)],
            "tickvals": [_axis_time(moment) for moment, _ in marked],
            "ticktext": [label for _, label in marked],
            "showgrid": True,
            "gridcolor": GRID,
            "zeroline": False,
            "fixedrange": True,
            "automargin": False,
        },
        "yaxis": {
            "range": [max(len(lanes.lanes), 2) - 0.5, -0.5],
            "tickvals": list(range(len(lanes.lanes))),
            "ticktext": [plotly(shortened(lane.name, LABEL_LENGTH)) for lane in lanes.lanes],
            "showgrid": True,
            "gridcolor": GRID,
            "zeroline": False,
            "fixedrange": True,
            "automargin": False,
        },
        "annotations": [_count(index, lane) for index, lane in enumerate(lanes.lanes)],
    }


def _count(index: int, lane: Lane) -> dict[str, Any]:
    return {
        "xref": "paper",
        "x": 1,
        "xanchor": "right",
        "xshift": COUNT_WIDTH - 4,
        "y": index,
        "text": f"{lane.events:,}",
        "showarrow": False,
    }


def _pointer(moment: int, colour: str) -> dict[str, Any]:
    """A line at the chosen event's time."""
    at = _axis_time(moment)
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": at,
        "x1": at,
        "y0": 0,
        "y1": 1,
        "line": {"color": colour, "width": 1},
        "layer": "below",
    }

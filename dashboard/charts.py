"""Plotly figures, as plain dictionaries: building validated objects costs more than drawing."""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from dashboard.colours import OTHER
from dashboard.lanes import Lane, Lanes, Mark
from dashboard.literal import plotly, shortened
from dashboard.moments import from_microseconds, span, stamp

LANE_HEIGHT = 28
AXIS_HEIGHT = 46
LABEL_LENGTH = 26
LABEL_WIDTH = 190
COUNT_WIDTH = 64
DOT_SIZE = 8
SHORTEST_TICK = 6
LONGEST_TICK = 22
TICK_WIDTH = 3
MARGIN_SHARE = 0.015
GRID = "rgba(127,136,148,0.22)"
MUTED = "rgba(127,136,148,0.9)"

CONFIG = {"displayModeBar": False, "displaylogo": False, "doubleClick": False, "scrollZoom": False}


def timeline(
    lanes: Lanes, colours: Mapping[str, str], *, chosen: tuple[int, int] | None
) -> dict[str, Any]:
    """The marks on a time axis. `chosen` is the lane and moment (UTC µs) of the chosen event.

    Each mark's customdata is the version a click on it chooses.
    """
    return {"data": [_marks(lanes, colours, chosen)], "layout": _layout(lanes, chosen)}


def height(lanes: Lanes) -> int:
    """The figure's height in pixels; it depends on the number of lanes only."""
    return max(len(lanes.lanes), 2) * LANE_HEIGHT + AXIS_HEIGHT


def alternative(lanes: Lanes) -> str:
    """The figure in words."""
    parts = ", ".join(f"{lane.events} {lane.name}" for lane in lanes.lanes)
    return (
        f"Events by type from {stamp(from_microseconds(lanes.start))} "
        f"to {stamp(from_microseconds(lanes.end))} UTC: {parts}"
    )


def _marks(
    lanes: Lanes, colours: Mapping[str, str], chosen: tuple[int, int] | None
) -> dict[str, Any]:
    marks = lanes.marks
    colour_of_lane = [_colour(lane, colours) for lane in lanes.lanes]
    colour_of_mark = [colour_of_lane[mark.lane] for mark in marks]
    most = max((mark.events for mark in marks), default=1)
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
        # Said explicitly, or the browser's own selection would outlive the choice of another event.
        "selectedpoints": [i for i, mark in enumerate(marks) if _holds(mark, chosen)],
        "selected": {"marker": {"opacity": 1}},
        "unselected": {"marker": {"opacity": 1}},
        "cliponaxis": False,
    }


def _holds(mark: Mark, chosen: tuple[int, int] | None) -> bool:
    return (
        chosen is not None
        and mark.lane == chosen[0]
        and mark.first_moment <= chosen[1] <= mark.last_moment
    )


def _colour(lane: Lane, colours: Mapping[str, str]) -> str:
    return colours.get(lane.name, OTHER) if len(lane.event_types) == 1 else OTHER


def _size(events: int, most: int) -> float:
    """Pixels: one event is a dot, more are a tick as long as the square root of their number."""
    if events == 1:
        return DOT_SIZE
    return round(SHORTEST_TICK + (LONGEST_TICK - SHORTEST_TICK) * math.sqrt(events / most), 1)


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


def _axis_time(microseconds: int) -> str:
    return from_microseconds(microseconds).isoformat().removesuffix("+00:00")


def _layout(lanes: Lanes, chosen: tuple[int, int] | None) -> dict[str, Any]:
    # A single instant still needs an axis: a minute around it.
    padding = int((lanes.end - lanes.start) * MARGIN_SHARE) or 30_000_000
    return {
        "height": height(lanes),
        "margin": {"l": LABEL_WIDTH, "r": COUNT_WIDTH, "t": 8, "b": AXIS_HEIGHT - 8},
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "dragmode": "select",
        "selectdirection": "h",
        "uirevision": "timeline",
        "xaxis": {
            "type": "date",
            "range": [_axis_time(lanes.start - padding), _axis_time(lanes.end + padding)],
            "showgrid": True,
            "gridcolor": GRID,
            "zeroline": False,
            "fixedrange": True,
            "title": {"text": ""},
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
            "title": {"text": ""},
        },
        "annotations": [_count(index, lane) for index, lane in enumerate(lanes.lanes)],
        "shapes": [] if chosen is None else _pointer(chosen),
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


def _pointer(chosen: tuple[int, int]) -> list[dict[str, Any]]:
    """A line at the chosen event's time, and a ring around the event."""
    lane, moment = chosen
    at = _axis_time(moment)
    return [
        {
            "type": "line",
            "xref": "x",
            "yref": "paper",
            "x0": at,
            "x1": at,
            "y0": 0,
            "y1": 1,
            "line": {"color": MUTED, "width": 1},
            "layer": "below",
        },
        {
            "type": "circle",
            "xref": "x",
            "yref": "y",
            "xsizemode": "pixel",
            "ysizemode": "pixel",
            "xanchor": at,
            "yanchor": lane,
            "x0": -10,
            "x1": 10,
            "y0": -10,
            "y1": 10,
            "line": {"color": MUTED, "width": 2},
        },
    ]

"""Tables whose rows lead somewhere: a click on any cell, or the arrow keys, choose the row."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.colours import text_colour
from dashboard.navigation import go
from dashboard.theme import is_dark
from dashboard.view import View

ROW_HEIGHT = 28
HEADER_HEIGHT = 30
CHOSEN_BACKGROUND = "rgba(47, 116, 201, 0.20)"


def table_height(rows: int) -> int:
    """Pixels for so many rows, their header and the border."""
    return rows * ROW_HEIGHT + HEADER_HEIGHT + 6


def pick(
    frame: pd.DataFrame,
    views: Sequence[View],
    *,
    key: str,
    rows: int,
    columns: Mapping[str, Any],
    alt: str,
    chosen: int | None = None,
    colours: Mapping[str, str] | None = None,
) -> None:
    """Show `frame`, `rows` of it at once, where row n leads to `views[n]`.

    The row `chosen` is marked. With `colours`, the column Event is written in its type's colour.
    """
    st.session_state[key] = {"selection": {"cells": _cells(key, frame, chosen)}}
    st.dataframe(
        dressed(frame, colours or {}, chosen=chosen),
        key=key,
        height=table_height(rows),
        row_height=ROW_HEIGHT,
        hide_index=True,
        column_config=dict(columns),
        selection_mode="single-cell",
        on_select=_leading_to(key, views),
        alt=alt,
    )


def dressed(frame: pd.DataFrame, colours: Mapping[str, str], *, chosen: int | None = None) -> Any:
    """The frame with event types in their colours and the chosen row marked."""
    dark = is_dark()
    style = frame.style
    if colours:
        style = style.map(
            lambda name: f"color: {text_colour(colours.get(name), dark=dark)}", subset=["Event"]
        )
    if chosen is not None:
        row = pd.IndexSlice[frame.index[chosen] : frame.index[chosen], :]
        style = style.set_properties(row, **{"background-color": CHOSEN_BACKGROUND})
    return style


def _leading_to(key: str, views: Sequence[View]) -> Callable[[], None]:
    return partial(_follow, key, views)


def _follow(key: str, views: Sequence[View]) -> None:
    cells: Any = st.session_state[key]["selection"]["cells"]
    if cells:
        row, column = cells[0]
        st.session_state[_column_key(key)] = column
        go(views[row])


def _cells(key: str, frame: pd.DataFrame, chosen: int | None) -> list[tuple[int, str]]:
    """Where the browser's cursor stands: in the chosen row, once the table has been clicked.

    It follows the address, whichever way the view was reached, so arrow keys go on from there.
    """
    column: Any = st.session_state.get(_column_key(key))
    return [(chosen, column)] if chosen is not None and column in frame.columns else []


def _column_key(key: str) -> str:
    return f"{key} column"

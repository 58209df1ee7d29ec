"""The sidebar: find an aggregate by the beginning of its id."""

from typing import Any

import streamlit as st

from dashboard import navigation, resources
from dashboard.clock import now
from dashboard.picking import pick
from dashboard.tables import aggregate_rows
from dashboard.view import View
from store.records import AggregateOrder, AggregateSummary

PAGE_AGGREGATES = 50
VISIBLE_ROWS = 22
ALL_TYPES = "All types"
ORDERS: dict[str, AggregateOrder] = {"Recent": "recent", "Longest": "longest", "Id": "id"}


@st.fragment
def show(view: View) -> None:
    """The search field, its order, and the matches; only this is run again while someone types."""
    if navigation.current() != view:
        st.rerun()
    prefix = st.text_input(
        "Find an aggregate",
        key="q",
        bind="query-params",
        type="search",
        placeholder="Id begins with…",
        live=True,
    )
    order = st.segmented_control(
        "Order",
        list(ORDERS),
        key="order",
        bind="query-params",
        default="Recent",
        required=True,
        label_visibility="collapsed",
        width="stretch",
    )
    aggregate_type = _type_picker()
    _matches(view, prefix or "", aggregate_type, ORDERS[order or "Recent"])


def _type_picker() -> str | None:
    counts = resources.counts()
    if counts is None:
        return st.query_params.get("type")
    if len(counts.aggregates_by_type) < 2:
        return None
    chosen = st.selectbox(
        "Type",
        [ALL_TYPES, *sorted(counts.aggregates_by_type)],
        key="type",
        bind="query-params",
        label_visibility="collapsed",
    )
    return None if chosen == ALL_TYPES else chosen


def _matches(view: View, prefix: str, aggregate_type: str | None, order: AggregateOrder) -> None:
    found, more = _load(prefix, aggregate_type, order)
    if not found:
        st.info(
            "No aggregate id begins with this text. Ids are compared letter by letter, "
            "capitals count.",
            icon=":material/search_off:",
        )
        return
    chosen = next((i for i, a in enumerate(found) if a.aggregate_id == view.aggregate), None)
    st.caption(f"First {len(found):,} found" if more else f"{len(found):,} found")
    pick(
        aggregate_rows(found, first_version=resources.source().info.first_version, now=now()),
        [View(aggregate=a.aggregate_id, newest_first=view.newest_first) for a in found],
        key="matches",
        rows=VISIBLE_ROWS,
        columns=_columns(several_types=aggregate_type is None and _several_types()),
        chosen=chosen,
        alt="Aggregates found",
    )
    if more:
        st.button("More", on_click=_load_more, args=(more,), width="stretch")


def _several_types() -> bool:
    counts = resources.counts()
    return counts is not None and len(counts.aggregates_by_type) > 1


def _columns(*, several_types: bool) -> dict[str, Any]:
    return {
        "Aggregate": st.column_config.TextColumn(width=145),
        "Events": st.column_config.NumberColumn(format="localized", width=58),
        "Active": st.column_config.TextColumn(width=72),
        "Type": st.column_config.TextColumn(width=80) if several_types else None,
    }


def _load(
    prefix: str, aggregate_type: str | None, order: AggregateOrder
) -> tuple[list[AggregateSummary], str | None]:
    """The pages asked for so far, and the cursor of the next."""
    search = (prefix, aggregate_type, order)
    if st.session_state.get("search") != search:
        st.session_state["search"] = search
        st.session_state["cursors"] = [None]
    found: list[AggregateSummary] = []
    following = None
    for cursor in st.session_state["cursors"]:
        page = resources.source().aggregates(
            prefix=prefix,
            aggregate_type=aggregate_type,
            order=order,
            after=cursor,
            limit=PAGE_AGGREGATES,
        )
        found += page.items
        following = page.next
    return found, following


def _load_more(cursor: str) -> None:
    st.session_state["cursors"].append(cursor)

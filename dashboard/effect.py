"""What an event changed, and the state after it."""

from collections.abc import Sequence

import msgspec
import streamlit as st

from dashboard import resources
from dashboard.literal import code_span, markdown
from dashboard.states import Change, Effect, change_rows
from dashboard.trees import tree
from store.records import Event

MOST_CHANGES = 50


def show_changes(event: Event) -> Effect:
    """What `event` changed, or where the fold of its aggregate stops; gives what was found."""
    st.subheader("What it changed", anchor=False)
    with st.spinner("Folding the events …"):
        effect = resources.states().effect(event)
    if effect.failure is not None:
        st.warning(markdown(effect.failure), icon=":material/error:")
    elif effect.changes:
        _table(effect.changes)
    else:
        st.caption("nothing")
    return effect


def show_state(event: Event, effect: Effect) -> None:
    """The state after `event`, or that which the fold reached, and what made it."""
    st.subheader(_title(effect), anchor=False)
    if effect.generic:
        kind = code_span(event.aggregate_type)
        st.caption(f"The events' data merged: no domain code for {kind}.")
    size = len(msgspec.json.encode(effect.state, enc_hook=repr))
    value = msgspec.to_builtins(effect.state, enc_hook=repr, str_keys=True)
    tree(value, size, instead="`hindsight replay` prints them.")


def _title(effect: Effect) -> str:
    if effect.failure is None:
        return f"State after version {effect.version}"
    if effect.version < resources.source().info.first_version:
        return "State reached, before the first event"
    return f"State reached, after version {effect.version}"


def _table(changes: Sequence[Change]) -> None:
    rows = change_rows(changes[:MOST_CHANGES])
    st.table(
        {
            "Field": [code_span(field) for field, _, _ in rows],
            "Change": [f"{code_span(before)} → {code_span(after)}" for _, before, after in rows],
        },
        border="horizontal",
        hide_index=True,
        hide_header=True,
        alt="The fields that the event changed, before and after it",
    )
    if len(changes) > MOST_CHANGES:
        st.caption(f"and {len(changes) - MOST_CHANGES:,} more")

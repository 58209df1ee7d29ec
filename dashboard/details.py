"""One event in full."""

from datetime import datetime

import msgspec
import streamlit as st
from msgspec.structs import replace

from dashboard import navigation, resources
from dashboard.clock import now
from dashboard.colours import colours, text_colour
from dashboard.literal import code_span, markdown
from dashboard.moments import relative, stamp
from dashboard.outline import Outline
from dashboard.theme import is_dark
from dashboard.trees import tree
from dashboard.view import View
from store.records import Event

MAX_RAW_CHARACTERS = 100_000
PARTS = ["Data", "Metadata", "Raw"]
AS_RAW = "Look at them as raw bytes."


def show(view: View, outline: Outline, chosen: int | None) -> Event | None:
    """The event of version `chosen`, and the way to its neighbours."""
    _steps(view, outline, chosen)
    if chosen is None:
        return None
    event = next(
        resources.source().events(view.aggregate or "", from_version=chosen, to_version=chosen)
    )
    colour = text_colour(colours(resources.event_types()).get(event.event_type), dark=is_dark())
    name = f':color[{markdown(event.event_type)}]{{foreground="{colour}"}}'
    st.subheader(f"{event.version} {name}", anchor=False)
    st.table(_facts(event), border="horizontal", hide_header=True, alt="The event's facts")
    _payload(event)
    return event


class _Step(msgspec.Struct, frozen=True):
    """A button that leads to the event at `index` of the history."""

    name: str
    shortcut: str
    index: int


def _steps(view: View, outline: Outline, chosen: int | None) -> None:
    here = None if chosen is None else outline.index_of(chosen)
    last = len(outline) - 1
    steps = [
        _Step("First", "H", 0),
        _Step("Previous", "K", max((here or 0) - 1, 0)),
        _Step("Next", "J", last if here is None else min(here + 1, last)),
        _Step("Newest", "L", last),
    ]
    with st.container(horizontal=True, gap="xxsmall"):
        for step in steps:
            version = int(outline.versions[step.index])
            st.button(
                step.name,
                shortcut=step.shortcut,
                width="stretch",
                disabled=step.index == here,
                on_click=navigation.go,
                args=(replace(view, version=version, at=None),),
            )


def _facts(event: Event) -> dict[str, str]:
    facts: dict[str, str | None] = {
        "Occurred": _moment(event.occurred_at),
        "Recorded": _moment(event.recorded_at),
        "Position": f"{event.position:,}",
        "Schema version": _schema(event),
        "Event id": code_span(str(event.event_id)),
        "Actor": event.actor and markdown(event.actor),
        "Correlation id": event.correlation_id and code_span(event.correlation_id),
        "Causation id": event.causation_id and code_span(event.causation_id),
        # In two halves, or it would not break and be wider than the panel.
        "Digest": code_span(event.digest.hex(" ", 16)) if event.digest else None,
    }
    return {name: value for name, value in facts.items() if value}


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else f"{stamp(moment)} UTC, {relative(moment, now())}"


def _schema(event: Event) -> str:
    if event.schema_version == event.event_version:
        return str(event.schema_version)
    return f"{event.schema_version}, written as {event.event_version}"


def _payload(event: Event) -> None:
    part = st.segmented_control(
        "Part of the event",
        PARTS,
        key="part",
        default=PARTS[0],
        required=True,
        label_visibility="collapsed",
    )
    if part == "Raw":
        _raw(event)
    elif part == "Metadata":
        tree(event.metadata, len(event.raw_metadata), instead=AS_RAW)
    else:
        tree(event.data, len(event.raw_data), instead=AS_RAW)


def _raw(event: Event) -> None:
    for name, raw in [("data", event.raw_data), ("metadata", event.raw_metadata)]:
        text = raw.decode("utf-8", "replace")
        st.caption(f"{name} as stored, {len(raw):,} bytes")
        st.code(text[:MAX_RAW_CHARACTERS], language=None, wrap_lines=True)
        if len(text) > MAX_RAW_CHARACTERS:
            st.download_button(
                f"All {len(raw):,} bytes",
                raw,
                file_name=f"{event.event_id}.{name}.json",
                mime="application/json",
                on_click="ignore",
            )

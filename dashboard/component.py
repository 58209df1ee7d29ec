"""The page scripts in the browser, as a Streamlit component."""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from dashboard.routes import assets_digest

STATIC = Path(__file__).with_name("static")

# Streamlit runs a component's code from a blob: URL, which relative imports cannot start from.
LOADER = """
export default function ({ parentElement, data }) {
  const script = new URL(`assets/${data.digest}/${data.page}.js`, document.baseURI).href;
  import(script).then(({ mount }) => mount(parentElement));
}
"""


def timeline() -> None:
    """The Timeline; what it shows is told by the page's address."""
    _mount("timeline", sheets=["timeline.css"])


def replay() -> None:
    """The Replay page; the address tells the aggregate, the version and the field."""
    _mount("replay", sheets=["timeline.css", "replay.css"])


def diff() -> None:
    """The Diff page; the address tells both sides and how their difference is shown."""
    _mount("diff", sheets=["timeline.css", "diff.css"])


def monitoring() -> None:
    """The Monitoring page; the address tells the range of time it shows."""
    _mount("monitoring", sheets=["timeline.css", "monitoring.css"])


def operations() -> None:
    """The Operations page: the outbox as it is now, and what may be done to it."""
    _mount("operations", sheets=["timeline.css", "monitoring.css", "operations.css"])


def read_models() -> None:
    """The Read models page; the address tells the projection, its rows and the chosen one."""
    _mount("read-models", sheets=["timeline.css", "monitoring.css", "read-models.css"])


def _mount(page: str, *, sheets: Sequence[str]) -> None:
    css = "".join((STATIC / sheet).read_text() for sheet in sheets)
    component = st.components.v2.component(f"hindsight-{page}", css=css, js=LOADER)
    component(key=page, data={"digest": assets_digest(), "page": page})

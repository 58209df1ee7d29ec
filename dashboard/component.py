"""The page scripts in the browser, as a Streamlit component."""

from pathlib import Path

import streamlit as st

from dashboard.routes import assets_digest

STATIC = Path(__file__).with_name("static")

# Streamlit runs a component's code from a blob: URL, which relative imports cannot start from.
LOADER = """
export default function ({ parentElement, data }) {
  const script = new URL(`assets/${data.digest}/timeline.js`, document.baseURI).href;
  import(script).then(({ mount }) => mount(parentElement));
}
"""


def timeline() -> None:
    """The Timeline; what it shows is told by the page's address."""
    component = st.components.v2.component(
        "hindsight-timeline", css=(STATIC / "timeline.css").read_text(), js=LOADER
    )
    component(key="timeline", data={"digest": assets_digest()})

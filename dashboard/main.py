"""The script Streamlit runs for every page view: navigation, then the page."""

from pathlib import Path
from typing import Literal

import streamlit as st

from dashboard import resources

HERE = Path(__file__).parent
PAGES = HERE.parent / "pages"


def home() -> None:
    """`/` is the Timeline; a default page cannot have an address of its own."""
    st.switch_page(timeline, query_params=_every_parameter())


def _every_parameter() -> list[tuple[str, str]]:
    """A parameter may be there more than once."""
    params = st.query_params
    return [(name, value) for name in params for value in params.get_all(name)]


def _seen(*, where: object) -> Literal["visible", "hidden"]:
    """Who comes by the address all the same is told what is missing."""
    return "visible" if where else "hidden"


st.set_page_config(page_title="Hindsight", page_icon=HERE / "hindsight-mark.svg", layout="wide")
st.logo(HERE / "hindsight.svg")
timeline = st.Page(PAGES / "timeline.py", title="Timeline", url_path="timeline")
replay = st.Page(PAGES / "replay.py", title="Replay", url_path="replay")
diff = st.Page(PAGES / "diff.py", title="Diff", url_path="diff")
store = resources.store()
read_models = st.Page(
    PAGES / "read_models.py",
    title="Read models",
    url_path="read-models",
    visibility=_seen(where=store and store.projections.declared),
)
# Only a store has metrics, and an outbox.
monitoring = st.Page(
    PAGES / "monitoring.py",
    title="Monitoring",
    url_path="monitoring",
    visibility=_seen(where=store),
)
operations = st.Page(
    PAGES / "operations.py",
    title="Operations",
    url_path="operations",
    visibility=_seen(where=store),
)
root = st.Page(home, default=True, visibility="hidden")
pages = [root, timeline, replay, diff, read_models, monitoring, operations]
page = st.navigation(pages, position="top")
page.run()

"""Going from view to view: the address is the state, so reload, back and pasted links work."""

import streamlit as st

from dashboard.view import View


def current() -> View:
    """The view that the address asks for.

    Raises:
        InvalidView: it asks for something no view can be.
    """
    return View.from_params(st.query_params.to_dict())


def go(view: View) -> None:
    """Show `view`, in one step of the browser's history."""
    wanted = view.to_params()
    if wanted != {name: st.query_params.get(name, []) for name in wanted}:
        st.query_params.update(wanted)

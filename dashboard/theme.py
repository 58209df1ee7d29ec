"""Which of the two themes the browser shows."""

import streamlit as st


def is_dark() -> bool:
    """Whether the dark theme is shown."""
    return st.context.theme.type == "dark"

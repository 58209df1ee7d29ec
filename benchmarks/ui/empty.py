"""The empty page: a button that counts its clicks, nothing else."""

import streamlit as st

number = st.session_state.setdefault("number", 0)


def increment() -> None:
    """One more click."""
    st.session_state.number += 1


st.button(f"clicked {number} times", key="more", on_click=increment)

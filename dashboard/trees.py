"""JSON values to unfold."""

from typing import Any

import msgspec
import streamlit as st

from dashboard.literal import exact_in_browser

MAX_TREE_BYTES = 512 * 1024


def tree(value: Any, size: int, *, instead: str) -> None:
    """`value`, whose JSON has `size` bytes; `instead` says where to look where that is too much."""
    if size > MAX_TREE_BYTES:
        st.info(f"{size:,} bytes are too many for a tree. {instead}")
    elif isinstance(value, dict | list):
        st.json(exact_in_browser(value), expanded=2)
    else:
        st.code(msgspec.json.encode(value).decode(), language="json", wrap_lines=True)

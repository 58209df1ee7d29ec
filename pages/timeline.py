"""Timeline: how one aggregate got into its state, and what happened last in the store."""

import streamlit as st

from dashboard import finder, history, navigation, newest, resources

view = navigation.current()
if resources.is_empty():
    newest.show_empty()
    st.stop()
with st.sidebar:
    finder.show(view)
if view.aggregate is None:
    newest.show()
else:
    history.show(view)
if resources.counts() is None:
    newest.show_once_counted()

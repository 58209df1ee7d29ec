"""One aggregate's history as a file that needs nothing else, with personal values masked."""

from store.trace.history import MAX_BYTES, History, event_lines, told
from store.trace.masking import Masking
from store.trace.page import Header, page

__all__ = ["MAX_BYTES", "Header", "History", "Masking", "event_lines", "page", "told"]

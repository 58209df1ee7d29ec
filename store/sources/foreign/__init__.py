"""Event tables of other systems as `EventSource`s: recognised by their columns, never written to.

A layout says, as SQL, where in its table the fields of an event are. What is left is the same for
all: `ForeignSource`. Nothing is asked of a database but the right to read.
"""

from store.sources.foreign.recognition import CHOOSE, recognise
from store.sources.foreign.source import ForeignSource

__all__ = ["CHOOSE", "ForeignSource", "recognise"]

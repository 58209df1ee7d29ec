"""How many events there are, by type and hour, and how long histories are, without reading them.

The rollups hold every event up to a settled position, and none beyond: what is up to there can
never change, what is beyond is counted from the events themselves. So whoever appends writes to no
counter, and whoever reads gets exact figures at any moment.
"""

from store.rollups.keeping import Checked, Difference, Progress, Rollups
from store.rollups.lengths import longest
from store.rollups.reading import Asked, Total, position, tally, totals

__all__ = [
    "Asked",
    "Checked",
    "Difference",
    "Progress",
    "Rollups",
    "Total",
    "longest",
    "position",
    "tally",
    "totals",
]

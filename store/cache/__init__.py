"""The newest of each aggregate kept at hand: in the process (L1) and in Redis (L2).

What is kept is only ever a shortcut. Before it is used, the database is asked in one look whether
the last event in it is still the one that is stored there, and what has come since; who takes an
answer of some age spares that, too.
"""

from store.cache.cache import Cache, needing_redis
from store.cache.epoch import current_epoch, raise_epoch
from store.cache.histories import Histories
from store.cache.holdings import Held
from store.cache.levels import check_age
from store.cache.states import States

__all__ = [
    "Cache",
    "Held",
    "Histories",
    "States",
    "check_age",
    "current_epoch",
    "needing_redis",
    "raise_epoch",
]

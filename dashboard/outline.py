"""The outline of a history: for each event its version, its type and when it occurred.

It is what the time axis and the list's pages are computed from: 13 bytes an event, so a history of
100,000 events is read once and looked at from then on. Events never change; a history that grew is
read from where its outline ends.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from threading import Lock

import msgspec
import numpy as np
import numpy.typing as npt

from store.records import AggregateSummary, OutlineRow
from store.sources import EventSource

KEPT_OUTLINES = 64
MAX_EVENTS = 500_000

Integers = npt.NDArray[np.int64]


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one aggregate by version. `kinds` are indexes into `types`, `moments` are UTC µs.

    `types` stand in the order in which they first occur.
    """

    types: tuple[str, ...]
    versions: Integers
    moments: Integers
    kinds: Integers

    def __len__(self) -> int:
        return len(self.versions)

    def extended(self, batches: Iterable[Sequence[OutlineRow]]) -> "Outline":
        """This outline with the events of `batches` after it."""
        names = {name: index for index, name in enumerate(self.types)}
        parts = [(self.versions, self.moments, self.kinds)]
        for rows in batches:
            versions, types, moments = zip(*rows, strict=True)
            kinds = [names.setdefault(name, len(names)) for name in types]
            parts.append((_integers(versions), _integers(moments), _integers(kinds)))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return Outline(
            types=tuple(names), versions=columns[0], moments=columns[1], kinds=columns[2]
        )

    def within(self, since: int | None, until: int | None) -> "Outline":
        """The events that occurred from `since` until before `until`, in UTC µs."""
        wanted = np.ones(len(self), dtype=bool)
        if since is not None:
            wanted &= self.moments >= since
        if until is not None:
            wanted &= self.moments < until
        return Outline(
            types=self.types,
            versions=self.versions[wanted],
            moments=self.moments[wanted],
            kinds=self.kinds[wanted],
        )

    def index_of(self, version: int) -> int | None:
        """Where `version` stands, or None."""
        index = int(np.searchsorted(self.versions, version))
        found = index < len(self) and int(self.versions[index]) == version
        return index if found else None


def _integers(values: Sequence[int]) -> Integers:
    return np.array(values, dtype=np.int64)


_NO_EVENTS = np.empty(0, dtype=np.int64)
EMPTY = Outline(types=(), versions=_NO_EVENTS, moments=_NO_EVENTS, kinds=_NO_EVENTS)


class Outlines:
    """The outlines of the aggregates looked at last, safe to share between threads.

    Of a history over `limit` events, the newest are outlined.
    """

    def __init__(self, source: EventSource, *, limit: int = MAX_EVENTS) -> None:
        self._source = source
        self._limit = limit
        self._known: OrderedDict[str, Outline] = OrderedDict()
        self._lock = Lock()
        self._locks = [Lock() for _ in range(16)]

    def left_out(self, head: AggregateSummary, outline: Outline) -> int:
        """How many of the aggregate's oldest events its outline leaves out."""
        first = self._source.info.first_version
        # A history may have gaps: only beyond the limit are versions left out, not missing.
        cut = head.version - first >= self._limit
        return int(outline.versions[0]) - first if cut else 0

    def outline(self, head: AggregateSummary) -> Outline:
        """The events of the aggregate up to the head's version."""
        # Several documents of a page ask at once: one of them reads, the others have it then.
        with self._reading(head.aggregate_id):
            with self._lock:
                known = self._known.get(head.aggregate_id, EMPTY)
            read_to = int(known.versions[-1]) if len(known) else head.version - self._limit
            if read_to < head.version:
                rows = self._source.outline(
                    head.aggregate_id, after=max(read_to, -1), to_version=head.version
                )
                known = known.extended(rows)
            self._keep(head.aggregate_id, known)
            return known

    def _reading(self, aggregate_id: str) -> Lock:
        """Few locks for all aggregates: two of them seldom share one."""
        return self._locks[hash(aggregate_id) % len(self._locks)]

    def _keep(self, aggregate_id: str, outline: Outline) -> None:
        with self._lock:
            self._known[aggregate_id] = outline
            self._known.move_to_end(aggregate_id)
            if len(self._known) > KEPT_OUTLINES:
                self._known.popitem(last=False)

"""A history as marks in lanes, one lane an event type, few enough marks for a browser.

Events of a lane that would fall on the same pixels become one mark that says how many they are.
"""

import msgspec
import numpy as np

from dashboard.outline import Integers, Outline

MAX_LANES = 16
MAX_BINS = 180
MAX_MARKS = 2_000


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one type, or of all the types that got no lane of their own."""

    event_types: tuple[str, ...]
    events: int

    @property
    def name(self) -> str:
        """The type, or how many share the lane."""
        if len(self.event_types) == 1:
            return self.event_types[0]
        return f"{len(self.event_types)} other types"


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Events side by side in a lane. Times are UTC µs; `version` is that of the newest of them."""

    lane: int
    events: int
    first_version: int
    version: int
    first_moment: int
    last_moment: int

    @property
    def moment(self) -> int:
        """Where it stands on the axis: in the middle of its events."""
        return (self.first_moment + self.last_moment) // 2


class Lanes(msgspec.Struct, frozen=True, kw_only=True):
    """The lanes from top to bottom, their marks, and the stretch of time they lie in (UTC µs)."""

    lanes: tuple[Lane, ...]
    marks: tuple[Mark, ...]
    start: int
    end: int

    def lane_of(self, event_type: str) -> int | None:
        """The index of the lane that shows this type."""
        found = (i for i, lane in enumerate(self.lanes) if event_type in lane.event_types)
        return next(found, None)


def arrange(outline: Outline, *, start: int | None = None, end: int | None = None) -> Lanes:
    """The lanes of an outline over the stretch `start` to `end`, by default from first to last.

    Types get lanes in the order in which they first occur: a life cycle reads downwards. Where
    there are too many, the rarest share the last lane.
    """
    if start is None:
        start = int(outline.moments.min(initial=np.iinfo(np.int64).max)) if len(outline) else 0
    if end is None:
        end = int(outline.moments.max()) if len(outline) else start
    counts = np.bincount(outline.kinds, minlength=len(outline.types))
    lane_of_kind, lanes = _lanes(outline.types, counts)
    marks = _marks(outline, lane_of_kind[outline.kinds], len(lanes), start, max(end, start + 1))
    return Lanes(lanes=lanes, marks=marks, start=start, end=max(end, start))


def _lanes(types: tuple[str, ...], counts: Integers) -> tuple[Integers, tuple[Lane, ...]]:
    present = [kind for kind in range(len(types)) if counts[kind]]
    own = present
    if len(present) > MAX_LANES:
        own = sorted(sorted(present, key=lambda kind: -counts[kind])[: MAX_LANES - 1])
    lane_of_kind = np.full(len(types), len(own), dtype=np.int64)
    lane_of_kind[own] = np.arange(len(own))
    lanes = [Lane(event_types=(types[kind],), events=int(counts[kind])) for kind in own]
    rest = [kind for kind in present if lane_of_kind[kind] == len(own)]
    if rest:
        names = tuple(types[kind] for kind in rest)
        lanes.append(Lane(event_types=names, events=int(counts[rest].sum())))
    return lane_of_kind, tuple(lanes)


def _marks(
    outline: Outline, lane: Integers, lane_count: int, start: int, end: int
) -> tuple[Mark, ...]:
    if not len(outline):
        return ()
    bins = min(MAX_BINS, max(MAX_MARKS // lane_count, 1))
    share = (outline.moments - start) / (end - start)
    place = np.clip((share * bins).astype(np.int64), 0, bins - 1)
    cell = lane * bins + place
    order = np.argsort(cell, kind="stable")  # stable: within a cell, versions stay in order
    cells, firsts, sizes = np.unique(cell[order], return_index=True, return_counts=True)
    versions, moments = outline.versions[order], outline.moments[order]
    columns = zip(
        (cells // bins).tolist(),
        sizes.tolist(),
        versions[firsts].tolist(),
        versions[firsts + sizes - 1].tolist(),
        np.minimum.reduceat(moments, firsts).tolist(),
        np.maximum.reduceat(moments, firsts).tolist(),
        strict=True,
    )
    return tuple(
        Mark(
            lane=lane_index,
            events=size,
            first_version=first_version,
            version=version,
            first_moment=first_moment,
            last_moment=last_moment,
        )
        for lane_index, size, first_version, version, first_moment, last_moment in columns
    )

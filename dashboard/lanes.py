"""A history as marks in lanes, one lane an event type, few enough marks for a browser.

Events of a lane that would fall on the same pixels become one mark that says how many they are.
"""

import msgspec
import numpy as np

from dashboard.axis import Axis
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


class Mark(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Events side by side in a lane. Times are UTC µs; `version` is that of the newest of them."""

    lane: int
    place: float
    events: int
    first_version: int
    version: int
    first_moment: int
    last_moment: int


class Lanes(msgspec.Struct, frozen=True, kw_only=True):
    """The lanes from top to bottom and their marks."""

    lanes: tuple[Lane, ...]
    marks: tuple[Mark, ...]


def arrange(outline: Outline, axis: Axis) -> Lanes:
    """The lanes of an outline on `axis`.

    Types get lanes in the order in which they first occur: a life cycle reads downwards. Where
    there are too many, the rarest share the last lane.
    """
    counts = np.bincount(outline.kinds, minlength=len(outline.types))
    lane_of_kind, lanes = _lanes(outline.types, counts)
    marks = _marks(outline, lane_of_kind[outline.kinds], len(lanes), axis)
    return Lanes(lanes=lanes, marks=marks)


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


def _marks(outline: Outline, lane: Integers, lane_count: int, axis: Axis) -> tuple[Mark, ...]:
    if not len(outline):
        return ()
    bins = min(MAX_BINS, max(MAX_MARKS // lane_count, 1))
    places = axis.places(outline.moments)
    cell = lane * bins + np.clip((places * bins).astype(np.int64), 0, bins - 1)
    # Stable: within a cell, versions stay in order. Numbers this small are sorted in linear time.
    order = np.argsort(cell.astype(np.uint16), kind="stable")
    cells = cell[order]
    firsts = np.concatenate([[0], np.flatnonzero(np.diff(cells)) + 1])
    sizes = np.diff(firsts, append=len(cells))
    versions, moments, places = outline.versions[order], outline.moments[order], places[order]
    middles = (np.minimum.reduceat(places, firsts) + np.maximum.reduceat(places, firsts)) / 2
    columns = zip(
        (cells[firsts] // bins).tolist(),
        middles.round(5).tolist(),
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
            place=place,
            events=size,
            first_version=first_version,
            version=version,
            first_moment=first_moment,
            last_moment=last_moment,
        )
        for lane_index, place, size, first_version, version, first_moment, last_moment in columns
    )

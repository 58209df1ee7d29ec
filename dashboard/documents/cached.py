"""What the Monitoring page's document says of the cache: who answered what was looked up."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias, get_args

import msgspec

from store.metric_history import Labels, MetricHistory, Window
from store.metrics import Direction, Level, LookupResult

Answerer: TypeAlias = Literal["l1", "l2", "database"]


class Cached(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked up in the cache, and the level or the database that had it.

    `ratios` are a level's hits in its hits and misses, in each step; None where it had neither. A
    level without any is not there.
    """

    ratios: Mapping[Level, Sequence[float | None]]
    lookups: float
    answered: Mapping[Answerer, float]
    dropped: float
    errors: float
    redis_bytes: Mapping[Direction, float]


def cached(history: MetricHistory, window: Window) -> Cached:
    """The cache of all processes within the window.

    Raises:
        MetricsUnavailable: who keeps the metrics does not answer.
    """
    found = history.increases("event_store_cache_lookups_total", window, by=["level", "result"])
    moved = history.increases("event_store_cache_redis_bytes_total", window, by=["direction"])

    def total(level: Level, result: LookupResult) -> float:
        return sum(found.get((level, result), ()))

    hits, misses = total("l1", "hit"), total("l1", "miss")
    ratios = {level: _ratios(found, level, window) for level in get_args(Level)}
    return Cached(
        ratios={level: steps for level, steps in ratios.items() if set(steps) != {None}},
        lookups=hits + misses,
        # What Prometheus estimates need not go together.
        answered={
            "l1": hits,
            "l2": total("l2", "hit"),
            "database": max(misses - total("l2", "hit"), 0.0),
        },
        dropped=total("l1", "dropped") + total("l2", "dropped"),
        errors=total("l2", "error"),
        redis_bytes={each: sum(moved.get((each,), ())) for each in get_args(Direction)},
    )


def _ratios(
    found: Mapping[Labels, Sequence[float]], level: Level, window: Window
) -> Sequence[float | None]:
    nothing = [0.0] * window.steps
    hits, misses = (found.get((level, result), nothing) for result in ("hit", "miss"))
    return [
        hit / (hit + miss) if hit + miss else None for hit, miss in zip(hits, misses, strict=True)
    ]

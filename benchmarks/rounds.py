"""Interleaved rounds, and ratios that compare only what ran side by side."""

from collections.abc import Callable, Mapping
from statistics import median
from typing import TypeAlias, TypeVar

from msgspec import Struct

Speeds: TypeAlias = dict[str, list[float]]
"""Events per second (or another speed) of each contender, round by round."""


Measured = TypeVar("Measured")


class Ratio(Struct, frozen=True):
    """How many times as fast one contender was as another in the same round."""

    median: float
    lowest: float
    highest: float


def interleave(
    runs: Mapping[str, Callable[[], Measured]], rounds: int
) -> dict[str, list[Measured]]:
    """What each run measured in every round, A B C, B C A, …, after one that does not count."""
    names = list(runs)
    measured: dict[str, list[Measured]] = {name: [] for name in names}
    for run in runs.values():
        run()
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            measured[name].append(runs[name]())
    return measured


def compare(speeds: Speeds, name: str, other: str) -> Ratio | None:
    """`name` beside `other`; None where one of them did not run."""
    if name not in speeds or other not in speeds:
        return None
    ratios = [mine / its for mine, its in zip(speeds[name], speeds[other], strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))

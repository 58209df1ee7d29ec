"""What the metrics of all of a store's processes were over time, whoever kept them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from store.sources import start_of

Labels: TypeAlias = tuple[str, ...]
Severity: TypeAlias = Literal["critical", "warning"]
OURS = "EventStore"
"""How the names of our alerts begin."""


class Window(Struct, frozen=True, kw_only=True):
    """A stretch of time in equal steps; the last may be under way."""

    start: datetime
    step: timedelta
    steps: int

    @classmethod
    def until(cls, now: datetime, *, step: timedelta, steps: int) -> "Window":
        """The newest steps up to `now`; they begin at multiples of their width since 1970."""
        last = floor(now, step)
        return cls(start=last - (steps - 1) * step, step=step, steps=steps)

    @property
    def end(self) -> datetime:
        """When the last step ends."""
        return self.start + self.steps * self.step


def floor(moment: datetime, width: timedelta) -> datetime:
    """The last multiple of `width` since 1970 that is not after the moment."""
    return start_of((moment - start_of(0, width)) // width, width)


class Newest(Struct, frozen=True, kw_only=True):
    """The newest sample there is: when it was taken, and which process it is of."""

    at: datetime
    process: str


class Firing(Struct, frozen=True, kw_only=True):
    """An alert that fires; `since` is when it began, where that is known."""

    name: str
    severity: Severity
    summary: str
    since: datetime | None = None


class Alerts(Struct, frozen=True, kw_only=True):
    """Which of so many `rules` fire, the critical first."""

    rules: int
    firing: Sequence[Firing]


class MetricHistory(Protocol):
    """Metrics over time, summed over processes."""

    @property
    def kind(self) -> Literal["samples", "prometheus"]:
        """Who keeps them."""
        ...

    @property
    def name(self) -> str:
        """Where they are kept, for people."""
        ...

    @property
    def finest(self) -> timedelta:
        """The shortest step it can tell."""
        ...

    def increases(
        self, metric: str, window: Window, *, by: Sequence[str] = ()
    ) -> Mapping[Labels, Sequence[float]]:
        """How much a counter, or a histogram's bucket, count or sum, grew in each step.

        Added up by the labels named; the keys are their values.

        Raises:
            MetricsUnavailable: who keeps them does not answer.
        """
        ...

    def levels(self, gauge: str, window: Window) -> Sequence[float | None]:
        """What a gauge that is the same for all processes was in each step; None: nobody said.

        Raises:
            MetricsUnavailable: who keeps them does not answer.
        """
        ...

    def newest(self) -> Newest | None:
        """The newest sample; None where there is none.

        Raises:
            MetricsUnavailable: who keeps them does not answer.
        """
        ...

    def alerts(self) -> Alerts | None:
        """Which of our alerts fire; None where who keeps the metrics looks at none.

        Raises:
            MetricsUnavailable: who keeps them does not answer.
        """
        ...


def ranked(rules: int, firing: Iterable[Firing]) -> Alerts:
    """The alerts in the order in which to look at them."""
    order = sorted(firing, key=lambda each: (each.severity != "critical", each.name, each.summary))
    return Alerts(rules=rules, firing=order)


def quantile(rank: float, buckets: Mapping[float, float]) -> float | None:
    """The value below which that share of the observations lies, in the unit of the bounds.

    `buckets` counts those up to each upper bound, the last of which is infinity. Within a bucket
    they are taken to be spread evenly, as Prometheus' histogram_quantile takes them.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    wanted = rank * total
    below, counted = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted and buckets[bound] > counted:
            if bound == float("inf"):
                return below
            share = (wanted - counted) / (buckets[bound] - counted)
            return below + (bound - below) * share
        below, counted = bound, max(buckets[bound], counted)
    return below


def filled(buckets: Mapping[float, float], bounds: Iterable[float]) -> Mapping[float, float]:
    """The buckets with those of all `bounds`: what is not told has as many as the one below it."""
    told, count = dict(buckets), 0.0
    for bound in sorted({*buckets, *bounds, float("inf")}):
        count = max(count, buckets.get(bound, 0.0))
        told[bound] = count
    return told

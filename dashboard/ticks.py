"""Where a time axis is marked, and with what: a few round moments in UTC."""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime

from dashboard.moments import from_microseconds, to_microseconds

MOST_TICKS = 9
LAST_YEAR = 9999

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_STEPS = [
    *(m * 10**e for e in range(6) for m in (1, 2, 5)),
    *(m * _SECOND for m in (1, 2, 5, 10, 15, 30)),
    *(m * 60 * _SECOND for m in (1, 2, 5, 10, 15, 30)),
    *(m * 3600 * _SECOND for m in (1, 2, 3, 6, 12)),
    *(m * _DAY for m in (1, 2, 4, 7, 14)),
]
_MONTH = 30 * _DAY
_MONTH_STEPS = [1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200, 12_000]


def ticks(start: int, end: int) -> list[tuple[int, str]]:
    """Round moments between `start` and `end` (UTC µs), each with its label.

    Times of day have the date below them where it is new; `<br>` parts the two.
    """
    smallest = (end - start) / MOST_TICKS
    if smallest > _STEPS[-1]:
        return _month_ticks(start, end, smallest)
    step = _STEPS[bisect_left(_STEPS, smallest)]
    moments = range(-(-start // step) * step, end + 1, step)
    labels = _labels([from_microseconds(moment) for moment in moments], step)
    return list(zip(moments, labels, strict=True))


def _month_ticks(start: int, end: int, smallest: float) -> list[tuple[int, str]]:
    index = bisect_left(_MONTH_STEPS, smallest / _MONTH)
    step = _MONTH_STEPS[min(index, len(_MONTH_STEPS) - 1)]
    first = from_microseconds(start)
    month = (first.year * 12 + first.month - 1) // step * step
    found = []
    while (year := month // 12) <= LAST_YEAR:
        moment = datetime(max(year, 1), month % 12 + 1, 1, tzinfo=UTC)
        if to_microseconds(moment) > end:
            break
        if to_microseconds(moment) >= start:
            plain = step % 12 == 0 or moment.month == 1
            found.append((to_microseconds(moment), f"{moment:%Y}" if plain else f"{moment:%b %Y}"))
        month += step
    return found


def _labels(moments: Sequence[datetime], step: int) -> list[str]:
    labels = []
    day = None
    for moment in moments:
        label = _label(moment, step)
        if step < _DAY and moment.date() != day:
            day = moment.date()
            label = f"{label}<br>{moment:%-d %b %Y}"
        labels.append(label)
    return labels


def _label(moment: datetime, step: int) -> str:
    if step >= _DAY:
        return f"{moment:%-d %b %Y}"
    if step >= 60 * _SECOND:
        return f"{moment:%H:%M}"
    if step >= _SECOND:
        return f"{moment:%H:%M:%S}"
    return f"{moment:%H:%M:%S}.{moment.microsecond:06d}"[: -3 if step >= 1000 else None]

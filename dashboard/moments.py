"""Times as people read them, in UTC."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_UNITS = [
    ("y", 31_557_600_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("µs", 1),
]


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exact."""
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """The moment so many microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


def stamp(moment: datetime) -> str:
    """`2026-01-31 12:00:00.250`, with as many decimals as are needed: none, three or six."""
    moment = moment.astimezone(UTC)
    text = f"{moment:%Y-%m-%d %H:%M:%S}"
    if moment.microsecond % 1000:
        return f"{text}.{moment.microsecond:06d}"
    return f"{text}.{moment.microsecond // 1000:03d}" if moment.microsecond else text


def short_stamp(moment: datetime) -> str:
    """`stamp` with no more than milliseconds."""
    return stamp(moment)[:23]


def span(duration: timedelta) -> str:
    """The two largest units of a duration: `3 d 4 h`, `250 ms`, `0 s`; `−` where it is negative."""
    microseconds = duration // _MICROSECOND
    if microseconds == 0:
        return "0 s"
    sign, rest = ("−" if microseconds < 0 else ""), abs(microseconds)
    first = next(i for i, (_, size) in enumerate(_UNITS) if rest >= size)
    unit, size = _UNITS[first]
    text = f"{sign}{rest // size:,} {unit}"
    if unit in {"s", "ms", "µs"}:
        return text
    smaller_unit, smaller_size = _UNITS[first + 1]
    smaller = rest % size // smaller_size
    return f"{text} {smaller} {smaller_unit}" if smaller else text


def relative(moment: datetime, now: datetime) -> str:
    """`3 d ago`, `in 2 h`, `just now`: one unit, for a glance."""
    elapsed = now - moment
    if abs(elapsed) < timedelta(seconds=1):
        return "just now"
    text = " ".join(span(abs(elapsed)).split(" ")[:2])
    return f"{text} ago" if elapsed > timedelta(0) else f"in {text}"

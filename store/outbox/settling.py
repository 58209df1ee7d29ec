"""What becomes of claimed records, given which of them could not be published."""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Literal, TypeAlias

from store.database.claiming import Claimed, Settlement
from store.errors import InvalidSetting, SinkUnavailable

OnDeadLetter: TypeAlias = Literal["hold", "skip"]
"""Whether the later events of its aggregate wait for a dead letter."""

ATTEMPTS = 4
"""One, and three more; what has then not been published is a dead letter."""
FIRST_DELAY = 1.0
"""Seconds until the second attempt; each further one waits twice as long."""
_LARGEST_ERROR = 64 * 1024
_NOBODYS_FAULT = (SinkUnavailable, InvalidSetting)
_ABANDONED = (
    f"no relay came to tell what became of {ATTEMPTS} attempts: each ended, or lost its lease"
)


def delay_behind(attempt: int, chance: float) -> float:
    """Seconds to wait behind a failed attempt: half of them fixed, half by chance in [0, 1).

    "Equal jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return float(FIRST_DELAY * 2 ** (attempt - 1) * (1 + chance) / 2)


def is_abandoned(claimed: Claimed) -> bool:
    """Whether all its attempts have been made, and nobody said what came of them."""
    return claimed.attempt > ATTEMPTS


def settlements(
    claimed: Sequence[Claimed],
    failures: Mapping[int, Exception],
    *,
    on_dead_letter: OnDeadLetter,
    chance: Callable[[], float],
) -> Iterator[Settlement]:
    """For each of the claimed, in their order; `failures` are by position."""
    for _, run in groupby(claimed, key=lambda each: each.event.aggregate_id):
        behind_failure = False
        for each in run:
            error = failures.get(each.event.position)
            if behind_failure:
                yield _settled(each, "pending", attempts=each.attempt - 1)
            elif is_abandoned(each):
                behind_failure = True
                yield _dead(each, _ABANDONED, on_dead_letter)
            elif error is None:
                yield _settled(each, "published", attempts=each.attempt)
            elif isinstance(error, _NOBODYS_FAULT):
                behind_failure = True
                yield _away(each, error, chance)
            else:
                behind_failure = True
                yield _failed(each, error, on_dead_letter, chance)


def _failed(
    claimed: Claimed, error: Exception, on_dead_letter: OnDeadLetter, chance: Callable[[], float]
) -> Settlement:
    if claimed.attempt == ATTEMPTS:
        return _dead(claimed, _told(error), on_dead_letter)
    delay = delay_behind(claimed.attempt, chance())
    return _again(claimed, error, attempts=claimed.attempt, delay=delay)


def _away(claimed: Claimed, error: Exception, chance: Callable[[], float]) -> Settlement:
    delay = delay_behind(1, chance())
    return _again(claimed, error, attempts=claimed.attempt - 1, delay=delay)


def _again(claimed: Claimed, error: Exception, *, attempts: int, delay: float) -> Settlement:
    return Settlement(
        aggregate_id=claimed.event.aggregate_id,
        version=claimed.event.version,
        status="pending",
        is_open=True,
        attempts=attempts,
        delay=delay,
        error=_told(error),
    )


def _told(error: Exception) -> str:
    return "".join(traceback.format_exception(error))[-_LARGEST_ERROR:].replace("\0", "\\0")


def _dead(claimed: Claimed, error: str, on_dead_letter: OnDeadLetter) -> Settlement:
    return Settlement(
        aggregate_id=claimed.event.aggregate_id,
        version=claimed.event.version,
        status="failed",
        is_open=on_dead_letter == "hold",
        attempts=min(claimed.attempt, ATTEMPTS),
        error=error,
    )


def _settled(
    claimed: Claimed, status: Literal["pending", "published"], *, attempts: int
) -> Settlement:
    return Settlement(
        aggregate_id=claimed.event.aggregate_id,
        version=claimed.event.version,
        status=status,
        is_open=status == "pending",
        attempts=attempts,
    )

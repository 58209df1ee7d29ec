"""Waiting for what other threads and processes bring about."""

import time
from collections.abc import Callable

PATIENCE = 20.0


def until(happened: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something is so; it must be within so many seconds."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.005)

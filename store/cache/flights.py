"""Whoever wants what another thread is reading just now waits for that one."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, RLock


class Flights:
    """One thread at a time for each key. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: dict[str, tuple[RLock, list[None]]] = {}

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Wait until no other thread is within, for that key."""
        with self._lock:
            turn, waiting = self._waiting.setdefault(key, (RLock(), []))
            waiting.append(None)
        try:
            with turn:
                yield
        finally:
            with self._lock:
                waiting.pop()
                if not waiting:
                    del self._waiting[key]

"""Whoever wants what another thread is reading just now waits for that one."""

from threading import Lock, RLock


class Flights:
    """One thread at a time for each key. Safe to share between threads.

    Who has taken off lands, whatever comes of it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._turns: dict[str, tuple[RLock, list[None]]] = {}

    def take_off(self, key: str) -> bool:
        """Wait until no other thread is on its way for that key; whether there was one."""
        with self._lock:
            turn, waiting = self._turns.setdefault(key, (RLock(), []))
            waiting.append(None)
        if turn.acquire(blocking=False):
            return False
        turn.acquire()
        return True

    def land(self, key: str) -> None:
        """Let the next one go."""
        with self._lock:
            turn, waiting = self._turns[key]
            turn.release()
            waiting.pop()
            if not waiting:
                del self._turns[key]

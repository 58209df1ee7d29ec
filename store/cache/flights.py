"""Whoever wants what another thread is reading just now waits for that one."""

from threading import Event, Lock, get_ident


class Flights:
    """For each key the thread that is on its way. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._leading: dict[str, tuple[Event, int]] = {}

    def lead(self, key: str) -> bool:
        """Whether no other thread is on its way for the key; if one is, once it has landed."""
        with self._lock:
            landed, leader = self._leading.setdefault(key, (Event(), get_ident()))
            if leader == get_ident():
                return True
        landed.wait()
        return False

    def land(self, key: str) -> None:
        """Let those go who wait for this thread."""
        with self._lock:
            landed, _ = self._leading.pop(key, (Event(), 0))
        landed.set()

"""Whoever wants what another thread is reading just now waits for that one."""

from threading import Event, Lock, get_ident


class Flights:
    """For each key the thread that is on its way. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._leading: dict[str, int] = {}
        self._landed: dict[str, Event] = {}

    def lead(self, key: str) -> bool:
        """Whether no other thread is on its way for the key; if one is, once it has landed."""
        with self._lock:
            own = get_ident()
            if self._leading.setdefault(key, own) == own:
                return True
            landed = self._landed.setdefault(key, Event())
        landed.wait()
        return False

    def land(self, key: str) -> None:
        """Let those go who wait for this thread."""
        with self._lock:
            self._leading.pop(key, None)
            landed = self._landed.pop(key, None)
        if landed is not None:
            landed.set()

"""Waking relays after a commit; who sleeps through it finds the work all the same, a little later.

A NOTIFY inside the append's transaction would make all commits queue for one lock, so it is sent
behind the commit, on a connection of its own, for all appends of some milliseconds together.
"""

import logging
import threading
from collections.abc import Callable

from store.errors import EventStoreError

_log = logging.getLogger(__name__)

PAUSE = 0.01
"""Seconds between two wake-ups of a process."""
_PATIENCE = 1.0


class Waker:
    """Calls `notify` soon after `wake`, once for all who call that meanwhile. Safe to share."""

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self._asked = False
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._was_refused = False

    def wake(self) -> None:
        """Tell relays, in this and other processes, that there is something to publish."""
        if self._asked:
            return
        self._asked = True
        self._changed.set()
        if self._thread is None:
            self._start()

    def close(self) -> None:
        """Send what has been asked for, within a second, and stop."""
        self._stop.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._stop.is_set():
                name = "hindsight-waker"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._changed.wait()
            self._changed.clear()
            self._send()
            self._stop.wait(PAUSE)
        self._send()

    def _send(self) -> None:
        if not self._asked:
            return
        # Before it is sent: who asks from here on is not told that it was.
        self._asked = False
        try:
            self._notify()
        except EventStoreError as error:
            if not self._was_refused:
                _log.warning("relays are not woken, and look by themselves: %s", error)
            self._was_refused = True
        else:
            self._was_refused = False

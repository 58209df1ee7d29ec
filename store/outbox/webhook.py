"""Telling somebody's HTTP server of dead letters, beside the relay's work and never in its way."""

import logging
import queue
import threading
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from uuid import UUID

import msgspec
from msgspec import Struct

from store.outbox.records import last_line
from store.outbox.relay import DeadLetter

_log = logging.getLogger(__name__)

TIMEOUT = 2.0
"""Seconds that the server may be silent."""
TRIES = 3
PAUSE = 1.0
"""Seconds until the second try; twice as many until the third."""
_MOST_WAITING = 10_000
_LARGEST_ERROR = 1_000
_PATIENCE = 5.0
"""Seconds to tell what is left when the process ends."""


class Origin(Struct, frozen=True, kw_only=True):
    """Which store a dead letter is in."""

    id: UUID
    name: str


class Told(Struct, frozen=True, kw_only=True):
    """The document that is posted: nothing of what the event says.

    `error` is the last line of it. `held` says whether later events of the aggregate wait.
    """

    store: Origin
    aggregate_type: str
    aggregate_id: str
    version: int
    position: int
    event_id: UUID
    event_type: str
    attempts: int
    error: str
    held: bool
    occurred_at: datetime
    failed_at: datetime


class Webhook:
    """Posts what it is told to `url`, in a thread of its own. Safe to share between threads.

    Telling it takes microseconds and never fails. A server that does not take a dead letter, three
    times, is told of the next; `failed` hears of each that was not taken. `url` is http or https;
    redirects are not followed.
    """

    def __init__(self, url: str, origin: Origin, *, failed: Callable[[], None]) -> None:
        parts = urlsplit(url)
        self._origin = origin
        self._failed = failed
        self._place = str(parts.hostname)
        host = parts.netloc.rpartition("@")[2]
        self._url = urlunsplit(parts._replace(netloc=host, fragment=""))
        self._headers = {"Content-Type": "application/json", "User-Agent": "hindsight"}
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {b64encode(secret.encode()).decode()}"
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._waiting: queue.Queue[DeadLetter | None] = queue.Queue(_MOST_WAITING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hindsight-webhook", daemon=True)
        self._thread.start()

    def tell(self, dead: DeadLetter) -> None:
        """Have it posted soon."""
        try:
            self._waiting.put_nowait(dead)
        except queue.Full:
            self._give_up(dead, "too many wait to be told")

    def close(self) -> None:
        """Post what is left, within seconds, and stop."""
        self._stop.set()
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        while (dead := self._waiting.get()) is not None:
            try:
                self._post(dead)
            except Exception:  # noqa: BLE001 (the thread's end would be the end of all telling)
                self._failed()
                _log.exception("a dead letter was not told")

    def _post(self, dead: DeadLetter) -> None:
        document = msgspec.json.encode(_told(dead, self._origin))
        for number in range(1, TRIES + 1):
            why = self._try(document)
            if why is None:
                return
            if number < TRIES:
                self._stop.wait(PAUSE * number)
        self._give_up(dead, why)

    def _try(self, document: bytes) -> str | None:
        """Post it once; why it was not taken."""
        request = urllib.request.Request(self._url, data=document, headers=self._headers)  # noqa: S310 (checked: http or https)
        try:
            self._opener.open(request, timeout=TIMEOUT).close()
        except urllib.error.HTTPError as error:
            error.close()  # it is an answer, too
            return f"it answers {error.code}"
        except urllib.error.URLError as error:
            return _named(error.reason)
        except (OSError, HTTPException, ValueError) as error:
            return _named(error)
        return None

    def _give_up(self, dead: DeadLetter, why: str | None) -> None:
        self._failed()
        where = (dead.event.aggregate_id, dead.event.version, self._place, why)
        _log.error("dead letter %s version %d was not told to the webhook at %s: %s", *where)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other that is not the right one."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _told(dead: DeadLetter, origin: Origin) -> Told:
    event = dead.event
    return Told(
        store=origin,
        aggregate_type=event.aggregate_type,
        aggregate_id=event.aggregate_id,
        version=event.version,
        position=event.position,
        event_id=event.event_id,
        event_type=event.event_type,
        attempts=dead.attempts,
        error=last_line(dead.error)[:_LARGEST_ERROR],
        held=dead.held,
        occurred_at=event.occurred_at,
        failed_at=dead.failed_at,
    )


def _named(error: object) -> str:
    # Its text may repeat the address, and what is secret in it.
    if isinstance(error, TimeoutError):
        return "it takes too long"
    return type(error).__name__ if isinstance(error, Exception) else "it cannot be reached"

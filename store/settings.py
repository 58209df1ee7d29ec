"""What the environment says, read once."""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from store.errors import InvalidSetting

DEFAULT_URL = "sqlite:///data/events.db"
_MOST_SHARDS = 1_000
_MOST_DIGITS = 15
_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}
_SPAN = re.compile(rf"(\d{{1,9}})({'|'.join(_UNITS)})", re.ASCII)
LONGEST = timedelta(days=36_500)
_POISON_EVENTS: Mapping[str, Literal["stop", "skip"]] = {"stop": "stop", "skip": "skip"}
_DEAD_LETTERS: Mapping[str, Literal["hold", "skip"]] = {"hold": "hold", "skip": "skip"}


class Settings(Struct, frozen=True, kw_only=True):
    """Where the store is. `read_url` is where pages read: by default the store itself.

    `domain` names the import paths of domains, separated by commas; there is no default.
    `prometheus_url` is where the dashboard asks for metrics; without it, it is the store.
    `snapshots` off leaves them alone: loads replay, and none is taken. `cache` off keeps nothing at
    hand. `redis_url` is where processes keep it together, and where workers publish to the streams
    of a `topic`, as many as there are `shards`. `outbox` off publishes nothing of what is appended
    meanwhile; `dead_letters` says whether later events of an aggregate wait for one that could not
    be published, or skip it; `dead_letter_webhook` is told of each. `outbox_retention` is how long
    workers keep what was published. `relay` off has workers publish nothing, `projections` off keep
    no read models; `poison_events` says whether a projection stops at an event that it cannot take,
    or skips it. `archive` off has workers archive nothing; else they archive, once a day, what was
    recorded longer ago than `archive_after`, and what is beyond the newest `keep_active` events.
    `metrics_folder` is where the processes of a service keep their metrics together.
    """

    url: str = DEFAULT_URL
    read_url: str | None = None
    domain: str | None = None
    prometheus_url: str | None = None
    snapshots: bool = True
    cache: bool = True
    redis_url: str | None = None
    topic: str | None = None
    shards: int = 8
    outbox: bool = True
    dead_letters: Literal["hold", "skip"] = "hold"
    dead_letter_webhook: str | None = None
    outbox_retention: timedelta = timedelta(days=7)
    relay: bool = True
    projections: bool = True
    poison_events: Literal["stop", "skip"] = "stop"
    archive: bool = True
    archive_after: timedelta = timedelta(days=730)
    keep_active: int = 10_000_000
    metrics_folder: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """`EVENT_STORE_URL` and so on; an empty variable is an absent one.

        Raises:
            InvalidSetting: a switch is neither on nor off, an address none, a span none.
        """
        return cls(
            url=environment.get("EVENT_STORE_URL") or DEFAULT_URL,
            read_url=environment.get("EVENT_STORE_READ_URL") or None,
            domain=environment.get("EVENT_STORE_DOMAIN") or None,
            prometheus_url=environment.get("EVENT_STORE_PROMETHEUS_URL") or None,
            snapshots=_switch(environment, "EVENT_STORE_SNAPSHOTS"),
            cache=_switch(environment, "EVENT_STORE_CACHE"),
            redis_url=environment.get("EVENT_STORE_REDIS_URL") or None,
            topic=environment.get("EVENT_STORE_TOPIC") or None,
            shards=_shards(environment.get("EVENT_STORE_SHARDS") or "8"),
            outbox=_switch(environment, "EVENT_STORE_OUTBOX"),
            relay=_switch(environment, "EVENT_STORE_RELAY"),
            projections=_switch(environment, "EVENT_STORE_PROJECTIONS"),
            archive=_switch(environment, "EVENT_STORE_ARCHIVE"),
            archive_after=_span(environment, "EVENT_STORE_ARCHIVE_AFTER", "730d"),
            keep_active=_count(environment, "EVENT_STORE_KEEP_ACTIVE", "10000000"),
            poison_events=_poison_events(environment.get("EVENT_STORE_POISON_EVENTS") or "stop"),
            dead_letters=_dead_letters(environment.get("EVENT_STORE_DEAD_LETTERS") or "hold"),
            dead_letter_webhook=_address(environment, "EVENT_STORE_DEAD_LETTER_WEBHOOK"),
            outbox_retention=_span(environment, "EVENT_STORE_OUTBOX_RETENTION", "7d"),
            # The name is prometheus_client's, which reads it when it is imported.
            metrics_folder=environment.get("PROMETHEUS_MULTIPROC_DIR") or None,
        )


def span(text: str) -> timedelta | None:
    """How long 90s, 15min, 6h or 7d is; None where it is nothing like that."""
    found = _SPAN.fullmatch(text)
    return None if found is None else timedelta(**{_UNITS[found[2]]: int(found[1])})


def _span(environment: Mapping[str, str], name: str, default: str) -> timedelta:
    value = environment.get(name) or default
    found = span(value)
    if found is None or found > LONGEST:
        raise InvalidSetting(f"{name}: {value!r} is no span such as 12h or 7d")
    return found


def _address(environment: Mapping[str, str], name: str) -> str | None:
    value = environment.get(name)
    if not value:
        return None
    try:
        parts = urlsplit(value)
        proper = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        proper = False
    if not proper:
        shown = "this" if "@" in value else repr(value)  # what stands before an @ may be a password
        raise InvalidSetting(f"{name}: {shown} is no address such as https://example.org/hook")
    return value


def _switch(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(name) or "on"
    if value not in {"on", "off"}:
        raise InvalidSetting(f"{name}: {value!r} is neither on nor off")
    return value == "on"


def _dead_letters(value: str) -> Literal["hold", "skip"]:
    if value not in _DEAD_LETTERS:
        raise InvalidSetting(f"EVENT_STORE_DEAD_LETTERS: {value!r} is neither hold nor skip")
    return _DEAD_LETTERS[value]


def _poison_events(value: str) -> Literal["stop", "skip"]:
    if value not in _POISON_EVENTS:
        raise InvalidSetting(f"EVENT_STORE_POISON_EVENTS: {value!r} is neither stop nor skip")
    return _POISON_EVENTS[value]


def _count(environment: Mapping[str, str], name: str, default: str) -> int:
    value = environment.get(name) or default
    if not (value.isascii() and value.isdecimal() and len(value) <= _MOST_DIGITS):
        raise InvalidSetting(f"{name}: {value!r} is no number of events such as 10000000")
    return int(value)


def _shards(value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= _MOST_SHARDS:
        raise InvalidSetting(
            f"EVENT_STORE_SHARDS: {value!r} is no number of streams from 1 to {_MOST_SHARDS:,}"
        )
    return int(value)

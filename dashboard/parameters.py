"""What the query parameters of an address ask for."""

from collections.abc import Mapping
from datetime import datetime

from store.errors import EventStoreError
from store.records import utc

MAX_VERSION = 2**63 - 1
MAX_DIGITS = 19
SHOWN = 40


class InvalidAddress(EventStoreError, ValueError):
    """An address that asks for what cannot be; the message says what to correct."""


def required(params: Mapping[str, str], name: str) -> str:
    """The parameter's text, which must be there."""
    text = params.get(name)
    if not text:
        raise InvalidAddress(f"{name}: missing; add {name}=… to the address")
    return text


def number(params: Mapping[str, str], name: str) -> int | None:
    """A version, a position or a number of things: a whole number from 0."""
    text = params.get(name)
    if not text:
        return None
    digits = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    if not (digits and int(text) <= MAX_VERSION):
        raise InvalidAddress(f"{name}: {text[:SHOWN]!r} is not a whole number")
    return int(text)


def moment(params: Mapping[str, str], name: str) -> datetime | None:
    """A time with its zone, in UTC."""
    text = params.get(name)
    if not text:
        return None
    try:
        return utc(name, datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise InvalidAddress(
            f"{name}: {text[:SHOWN]!r} is not a time such as 2026-01-31T12:00:00Z"
        ) from None


def stretch(params: Mapping[str, str]) -> tuple[datetime | None, datetime | None]:
    """`since` (inclusive) and `until` (exclusive)."""
    since, until = moment(params, "since"), moment(params, "until")
    if since and until and since >= until:
        raise InvalidAddress("since: it must be before until")
    return since, until

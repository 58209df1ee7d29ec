"""Which view a URL asks for, and which URL asks for a view."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from store.errors import EventStoreError
from store.records import utc

MAX_VERSION = 2**63 - 1


class InvalidView(EventStoreError, ValueError):
    """A URL that asks for something no view can be; the message says what to correct."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What the Timeline page shows.

    `version` is the chosen event; `since` (inclusive) and `until` (exclusive) are the stretch of
    occurred-at time that is looked at; `newest_first` is the direction of the list, which shows the
    page that holds version `at`, by default that of the chosen event.
    """

    aggregate: str | None = None
    version: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    newest_first: bool = True
    at: int | None = None

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> "View":
        """The view that query parameters ask for.

        Raises:
            InvalidView: a parameter cannot be read, or there is a version without an aggregate.
        """
        view = cls(
            aggregate=params.get("aggregate") or None,
            version=_version("version", params.get("version", "")),
            since=_moment("since", params.get("since", "")),
            until=_moment("until", params.get("until", "")),
            newest_first=params.get("list") != "oldest",
            at=_version("at", params.get("at", "")),
        )
        if view.aggregate is None and view.version is not None:
            raise InvalidView("version: which aggregate's? Add aggregate=ID to the address")
        if view.since and view.until and view.since >= view.until:
            raise InvalidView("since: it must be before until")
        return view

    def to_params(self) -> dict[str, str | list[str]]:
        """Every parameter of the page; one that is not needed is an empty list, which erases it."""
        values = {
            "aggregate": self.aggregate,
            "version": None if self.version is None else str(self.version),
            "since": _iso(self.since),
            "until": _iso(self.until),
            "list": None if self.newest_first else "oldest",
            "at": None if self.at is None else str(self.at),
        }
        return {name: [] if value is None else value for name, value in values.items()}


def _version(name: str, text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= MAX_VERSION):
        raise InvalidView(f"{name}: {text[:40]!r} is not a version number; correct the address")
    return int(text)


def _moment(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        return utc(name, datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise InvalidView(
            f"{name}: {text[:40]!r} is not a time such as 2026-01-31T12:00:00Z"
        ) from None


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")

"""What commands take: ids, moments, JSON, expected versions."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from store import payload
from store.errors import InvalidEvent
from store.identifiers import check_text
from store.records import utc
from store.settings import LONGEST, span
from store.versions import ExpectedVersion, any_, exact, none

WHOLE = click.IntRange(0, 2**63 - 1)
"""A version or position."""


class Name(click.ParamType[str]):
    """An id or a name as the store takes them."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_text(str(param and param.name), value)
        except InvalidEvent as error:
            self.fail(str(error).partition(": ")[2], param, ctx)


class Moment(click.ParamType[datetime]):
    """An ISO 8601 time with its zone."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return utc("time", datetime.fromisoformat(value))
        except InvalidEvent:
            self.fail(f"{value!r} has no time zone; write 2026-11-22T09:30:00Z", param, ctx)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time such as 2026-11-22T09:30:00Z", param, ctx)


class Address(click.ParamType[tuple[str, int]]):
    """Where to listen: a port of this machine alone, or with the address it is on."""

    name = "[HOST:]PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        host, _, port = str(value).rpartition(":")
        if not (port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 65_536):
            self.fail(f"{value!r} is no address such as 9101 or 0.0.0.0:9101", param, ctx)
        return host.strip("[]") or "127.0.0.1", int(port)


class Since(click.ParamType[datetime]):
    """An ISO 8601 time with its zone, or how long ago it was."""

    name = "TIME|SPAN"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        found = span(value) if isinstance(value, str) else None
        if found is None:
            return Moment().convert(value, param, ctx)
        try:
            return datetime.now(UTC) - found
        except OverflowError:
            self.fail(f"{value!r} is longer ago than time goes back", param, ctx)


class Span(click.ParamType[timedelta]):
    """How long something is."""

    name = "SPAN"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = span(value)
        if found is None or found > LONGEST:
            self.fail(f"{value!r} is no span such as 12h or 90d", param, ctx)
        return found


class Json(click.ParamType[Any]):
    """JSON as it stands, in a file behind @, or - for standard input."""

    name = "JSON|@FILE|-"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return payload.decode(_text_of(value))
        except OSError as error:
            self.fail(f"{value[1:]}: {error.strerror}", param, ctx)
        except ValueError as error:
            self.fail(f"no JSON: {error}", param, ctx)
        except RecursionError:
            self.fail("nested too deep", param, ctx)


class Expected(click.ParamType[ExpectedVersion]):
    """The version an aggregate is expected at."""

    name = "N|none|any"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> ExpectedVersion:
        if isinstance(value, ExpectedVersion):
            return value
        if value in {"none", "any"}:
            return none() if value == "none" else any_()
        if not (value.isascii() and value.isdecimal() and len(value) < 19):
            self.fail(f"{value!r} is none of a version, none, any", param, ctx)
        return exact(int(value))


def _text_of(value: str) -> bytes:
    if value == "-":
        return sys.stdin.buffer.read()
    if value.startswith("@"):
        return Path(value[1:]).read_bytes()
    return value.encode()

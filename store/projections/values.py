"""Values of columns as people, addresses and cursors spell them."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec
from sqlalchemy import Column

from store.errors import InvalidQuestion

Kind: TypeAlias = Literal["text", "number", "boolean", "time", "id", "other"]
"""What a column has, as far as asking goes; nothing can be asked of others."""

_SWITCHES = {"true": True, "false": False}


def parsed(column: Column[Any], text: str) -> Any:
    """The value of a column that a text stands for.

    Raises:
        InvalidQuestion: it stands for none.
    """
    kind = _type(column)
    parse = _PARSERS.get(kind)
    if parse is None:
        raise InvalidQuestion(f"{column.name}: its values cannot be asked for")
    try:
        return parse(text)
    except (ValueError, KeyError, InvalidOperation, OverflowError) as error:
        raise InvalidQuestion(f"{column.name}: {text!r} is no {_NAMES[kind]}") from error


def spelled(value: Any) -> str | None:
    """The text that stands for a value; None for NULL."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bool | dict | list):
        return msgspec.json.encode(value, enc_hook=repr).decode()
    return str(value)


def kind_of(column: Column[Any]) -> Kind:
    """What the column has."""
    return _KINDS.get(_type(column), "other")


def _type(column: Column[Any]) -> type:
    try:
        return column.type.python_type
    except NotImplementedError:
        return object


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError(text)  # PostgreSQL has no such text
    return text


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _number(text: str) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError(text)
    return number


def _decimal(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(text)
    return number


_PARSERS: Mapping[type, Callable[[str], Any]] = {
    str: _text,
    bool: lambda text: _SWITCHES[text.lower()],
    int: _number,
    float: float,
    Decimal: _decimal,
    UUID: UUID,
    datetime: _moment,
    date: date.fromisoformat,
    time: time.fromisoformat,
}
_NAMES: Mapping[type, str] = {
    str: "text",
    bool: "true or false",
    int: "whole number",
    float: "number",
    Decimal: "number",
    UUID: "UUID",
    datetime: "time such as 2026-11-28T09:30",
    date: "day such as 2026-11-28",
    time: "time of day such as 09:30",
}
_KINDS: Mapping[type, Kind] = {
    str: "text",
    bool: "boolean",
    int: "number",
    float: "number",
    Decimal: "number",
    UUID: "id",
    datetime: "time",
    date: "time",
    time: "time",
}

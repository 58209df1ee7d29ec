"""Values of columns as people, addresses and cursors spell them."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, Column, ColumnElement, Integer, Numeric, literal

from store.errors import InvalidQuestion

Kind: TypeAlias = Literal["text", "number", "boolean", "time", "id", "other"]
"""What a column has, as far as asking goes; nothing can be asked of others."""

_SWITCHES = {"true": True, "false": False}
_SHOWN = 60
_LARGEST_INTEGER = 2**63 - 1
_DIGITS = 16_000
"""Of a decimal number, on either side of its point: what PostgreSQL takes."""


def parsed(column: Column[Any], text: str) -> Any:
    """The value of a column that a text stands for.

    Raises:
        InvalidQuestion: it stands for none.
    """
    require_text(column)
    wanted = type_of(column)
    try:
        value = _PARSERS[wanted](text)
    except (ValueError, KeyError, InvalidOperation, OverflowError) as error:
        raise InvalidQuestion(f"{column.name}: {_shown(text)} is no {_NAMES[wanted]}") from error
    if not _is_in_range(value):
        raise InvalidQuestion(f"{column.name}: {_shown(text)} is no {_NAMES[wanted]}")
    return value


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
    return _KINDS.get(type_of(column), "other")


def require_text(column: Column[Any]) -> None:
    """Refuse a column whose values no text stands for.

    Raises:
        InvalidQuestion: it is one.
    """
    if type_of(column) not in _PARSERS:
        raise InvalidQuestion(f"{column.name}: its values cannot be asked for")


def bound(column: Column[Any], value: Any) -> ColumnElement[Any]:
    """What a column is compared with, given a value that is not NULL.

    Raises:
        InvalidQuestion: it cannot be one of the column.
    """
    wanted = type_of(column)
    is_one = isinstance(value, _TAKEN.get(wanted, wanted)) and (
        not isinstance(value, bool) or wanted in {bool, object}
    )
    is_vague = isinstance(value, datetime) and value.tzinfo is None and _has_zone(column)
    if not is_one or is_vague or not _is_in_range(value):
        raise InvalidQuestion(f"{column.name}: {_shown(value)} is no value of it")
    if isinstance(column.type, Integer):
        return literal(value, BigInteger())  # wider: a column of the other type holds none of those
    if isinstance(column.type, Numeric) and wanted is Decimal:
        return literal(Decimal(value), Numeric())  # all digits: rounded, it would be another
    return literal(value, column.type)


def _has_zone(column: Column[Any]) -> bool:
    return getattr(column.type, "timezone", True)


def _is_in_range(value: Any) -> bool:
    """Whether databases take it."""
    if isinstance(value, str):
        # Neither a NUL nor half a character is one that every database has.
        return not any(
            character == "\0" or "\ud800" <= character <= "\udfff" for character in value
        )
    if isinstance(value, Decimal):
        return not value.is_snan() and _has_few_digits(value)
    return not isinstance(value, int) or -_LARGEST_INTEGER <= value + 1 <= _LARGEST_INTEGER + 1


def _has_few_digits(value: Decimal) -> bool:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):  # of no number, or an infinite one
        return True
    return exponent >= -_DIGITS and value.adjusted() <= _DIGITS


def _shown(value: Any) -> str:
    if isinstance(value, int) and not _is_in_range(value):
        return "a number of over 64 bits"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def type_of(column: Column[Any]) -> type:
    """What the values of a column are in Python; `object` where nobody knows."""
    try:
        return column.type.python_type
    except NotImplementedError:
        return object


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


_PARSERS: Mapping[type, Callable[[str], Any]] = {
    str: str,
    bool: lambda text: _SWITCHES[text.lower()],
    int: int,
    float: float,
    Decimal: Decimal,
    UUID: UUID,
    datetime: _moment,
    date: date.fromisoformat,
    time: time.fromisoformat,
}
_TAKEN: Mapping[type, tuple[type, ...]] = {float: (float, int), Decimal: (Decimal, int)}
"""Of what types a value may be where that is not the column's own."""
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

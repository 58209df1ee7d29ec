"""Values of columns as people, addresses and cursors spell them."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from sqlalchemy import Column

from store.errors import InvalidQuestion

_SWITCHES = {"true": True, "false": False}


def parsed(column: Column[Any], text: str) -> Any:
    """The value of a column that a text stands for.

    Raises:
        InvalidQuestion: it stands for none.
    """
    kind = _kind(column)
    parse = _PARSERS.get(kind)
    if parse is None:
        raise InvalidQuestion(f"{column.name}: its values cannot be asked for")
    try:
        return parse(text)
    except (ValueError, KeyError, InvalidOperation, OverflowError) as error:
        raise InvalidQuestion(f"{column.name}: {text!r} is no {_NAMES[kind]}") from error


def _kind(column: Column[Any]) -> type:
    try:
        return column.type.python_type
    except NotImplementedError:
        return object


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _number(text: str) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError(text)
    return number


_PARSERS: Mapping[type, Callable[[str], Any]] = {
    str: str,
    bool: lambda text: _SWITCHES[text.lower()],
    int: _number,
    float: float,
    Decimal: Decimal,
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

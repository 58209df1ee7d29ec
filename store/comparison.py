"""Whether two states are the same to whoever reads their JSON, and where they first differ."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, time
from typing import Any

import msgspec
from msgspec import Struct


def first_difference(one: Any, other: Any) -> str | None:
    """A JSON pointer (RFC 6901) to the first place where two values differ; None: nowhere.

    Stricter than `==`: a list is no tuple, and 1, 1.0 and True are three values. The pointer is
    empty where the values differ as a whole.
    """
    return next(_differences("", one, other), None)


def faithful_json(value: Any, kind: Any) -> bytes:
    """The JSON that is read back, as a `kind`, as that very value.

    Raises:
        ValueError: there is none; the message says why, from the value on.
    """
    try:
        encoded = msgspec.json.encode(value)
        read = msgspec.json.decode(encoded, type=kind)
        place = first_difference(value, read)
    except (msgspec.MsgspecError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from error
    if place is not None:
        raise ValueError(f"would come back from JSON changed, at {place or 'its top'}")
    return encoded


def value_at(value: Any, pointer: str) -> tuple[Any, ...]:
    """The value at a pointer that `first_difference` gave, alone in a tuple; none where it ends."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        named = msgspec.structs.asdict(value) if isinstance(value, Struct) else value
        if isinstance(named, list | tuple):
            named = {str(index): item for index, item in enumerate(named)}
        found = [item for name, item in named.items() if str(name) == key]
        if not found:
            return ()
        value = found[0]
    return (value,)


def _differences(path: str, one: Any, other: Any) -> Iterator[str]:
    if type(one) is not type(other):
        yield path
    elif isinstance(one, dict):
        yield from _of_mappings(path, one, other)
    elif isinstance(one, Struct) or (is_dataclass(one) and not isinstance(one, type)):
        yield from _of_mappings(path, _by_name(one), _by_name(other))
    elif isinstance(one, list | tuple):
        for index, pair in enumerate(zip(one, other, strict=False)):
            yield from _differences(f"{path}/{index}", *pair)
        if len(one) != len(other):
            yield f"{path}/{min(len(one), len(other))}"
    elif _differ(one, other):
        yield path


def _differ(one: Any, other: Any) -> bool:
    if isinstance(one, set | frozenset):
        return {(type(item), item) for item in one} != {(type(item), item) for item in other}
    if isinstance(one, datetime | time) and repr(one.tzinfo) != repr(other.tzinfo):
        return True  # the same moment now; a day later perhaps not
    return bool(one != other and not (one != one and other != other))  # noqa: PLR0124 (NaN is not itself)


def _by_name(value: Any) -> dict[str, Any]:
    if isinstance(value, Struct):
        return msgspec.structs.asdict(value)
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _of_mappings(path: str, one: Mapping[Any, Any], other: Mapping[Any, Any]) -> Iterator[str]:
    for key in dict.fromkeys([*one, *other]):
        place = f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}"
        if key in one and key in other:
            yield from _differences(place, one[key], other[key])
        else:
            yield place

"""A state as the JSON document that it is to whoever reads it, and pointers into it (RFC 6901)."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from store.errors import InvalidDomain


class Absent(Struct, frozen=True):
    """What stands where a document has nothing."""


ABSENT: Final = Absent()
LONGEST_INDEX = 18
"""Digits of an index; no list has more items."""


def document(state: Any) -> Any:
    """The state as its JSON reads: dict, list, str, int, float, bool and None.

    Sets and keys are sorted, as they have no order of their own; what JSON cannot say is its repr.

    Raises:
        InvalidDomain: it is nothing that JSON could say.
    """
    try:
        return msgspec.json.decode(_encoded(state))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidDomain(f"the state cannot be shown as JSON: {error}") from error


def _encoded(state: Any) -> bytes:
    try:
        return msgspec.json.encode(state, order="deterministic", enc_hook=repr)
    except TypeError:
        # It has keys that are no texts, which this encoder does not put in order.
        plain = msgspec.to_builtins(state, str_keys=True, order="deterministic", enc_hook=repr)
        return msgspec.json.encode(plain)


def is_same(one: Any, other: Any) -> bool:
    """Whether two documents read the same: 1, 1.0 and True are three values, NaN is itself."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other) or (one != one and other != other)  # noqa: PLR0124 (NaN)


def pointer(parts: Sequence[str | int]) -> str:
    """The JSON pointer to the place at `parts`; empty for the whole document."""
    return "".join(f"/{escaped(str(part))}" for part in parts)


def escaped(part: str) -> str:
    """One part of a JSON pointer."""
    return part.replace("~", "~0").replace("/", "~1")


def parts_of(path: str) -> list[str]:
    """The parts of a JSON pointer.

    Raises:
        ValueError: it is none.
    """
    if path and not path.startswith("/"):
        raise ValueError(f"{path!r} is no JSON pointer; write /field/0/name")
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def find(value: Any, path: str) -> Any:
    """What stands at a pointer; `ABSENT` where there is nothing."""
    for part in parts_of(path):
        if isinstance(value, dict):
            value = value.get(part, ABSENT)
        elif isinstance(value, list) and is_index(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            return ABSENT
    return value


def is_index(part: str) -> bool:
    """Whether a part of a pointer may name an item of a list (RFC 6901)."""
    return part == "0" or (
        part.isascii() and part.isdecimal() and part[0] != "0" and len(part) <= LONGEST_INDEX
    )


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each place without places inside of it, empty objects and lists among them."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, f"{path}/{escaped(key)}")
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}/{index}")
    else:
        yield path, value

"""JSON in and out of the store: nothing is stored that would not come back equal.

The codec is msgspec's. It turns NaN into null, datetimes into text and integer keys into text
without a word, so what it wrote is read back and compared; only a payload that differs is walked,
to name the place.
"""

import math
from typing import Any

import msgspec

from store.errors import InvalidEvent, PayloadTooLarge

MAX_PAYLOAD_BYTES = 8 * 1024 * 1024

decode = msgspec.json.decode
_encode = msgspec.json.Encoder().encode
MAX_DEPTH = 200
"""The codec recurses, so a deeper payload could be written here and not be read elsewhere."""


def encode(field: str, value: Any) -> bytes:
    """The JSON bytes of `value`, made of dict, list, str, int, float, bool and None.

    Raises:
        InvalidEvent: `value` holds something else, NaN, an infinity, a lone surrogate, is nested
            more than 200 deep, or refers to itself; the message names the place as a path such as
            `data.items[3].price`.
        PayloadTooLarge: it is over 8 MB.
    """
    try:
        encoded = _encode(value)
        faithful = decode(encoded) == value
    except (TypeError, ValueError, RecursionError, OverflowError, msgspec.MsgspecError) as error:
        raise InvalidEvent(_first_fault(field, value) or f"{field}: {error}") from None
    if not faithful:
        raise InvalidEvent(_first_fault(field, value) or f"{field}: does not survive JSON")
    # Asked here, too, what the checks ask first: most payloads are spared two calls.
    if len(encoded) > MAX_DEPTH and (
        len(encoded) > MAX_PAYLOAD_BYTES or encoded.count(b"[") + encoded.count(b"{") > MAX_DEPTH
    ):
        check_size(field, encoded)
        check_depth(field, encoded, value)
    return encoded


def check_size(field: str, encoded: bytes) -> None:
    """Raise `PayloadTooLarge` where the JSON bytes are over the limit."""
    if len(encoded) > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(field=field, size=len(encoded), limit=MAX_PAYLOAD_BYTES)


def check_depth(field: str, encoded: bytes, value: Any) -> None:
    """Raise `InvalidEvent` where `value`, with these JSON bytes, is nested too deep."""
    if encoded.count(b"[") + encoded.count(b"{") <= MAX_DEPTH:
        return
    level = _containers([value])
    for _ in range(MAX_DEPTH):
        level = [child for container in level for child in _containers(container)]
        if not level:
            return
    raise InvalidEvent(f"{field}: nested more than {MAX_DEPTH} deep")


def _containers(container: Any) -> list[Any]:
    children = container.values() if isinstance(container, dict) else container
    return [child for child in children if isinstance(child, (dict, list))]


def _first_fault(place: str, value: Any, depth: int = 0) -> str | None:
    """Where and why `value` is not JSON, or None."""
    if depth > MAX_DEPTH:
        return f"{place[:60]}…: nested more than {MAX_DEPTH} deep, or refers to itself"
    if isinstance(value, dict):
        return _fault_in_object(place, value, depth)
    if isinstance(value, list):
        faults = (_first_fault(f"{place}[{i}]", item, depth + 1) for i, item in enumerate(value))
        return next(filter(None, faults), None)
    return _fault_in_scalar(place, value)


def _fault_in_object(place: str, value: dict[Any, Any], depth: int) -> str | None:
    for key, item in value.items():
        if not isinstance(key, str):
            return f"{place}: key {key!r} is {type(key).__name__}; JSON keys are text"
        fault = _fault_in_scalar(f"{place}: key {key!r}", key)
        fault = fault or _first_fault(f"{place}.{key}", item, depth + 1)
        if fault:
            return fault
    return None


def _fault_in_scalar(place: str, value: Any) -> str | None:
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            return f"{place}: half of a surrogate pair is not text"
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{place}: {value} is not JSON"
    if value is None or isinstance(value, int):
        return None
    return f"{place}: {type(value).__name__} is not JSON; write it as text or number"

"""Text and payloads in few characters."""

from typing import Any

import msgspec


def shortened(text: str, length: int) -> str:
    """`text` in at most `length` characters, its middle left out: ids differ at both ends."""
    if len(text) <= length:
        return text
    head = (length - 1) * 2 // 3
    tail = length - 1 - head
    return f"{text[:head]}…{text[len(text) - tail :]}"


def summary(data: Any, length: int = 100) -> str:
    """A payload in one line: an object without its braces, `name: "x", size: 3`."""
    if isinstance(data, dict):
        parts = []
        room = length
        for key, value in data.items():
            part = f"{key}: {_compact(value, room)}"
            parts.append(part)
            room -= len(part) + 2
            if room <= 0:
                break
        text = ", ".join(parts)
    else:
        text = _compact(data, length)
    return text if len(text) <= length else text[: length - 1] + "…"


def _compact(value: Any, room: int) -> str:
    if isinstance(value, str):
        value = value[: max(room, 0) + 1]
    return msgspec.json.encode(value).decode()

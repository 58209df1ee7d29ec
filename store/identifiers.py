"""Which texts may be ids and names, and which UUIDs are made for events."""

import unicodedata

from uuid_utils.compat import uuid7

from store.errors import InvalidEvent

MAX_ID_BYTES = 512

new_event_id = uuid7
"""A time-ordered UUID (RFC 9562, version 7): new index entries land side by side."""


def check_text(field: str, value: object) -> str:
    """Return `value` if it may be an id or a name, else raise `InvalidEvent` saying why not.

    Ids and names are non-empty text of at most 512 UTF-8 bytes without control characters.
    """
    if not isinstance(value, str):
        raise InvalidEvent(f"{field}: text expected, got {type(value).__name__}")
    # What is printable has no control characters and no surrogates.
    room = MAX_ID_BYTES if value.isascii() else MAX_ID_BYTES // 4
    if 0 < len(value) <= room and value.isprintable():
        return value
    return _check_unusual_text(field, value)


def _check_unusual_text(field: str, value: str) -> str:
    if not value:
        raise InvalidEvent(f"{field}: empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidEvent(f"{field}: contains half of a surrogate pair") from None
    if size > MAX_ID_BYTES:
        raise InvalidEvent(f"{field}: {size:,} bytes of UTF-8; the limit is {MAX_ID_BYTES}")
    for index, character in enumerate(value):
        if unicodedata.category(character) == "Cc":
            raise InvalidEvent(f"{field}: control character U+{ord(character):04X} at {index}")
    return value


def is_storable(text: str) -> bool:
    """Whether the databases can be asked for `text`; if not, nothing in them equals it.

    PostgreSQL knows no NUL, and UTF-8 no half of a surrogate pair.
    """
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


def prefix_range(prefix: str) -> tuple[str, str | None]:
    """The half-open range of ids, in byte order, that start with `prefix`.

    UTF-8 keeps code point order, so the end is the prefix with its last character raised by one;
    None means that no id is too large.
    """
    stem = prefix
    while stem:
        following = ord(stem[-1]) + 1
        if following == 0xD800:  # surrogates are not characters
            following = 0xE000
        if following <= 0x10FFFF:
            return prefix, stem[:-1] + chr(following)
        stem = stem[:-1]
    return prefix, None

"""Which texts are ids and names, and how those that start alike are found."""

import random
from itertools import pairwise
from time import time
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import InvalidEvent
from store.identifiers import MAX_ID_BYTES, check_text, is_storable, new_event_id, prefix_range

EDGES = "\x00\x7fa\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.text(EDGES, max_size=5)


@pytest.mark.parametrize(
    "text",
    [
        "a",
        " ",
        "user-1",
        "x" * 512,
        "é" * 256,
        "\U0001f600" * 128,
        "\ud7ff\ue000\ufeff\uffff\U0010ffff",
        "\u2028\u200b\u202e\xad",
        "%_'\"\\/?#&{}",
    ],
)
def test_a_text_of_up_to_512_bytes_is_an_id(text: str) -> None:
    assert check_text("aggregate_id", text) is text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "empty"),
        ("x" * 513, "513 bytes of UTF-8; the limit is 512"),
        ("é" * 256 + "x", "513 bytes of UTF-8; the limit is 512"),
        ("\U0001f600" * 129, "516 bytes of UTF-8; the limit is 512"),
        ("x" * 1_000_000, "1,000,000 bytes of UTF-8; the limit is 512"),
        ("\ud800", "contains half of a surrogate pair"),
        ("a\udfffb", "contains half of a surrogate pair"),
        (None, "text expected, got NoneType"),
        (1, "text expected, got int"),
        (b"id", "text expected, got bytes"),
        (UUID(int=0), "text expected, got UUID"),
    ],
)
def test_what_is_no_id_is_refused_with_the_reason(value: Any, reason: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        check_text("aggregate_id", value)
    assert str(refused.value) == f"aggregate_id: {reason}"


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0)])
def test_no_control_character_is_part_of_an_id(code: int) -> None:
    with pytest.raises(InvalidEvent) as refused:
        check_text("actor", f"ab{chr(code)}c")
    assert str(refused.value) == f"actor: control character U+{code:04X} at 2"


@given(text=texts)
def test_a_text_is_an_id_if_it_is_short_and_without_control_characters(text: str) -> None:
    controls = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0))}
    allowed = 0 < len(text.encode()) <= MAX_ID_BYTES and not controls & set(text)
    try:
        check_text("id", text)
    except InvalidEvent:
        assert not allowed
    else:
        assert allowed


@given(prefix=texts, text=texts)
def test_a_text_is_in_the_range_of_a_prefix_if_it_starts_with_it(prefix: str, text: str) -> None:
    first, end = prefix_range(prefix)
    for candidate in (text, prefix + text):
        encoded = candidate.encode()
        is_in = first.encode() <= encoded and (end is None or encoded < end.encode())
        assert is_in == candidate.startswith(prefix)


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("", None),
        ("a", "b"),
        ("user-", "user."),
        ("\x7f", "\x80"),
        ("\ud7ff", "\ue000"),
        ("\uffff", "\U00010000"),
        ("\U0010ffff", None),
        ("a\U0010ffff", "b"),
        ("a\U0010ffff\U0010ffff", "b"),
        ("\ud7ff\U0010ffff", "\ue000"),
    ],
)
def test_the_range_of_a_prefix_ends_before_the_next_one(prefix: str, end: str | None) -> None:
    assert prefix_range(prefix) == (prefix, end)


@given(text=texts)
def test_utf_8_bytes_and_code_points_have_the_same_order(text: str) -> None:
    # The file source sorts texts, the databases bytes.
    other = "".join(random.Random(text).sample(text, len(text)))
    assert (text < other) == (text.encode() < other.encode())


@pytest.mark.parametrize(
    ("text", "storable"),
    [("", True), ("a", True), ("\x01\x7f", True), ("a\x00", False), ("\ud800", False)],
)
def test_a_database_can_be_asked_for_text_without_nul_and_surrogates(
    text: str,
    storable: bool,  # noqa: FBT001 (a parameter of the test)
) -> None:
    assert is_storable(text) == storable


def test_event_ids_sort_by_the_time_they_were_made() -> None:
    before = int(time() * 1_000)
    ids = [new_event_id() for _ in range(1_000)]
    after = int(time() * 1_000)
    assert all(one < two for one, two in pairwise(ids))
    assert {type(event_id) for event_id in ids} == {UUID}
    assert {event_id.version for event_id in ids} == {7}
    assert all(before <= event_id.int >> 80 <= after for event_id in ids)

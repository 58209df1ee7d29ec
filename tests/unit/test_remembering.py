"""Rows that a projector remembers."""

from store.projections.remembering import Remembered


def test_it_knows_what_was_written_and_removed_and_no_more() -> None:
    remembered = Remembered(limit=3)
    remembered.note({("a",): {"id": "a"}, ("b",): None})
    assert remembered.of([("a",), ("b",), ("c",)]) == {("a",): {"id": "a"}, ("b",): None}
    remembered.forget()
    assert remembered.of([("a",)]) == {}


def test_it_keeps_no_more_rows_than_it_may() -> None:
    remembered = Remembered(limit=3)
    remembered.note({("a",): {"id": "a"}, ("b",): {"id": "b"}})
    remembered.note({("c",): {"id": "c"}, ("d",): {"id": "d"}})
    assert list(remembered.of([(name,) for name in "abcd"])) == [("c",), ("d",)]

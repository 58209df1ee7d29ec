"""Two texts by the parts in which they differ."""

from hypothesis import given
from hypothesis import strategies as st

from store.analysis.text import Segment, is_long, segments, unified

TEXTS = st.text("ab .\n", max_size=30)


@given(TEXTS, TEXTS)
def test_segments_hold_both_texts(before: str, after: str) -> None:
    found = segments(before, after)
    assert "".join(each.text for each in found if each.kind != "added") == before
    assert "".join(each.text for each in found if each.kind != "removed") == after
    assert all(each.text for each in found)


def test_words_that_differ_are_told() -> None:
    assert segments("a lazy dog", "a sleepy dog") == [
        Segment("same", "a "),
        Segment("removed", "lazy"),
        Segment("added", "sleepy"),
        Segment("same", " dog"),
    ]
    assert len(segments("x " * 3_000, "y " * 3_000)) == 2


def test_a_long_text_is_aligned_but_not_one_of_the_same_words() -> None:
    words = [f"word{number}" for number in range(2_000)]
    changed = [*words[:1_000], "another", *words[1_001:]]
    found = segments(" ".join(words), " ".join(changed))
    assert [each.kind for each in found] == ["same", "removed", "added", "same"]
    assert [each.text for each in found[1:3]] == ["word1000", "another"]
    same = segments("x " * 600, "x " * 599 + "y ")
    assert [each.kind for each in same] == ["removed", "added"]


def test_lines_that_differ_stand_among_those_around_them() -> None:
    text = "\n".join(map(str, range(9)))
    found = unified(text, text.replace("4", "four"))
    assert found == ["@@ -3,5 +3,5 @@", " 2", " 3", "-4", "+four", " 5", " 6"]
    assert unified("--- x", "+++ y") == ["@@ -1 +1 @@", "---- x", "++++ y"]


def test_a_long_text_has_many_characters_or_lines() -> None:
    assert [is_long(value) for value in ("a" * 60, "a" * 61, "a\nb", ["a" * 61])] == [
        *(False, True),
        *(True, False),
    ]

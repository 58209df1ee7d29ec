"""Where two long texts differ: by lines, or within a line by words."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher, unified_diff
from itertools import islice
from typing import Any, Literal, TypeAlias

from msgspec import Struct

LONG = 60
"""Characters up to which two texts are told apart at a glance."""
ALIGNED = 200_000
"""Pairs of equal words, one of each text, up to which they are aligned."""

Kind: TypeAlias = Literal["same", "removed", "added"]
_WORDS = re.compile(r"\w+|\s+|[^\w\s]")


class Segment(Struct, frozen=True):
    """A stretch of a text that is in both, or in one of them only."""

    kind: Kind
    text: str


def is_long(value: Any) -> bool:
    """Whether it is a text that is worth comparing by its parts."""
    return isinstance(value, str) and (len(value) > LONG or "\n" in value)


def segments(before: str, after: str) -> list[Segment]:
    """Both texts as stretches of words, in order: what is the same, removed and added."""
    one, other = _WORDS.findall(before), _WORDS.findall(after)
    if _pairs(one, other) > ALIGNED:
        return [*_segment("removed", one), *_segment("added", other)]
    found: list[Segment] = []
    # Spaces are nearly half of all words: to look for them takes a thousand times as long.
    matcher = SequenceMatcher(str.isspace, one, other, autojunk=False)
    for kind, start, stop, first, last in matcher.get_opcodes():
        if kind == "equal":
            found += _segment("same", one[start:stop])
        else:
            found += [*_segment("removed", one[start:stop]), *_segment("added", other[first:last])]
    return found


def unified(before: str, after: str, *, context: int = 2) -> list[str]:
    """The lines that differ, each behind `-` or `+`, and some around them behind a space."""
    lines = unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=context)
    return list(islice(lines, 2, None))  # not the names of files that there are not


def are_alike(before: Any, after: Any) -> bool:
    """Whether both are long texts with words in common."""
    if not (is_long(before) and is_long(after)):
        return False
    return any(each.kind == "same" and each.text.strip() for each in segments(before, after))


def _pairs(one: Sequence[str], other: Sequence[str]) -> int:
    counts = Counter(other)
    return sum(counts[word] for word in one if not word.isspace())


def _segment(kind: Kind, words: Sequence[str]) -> Iterator[Segment]:
    if words:
        yield Segment(kind, "".join(words))

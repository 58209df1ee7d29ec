"""Changes between documents as lines of text."""

from collections.abc import Iterator
from typing import Any

import msgspec

from store.analysis.changes import Change
from store.analysis.document import ABSENT
from store.analysis.text import Segment, are_alike, segments, unified
from store.cli.columns import shortened, shown

SIGNS = {"add": "+", "remove": "-", "replace": "~", "move": ">"}
WIDEST = 100
"""Characters that a value may take on a line."""


def lines_of(change: Change) -> Iterator[str]:
    """A change as a line with its sign, long texts with the lines or words that differ."""
    head = f"{SIGNS[change.op]} {change.path or 'the whole'}"
    if change.op == "move":
        yield shown(f"{head}  from {change.source}")
    elif change.op == "replace" and are_alike(change.before, change.after):
        yield shown(head)
        yield from (f"    {shown(line)}" for line in _of_text(change.before, change.after))
    elif change.op == "replace":
        yield shown(f"{head}  {value_text(change.before)} → {value_text(change.after)}")
    else:
        yield shown(f"{head}  {value_text(change.after if change.op == 'add' else change.before)}")


def value_text(value: Any, width: int = WIDEST) -> str:
    """A value as JSON on one line, cut where it is long."""
    if value is ABSENT:
        return "nothing"
    return shortened(msgspec.json.encode(value).decode(), width)


def _of_text(before: str, after: str) -> list[str]:
    if "\n" in before or "\n" in after:
        return unified(before, after)
    return ["".join(map(_marked, segments(before, after)))]


def _marked(segment: Segment) -> str:
    # As `git diff --word-diff` writes it.
    marks = {"same": ("", ""), "removed": ("[-", "-]"), "added": ("{+", "+}")}
    start, end = marks[segment.kind]
    return f"{start}{segment.text}{end}"

"""Which event type follows which, and how often: the usual ways of a process, and the rare ones."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from msgspec import Struct

from store.records import OutlineRow
from store.sources import EventSource

EXAMPLES = 3
"""How many places are kept of each transition, the first ones met."""
RARE = 0.01
"""Up to which part of what follows a type a transition is rare."""

Outlines: TypeAlias = Iterable[tuple[str, Iterable[OutlineRow]]]
"""Aggregate ids, with what happened to each."""


class Example(Struct, frozen=True):
    """Where a transition happened: at this version the later of its events stands."""

    aggregate_id: str
    version: int


class Transition(Struct, frozen=True, kw_only=True):
    """An event type, None for the beginning, and one that came next, `count` times.

    `share` is which part of all that came next it is, from 0 to 1.
    """

    before: str | None
    after: str
    count: int
    share: float
    examples: tuple[Example, ...]

    @property
    def is_rare(self) -> bool:
        """Whether something else comes next nearly always."""
        return self.share <= RARE


def transitions(outlines: Outlines) -> list[Transition]:
    """All transitions of those histories, the most frequent first."""
    counts: Counter[tuple[str | None, str]] = Counter()
    examples: dict[tuple[str | None, str], list[Example]] = {}
    for aggregate_id, rows in outlines:
        before: str | None = None
        for version, after, _ in rows:
            pair = (before, after)
            counts[pair] += 1
            if counts[pair] <= EXAMPLES:
                examples.setdefault(pair, []).append(Example(aggregate_id, version))
            before = after
    leaving: Counter[str | None] = Counter()
    for (before, _), count in counts.items():
        leaving[before] += count
    found = [
        Transition(
            before=pair[0],
            after=pair[1],
            count=count,
            share=count / leaving[pair[0]],
            examples=tuple(examples[pair]),
        )
        for pair, count in counts.items()
    ]
    return sorted(found, key=lambda each: (-each.count, each.before or "", each.after))


def outlines(
    source: EventSource, aggregate_type: str, *, progress: Callable[[int], None] | None = None
) -> Outlines:
    """What happened to each aggregate of a type; `progress` is told of one after the other."""
    after: str | None = None
    while True:
        page = source.aggregates(aggregate_type=aggregate_type, after=after, limit=1_000)
        for item in page.items:
            yield item.aggregate_id, outline(source, item.aggregate_id)
            if progress is not None:
                progress(1)
        if page.next is None:
            return
        after = page.next


def outline(source: EventSource, aggregate_id: str) -> Iterator[OutlineRow]:
    """What happened to an aggregate, by version."""
    for rows in source.outline(aggregate_id):
        yield from rows

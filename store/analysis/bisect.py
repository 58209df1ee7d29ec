"""When a question's answer changed: from which version to which it was what."""

from collections.abc import Callable, Iterable, Iterator

import msgspec
from msgspec import Struct

from store.analysis.evaluation import SECONDS, Evaluation
from store.analysis.expression import Answer, Expression
from store.analysis.stepping import Step, Stepper
from store.errors import HistoryGap, NotAPredicate
from store.records import AggregateSummary, Event
from store.repository import Repository
from store.sources import EventSource

PAGE = 500


class Interval(Struct, frozen=True, kw_only=True):
    """Versions one after the other, both ends included, at which the answer is the same.

    `event` is the one at `first`, which made the answer so; in the first interval it is where the
    reading began. `unapplied` counts events that could not be applied, so the state stayed.
    """

    first: int
    last: int
    answer: Answer
    event: Event
    unapplied: int = 0

    @property
    def length(self) -> int:
        """How many versions there are in it."""
        return self.last - self.first + 1

    @property
    def holds(self) -> bool:
        """Whether the answer is true; undefined and errors are not."""
        return self.answer.value is True


class Bisection(Struct, frozen=True, kw_only=True):
    """All intervals of a predicate over a history.

    What an aggregate was before its first event is not in it.
    """

    intervals: tuple[Interval, ...]

    @property
    def holding(self) -> tuple[Interval, ...]:
        """Those in which it holds."""
        return tuple(interval for interval in self.intervals if interval.holds)

    @property
    def flips(self) -> tuple[Interval, ...]:
        """Those that begin with an event by which it came to hold, or ceased to."""
        return tuple(
            later
            for earlier, later in zip(self.intervals, self.intervals[1:], strict=False)
            if earlier.holds != later.holds
        )

    @property
    def held(self) -> int:
        """At how many versions it holds."""
        return sum(interval.length for interval in self.holding)

    @property
    def seen(self) -> int:
        """How many versions there are."""
        return sum(interval.length for interval in self.intervals)

    @property
    def unapplied(self) -> int:
        """How many events could not be applied."""
        return sum(interval.unapplied for interval in self.intervals)


class Found(Struct, frozen=True, kw_only=True):
    """An aggregate of a type, and what was found; with a gap, up to the version before it."""

    aggregate: AggregateSummary
    bisection: Bisection
    gap: HistoryGap | None = None


def bisect(steps: Iterable[Step], expression: Expression, *, seconds: float = SECONDS) -> Bisection:
    """All intervals of a predicate in one pass, whether it flips once, often or never.

    `seconds` is how long the pass may wait for the expression.

    Raises:
        NotAPredicate: an answer is a value that is neither true nor false.
        ExpressionTooCostly: it took too long, or too much memory.
        HistoryGap: as the steps do.
    """
    with Evaluation(expression, seconds=seconds) as evaluation:
        return Bisection(intervals=tuple(_predicated(_intervals(steps, evaluation), expression)))


def watch(
    steps: Iterable[Step], expression: Expression, *, seconds: float = SECONDS
) -> Iterator[Interval]:
    """The expression's value over the versions, each from where it came to be until it changed.

    Raises:
        ExpressionTooCostly, HistoryGap: as `bisect` does.
    """
    with Evaluation(expression, seconds=seconds) as evaluation:
        yield from _intervals(steps, evaluation)


def bisect_type(
    repository: Repository,
    aggregate_type: str,
    expression: Expression,
    *,
    seconds: float = SECONDS,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Found]:
    """Every aggregate of a type, by id, raising as `bisect` does.

    `seconds` is for each aggregate; `progress` is told the number of aggregates read since.
    """
    with Evaluation(expression, seconds=seconds) as evaluation:
        for aggregate in _aggregates(repository.source, aggregate_type):
            yield _found(repository, aggregate, evaluation)
            if progress is not None:
                progress(1)


def _aggregates(source: EventSource, aggregate_type: str) -> Iterator[AggregateSummary]:
    after: str | None = None
    while True:
        page = source.aggregates(aggregate_type=aggregate_type, after=after, limit=PAGE)
        yield from page.items
        after = page.next
        if after is None:
            return


def _found(repository: Repository, aggregate: AggregateSummary, evaluation: Evaluation) -> Found:
    gaps: list[HistoryGap] = []
    steps = _up_to_a_gap(Stepper(repository, aggregate.aggregate_id).steps(), gaps)
    intervals = tuple(_predicated(_intervals(steps, evaluation), evaluation.expression))
    return Found(
        aggregate=aggregate,
        bisection=Bisection(intervals=intervals),
        gap=gaps[0] if gaps else None,
    )


def _up_to_a_gap(steps: Iterable[Step], gaps: list[HistoryGap]) -> Iterator[Step]:
    try:
        yield from steps
    except HistoryGap as gap:  # told beside what was found; the other aggregates go on
        gaps.append(gap)


def _intervals(steps: Iterable[Step], evaluation: Evaluation) -> Iterator[Interval]:
    begun: Step | None = None
    last, unapplied, answer = 0, 0, Answer("undefined")
    for step, found in evaluation.answers((step, step.after) for step in steps):
        if begun is not None and not found.is_same(answer):
            yield _interval(begun, last, answer, unapplied)
            begun, unapplied = None, 0
        if begun is None:
            begun, answer = step, found
        last = step.event.version
        unapplied += step.error is not None
    if begun is not None:
        yield _interval(begun, last, answer, unapplied)


def _interval(begun: Step, last: int, answer: Answer, unapplied: int) -> Interval:
    return Interval(
        first=begun.event.version,
        last=last,
        answer=answer,
        event=begun.event,
        unapplied=unapplied,
    )


def _predicated(intervals: Iterable[Interval], expression: Expression) -> Iterator[Interval]:
    for interval in intervals:
        answer = interval.answer
        if answer.kind == "value" and not isinstance(answer.value, bool):
            value = msgspec.json.encode(answer.value).decode()
            raise NotAPredicate(expression.text, version=interval.first, value=value)
        yield interval

"""Had it to be? What the loser of a conflict comes to behind the winners' events."""

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import to_builtins

from store.conflict import Conflict, Lost, Verdict, same_decision
from store.database import Database
from store.domain import Aggregate, Command, Domains
from store.errors import CommandRejected
from store.folding import HistoryRow, fold_rows
from store.reader import EventReader
from store.records import NewEvent
from store.repository import Repository
from store.snapshots import Snapshots

_log = logging.getLogger(__name__)

LONGEST = 5_000
"""Events that may have to be folded for a verdict."""
FURTHEST = 1_000
"""Events of winners that are read; a loser that far behind is not judged."""


class Judge:
    """Decides lost commands again. Safe to share between threads.

    Command and fold are asked once more, as a retry would: they are pure, or were wrong before.
    """

    def __init__(self, database: Database, domains: Domains, snapshots: Snapshots) -> None:
        self._reader = EventReader(database, name="")
        self._snapshots = snapshots
        self._repository = Repository(self._reader, domains, snapshots)
        self._domains = domains

    def verdict(self, conflict: Conflict, lost: Lost) -> Verdict:
        """Whether the conflict had to be, read from the store; `unknown` where it does not tell."""
        aggregate = self._domains.aggregate(conflict.aggregate_type)
        if aggregate is None or conflict.actual is None:
            return "unknown"
        if conflict.actual > LONGEST and not self._begins_at_snapshots(aggregate):
            return "unknown"
        try:
            if lost.command is not None:
                return self._decided_again(conflict, conflict.actual, lost.command, lost.events)
            return self._in_either_order(aggregate, conflict, conflict.actual, lost.events)
        except Exception as error:  # noqa: BLE001 (the domain's code, which nobody waits for)
            kind = type(error).__name__  # its words may be anybody's data
            _log.info("no verdict on a conflict of %r: %s", conflict.aggregate_id, kind)
            return "unknown"

    def _begins_at_snapshots(self, aggregate: Aggregate[Any]) -> bool:
        return aggregate.aggregate_type in self._snapshots.types

    def _decided_again(
        self, conflict: Conflict, actual: int, command: Command, before: Sequence[NewEvent]
    ) -> Verdict:
        state = self._repository.load(conflict.aggregate_id, version=actual).state
        try:
            again = [
                NewEvent(type(event).__name__, to_builtins(event, str_keys=True))
                for event in command.decide(state)
            ]
        except CommandRejected:
            return "rejected"
        if not again:
            return "nothing"
        return "same" if same_decision(before, again) else "other"

    def _in_either_order(
        self,
        aggregate: Aggregate[Any],
        conflict: Conflict,
        actual: int,
        events: Sequence[NewEvent],
    ) -> Verdict:
        expected = conflict.expected
        if expected is None or not 0 < actual - expected <= FURTHEST:
            return "unknown"
        base = aggregate.initial
        if expected:
            base = self._repository.load(conflict.aggregate_id, version=expected).state
        history = self._reader.history(conflict.aggregate_id, after=expected, to_version=actual)
        winners = [row for rows in history for row in rows]
        losers = [
            (0, event.event_type, msgspec.json.encode(event.data), None, event.schema_version)
            for event in events
        ]
        one, other = (
            _folded(aggregate, conflict.aggregate_id, expected, base, rows)
            for rows in ([*winners, *losers], [*losers, *winners])
        )
        return "commutes" if one == other else "order"


def _folded(
    aggregate: Aggregate[Any],
    aggregate_id: str,
    version: int,
    state: Any,
    rows: Sequence[HistoryRow],
) -> Any:
    """The state after the rows, in the order they are given."""
    numbered = [(number, *row[1:]) for number, row in enumerate(rows, start=version + 1)]
    folded, _ = fold_rows(aggregate, aggregate_id, numbered, state=state, version=version)
    return folded

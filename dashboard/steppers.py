"""The histories that are stepped through, with what is worth keeping of them between two looks."""

from collections import OrderedDict
from threading import Lock

from store.analysis import Blame, FieldBlame, Stepper
from store.repository import Repository

KEPT_HISTORIES = 16
KEPT_BYTES = 16_000_000
"""What the checkpoints of one history may take."""


class History:
    """One aggregate's steps, and who set its fields up to the version asked for last."""

    def __init__(self, stepper: Stepper) -> None:
        self.stepper = stepper
        self._blame = Blame(stepper.initial)
        self._lock = Lock()

    def blame(self, version: int, path: str) -> FieldBlame | None:
        """Who set what stands at `path` in the state after a version; None: there never was such.

        Who goes on to a later version reads the events between the two only.

        Raises:
            HistoryGap: a version up to that one is missing.
        """
        with self._lock:
            reached = self._blame.version
            if reached is not None and reached > version:
                self._blame, reached = Blame(self.stepper.initial), None
            first = None if reached is None else reached + 1
            if first is None or first <= version:
                for step in self.stepper.steps(first, version):
                    self._blame.add(step)
            return self._blame.field(path)


class Steppers:
    """The histories that were looked at last. Safe to share between threads."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._known: OrderedDict[str, History] = OrderedDict()
        self._lock = Lock()

    def history(self, aggregate_id: str) -> History:
        """An aggregate's history.

        Raises:
            AggregateNotFound: no event of it is stored.
        """
        with self._lock:
            known = self._known.get(aggregate_id)
            if known is None:
                stepper = Stepper(self._repository, aggregate_id, keep_bytes=KEPT_BYTES)
                known = self._known[aggregate_id] = History(stepper)
            self._known.move_to_end(aggregate_id)
            if len(self._known) > KEPT_HISTORIES:
                self._known.popitem(last=False)
            return known

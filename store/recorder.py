"""Writes down what happens in a process, beside its work and never in its way."""

import logging
import os
import socket
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from msgspec import Struct
from sqlalchemy.exc import SQLAlchemyError

from store.conflict import Conflict, Lost, Outcome, Verdict
from store.conflict_log import ConflictLog, Logged, Winner
from store.database import Database
from store.domain import Domains
from store.errors import AccessDenied, EventStoreError
from store.metrics import Metrics
from store.reader import EventReader
from store.repository import Repository
from store.samples import Sampler
from store.snapshots import Snapshots
from store.verdicts import Judge

_log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two writings."""
ROWS = 1_000
"""Rows that one writing may have; the conflicts beyond share them."""
ALIKE = 5
"""Rows of conflicts that differ in nothing but their time; those beyond share the last."""
JUDGED = 100
"""Rows of a writing whose winners are looked up."""
WINNERS = 20
_PATIENCE = 5.0
"""Seconds to wait for a writing that is under way when all ends."""


class _Key(NamedTuple):
    aggregate_type: str
    aggregate_id: str | None
    losing: str
    outcome: Outcome
    verdict: Verdict | None


class _Waiting(Struct):
    """A conflict that is to be written, and how many it stands for."""

    at: datetime
    conflict: Conflict
    lost: Lost
    weight: int = 1


class Recorder:
    """Writes the conflicts it is told and how metrics grow, in a thread of its own.

    Telling it takes microseconds and never fails. What the database refuses is tried again with the
    next writing; a role that may not write is not asked again. `database` is one that ends long
    statements, and takes no connection from those who work.
    """

    def __init__(self, database: Database, domains: Domains, metrics: Metrics) -> None:
        self._database = database
        self._domains = domains
        self._metrics = metrics
        self._process = f"{socket.gethostname()}:{os.getpid()}"
        # Of two recorders of the same metrics one writes them down.
        self._claimed = metrics.claim()
        self._sampled_conflicts = metrics.conflicts_told()
        self._sampler = Sampler(database, metrics, process=self._process)
        self._waiting: dict[_Key, list[_Waiting]] = {}
        self._rows = 0
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._denied = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hindsight-recorder", daemon=True)
        self._thread.start()

    def tell(self, conflict: Conflict, lost: Lost) -> None:
        """Have the conflict written soon."""
        with self._lock:
            if self._denied:
                return
            self._add(_Waiting(at=datetime.now(UTC), conflict=conflict, lost=lost))

    def flush(self, *, last: bool = False) -> None:
        """Write what there is; what goes wrong is logged. The `last` time, to the last count."""
        self._metrics.count()
        with self._writing:
            if self._denied:
                return
            with self._lock:
                taken, self._waiting, self._rows = self._waiting, {}, 0
            try:
                if taken:
                    self._write([(key, each) for key, rows in taken.items() for each in rows])
                    taken = {}
                if self._claimed:
                    # Who watches conflicts shall not wait for the end of the ten seconds.
                    conflicts = self._metrics.conflicts_told()
                    at_once = last or conflicts != self._sampled_conflicts
                    self._sampler.sample(at_once=at_once, levels=not last)
                    self._sampled_conflicts = conflicts
            except AccessDenied as error:
                _log.warning("nothing is written down any more: %s", error)
                self._denied, taken = True, {}
            except (EventStoreError, SQLAlchemyError) as error:
                _log.warning("it is written down later: %s", error)
            with self._lock:
                for rows in taken.values():
                    for each in rows:
                        self._add(each)

    def close(self) -> None:
        """Write what is left, within seconds, and stop."""
        self._stop.set()
        self._thread.join(_PATIENCE)
        # Else it waits for a database that does not answer.
        if not self._thread.is_alive():
            self.flush(last=True)
        if self._claimed:
            self._metrics.release()

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            self.flush()

    def _add(self, waiting: _Waiting) -> None:
        key = _key(waiting.conflict)
        if self._rows >= ROWS and key not in self._waiting:
            key = key._replace(aggregate_id=None)
        alike = self._waiting.setdefault(key, [])
        if alike and (len(alike) >= ALIKE or self._rows >= ROWS):
            alike[-1].weight += waiting.weight
        else:
            alike.append(waiting)
            self._rows += 1

    def _write(self, rows: Sequence[tuple[_Key, _Waiting]]) -> None:
        database = self._database
        reader = EventReader(database, name="")
        repository = Repository(reader, self._domains, Snapshots(database, self._domains))
        judge = Judge(reader, repository, self._domains)
        logged = [
            self._logged(key, each, reader, judge if number < JUDGED else None)
            for number, (key, each) in enumerate(rows)
        ]
        ConflictLog(database).write(logged)

    def _logged(
        self, key: _Key, waiting: _Waiting, reader: EventReader, judge: Judge | None
    ) -> Logged:
        conflict = waiting.conflict
        winners: tuple[Winner, ...] = ()
        verdict = conflict.verdict
        if judge is not None:
            winners = _winners(reader, conflict)
            verdict = verdict or judge.verdict(conflict, waiting.lost)
        return Logged(
            occurred_at=waiting.at,
            aggregate_type=conflict.aggregate_type,
            aggregate_id=key.aggregate_id,
            expected=conflict.expected,
            actual=conflict.actual,
            losing=key.losing,
            command=conflict.command,
            event_types=conflict.event_types,
            winning=(winners[0].command or winners[0].event_type) if winners else None,
            winners=winners,
            attempt=conflict.attempt,
            outcome=conflict.outcome,
            verdict=verdict or "unknown",
            actor=conflict.actor,
            correlation_id=conflict.correlation_id,
            process=self._process,
            weight=waiting.weight,
        )


def _key(conflict: Conflict) -> _Key:
    losing = conflict.command or ", ".join(dict.fromkeys(conflict.event_types))
    return _Key(
        conflict.aggregate_type, conflict.aggregate_id, losing, conflict.outcome, conflict.verdict
    )


def _winners(reader: EventReader, conflict: Conflict) -> tuple[Winner, ...]:
    """The events from the version that the loser expected to write to the one it found."""
    if conflict.expected is None or conflict.actual is None:
        return ()
    last = min(conflict.actual, conflict.expected + WINNERS)
    found = reader.events(
        conflict.aggregate_id, from_version=conflict.expected + 1, to_version=last
    )
    return tuple(
        Winner(
            version=event.version,
            event_type=event.event_type,
            event_id=str(event.event_id),
            command=_command_of(event.metadata),
            actor=event.actor,
        )
        for event in found
    )


def _command_of(metadata: dict[str, object]) -> str | None:
    command = metadata.get("command")
    name = command.get("name") if isinstance(command, dict) else None
    return name if isinstance(name, str) else None

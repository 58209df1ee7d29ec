"""Writes down what happens in a process, beside its work and never in its way."""

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct

from store.conflict import Conflict, Lost, Outcome, Verdict
from store.conflict_log import ConflictLog, Logged, Winner
from store.database import Database
from store.errors import AccessDenied, EventStoreError, InvalidEvent
from store.identifiers import check_text
from store.metrics import Metrics
from store.samples import Sampler
from store.verdicts import Judge

_log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two writings."""
ROWS = 1_000
"""Rows that one writing may have; the conflicts beyond share them."""
ALIKE = 5
"""Rows of conflicts that differ in nothing but their time; those beyond share one."""
JUDGED = 50
"""Conflicts of a writing whose winners are looked up."""
JUDGING = 0.1
"""Seconds that a writing may spend on it: it is the process's own time."""
WINNERS = 20
LONGEST_NAME = 200
_PATIENCE = 2.0
"""Seconds to wait for the last writing."""
_DENIED_FOR = 60.0
"""Seconds before one who may not write is asked again."""


class _Key(NamedTuple):
    aggregate_type: str
    aggregate_id: str | None
    losing: str
    outcome: Outcome
    verdict: Verdict | None


class _Waiting(Struct):
    """A conflict that is to be written, and how many it stands for."""

    key: _Key
    at: datetime
    conflict: Conflict
    lost: Lost | None
    weight: int = 1


class _Duty:
    """A thing to be written that must not stop another: it is told once what stops it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._not_before = 0.0
        self._stopped_by: str | None = None

    def do(self, write: Callable[[], None]) -> None:
        if monotonic() < self._not_before:
            return
        try:
            write()
        except EventStoreError as error:
            if isinstance(error, AccessDenied):
                self._not_before = monotonic() + _DENIED_FOR
            if str(error) != self._stopped_by:
                _log.warning("%s are written down later: %s", self._name, error)
            self._stopped_by = str(error)
        else:
            self._stopped_by = None


class Recorder:
    """Writes the conflicts it is told and how metrics grow, in a thread of its own.

    Telling it takes microseconds and never fails. What the database refuses is tried again with the
    next writing. `database` is one that ends long statements, and takes no connection from those
    who work; `judge` reads from it, too.
    """

    def __init__(self, database: Database, metrics: Metrics, judge: Judge) -> None:
        self._database = database
        self._metrics = metrics
        self._judge = judge
        self._process = f"{socket.gethostname()}:{os.getpid()}"
        self._sampler = Sampler(database, metrics, process=self._process)
        self._duties = {name: _Duty(name) for name in ("conflicts", "metrics")}
        self._waiting: dict[_Key, list[_Waiting]] = {}
        self._rows = 0
        self._judged = 0
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hindsight-recorder", daemon=True)
        self._thread.start()

    def tell(self, conflict: Conflict, lost: Lost) -> None:
        """Have the conflict written soon."""
        waiting = _Waiting(key=_key(conflict), at=datetime.now(UTC), conflict=conflict, lost=lost)
        with self._lock:
            self._add(waiting)

    def flush(self, *, last: bool = False) -> None:
        """Write what there is; what goes wrong is logged. The `last` time, to the last count."""
        with self._writing:
            self._metrics.count()
            self._duties["conflicts"].do(self._write_conflicts)
            self._duties["metrics"].do(lambda: self._sampler.sample(last=last))

    def close(self) -> None:
        """Write what is left, within seconds, and stop."""
        self._stop.set()
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        ended = False
        while not ended:
            ended = self._stop.wait(EVERY)
            try:
                self.flush(last=ended)
            except Exception:  # noqa: BLE001 (the thread's end would be the end of all records)
                _log.exception("something was not written down")
        self._sampler.release()

    def _add(self, waiting: _Waiting) -> None:
        key = waiting.key
        if self._rows >= ROWS and key not in self._waiting:
            key = key._replace(aggregate_id=None)
        alike = self._waiting.setdefault(key, [])
        if len(alike) >= ALIKE and key.verdict is None:
            # What was found of one does not go for all.
            key = key._replace(verdict="unknown")
            alike = self._waiting.setdefault(key, [])
        if alike and (len(alike) >= ALIKE or self._rows >= ROWS):
            alike[-1].weight += waiting.weight
            return
        self._judged += 1
        to_judge = key.verdict is None and self._judged <= JUDGED
        alike.append(
            _Waiting(
                key=key,
                at=waiting.at,
                conflict=waiting.conflict,
                lost=waiting.lost if to_judge else None,
                weight=waiting.weight,
            )
        )
        self._rows += 1

    def _write_conflicts(self) -> None:
        with self._lock:
            taken = [each for rows in self._waiting.values() for each in rows]
            self._waiting, self._rows, self._judged = {}, 0, 0
        if not taken:
            return
        try:
            logged = self._told(taken)
        except EventStoreError:
            self._put_back(taken)
            raise
        try:
            self._write(logged)
        except EventStoreError as error:
            # One without a kind of its own does not pass: the database takes no such row.
            if type(error) is not EventStoreError:
                self._put_back(taken)
                raise
            self._write_one_by_one(logged)

    def _write(self, logged: Sequence[Logged]) -> None:
        ConflictLog(self._database).write(logged)

    def _write_one_by_one(self, logged: Sequence[Logged]) -> None:
        """One that can never be written must not hold up the others."""
        lost, why = 0, ""
        for each in logged:
            try:
                self._write([each])
            except EventStoreError as error:
                lost, why = lost + each.weight, str(error)
        if lost:
            _log.warning("%d conflicts could not be written down: %s", lost, why)

    def _put_back(self, taken: Sequence[_Waiting]) -> None:
        with self._lock:
            for each in taken:
                self._add(each)

    def _told(self, taken: Sequence[_Waiting]) -> Sequence[Logged]:
        until = monotonic() + JUDGING
        logged = []
        for number, each in enumerate(taken):
            examined = number < JUDGED and monotonic() < until
            winners = self._winners(each.conflict) if examined else ()
            verdict = each.key.verdict
            if verdict is None and each.lost is not None and examined:
                verdict = self._judge.verdict(each.conflict, each.lost)
            logged.append(self._logged(each, winners, verdict or "unknown"))
        return logged

    def _logged(self, waiting: _Waiting, winners: tuple[Winner, ...], verdict: Verdict) -> Logged:
        key, conflict = waiting.key, waiting.conflict
        return Logged(
            occurred_at=waiting.at,
            aggregate_type=key.aggregate_type,
            aggregate_id=key.aggregate_id,
            expected=conflict.expected,
            actual=conflict.actual,
            losing=key.losing,
            command=conflict.command,
            event_types=conflict.event_types[:WINNERS],
            winning=(winners[0].command or winners[0].event_type) if winners else None,
            winners=winners,
            attempt=conflict.attempt,
            outcome=key.outcome,
            verdict=verdict,
            actor=conflict.actor,
            correlation_id=conflict.correlation_id,
            process=self._process,
            weight=waiting.weight,
        )

    def _winners(self, conflict: Conflict) -> tuple[Winner, ...]:
        """The events from the version that the loser expected to write to the one it found."""
        if conflict.expected is None or conflict.actual is None:
            return ()
        database = self._database
        sql = f"""
            SELECT version, event_type, event_id, {database.json("metadata")}, actor FROM events
            WHERE aggregate_id = {database.bind("id")} AND version > {database.bind("expected")}
            AND version <= {database.bind("actual")}
            ORDER BY version LIMIT {database.bind("size")}
        """  # noqa: S608 (placeholders)
        bounds = {
            "id": conflict.aggregate_id,
            "expected": conflict.expected,
            "actual": conflict.actual,
            "size": WINNERS,
        }
        return tuple(map(_winner, database.rows(sql, bounds)))


def _key(conflict: Conflict) -> _Key:
    losing = conflict.command or ", ".join(dict.fromkeys(conflict.event_types[:WINNERS]))
    return _Key(
        conflict.aggregate_type,
        conflict.aggregate_id,
        losing[:LONGEST_NAME],
        conflict.outcome,
        conflict.verdict,
    )


def _winner(row: tuple[Any, ...]) -> Winner:
    version, event_type, event_id, metadata, actor = row
    return Winner(
        version=version,
        event_type=event_type,
        event_id=str(event_id if isinstance(event_id, UUID) else UUID(event_id)),
        command=_command_of(bytes(metadata)),
        actor=actor,
    )


class _Command(Struct):
    name: str | None = None


class _Metadata(Struct):
    command: _Command | None = None


_read_metadata = msgspec.json.Decoder(_Metadata).decode


def _command_of(metadata: bytes) -> str | None:
    """The name of an event's command; metadata is anybody's."""
    try:
        command = _read_metadata(metadata).command
        if command is None or command.name is None:
            return None
        return check_text("command", command.name[:LONGEST_NAME])
    except (msgspec.MsgspecError, InvalidEvent, RecursionError):
        return None

"""NDJSON into a store: line by line, in short transactions, safe to interrupt and to run again."""

import io
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import BinaryIO

import msgspec

from store.database.batch import Batch, ConnectionLost, Refused
from store.errors import Deadlock, InvalidSource, StoreUnavailable
from store.log import DEADLOCK_ATTEMPTS, EventLog
from store.transfer.batch import Entry, Lines, appends
from store.transfer.outcome import Imported, Rejected
from store.transfer.parsing import Invalid, ParsedLines
from store.transfer.stored import Fact, facts, objection, stored_events

FIRST_BATCH = 100
LARGEST_BATCH = 20_000
BATCH_SECONDS = 0.3
"""What a batch should take; its size follows from the one before."""
FIRST_REJECTS = 10


def import_events(
    log: EventLog,
    stream: io.BufferedReader,
    *,
    restore: bool = False,
    renumber: bool = False,
    rejects: BinaryIO | None = None,
    progress: Callable[[Imported], None] | None = None,
) -> Imported:
    """Append the events in `stream`, plain or gzipped, in the order of their lines.

    What is stored already is recognised, so an import may be interrupted anywhere and run again.
    A line that is no event is rejected; one that the store cannot take is rejected with every
    later line of its aggregate. `rejects` gets each of them as a line of JSON.

    `restore` keeps the lines' `recorded_at`; else, and where a line has none, it is the moment of
    the import. `renumber` adds one to each version, for files that count from 0. `progress` is
    called after each batch. A batch is a transaction of its own and aims at 0.3 seconds.

    Raises:
        InvalidSource: the gzip data is damaged; the lines before the damage are imported.
        StoreUnavailable: the database went away; run the import again.
    """
    lines = ParsedLines(stream, restore=restore, renumber=renumber)
    run = _Import(log, restore=restore, rejects=rejects, meanwhile=lines.parse_ahead)
    try:
        for line in lines:
            run.take(line)
            if run.batch_is_full:
                run.write_batch()
                if progress is not None:
                    progress(run.outcome)
    except InvalidSource:
        run.write_batch()
        raise
    run.write_batch()
    if progress is not None:
        progress(run.outcome)
    return run.outcome


class _Import:
    """An import under way: the lines of the next batch, and what became of those before."""

    def __init__(
        self,
        log: EventLog,
        *,
        restore: bool,
        rejects: BinaryIO | None,
        meanwhile: Callable[[], None],
    ) -> None:
        self._log = log
        self._meanwhile = meanwhile
        self._restore = restore
        self._rejects = rejects
        self._batch = Lines()
        self._taken, self._size = 0, FIRST_BATCH
        self._blocked: dict[str, int] = {}
        self._rejected: list[Rejected] = []
        self.outcome = Imported(lines=0, imported=0, known=0, rejected=0, first_rejects=())

    @property
    def batch_is_full(self) -> bool:
        """Whether the batch is to be written before the next line is taken."""
        return self._taken >= self._size

    def take(self, taken: Entry | Invalid) -> None:
        """Put the line into the batch, writing that first where it must, or reject the line."""
        if isinstance(taken, Invalid):
            self._taken += 1
            self._reject(taken.line, taken.content, taken.reason)
            return
        if not self._batch.takes(taken):
            self.write_batch()
        self._taken += 1
        if taken.aggregate_id in self._blocked:
            self._reject_after_another(taken)
        elif taken.version == 0:
            self._block(taken, "version 0: versions start at 1; renumber a file that counts from 0")
        else:
            self._batch.add(taken)

    def write_batch(self) -> None:
        """Store what was taken since the last time, in one transaction."""
        started = time.monotonic()
        entries = self._batch.entries
        count, known = len(entries), 0
        if self._restore and entries:
            entries = self._timed(entries)
        while entries:
            batch, order = appends(entries)
            refused = self._load(batch, order)
            if refused is None:
                break
            stored, entries = self._compare(entries, facts(batch, refused))
            known += stored
        self._account(imported=len(entries), known=known)
        self._adapt(count, time.monotonic() - started)
        self._batch, self._taken = Lines(), 0

    def _load(self, batch: Batch, order: Sequence[int]) -> Refused | None:
        deadlocks = 0
        while True:
            try:
                return self._log.database.load(batch, order, None, self._meanwhile)
            except ConnectionLost as error:
                raise StoreUnavailable(f"{error}; run the import again") from error
            except Deadlock:
                deadlocks += 1
                if deadlocks == DEADLOCK_ATTEMPTS:
                    raise

    def _compare(
        self, entries: Sequence[Entry], found: Mapping[str, Fact]
    ) -> tuple[int, list[Entry]]:
        """How many entries are stored, and which are still to store; the others are rejected."""
        overlapping = [e for e in entries if e.version <= found[e.aggregate_id].version]
        stored = stored_events(self._log.database, overlapping)
        versions = {aggregate_id: fact.version for aggregate_id, fact in found.items()}
        known, wanted = 0, []
        for each in entries:
            if each.aggregate_id in self._blocked:
                self._reject_after_another(each)
                continue
            event = stored.get((each.aggregate_id, each.version))
            fact = found[each.aggregate_id]
            reason = objection(each, fact, event, follows=versions[each.aggregate_id])
            if reason is not None:
                self._block(each, reason)
            elif event is not None:
                known += 1
            else:
                versions[each.aggregate_id] = each.version
                wanted.append(each)
        return known, wanted

    def _timed(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries with the times they are recorded under, which never run backwards."""
        heads = self._log.heads(list({each.aggregate_id for each in entries}))
        latest = {i: head.last_recorded_at for i, head in heads.items()}
        now = datetime.now(UTC)
        timed = []
        for each in entries:
            previous = latest.get(each.aggregate_id) or each.event.recorded_at or now
            recorded_at = each.event.recorded_at or max(now, previous)
            head = heads.get(each.aggregate_id)
            if each.aggregate_id in self._blocked:
                self._reject_after_another(each)
            elif head is not None and each.version <= head.version:
                timed.append(each)
            elif recorded_at < previous:
                self._block(each, f"recorded_at: earlier than {previous.isoformat()}, the last one")
            else:
                latest[each.aggregate_id] = recorded_at
                event = msgspec.structs.replace(each.event, recorded_at=recorded_at)
                timed.append(msgspec.structs.replace(each, event=event))
        return timed

    def _block(self, each: Entry, reason: str) -> None:
        self._blocked[each.aggregate_id] = each.line
        self._reject(each.line, each.content, reason)

    def _reject_after_another(self, each: Entry) -> None:
        earlier = self._blocked[each.aggregate_id]
        self._reject(each.line, each.content, f"line {earlier} of its aggregate was rejected")

    def _reject(self, number: int, content: bytes, reason: str) -> None:
        text = content.rstrip(b"\r\n").decode(errors="backslashreplace")
        self._rejected.append(Rejected(line=number, reason=reason, content=text))

    def _account(self, *, imported: int, known: int) -> None:
        before = self.outcome
        rejected = sorted(self._rejected, key=lambda each: each.line)
        self._rejected.clear()
        if self._rejects is not None:
            self._rejects.writelines(msgspec.json.encode(each) + b"\n" for each in rejected)
            self._rejects.flush()
        self.outcome = Imported(
            lines=before.lines + self._taken,
            imported=before.imported + imported,
            known=before.known + known,
            rejected=before.rejected + len(rejected),
            first_rejects=(*before.first_rejects, *rejected)[:FIRST_REJECTS],
        )

    def _adapt(self, count: int, seconds: float) -> None:
        """Let the next batch take about `BATCH_SECONDS`, growing fourfold at most."""
        if count:
            fitting = int(count * BATCH_SECONDS / max(seconds, 1e-6))
            self._size = max(1, min(fitting, 4 * self._size, LARGEST_BATCH))

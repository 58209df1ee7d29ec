"""A process that does one thing to a store of which half is being archived, until it is killed.

`write`, `move`, `follow`, `read` or `work`, then URL, FILE and NUMBER. What it was told, moved or
saw goes to the file, a line each, before it goes on. Whoever sees something wrong ends with 1.
"""

import io
import json
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from store import Append, Context, Domain, Event, Hindsight, NewEvent, any_, exact
from store.archive import Archiver, moving
from store.errors import (
    ArchiveBusy,
    ConcurrencyError,
    DuplicateEventId,
    OutcomeUnknown,
    PartialDuplicate,
    StoreUnavailable,
)
from store.interchange import format_line
from store.outbox import Relay
from store.transfer import import_events
from store.work import beside, projecting
from tests import sums
from tests.archiving import keeping
from tests.faults.relaying import LEASE, opened
from tests.totals import Add, numbers

AWAY = (StoreUnavailable, OutcomeUnknown, ConcurrencyError, ArchiveBusy)
"""What happens where others write, move events, or restart the database."""
OLD = 60
"""Aggregates that there are from the beginning on."""
ACTIVE = 1_000
"""Events that are not archived."""
BATCH = 60

domain = Domain(
    "archived",
    aggregates=list(numbers(5).aggregates),
    projections=[*sums.mended.projections, sums.last],
)
Task = Callable[[], object]


def lines(path: Path) -> list[Any]:
    """What was written to a file; a line that was cut off was not."""
    written = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in written.split(b"\n")[:-1]]


class Lines:
    """A file of lines that are there once they are written."""

    def __init__(self, path: Path) -> None:
        written = path.read_bytes() if path.exists() else b""
        path.write_bytes(written[: written.rfind(b"\n") + 1])
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def add(self, *facts: object) -> None:
        os.write(self._file, json.dumps(facts).encode() + b"\n")


def facts(event: Event) -> list[object]:
    """All that there is to an event."""
    assert event.digest is not None
    return [
        str(event.event_id),
        event.aggregate_id,
        event.version,
        event.position,
        event.data,
        event.metadata,
        event.correlation_id,
        event.digest.hex(),
    ]


class Writer:
    """Appends and executes, and says before what it wants and afterwards what it was told."""

    def __init__(self, store: Hindsight, path: Path, number: int) -> None:
        self._store = store
        self._number = number
        told = lines(path)
        self._lines = Lines(path)
        self._count = len(told)
        self._chosen = random.Random(f"{number} {self._count}")
        done = {token for kind, token, *_ in told if kind == "stored"}
        wanted = [each for each in told if each[0] == "append" and each[1] not in done]
        for _, token, name, ids in wanted:  # the one that it was killed in, or none
            patiently(partial(self._append, token, name, list(map(self._event, ids))))

    def step(self) -> None:
        chosen = self._chosen
        chosen.choice([self._new, self._new, self._run, self._again, self._many, self._import])()
        time.sleep(chosen.random() * 0.01)

    def _name(self) -> str:
        if self._chosen.random() < 0.7:
            return f"old-{self._chosen.randrange(OLD)}"
        return f"new-{self._number}-{self._chosen.randrange(50)}"

    def _token(self) -> str:
        self._count += 1
        return f"{self._number}-{self._count}"

    def _event(self, event_id: str | None = None) -> NewEvent:
        """An event whose number follows from its id, so that it is the same when it is repeated."""
        event = NewEvent("Added", {"number": 1})
        if event_id is not None:
            event = NewEvent("Added", {"number": 1}, event_id=type(event.event_id)(event_id))
        return NewEvent("Added", {"number": 1 + event.event_id.int % 9}, event_id=event.event_id)

    def _new(self) -> None:
        token, name = self._token(), self._name()
        events = [self._event() for _ in range(self._chosen.randint(1, 4))]
        self._lines.add("append", token, name, [str(event.event_id) for event in events])
        patiently(lambda: self._append(token, name, events))

    def _append(self, token: str, name: str, events: list[NewEvent]) -> None:
        context = Context(correlation_id=token)
        if len(events) == 2:
            part = Append(aggregate_type="total", aggregate_id=name, events=events, expected=any_())
            [appended] = self._store.append_all([part], context=context)
        else:
            appended = self._store.append("total", name, events, expected=any_(), context=context)
        self._lines.add("stored", token, [facts(event) for event in appended.events])

    def _run(self) -> None:
        token, name = self._token(), self._name()
        self._lines.add("execute", token, name)
        context = Context(correlation_id=token)
        executed = self._store.execute(name, Add(self._chosen.randint(1, 9)), context=context)
        self._lines.add("stored", token, [facts(event) for event in executed.events])

    def _stored(self, name: str) -> tuple[Event, ...]:
        """Some events of an aggregate that follow one another; the older ones are archived."""
        first, some = self._chosen.randint(1, 40), self._chosen.randint(1, 3)
        return tuple(self._store.events(name, from_version=first, to_version=first + some - 1))

    def _again(self) -> None:
        """What was stored before, as often as not in the archive, is known."""
        name = f"old-{self._chosen.randrange(OLD)}"
        stored = self._stored(name)
        events = list(map(repeated, stored))
        expected = self._chosen.choice([any_(), exact(stored[0].version - 1), exact(10**6)])
        append = self._store.append
        assert append("total", name, events, expected=expected).events == stored
        with self._store.database.transaction() as connection:
            within = append("total", name, events, expected=expected, connection=connection)
            assert within.events == stored
        with pytest.raises(PartialDuplicate):
            append("total", name, [*events, self._event()], expected=expected)
        other = NewEvent("Added", {"number": 77}, event_id=events[0].event_id)
        with pytest.raises(DuplicateEventId):
            append("total", name, [other], expected=expected)

    def _many(self) -> None:
        """The very same of several aggregates at once."""
        names = [f"old-{number}" for number in self._chosen.sample(range(OLD), 3)]
        stored = [self._stored(name) for name in names]
        parts = [
            Append(
                aggregate_type="total",
                aggregate_id=name,
                events=list(map(repeated, events)),
                expected=any_(),
            )
            for name, events in zip(names, stored, strict=True)
        ]
        assert [each.events for each in self._store.append_all(parts)] == stored

    def _import(self) -> None:
        events = list(self._store.events(f"old-{self._chosen.randrange(OLD)}"))
        raw: Any = io.BytesIO(b"".join(map(format_line, events)))
        imported = import_events(self._store.log, io.BufferedReader(raw))
        assert (imported.known, imported.imported, imported.rejected) == (len(events), 0, 0)


def repeated(event: Event) -> NewEvent:
    return NewEvent(event.event_type, event.data, event_id=event.event_id)


def patiently(task: Task) -> None:
    """Do it, however often the database goes away, or somebody moves events."""
    while True:
        try:
            task()
        except AWAY:
            time.sleep(0.02)
        else:
            return


class Mover:
    """Archives, restores and gives back."""

    def __init__(self, store: Hindsight, path: Path, number: int) -> None:
        self._store = store
        self._lines = Lines(path)
        self._chosen = random.Random(f"{number} {time.time()}")
        settled = lambda: store.watermark().position  # noqa: E731
        self._archiver = Archiver(store.database, settled=settled, batch=BATCH)

    def archive(self) -> None:
        if self._chosen.random() < 0.1:  # with snapshots before, as workers do
            moved = self._store.archive.run(keeping(ACTIVE))
        else:
            moved = self._archiver.run(self._archiver.bound(keeping(ACTIVE)))
        for each in moved:
            self._lines.add("archived", each.events)
        time.sleep(0.1)

    def restore(self) -> None:
        archive, chosen = self._store.archive, self._chosen
        name = f"old-{chosen.randrange(OLD)}"
        self._lines.add("restored", archive.restore(name))
        time.sleep(chosen.random())
        for held in archive.restored():
            if held.aggregate_id == name or chosen.random() < 0.3:
                self._lines.add("given back", archive.give_back(held.aggregate_id))


def follow(store: Hindsight, path: Path, stop: threading.Event) -> None:
    """Write down what is followed, from what was written down on."""
    seen, written = lines(path), Lines(path)
    position = seen[-1][0] if seen else 0
    while not stop.is_set():
        with suppress(*AWAY):
            for event in store.follow(after=position, poll_interval=0.02, stop=stop):
                written.add(event.position, str(event.event_id))
                position = event.position
        time.sleep(0.02)


class Reader:
    """Reads what must not change."""

    def __init__(self, store: Hindsight, kept: Hindsight, number: int) -> None:
        self._store = store
        self._kept = kept
        self._chosen = random.Random(f"{number} {time.time()}")
        self._known: dict[int, Event] = {}

    def read_feed(self) -> None:
        end = self._store.watermark().position
        start = self._chosen.randrange(max(1, end - 800)) if self._chosen.random() < 0.9 else 0
        size = self._chosen.choice([50, 500])
        feed = self._store.feed
        forward = list(feed(after=start, before=end + 1, batch_size=size))
        backward = list(feed(after=start, before=end + 1, backward=True, batch_size=size))
        assert backward[::-1] == forward
        positions = [event.position for event in forward]
        assert positions == sorted(set(positions))
        found = dict(zip(positions, forward, strict=True))
        known = {at: event for at, event in self._known.items() if start < at <= end}
        assert {at: found.get(at) for at in known} == known
        self._known |= found

    def load(self) -> None:
        name = f"old-{self._chosen.randrange(OLD)}"
        for store in (self._store, self._kept):
            events = list(self._store.events(name, batch_size=self._chosen.choice([7, 500])))
            loaded = store.load(name)
            assert loaded.version >= len(events)
            if loaded.version > len(events):
                events = list(self._store.events(name, to_version=loaded.version))
            check(loaded, events)
            version = self._chosen.randint(1, len(events))
            check(store.load(name, version=version), events[:version])
            moment = events[version - 1].recorded_at
            assert moment is not None
            before = [each for each in events if each.recorded_at and each.recorded_at <= moment]
            as_of = store.load(name, as_of=moment, axis="recorded")
            if as_of.version <= len(events):  # else some were recorded in the same microsecond
                check(as_of, before)
            moment = events[version - 1].occurred_at
            happened = [each for each in events if each.occurred_at <= moment]
            loaded = store.load(name, as_of=moment)
            if loaded.version <= len(events):  # else one came late
                assert loaded.state.total == sum(each.data["number"] for each in happened)


def check(loaded: Any, events: Sequence[Event]) -> None:
    """The state is what comes of those events."""
    given = [event.data["number"] for event in events]
    assert [event.version for event in events] == list(range(1, loaded.version + 1))
    assert (loaded.state.total, loaded.state.last) == (sum(given), tuple(given[-3:]))


def threads(stop: threading.Event, *tasks: Task) -> Iterator[threading.Thread]:
    """A thread for each task, which does it again and again; what it finds wrong ends all."""

    def repeat(task: Task) -> None:
        try:
            while not stop.is_set():
                patiently(task)
        except BaseException:  # noqa: BLE001 (told at once, whatever else is under way)
            traceback.print_exc()
            os._exit(1)

    for task in tasks:
        thread = threading.Thread(target=repeat, args=(task,))
        thread.start()
        yield thread


class ToLines:
    """Publishes to a file. See `Publisher`."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)

    def publish(self, events: Sequence[Event]) -> Mapping[int, Exception]:
        for event in events:
            self._lines.add(event.aggregate_id, event.version)
        return {}


def work(store: Hindsight, path: Path, stop: threading.Event) -> None:
    """Project and relay."""
    projectors = [store.projections.projector(name) for name in store.projections.declared]
    relay = Relay(store.database, ToLines(path), lease=LEASE, heads=20, run=20)
    relaying = ("relay", lambda: relay.run(stop, poll=0.1))
    with beside(stop, [*projecting(projectors, stop), relaying]):
        stop.wait()


def main() -> None:
    """See the module."""
    task, url, file, number = sys.argv[1:]
    path, stop = Path(file), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    moving.SHARE = 0.9
    with opened(url, domain) as kept, opened(url, domain, cache=False) as store:
        tasks: list[Task] = []
        if task == "write":
            tasks = [Writer(kept, path, int(number)).step]
        elif task == "move":
            mover = Mover(store, path, int(number))
            tasks = [mover.archive, mover.restore]
        elif task == "follow":
            tasks = [lambda: follow(store, path, stop)]
        elif task == "read":
            reader = Reader(store, kept, int(number))
            tasks = [reader.read_feed, reader.load]
        elif task == "work":
            tasks = [lambda: work(store, path, stop)]
        for thread in list(threads(stop, *tasks)):
            thread.join()


if __name__ == "__main__":
    main()

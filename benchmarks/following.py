"""What it costs to follow the feed without missing an event that commits late."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.measures import opened, writer_processes
from benchmarks.ours import Ours
from benchmarks.rounds import Speeds, interleave
from benchmarks.workload import AGGREGATE_TYPE, EVENT_TYPE, new_id
from store import NewEvent, none
from store.subscription import SafeBound

UNREAD = "8 writing processes, unread"
NAIVE = "8 writing processes, naive tail"
FOLLOWED = "8 writing processes, store.follow"
PLAIN = "reading 100 new events"
NO_HOLE = "reading 100 new events, safely"
AT_HOLE = "finding that a hole is still open"
_POLL = 0.02
_TAIL = 100


def writers(url: str, rounds: int, size: int) -> Speeds:
    """Eight processes write their own aggregates while one reader tails the feed.

    The naive tail reads whatever is visible and misses what commits late.
    """
    with opened({"ours": partial(Ours, url)}) as contenders:
        [reader] = contenders.values()
        assert isinstance(reader, Ours)
        with writer_processes(partial(Ours, url), size) as write:
            return interleave(
                {
                    UNREAD: write,
                    NAIVE: partial(_followed, write, reader, _tail),
                    FOLLOWED: partial(_followed, write, reader, _follow),
                },
                rounds,
            )


def reads(url: str, rounds: int, size: int) -> Speeds:
    """Reads per second of the newest 100 events: plainly, safely, safely with a writer open.

    The open writer has drawn the position before them, so that nothing may be read.
    """
    with opened({"ours": partial(Ours, url)}) as contenders:
        [ours] = contenders.values()
        assert isinstance(ours, Ours)
        store = ours.store
        ours.append(new_id(), 0, 1)
        with _open_writer(ours) as hole:
            ours.append(new_id(), 0, _TAIL)
            runs: dict[str, Callable[[], int]] = {
                PLAIN: lambda: sum(1 for _ in store.feed(after=hole)),
                NO_HOLE: lambda: _safe_read(ours, hole),
                AT_HOLE: lambda: _safe_read(ours, hole - 1),
            }
            expected = {PLAIN: _TAIL, NO_HOLE: _TAIL, AT_HOLE: 0}
            return interleave(
                {
                    name: partial(_per_second, run, size, expected[name])
                    for name, run in runs.items()
                },
                rounds,
            )


def _per_second(read: Callable[[], int], size: int, expected: int) -> float:
    started = time.perf_counter()
    for _ in range(size):
        count = read()
        assert count == expected, f"read {count} of {expected} events"
    return size / (time.perf_counter() - started)


def _safe_read(ours: Ours, after: int) -> int:
    safe = SafeBound(ours.store.database).beyond(after)
    if safe == after:
        return 0
    return sum(1 for _ in ours.store.feed(after=after, before=safe + 1))


@contextmanager
def _open_writer(ours: Ours) -> Iterator[int]:
    """The position that an open transaction has drawn, and will give back."""
    with ours.store.database.transaction() as connection:
        appended = ours.store.append(
            AGGREGATE_TYPE,
            new_id(),
            [NewEvent(EVENT_TYPE, {})],
            expected=none(),
            connection=connection,
        )
        yield appended.position
        connection.rollback()


def _followed(
    write: Callable[[], float], reader: Ours, tail: Callable[[Ours, int, threading.Event], None]
) -> float:
    """The writers' speed while a thread of this process tails what they write."""
    stop = threading.Event()
    start = reader.store.database.last_position()
    thread = threading.Thread(target=tail, args=(reader, start, stop))
    thread.start()
    try:
        return write()
    finally:
        stop.set()
        thread.join()


def _tail(reader: Ours, after: int, stop: threading.Event) -> None:
    while not stop.wait(_POLL):
        for event in reader.store.feed(after=after):
            after = event.position


def _follow(reader: Ours, after: int, stop: threading.Event) -> None:
    for _ in reader.store.follow(after=after, poll_interval=_POLL, stop=stop):
        pass

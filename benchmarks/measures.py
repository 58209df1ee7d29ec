"""How long appends and reads take: one writer, threads, processes, one contended aggregate."""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import TypeAlias

from benchmarks.rounds import Speeds, interleave
from benchmarks.workload import Conflict, Contender, Opener, new_id

WRITERS = 8
AGGREGATES = 10
_PATIENCE = 120.0

Openers: TypeAlias = Mapping[str, Opener]


def append_single(openers: Openers, rounds: int, size: int) -> Speeds:
    """One event after another to ten aggregates, with their expected versions."""
    return _sequential(openers, rounds, partial(_appends, count=1, appends=size))


def append_hundred(openers: Openers, rounds: int, size: int) -> Speeds:
    """Batches of 100 to ten aggregates, with their expected versions."""
    return _sequential(openers, rounds, partial(_appends, count=100, appends=size))


def scan(openers: Openers, rounds: int, size: int) -> Speeds:
    """Every event of a loaded store, decoded, in position order."""
    return _sequential(openers, rounds, partial(_scan, events=size))


def threads_own(openers: Openers, rounds: int, size: int) -> Speeds:
    """Eight threads of one process, each with an aggregate of its own."""

    def prepare(contender: Contender) -> Callable[[], None]:
        return partial(_commit, contender, new_id(), size)

    return _threaded(openers, rounds, prepare, size)


def threads_contended(openers: Openers, rounds: int, size: int) -> Speeds:
    """Eight threads at one aggregate: on a conflict reload what was missed, try again."""
    shared: dict[Contender, list[str]] = {}

    def prepare(contender: Contender) -> Callable[[], None]:
        waiting = shared.setdefault(contender, [])
        if not waiting:
            aggregate_id = new_id()
            contender.append(aggregate_id, 0, 1)
            waiting.extend([aggregate_id] * WRITERS)
        return partial(_commit, contender, waiting.pop(), size)

    return _threaded(openers, rounds, prepare, size)


def processes_own(openers: Openers, rounds: int, size: int) -> Speeds:
    """Eight processes, each with an aggregate of its own."""
    with ExitStack() as stack:
        runs = {
            name: stack.enter_context(writer_processes(opener, size))
            for name, opener in openers.items()
        }
        return interleave(runs, rounds)


def _sequential(openers: Openers, rounds: int, speed: Callable[[Contender], float]) -> Speeds:
    with opened(openers) as contenders:
        return interleave(
            {name: partial(speed, contender) for name, contender in contenders.items()}, rounds
        )


def _appends(contender: Contender, *, count: int, appends: int) -> float:
    versions = {new_id(): count for _ in range(AGGREGATES)}
    for aggregate_id in versions:
        contender.append(aggregate_id, 0, count)
    started = time.perf_counter()
    for _ in range(appends // AGGREGATES):
        for aggregate_id, version in versions.items():
            contender.append(aggregate_id, version, count)
            versions[aggregate_id] = version + count
    return count * appends / (time.perf_counter() - started)


def _scan(contender: Contender, *, events: int) -> float:
    started = time.perf_counter()
    count = contender.scan()
    elapsed = time.perf_counter() - started
    assert count == events, f"scanned {count} of {events} events"
    return count / elapsed


def _commit(contender: Contender, aggregate_id: str, events: int) -> None:
    """Append that many events one by one, however often another writer is first."""
    version = contender.reload(aggregate_id, 0)
    for _ in range(events):
        while True:
            try:
                contender.append(aggregate_id, version, 1)
            except Conflict:
                version = contender.reload(aggregate_id, version)
            else:
                version += 1
                break


def _threaded(
    openers: Openers, rounds: int, prepare: Callable[[Contender], Callable[[], None]], size: int
) -> Speeds:
    with opened(openers) as contenders, ExitStack() as stack:
        runs = {
            name: partial(
                _run_threads,
                stack.enter_context(ThreadPoolExecutor(WRITERS)),
                contender,
                prepare,
                size,
            )
            for name, contender in contenders.items()
        }
        return interleave(runs, rounds)


def _run_threads(
    executor: ThreadPoolExecutor,
    contender: Contender,
    prepare: Callable[[Contender], Callable[[], None]],
    size: int,
) -> float:
    """The speed from when all threads stand ready, connected, to when all are done."""
    ready = threading.Barrier(WRITERS + 1, timeout=_PATIENCE)

    def write(job: Callable[[], None]) -> None:
        contender.append(new_id(), 0, 1)
        ready.wait()
        job()

    futures = [executor.submit(write, prepare(contender)) for _ in range(WRITERS)]
    ready.wait()
    started = time.perf_counter()
    for future in futures:
        future.result()
    return WRITERS * size / (time.perf_counter() - started)


@contextmanager
def opened(openers: Openers) -> Iterator[dict[str, Contender]]:
    """The contenders, closed at the end."""
    contenders = {name: opener() for name, opener in openers.items()}
    try:
        yield contenders
    finally:
        for contender in contenders.values():
            contender.close()


@contextmanager
def writer_processes(opener: Opener, size: int) -> Iterator[Callable[[], float]]:
    """Eight processes that wait; each call has all of them append `size` events: their speed."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(WRITERS)]
    processes = [
        context.Process(target=_serve, args=(theirs, opener, size), daemon=True)
        for _, theirs in pipes
    ]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()  # so that a writer that dies is noticed
    ours = [mine for mine, _ in pipes]

    def run() -> float:
        _ask_all(ours)  # a connection and an aggregate
        started = time.perf_counter()
        _ask_all(ours)
        return WRITERS * size / (time.perf_counter() - started)

    try:
        yield run
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _ask_all(pipes: list[Connection]) -> None:
    for pipe in pipes:
        pipe.send(None)
    for pipe in pipes:
        assert pipe.poll(_PATIENCE), "a writer does not answer"
        pipe.recv()


def _serve(pipe: Connection, opener: Opener, size: int) -> None:
    contender = opener()
    while True:
        pipe.recv()
        aggregate_id = new_id()
        contender.append(aggregate_id, 0, 1)
        pipe.send(None)
        pipe.recv()
        _commit(contender, aggregate_id, size)
        pipe.send(None)

"""The samples of domains, played into an empty store by several processes at once."""

import heapq
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from operator import attrgetter
from threading import BrokenBarrierError

from msgspec import Struct

from store.application import Hindsight
from store.conflict import Conflict
from store.domain import Activity, Domains, load_domains
from store.errors import (
    CommandRejected,
    EventStoreError,
    InvalidDomain,
    InvalidSource,
    VersionConflict,
)

EVENTS = 3_000
PROCESSES = 4
SEED = 20_261_122
_PATIENCE = 60.0
"""Seconds that processes wait for one another to be up."""
_TO_RECORD = timedelta(milliseconds=20)
"""How long after it occurred an event of a sample is recorded."""


class Order(Struct, frozen=True, kw_only=True):
    """What is to be played where; `domains` are import paths, as processes start afresh."""

    url: str
    domains: str
    events: int = EVENTS
    seed: int = SEED
    until: datetime


class Played(Struct, frozen=True, kw_only=True):
    """What became of a sample's commands, and of the conflicts between its processes."""

    rejected: int = 0
    absorbed: int = 0
    escaped: int = 0


def check_sample(domains: str) -> None:
    """Raise `InvalidDomain` where no domain at these import paths makes a sample."""
    loaded = load_domains(domains).domains
    if not any(domain.sample for domain in loaded):
        names = ", ".join(repr(domain.name) for domain in loaded)
        raise InvalidDomain(f"domain {names} makes no sample")


def play(
    order: Order, *, processes: int, progress: Callable[[int], None] = lambda _: None
) -> Played:
    """Run the commands of the domains' samples; `progress` hears how many are begun.

    Raises:
        InvalidSource: the store has events already.
    """
    with Hindsight(order.url) as store:
        if next(store.feed(limit=1), None) is not None:
            raise InvalidSource("the store has events already; a sample wants an empty one")
    context = multiprocessing.get_context("spawn")
    begun: Synchronized[int] = context.Value("q", 0)
    ready = context.Barrier(processes)
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    workers = [
        context.Process(target=_work, args=(order, ready, begun, answer), daemon=True)
        for _, answer in pipes
    ]
    for worker, (_, answer) in zip(workers, pipes, strict=True):
        worker.start()
        answer.close()  # so that a process that dies is noticed
    try:
        return _sum([_answer(answers, begun, progress) for answers, _ in pipes])
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _answer(
    answers: Connection, begun: "Synchronized[int]", progress: Callable[[int], None]
) -> Played:
    while not answers.poll(0.1):
        progress(begun.value)
    try:
        answer: Played | str = answers.recv()
    except EOFError:
        raise EventStoreError("a process of the sample died") from None
    if isinstance(answer, str):
        raise EventStoreError(answer)
    return answer


def _sum(parts: list[Played]) -> Played:
    return Played(
        rejected=sum(part.rejected for part in parts),
        absorbed=sum(part.absorbed for part in parts),
        escaped=sum(part.escaped for part in parts),
    )


def _activities(domains: Domains, order: Order) -> Iterator[Activity]:
    """What all samples make, in order of time."""
    samples = [domain.sample for domain in domains.domains if domain.sample is not None]
    share = -(-order.events // len(samples))
    streams = [sample(seed=order.seed, events=share, until=order.until) for sample in samples]
    return heapq.merge(*streams, key=attrgetter("at"))


def _work(order: Order, ready: Barrier, begun: "Synchronized[int]", answer: Connection) -> None:
    """One process: the next activity that no other has begun, until there is none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    try:
        answer.send(_perform(order, ready, begun))
    except BrokenBarrierError:  # another process failed, and tells why
        answer.send(Played())
    except Exception as error:  # noqa: BLE001 (the parent tells it)
        ready.abort()
        named = "" if isinstance(error, EventStoreError) else f"{type(error).__name__}: "
        answer.send(f"{named}{error}")


def _perform(order: Order, ready: Barrier, begun: "Synchronized[int]") -> Played:
    activities = list(_activities(load_domains(order.domains), order))
    conflicts: list[Conflict] = []
    clock = [datetime.now(UTC)]
    rejected = 0
    with Hindsight(
        order.url,
        domain=order.domains,
        clock=lambda: clock[0],
        on_conflict=conflicts.append,
    ) as store:
        # Else the first to be up has done everything before the others meet it.
        ready.wait(_PATIENCE)
        while (index := _next(begun)) < len(activities):
            clock[0] = activities[index].at + _TO_RECORD
            rejected += not _taken(store, activities[index])
    outcomes = [conflict.outcome for conflict in conflicts]
    absorbed, escaped = outcomes.count("absorbed"), outcomes.count("escaped")
    return Played(rejected=rejected, absorbed=absorbed, escaped=escaped)


def _next(begun: "Synchronized[int]") -> int:
    with begun.get_lock():
        index = begun.value
        begun.value = index + 1
    return index


def _taken(store: Hindsight, activity: Activity) -> bool:
    """Run the command; False where a rule forbids it. A conflict that escapes is told elsewhere."""
    try:
        store.execute(
            activity.aggregate_id,
            activity.command,
            context=activity.context,
            occurred_at=activity.at,
        )
    except CommandRejected:
        return False
    except VersionConflict:
        pass
    return True

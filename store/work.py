"""The work that no request waits for; any number of processes may do it at once."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from msgspec import Struct

from store.application import Hindsight
from store.archive import Moved
from store.errors import AccessDenied, ArchiveBusy, EventStoreError, NotFound
from store.outbox import Relay, Relayed
from store.outbox.records import last_line
from store.projections import Projected, Projector
from store.verification import Finding, verify

_log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until a database that was away is asked again."""
POLL = 1.0
"""Seconds between two looks at what was appended."""
CHECKED = 10
"""Aggregates whose snapshots are checked in a round: each costs two full replays."""
ARCHIVING = 60.0
"""Seconds between two looks at whether it is time to archive, or whether who does goes on."""
ROUND = 3_600.0
"""Seconds between two looks at everything."""


class Taken(Struct, frozen=True, kw_only=True):
    """How many snapshots were taken, and why others were not."""

    taken: int
    failures: tuple[str, ...] = ()


class Done(Struct, frozen=True, kw_only=True):
    """What a round of work came to."""

    snapshots: Taken
    pruned: int
    trimmed: int = 0
    drift: tuple[Finding, ...] = ()


def take_due(store: Hindsight, *, progress: Callable[[int], None] = lambda _: None) -> Taken:
    """Take a snapshot of every aggregate where one is due; `progress` hears of each."""
    return _take(store, store.snapshots.due(), progress)


def work_once(store: Hindsight) -> Done:
    """Take the snapshots that are due, and check some; remove what is no longer needed.

    That is snapshots nobody has used for long, and what was published some time ago. And have the
    rollups hold all that is settled.
    """
    roll_up(store, store.watermark().position)
    return Done(
        snapshots=take_due(store),
        pruned=store.snapshots.prune(),
        trimmed=store.trim_outbox(),
        drift=check_latest(store),
    )


def roll_up(store: Hindsight, settled: int, *, is_over: Callable[[], bool] = lambda: False) -> None:
    """Bring the rollups up to the watermark's position `settled`, unless it `is_over` before."""
    while store.rollups.roll_up(settled) and not is_over():
        pass


def check_latest(store: Hindsight) -> tuple[Finding, ...]:
    """Compare the snapshots that were taken last with full replays; those that differ count."""
    found: list[Finding] = []
    for aggregate_id in store.snapshots.latest(CHECKED):
        try:
            verified = verify(store.log, aggregate_id, domains=store.domains)
        except NotFound:
            continue  # its snapshots alone are left; `hindsight verify --all` tells of them
        found += [finding for finding in verified.findings if finding.kind == "drift"]
    store.metrics.drift.inc(len(found))
    return tuple(found)


def work(
    store: Hindsight, *, stop: threading.Event, report: Callable[[Done], None], poll: float = POLL
) -> None:
    """Work until `stop` is set; `report` hears of what there was to do.

    At first and every hour everything is looked at, in between what was appended since. While the
    database is away it is asked again and again.
    """
    while not stop.is_set():
        try:
            _work(store, stop, report, poll)
        except EventStoreError as error:
            _log.warning("workers wait for the database: %s", error)
            stop.wait(RETRY)


def _work(
    store: Hindsight, stop: threading.Event, report: Callable[[Done], None], poll: float
) -> None:
    position, next_round = 0, 0.0
    while not stop.is_set():
        reached = store.watermark().position
        roll_up(store, reached, is_over=stop.is_set)
        if time.monotonic() >= next_round:
            report(work_once(store))
            next_round = time.monotonic() + ROUND
        elif reached > position:
            taken = _take(store, store.snapshots.passed(position, reached), lambda _: None)
            if taken.taken or taken.failures:
                report(Done(snapshots=taken, pruned=0))
        position = reached
        stop.wait(poll)


def publish_due(relay: Relay, report: Callable[[Relayed], None]) -> None:
    """Publish until nothing is due; `report` hears of what was."""
    while (relayed := relay.once()).claimed:
        report(relayed)


@contextmanager
def beside(
    stop: threading.Event, tasks: Sequence[tuple[str, Callable[[], None]]]
) -> Iterator[None]:
    """Run named tasks, each in a thread, until the block ends; what is under way is finished.

    They end when `stop` is set; it is set where one ends by itself, and its error raised at the
    end.
    """
    failed: list[Exception] = []

    def run(name: str, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 (raised again in the thread that waits)
            # Which may wait for long: a dashboard goes on without its workers.
            _log.exception("%s has ended", name)
            failed.append(error)
        finally:
            stop.set()

    threads = [
        threading.Thread(target=run, args=(name, task), name=f"hindsight-{name}")
        for name, task in tasks
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]


def publishing(
    relay: Relay | None, stop: threading.Event, report: Callable[[Relayed], None]
) -> Sequence[tuple[str, Callable[[], None]]]:
    """The tasks of a relay, for `beside`; `report` hears of what it published."""
    return [] if relay is None else [("relay", partial(relay.run, stop, report=report))]


def projecting(
    projectors: Iterable[Projector],
    stop: threading.Event,
    report: Callable[[str, Projected], None] = lambda _, __: None,
) -> Sequence[tuple[str, Callable[[], None]]]:
    """The tasks of projectors, for `beside`; `report` hears of what each of them projected."""
    named = [(each.projection.name, each) for each in projectors]
    return [
        (f"projector-{name}", partial(each.run, stop, report=partial(report, name)))
        for name, each in named
    ]


def project_due(
    projector: Projector, report: Callable[[str, Projected], None] = lambda _, __: None
) -> None:
    """Project until there is nothing more, or another projector is at work.

    `report` hears of what was.

    Raises:
        ProjectionFailed: an event cannot be taken.
    """
    while (projected := projector.once()).is_behind:
        report(projector.projection.name, projected)


def archive_due(store: Hindsight, stop: threading.Event, report: Callable[[Moved], None]) -> None:
    """Archive what is to be, if nobody has since midnight UTC; `report` hears of each batch.

    Raises:
        ArchiveBusy: somebody else does.
        AccessDenied: this role may not.
    """
    if store.archive.enabled and store.archive.is_due():
        for moved in store.archive.run(stop=stop):
            report(moved)


def archiving(
    store: Hindsight, stop: threading.Event, report: Callable[[Moved], None] = lambda _: None
) -> Sequence[tuple[str, Callable[[], None]]]:
    """The task of archiving once a day, for `beside`; of several workers one does.

    A worker whose role may not leaves it to others.
    """
    if not store.archive.enabled:
        return []

    def keep_archiving() -> None:
        while not stop.is_set():
            try:
                archive_due(store, stop, report)
            except ArchiveBusy:
                pass
            except AccessDenied as error:
                _log.info("archiving is left to others: %s", error)
                stop.wait()
            except EventStoreError as error:
                _log.warning("archiving goes on later: %s", error)
            stop.wait(ARCHIVING)

    return [("archiver", keep_archiving)]


@contextmanager
def working(
    store: Hindsight, *, relay: Relay | None, projectors: Sequence[Projector]
) -> Iterator[None]:
    """Do all of it in threads until the block ends; what went wrong is logged."""
    stop = threading.Event()

    keep_working = partial(work, store, stop=stop, report=_log_done)
    tasks = [
        *publishing(relay, stop, _log_dead),
        *projecting(projectors, stop, _log_left_out),
        *archiving(store, stop),
    ]
    with beside(stop, [("worker", keep_working), *tasks]):
        yield


def _log_dead(relayed: Relayed) -> None:
    """Log what was given up."""
    for dead in relayed.dead:
        why = last_line(dead.error or "")
        _log.error("dead letter: %s version %d: %s", dead.aggregate_id, dead.version, why)


def _log_left_out(name: str, projected: Projected) -> None:
    if (left := projected.skipped) is not None:
        place = f"{left.aggregate_id} version {left.version}"
        _log.error("projection %r left out %s of %s", name, left.event_type, place)


def _log_done(done: Done) -> None:
    for failure in done.snapshots.failures:
        _log.error("%s", failure)
    for finding in done.drift:
        where = f"{finding.aggregate_id} version {finding.version}"
        _log.error("drift: %s: %s", where, finding.explanation)


def _take(store: Hindsight, aggregate_ids: Iterable[str], progress: Callable[[int], None]) -> Taken:
    taken, failures = 0, []
    for aggregate_id in aggregate_ids:
        try:
            store.snapshot(aggregate_id, replay=False)
        except EventStoreError as error:
            # One that cannot be folded, or kept, must not hold up the others.
            failures.append(str(error))
        else:
            taken += 1
        progress(1)
    return Taken(taken=taken, failures=tuple(failures))

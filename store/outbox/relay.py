"""The relay: takes what is open in the outbox to a publisher, at least once and in order."""

import logging
import os
import platform
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from math import inf
from time import monotonic
from typing import TypeAlias
from uuid import uuid4

from msgspec import Struct
from msgspec.structs import replace

from store.archived import Archived
from store.database import Database, Listener
from store.database.claiming import Claim, Claimed, Settlement, Taken
from store.errors import EventStoreError
from store.outbox.publishing import Publisher, publish
from store.outbox.settling import ATTEMPTS, OnDeadLetter, is_abandoned, settlements
from store.records import Event

__all__ = ["ATTEMPTS", "LEASE", "DeadLetter", "OnDeadLetter", "Relay", "Relayed", "TellDead"]

_log = logging.getLogger(__name__)

POLL = 5.0
"""Seconds between two looks where nobody is woken."""
BUSY = 0.01
"""Seconds for which a relay that had something looks by itself: nobody wakes it again so soon."""
LOOK = 0.001
"""Seconds between two of those looks."""
RECONNECT = 0.5
"""Seconds between two tries to reach a database that is away."""
LEASE = 30.0
"""Seconds for which a relay has what it claimed; who does not renew in time is taken for dead."""
HEADS = 100
"""Aggregates that are claimed at once."""
RUN = 50
"""Versions that are claimed of an aggregate."""


class Relayed(Struct, frozen=True, kw_only=True):
    """What came of what was claimed at once: how many records of each.

    Those of `retried` will be tried again; `released` were not sent as one before them could not
    be. `lost` belonged to another relay by the time they were to be settled. `next_in` is how many
    seconds from now the first is tried again.
    """

    claimed: int = 0
    published: int = 0
    retried: int = 0
    dead: tuple[Settlement, ...] = ()
    released: int = 0
    lost: int = 0
    next_in: float = inf


class DeadLetter(Struct, frozen=True, kw_only=True):
    """An event that was given up; `held` says whether later ones of its aggregate wait for it."""

    event: Event
    attempts: int
    error: str
    held: bool
    failed_at: datetime


TellDead: TypeAlias = Callable[[DeadLetter], None]
"""Hears of each dead letter; neither fails nor takes long, as the relay waits for it."""


class Relay:
    """Publishes what is in the outbox; of a relay each thread has its own.

    Any number may run, in any number of processes. `on_dead_letter` says whether the later events
    of its aggregate wait for a dead letter, and `tell_dead` hears of each. `clock` replaces the
    database's.
    """

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        *,
        on_dead_letter: OnDeadLetter = "hold",
        tell_dead: TellDead = lambda _: None,
        lease: float = LEASE,
        heads: int = HEADS,
        run: int = RUN,
        clock: Callable[[], datetime] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = f"{platform.node()}:{os.getpid()}"
        self._database = database
        self.publisher = publisher
        self._on_dead_letter: OnDeadLetter = on_dead_letter
        self._tell_dead = tell_dead
        self._lease = lease
        self._heads = heads
        self._run = run
        self._clock = clock
        self._chance = chance
        self._after = ""

    def once(self) -> Relayed:
        """Publish what is due of the next aggregates, `claimed` 0 where there is nothing.

        Raises:
            EventStoreError: the database did not answer; what is claimed is free after the lease.
        """
        claim, claimed = self._claim()
        if not claimed:
            return Relayed()
        with self._renewing(claim, claimed):
            sent = [each.event for each in claimed if not is_abandoned(each)]
            failures = publish(self.publisher, sent)
            settled = list(
                settlements(
                    claimed, failures, on_dead_letter=self._on_dead_letter, chance=self._chance
                )
            )
            held = self._database.settle(claim.lease, settled, self._now())
        relayed = _relayed(settled, held)
        for dead in _dead_letters(claimed, relayed.dead):
            self._tell_dead(dead)
        return relayed

    def run(
        self,
        stop: threading.Event,
        *,
        report: Callable[[Relayed], None] = lambda _: None,
        poll: float = POLL,
    ) -> None:
        """Publish until `stop` is set: at once when woken, and each `poll` seconds.

        What is under way is finished. While the database is away it is asked again and again.
        """
        while not stop.is_set():
            try:
                with self._database.listen() as listener:
                    self._work(listener, stop, report, poll)
            except EventStoreError as error:
                _log.warning("the relay waits for the database: %s", error)
                stop.wait(RECONNECT)

    def _work(
        self,
        listener: Listener,
        stop: threading.Event,
        report: Callable[[Relayed], None],
        poll: float,
    ) -> None:
        due, busy_until = inf, 0.0
        while not stop.is_set():
            relayed = self.once()
            if relayed.claimed:
                report(relayed)
                due = min(due, monotonic() + relayed.next_in)
                busy_until = monotonic() + BUSY
                continue
            if monotonic() < busy_until:
                stop.wait(LOOK)
                continue
            listener.wait(max(min(poll, due - monotonic()), 0), stop)
            if monotonic() >= due:
                due = inf

    def _claim(self) -> tuple[Claim, Sequence[Claimed]]:
        """The next aggregates in the order of their ids; behind the last comes the first."""
        while True:
            claim = Claim(
                lease=uuid4(),
                by=self.name,
                seconds=self._lease,
                heads=self._heads,
                run=self._run,
                after=self._after,
                now=self._now(),
            )
            claimed = self._with_events(self._database.claim(claim))
            started_behind, self._after = self._after, ""
            if claimed:
                self._after = claimed[-1].event.aggregate_id
            if claimed or not started_behind:
                return claim, claimed

    def _with_events(self, taken: Sequence[Taken]) -> Sequence[Claimed]:
        missing = [(each.aggregate_id, each.version) for each in taken if each.event is None]
        archived: Mapping[tuple[str, int], Event] = {}
        if missing:
            with self._database.snapshot() as connection:
                archived = Archived(self._database).at(missing, connection)
        found = [
            (each, each.event or archived.get((each.aggregate_id, each.version))) for each in taken
        ]
        return [Claimed(each.attempt, event) for each, event in found if event is not None]

    @contextmanager
    def _renewing(self, claim: Claim, claimed: Sequence[Claimed]) -> Iterator[None]:
        """Keep the lease as long as the block takes: publishers may be slow, and batches large."""
        done = threading.Event()
        name = "hindsight-lease"
        thread = threading.Thread(target=self._renew, args=(claim, claimed, done), name=name)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _renew(self, claim: Claim, claimed: Sequence[Claimed], done: threading.Event) -> None:
        while not done.wait(self._lease / 3):
            try:
                self._database.renew(replace(claim, now=self._now()), claimed)
            except EventStoreError as error:
                _log.warning("a lease is not renewed: %s", error)

    def _now(self) -> datetime | None:
        return self._clock() if self._clock else None


def _dead_letters(claimed: Sequence[Claimed], dead: Sequence[Settlement]) -> Iterator[DeadLetter]:
    events = {(each.event.aggregate_id, each.event.version): each.event for each in claimed}
    for each in dead:
        yield DeadLetter(
            event=events[each.aggregate_id, each.version],
            attempts=each.attempts,
            error=each.error or "",
            held=each.is_open,
            failed_at=datetime.now(UTC),
        )


def _relayed(settled: Sequence[Settlement], held: frozenset[tuple[str, int]]) -> Relayed:
    kept = [each for each in settled if (each.aggregate_id, each.version) in held]
    if len(kept) < len(settled):
        _log.warning("%d records were claimed by another relay meanwhile", len(settled) - len(kept))
    return Relayed(
        claimed=len(settled),
        published=sum(each.status == "published" for each in kept),
        retried=sum(each.delay is not None for each in kept),
        dead=tuple(each for each in kept if each.status == "failed"),
        released=sum(each.status == "pending" and each.delay is None for each in kept),
        lost=len(settled) - len(kept),
        next_in=min((each.delay for each in kept if each.delay is not None), default=inf),
    )

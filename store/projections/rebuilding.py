"""A projection's table made anew beside the one that is read: to compare with it, or to replace it.

Comparing is done at one position: the table that is read is seen as it was when its checkpoint
stood there, in a transaction that sees nothing later, while it goes on for everybody else.
"""

import time
from collections.abc import Iterable, Sequence

from msgspec import Struct
from sqlalchemy import Connection

from store.database import Database
from store.database.read_models import put_in_place
from store.domain import Domains
from store.errors import (
    DatabaseBusy,
    ProjectionFailed,
    ProjectionNotBuilt,
    ProjectionOutdated,
    RebuildInterrupted,
    SchemaError,
)
from store.projection import Key, Projection
from store.projections.building import Builder, Progress, begin
from store.projections.checkpoints import Checkpoint, Checkpoints
from store.projections.comparing import Compared, Difference, compared
from store.projections.failures import Failures
from store.projections.folding import Intake
from store.reader import EventReader
from store.records import Event

ATTEMPTS = 10
"""Times that a table in use is tried to be replaced."""
PAUSE = 1.0
"""Seconds between two of them."""


class Drifted(Struct, frozen=True):
    """A row that is other than it should be, and the event that last touched it."""

    difference: Difference
    touched_by: Event | None


class Checked(Struct, frozen=True, kw_only=True):
    """What comparing a projection's table with the events, up to a position, has found."""

    projection: str
    version: int
    position: int
    generation: int
    compared: Compared
    drifted: Sequence[Drifted]


class Rebuilt(Struct, frozen=True, kw_only=True):
    """What a rebuild came to: what was compared, and the position of the table now in place."""

    checked: Checked
    position: int


def quiet(reached: int, goal: int) -> None:
    """Tell nobody."""
    del reached, goal


def check(
    database: Database, domains: Domains, projection: Projection, *, progress: Progress = quiet
) -> Checked:
    """Compare the table that is read with one made from all events; write down what was found.

    Events that the one left out, and that still cannot be taken, are left out of the other.

    Raises:
        ProjectionNotBuilt, ProjectionOutdated: there is no table of this code.
        ProjectionFailed: an event cannot be taken.
        RebuildInterrupted: somebody else checks the same.
    """
    live = Checkpoints(database).read(projection.name)
    if live is None:
        raise ProjectionNotBuilt(projection=projection.name)
    if live.version != projection.version:
        raise ProjectionOutdated(
            projection=projection.name, built=live.version, declared=projection.version
        )
    while True:
        builder = Builder(database, domains, projection, begin(database, projection, "check"))
        if checked := _compare(database, domains, projection, builder, progress):
            break
    builder.abandon()
    with database.transaction() as connection:
        Checkpoints(database).note_check(
            connection, projection.name, checked.generation, checked.compared.drift
        )
    return checked


def rebuild(
    database: Database, domains: Domains, projection: Projection, *, progress: Progress = quiet
) -> Rebuilt:
    """Make the table anew from all events and put it in the place of the one that is read.

    That one serves until then. What another process began and did not end is gone on with.

    Raises:
        ProjectionNotBuilt: there is no table to replace.
        ProjectionFailed: an event cannot be taken; nothing was replaced.
        ReadModelInUse: something else in the database depends on the table.
        RebuildInterrupted: somebody else builds the same.
        DatabaseBusy: the table was in use for long; nothing was replaced, what was built is there.
    """
    builder = Builder(database, domains, projection, begin(database, projection, "rebuild"))
    checked = _compare(database, domains, projection, builder, progress)
    if checked is None:
        raise RebuildInterrupted(projection=projection.name)
    position = _replace(database, builder, projection, progress)
    return Rebuilt(checked=checked, position=position)


def _compare(
    database: Database,
    domains: Domains,
    projection: Projection,
    builder: Builder,
    progress: Progress,
) -> Checked | None:
    """What was found; None where another table took the place of the one that was compared."""
    try:
        pinned, found = _compared(database, projection, builder, progress)
    except ProjectionFailed:
        # What is done about it may make other rows of the events before it, too.
        builder.abandon()
        raise
    # A snapshot has the rows as they were, but not which table they were in.
    if builder.live().generation != pinned.generation:
        return None
    keys = [each.key for each in found.differences]
    touched = _touching(database, domains, projection, keys, pinned.position)
    return Checked(
        projection=projection.name,
        version=projection.version,
        position=pinned.position,
        generation=pinned.generation,
        compared=found,
        drifted=[Drifted(each, touched.get(each.key)) for each in found.differences],
    )


def _compared(
    database: Database, projection: Projection, builder: Builder, progress: Progress
) -> tuple[Checkpoint, Compared]:
    """Where the table that is read stood, and what it had other than the one built up to there."""
    builder.reach_live(progress)
    with database.snapshot() as seen:
        pinned = builder.live(within=seen)
        if builder.is_to_compare and pinned.version != projection.version:
            raise ProjectionOutdated(
                projection=projection.name, built=pinned.version, declared=projection.version
            )
        builder.reach(pinned.position, progress)
        try:
            with database.snapshot() as other:
                if builder.built(within=other).position != pinned.position:
                    raise RebuildInterrupted(projection=projection.name)
                found = compared(seen, projection.table, other, builder.table)
                builder.built()  # and not another table, which was empty then
        except SchemaError:
            builder.built()
            raise
    return pinned, found


def _replace(
    database: Database, builder: Builder, projection: Projection, progress: Progress
) -> int:
    """Put what was built in place; the position it is at."""
    for _ in range(ATTEMPTS):
        builder.reach_live(progress)
        try:
            return _put_in_place(database, builder, projection)
        except DatabaseBusy:
            time.sleep(PAUSE)  # who waits for the table gets it
    raise DatabaseBusy(
        f"table {projection.table.name!r} is in use; nothing was replaced, and what was built is"
        " kept: rebuild again"
    )


def _put_in_place(database: Database, builder: Builder, projection: Projection) -> int:
    checkpoints = Checkpoints(database)
    with database.transaction() as connection:
        # From here on the table that is read stands still, and what is left is little.
        live = checkpoints.lock(connection, projection.name, "live")
        if live is None:
            raise ProjectionNotBuilt(projection=projection.name)
        finished = _finish(builder, connection, live)
        put_in_place(connection, projection.table, builder.table)
        if not checkpoints.replace(connection, live, finished):
            raise RebuildInterrupted(projection=projection.name)
        Failures(database).forget(connection, projection.name)
    return finished.position


def _finish(builder: Builder, connection: Connection, live: Checkpoint) -> Checkpoint:
    """Take what is left up to where the table that is read stands; where that is."""
    while True:
        built = builder.held(connection)
        if built.position >= live.position:
            return built
        if builder.projector.once(goal=live.position, within=connection).stands_by:
            raise RebuildInterrupted(projection=live.projection)


def _touching(
    database: Database,
    domains: Domains,
    projection: Projection,
    keys: Iterable[Key],
    until: int,
) -> dict[Key, Event]:
    """The last event, up to a position, that changed the row of each key."""
    reader, intake = EventReader(database, name=""), Intake(projection, domains)
    if not projection.is_by_aggregate:
        feed = reader.feed(before=until + 1, where=intake.where, backward=True)
        return _last(intake, feed, set(keys))
    found: dict[Key, Event] = {}
    for key in keys:
        history = reader.events(key[0], backward=True)
        earlier = (event for event in history if event.position <= until)
        found |= _last(intake, earlier, {key})
    return found


def _last(intake: Intake, events: Iterable[Event], wanted: set[Key]) -> dict[Key, Event]:
    """The first of the events for each key; no more are read than have to be."""
    found: dict[Key, Event] = {}
    for event in events if wanted else ():
        for each in intake.taken([(event.header, event.raw_data)])[0]:
            if each.key in wanted:
                found.setdefault(each.key, event)
        if len(found) == len(wanted):
            break
    return found

"""Making a projection's table: the first one, and another beside it to compare or to replace it."""

from collections.abc import Callable
from typing import TypeAlias

from sqlalchemy import Connection

from store.database import Database
from store.database.read_models import create, drop, exists
from store.domain import Domains
from store.errors import (
    AccessDenied,
    ProjectionNotBuilt,
    ReadModelInUse,
    RebuildInterrupted,
    SchemaError,
)
from store.projection import Projection
from store.projections.checkpoints import Checkpoint, Checkpoints, Target
from store.projections.failures import Failures
from store.projections.projector import BATCH, Projected, Projector, table_of

Progress: TypeAlias = Callable[[int, int], None]
"""Hears of the position that was reached, and of the one that is to be."""


def build_missing(database: Database, projection: Projection) -> bool:
    """Create the empty table that is to be read, where there is none; whether it did.

    Raises:
        ReadModelInUse: there is a table of that name that is not the projection's.
        AccessDenied: this role may create none.
    """
    checkpoints = Checkpoints(database)
    if checkpoints.read(projection.name) is not None:
        return False
    try:
        with database.transaction() as connection:
            if not checkpoints.create(connection, projection, "live"):
                return False
            if exists(connection, projection.table):
                detail = "is there already, and no projection's; rename or drop it"
                raise ReadModelInUse(table=projection.table.name, detail=detail)
            create(connection, projection.table)
    except AccessDenied as error:
        raise AccessDenied(
            f"table {projection.table.name!r} cannot be created: {error}; who owns the store can:"
            " hindsight migrate --domain …"
        ) from error
    return True


def begin(database: Database, projection: Projection, target: Target) -> Checkpoint:
    """The table to be built: that which another process left, or an empty one.

    What other code began is not gone on with.

    Raises:
        ProjectionNotBuilt: there is no table that is read.
        RebuildInterrupted: somebody else has just begun the same.
    """
    checkpoints = Checkpoints(database)
    if checkpoints.read(projection.name) is None:
        raise ProjectionNotBuilt(projection=projection.name)
    found = checkpoints.read(projection.name, target)
    if found and (found.version, found.fingerprint) == (projection.version, projection.fingerprint):
        return found
    with database.transaction() as connection:
        if found:
            checkpoints.remove(connection, found)
        # First, so that who comes second waits here, and finds no table half made.
        if not checkpoints.create(connection, projection, target):
            raise RebuildInterrupted(projection=projection.name)
        drop(connection, table_of(projection, target))
        create(connection, table_of(projection, target))
    return begin(database, projection, target)


class Builder:
    """Fills a table that was begun beside the one that is read. Not to be shared between threads.

    It keeps to that table: where somebody else has ended with it, or begun another in its place,
    it is interrupted.
    """

    def __init__(
        self, database: Database, domains: Domains, projection: Projection, begun: Checkpoint
    ) -> None:
        self.table = table_of(projection, begun.target)
        self.is_to_compare = begun.target == "check"
        self._checkpoints = Checkpoints(database)
        self._projection = projection
        self._begun = begun
        # A table with holes in it is compared with one that has the same ones, but is not made.
        skipped = Failures(database).skipped(projection.name) if self.is_to_compare else ()
        self.projector = Projector(
            database,
            domains,
            projection,
            target=begun.target,
            generation=begun.generation,
            left_out=frozenset(skipped),
        )
        self._database = database

    def reach(self, goal: int, progress: Progress) -> None:
        """Take the events up to a position.

        Raises:
            ProjectionFailed: one of them cannot be taken.
            RebuildInterrupted: somebody else does the same.
        """
        self._aim(goal)
        while True:
            projected = self._once(goal)
            if projected.stands_by:
                raise RebuildInterrupted(projection=self._projection.name)
            progress(projected.position, goal)
            if projected.position >= goal:
                return

    def _once(self, goal: int) -> Projected:
        try:
            return self.projector.once(goal=goal)
        except (ProjectionNotBuilt, SchemaError):
            self.built()
            raise

    def reach_live(self, progress: Progress) -> None:
        """Take the events that are in the table that is read, and come close behind it."""
        goal = 0
        while (reached := self.live().position) - goal > BATCH:
            goal = reached
            self.reach(goal, progress)

    def live(self, *, within: Connection | None = None) -> Checkpoint:
        """The checkpoint of the table that is read.

        Raises:
            ProjectionNotBuilt: there is none.
        """
        found = self._checkpoints.read(self._projection.name, within=within)
        if found is None:
            raise ProjectionNotBuilt(projection=self._projection.name)
        return found

    def built(self, *, within: Connection | None = None) -> Checkpoint:
        """The checkpoint of the table that it fills.

        Raises:
            RebuildInterrupted: somebody else has ended with it, or begun another.
        """
        name, target = self._begun.projection, self._begun.target
        return self._own(self._checkpoints.read(name, target, within=within))

    def held(self, connection: Connection) -> Checkpoint:
        """The same, which stands still until the transaction ends; raises as `built` does."""
        name, target = self._begun.projection, self._begun.target
        return self._own(self._checkpoints.lock(connection, name, target))

    def abandon(self) -> None:
        """Remove the table, if it is still there."""
        with self._database.transaction() as connection:
            if self._checkpoints.remove(connection, self._begun):
                drop(connection, self.table)

    def _own(self, found: Checkpoint | None) -> Checkpoint:
        if found is None or found.generation != self._begun.generation:
            raise RebuildInterrupted(projection=self._projection.name)
        return found

    def _aim(self, goal: int) -> None:
        """For who looks on: where this is to end."""
        with self._database.transaction() as connection:
            self._checkpoints.aim(connection, self.built(within=connection), goal)

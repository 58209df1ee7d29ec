"""Making a projection's table: the first one, and another beside it to compare or to replace it."""

from collections.abc import Callable
from typing import TypeAlias

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
    """
    checkpoints = Checkpoints(database)
    found = checkpoints.read(projection.name, target)
    if found and (found.version, found.fingerprint) == (projection.version, projection.fingerprint):
        return found
    with database.transaction() as connection:
        checkpoints.remove(connection, projection.name, target)
        # First, so that who comes second waits here, and finds no table half made.
        if not checkpoints.create(connection, projection, target):
            raise RebuildInterrupted(projection=projection.name)
        drop(connection, table_of(projection, target))
        create(connection, table_of(projection, target))
    return begin(database, projection, target)


def abandon(database: Database, projection: Projection, target: Target) -> None:
    """Remove what was built, or begun."""
    with database.transaction() as connection:
        Checkpoints(database).remove(connection, projection.name, target)
        drop(connection, table_of(projection, target))


class Builder:
    """Fills a table beside the one that is read. Not to be shared between threads."""

    def __init__(
        self, database: Database, domains: Domains, projection: Projection, target: Target
    ) -> None:
        self._checkpoints = Checkpoints(database)
        self._projection = projection
        self._target: Target = target
        # A table with holes in it is compared with one that has the same ones, but is not made.
        skipped = Failures(database).skipped(projection.name) if target == "check" else ()
        self.projector = Projector(
            database, domains, projection, target=target, left_out=frozenset(skipped)
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
            if self._checkpoints.read(self._projection.name, self._target) is not None:
                raise
            raise RebuildInterrupted(projection=self._projection.name) from None

    def reach_live(self, progress: Progress) -> None:
        """Take the events that are in the table that is read, and come close behind it."""
        goal = 0
        while (reached := self.live().position) - goal > BATCH:
            goal = reached
            self.reach(goal, progress)

    def live(self) -> Checkpoint:
        """The checkpoint of the table that is read.

        Raises:
            ProjectionNotBuilt: there is none.
        """
        found = self._checkpoints.read(self._projection.name)
        if found is None:
            raise ProjectionNotBuilt(projection=self._projection.name)
        return found

    def _aim(self, goal: int) -> None:
        """For who looks on: where this is to end."""
        built = self._checkpoints.read(self._projection.name, self._target)
        if built is None:
            raise RebuildInterrupted(projection=self._projection.name)
        with self._database.transaction() as connection:
            self._checkpoints.aim(connection, built, goal)

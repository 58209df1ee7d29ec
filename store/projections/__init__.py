"""Read models: kept by projections of the events, asked, compared with them and made anew."""

import time
from collections.abc import Iterable, Mapping, Sequence

from store.database import Database
from store.domain import Domains
from store.errors import ProjectionBehind, ProjectionNotBuilt, ProjectionUnknown
from store.projection import Projection
from store.projections.building import Progress, build_missing
from store.projections.checkpoints import Checkpoint, Checkpoints
from store.projections.failures import Failure, Failures
from store.projections.projector import OnPoison, Projected, Projector, Timed
from store.projections.read_model import Filter, Page, ReadModel
from store.projections.rebuilding import Checked, Rebuilt, check, quiet, rebuild
from store.projections.standing import Lag, ProjectionStanding, standing

__all__ = [
    "Checked",
    "Checkpoint",
    "Failure",
    "Filter",
    "Lag",
    "OnPoison",
    "Page",
    "Progress",
    "Projected",
    "ProjectionStanding",
    "Projections",
    "Projector",
    "ReadModel",
    "Rebuilt",
]

_LOOKS = (0.001, 0.1)
"""Seconds between the first looks of one who waits, and at most between later ones."""


class Projections:
    """The projections that a store's domains declare. Safe to share between threads."""

    def __init__(
        self,
        database: Database,
        domains: Domains,
        *,
        on_poison: OnPoison = "stop",
        timed: Timed = lambda _: None,
    ) -> None:
        self._database = database
        self._domains = domains
        self._on_poison: OnPoison = on_poison
        self._timed = timed
        self._checkpoints = Checkpoints(database)

    @property
    def declared(self) -> Mapping[str, Projection]:
        """By name."""
        return self._domains.projections

    def projection(self, name: str) -> Projection:
        """The projection of that name.

        Raises:
            ProjectionUnknown: no domain declares it.
        """
        try:
            return self.declared[name]
        except KeyError:
            raise ProjectionUnknown(projection=name, known=sorted(self.declared)) from None

    def build_missing(self, names: Iterable[str] | None = None) -> Sequence[str]:
        """Create the tables that there are not yet, of all or of those named; whose they are.

        Raises:
            ProjectionUnknown: no domain declares one of them.
            ReadModelInUse: there is a table of that name that is not the projection's.
            AccessDenied: this role may create none; who owns the store may, by migrating it.
        """
        return [
            name
            for name in (self.declared if names is None else names)
            if build_missing(self._database, self.projection(name))
        ]

    def projector(self, name: str) -> Projector:
        """What keeps a projection's table; of a projector each thread has its own."""
        return Projector(
            self._database,
            self._domains,
            self.projection(name),
            on_poison=self._on_poison,
            timed=self._timed,
        )

    def read_model(self, name: str) -> ReadModel:
        """The table of a projection, to be asked."""
        return ReadModel(self._database, self.projection(name))

    def standing(self) -> Sequence[ProjectionStanding]:
        """How each of them stands."""
        return standing(self._database, self.declared)

    def failures(
        self, name: str, *, after: int = 0, aggregate_id: str | None = None, limit: int = 100
    ) -> Sequence[Failure]:
        """Events that it could not take, behind a position, of all aggregates or of one."""
        return Failures(self._database).of(
            self.projection(name).name, after=after, aggregate_id=aggregate_id, limit=limit
        )

    def check(self, name: str, *, progress: Progress = quiet) -> Checked:
        """Compare a read model with the events, row by row. See `rebuilding.check`."""
        return check(self._database, self._domains, self.projection(name), progress=progress)

    def rebuild(self, name: str, *, progress: Progress = quiet) -> Rebuilt:
        """Make a read model anew and put it in place. See `rebuilding.rebuild`."""
        return rebuild(self._database, self._domains, self.projection(name), progress=progress)

    def wait_for(self, name: str, position: int, timeout: float = 5.0) -> None:
        """Wait until the read model has the events up to a position: what you wrote, you read.

        `timeout` is in seconds.

        Raises:
            ProjectionBehind: it has not in that time.
            ProjectionNotBuilt: there is no table.
        """
        projection = self.projection(name)
        deadline = time.monotonic() + timeout
        pause, longest = _LOOKS
        while True:
            checkpoint = self._checkpoints.read(name)
            if checkpoint is None:
                raise ProjectionNotBuilt(projection=name)
            if checkpoint.position >= position:
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._behind(projection, checkpoint, position)
            time.sleep(min(pause, left))
            pause = min(2 * pause, longest)

    def _behind(
        self, projection: Projection, checkpoint: Checkpoint, position: int
    ) -> ProjectionBehind:
        why = ""
        failure = Failures(self._database).waiting(projection.name, checkpoint.position)
        if checkpoint.version != projection.version:
            built, declared = checkpoint.version, projection.version
            why = f": its table is version {built}, this code waits for version {declared}"
        elif failure is not None:
            why = f": it waits at an event it cannot take, {failure.reason}"
        return ProjectionBehind(
            projection=projection.name, position=position, reached=checkpoint.position, why=why
        )

"""How the projections of a store stand: how far behind, why they wait, what is being built."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from store.archived import Archived
from store.database import Database
from store.projection import Projection
from store.projections.checkpoints import Checkpoint, Checkpoints, Target
from store.projections.failures import Failure, Failures

State: TypeAlias = Literal["not built", "outdated", "stopped", "behind", "up to date"]

COUNTED = 100_000
"""More events than so many are counted as so many."""


class Lag(Struct, frozen=True, kw_only=True):
    """What a projection has not taken yet: committed events, and how old the oldest is.

    `events` are counted up to `COUNTED`; both are 0 where there is nothing. What followers may not
    be given yet counts: a watermark that stands still hides no lag.
    """

    events: int
    seconds: float
    is_bounded: bool


class ProjectionStanding(Struct, frozen=True, kw_only=True):
    """How one projection stands.

    `version` is that of this code. `failure` is the event it waits at, `skipped` how many it left
    out. `building` is the table that is being made to take the place of the one that is read, and
    `comparing` the one made to be compared with it.
    """

    projection: str
    table: str
    version: int
    state: State
    lag: Lag
    checkpoint: Checkpoint | None
    code_changed: bool
    failure: Failure | None
    skipped: int
    building: Checkpoint | None
    comparing: Checkpoint | None


def standing(
    database: Database, projections: Mapping[str, Projection]
) -> Sequence[ProjectionStanding]:
    """How each of the projections stands, in their order."""
    checkpoints = Checkpoints(database).all()
    failures = Failures(database)
    counts = failures.counts()
    found = []
    for name, projection in projections.items():
        live = checkpoints.get((name, "live"))
        waits = None
        if live is not None and (name, False) in counts:
            waits = failures.waiting(name, live.position)
        skipped = counts.get((name, True), 0)
        found.append(_standing(database, projection, checkpoints, waits, skipped))
    return found


def lag(database: Database, position: int) -> Lag:
    """What is behind a position."""
    recorded_at = database.microseconds("recorded_at")
    now = database.microseconds(database.now)
    after, limit = database.bind("after"), database.bind("limit")
    [(events, oldest, at)] = database.rows(
        f"""
        SELECT
            (SELECT count(*) FROM (
                SELECT 1 FROM events WHERE position > {after} LIMIT {limit}
            ) AS ahead),
            (SELECT {recorded_at} FROM events WHERE position > {after} ORDER BY position LIMIT 1),
            {now}
        """,  # noqa: S608 (placeholders)
        {"after": position, "limit": COUNTED},
    )
    archived = Archived(database)
    if position < archived.position():
        ahead, earliest = archived.beyond(position)
        events = min(events + ahead, COUNTED)
        oldest = min((each for each in (oldest, earliest) if each is not None), default=None)
    seconds = 0.0 if oldest is None else max(at - oldest, 0) / 1e6
    return Lag(events=events, seconds=seconds, is_bounded=events == COUNTED)


def _standing(
    database: Database,
    projection: Projection,
    checkpoints: Mapping[tuple[str, Target], Checkpoint],
    waits: Failure | None,
    skipped: int,
) -> ProjectionStanding:
    name = projection.name
    live = checkpoints.get((name, "live"))
    behind = lag(database, live.position if live else 0)
    return ProjectionStanding(
        projection=name,
        table=str(projection.table.name),  # which is no plain text
        version=projection.version,
        state=_state(projection, live, behind, waits),
        lag=behind,
        checkpoint=live,
        code_changed=bool(
            live
            and live.version == projection.version
            and live.fingerprint != projection.fingerprint
        ),
        failure=waits,
        skipped=skipped,
        building=checkpoints.get((name, "rebuild")),
        comparing=checkpoints.get((name, "check")),
    )


def _state(
    projection: Projection, live: Checkpoint | None, behind: Lag, waits: Failure | None
) -> State:
    if live is None:
        return "not built"
    if live.version != projection.version:
        return "outdated"
    if waits is not None:
        return "stopped"
    return "behind" if behind.events else "up to date"

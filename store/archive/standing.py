"""How the archive stands, and what archiving would do."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import func, select

from store.archive.moving import BATCH, Bound
from store.archive.partitions import missing_months
from store.archive.restoring import Restored
from store.archived import Archived
from store.database import Database
from store.packs import compressed, dictionary_for, pack, runs
from store.projections.checkpoints import Checkpoints

_OF_A_PACK = 230
"""Bytes that a pack's row and its places in indexes take beside what is packed."""
_OF_AN_EVENT = 16
"""Bytes of an event's id, which stands beside its pack."""


class ArchiveStanding(Struct, frozen=True, kw_only=True):
    """How the archive stands: how much of what is in it, and what follows.

    `bytes` are those of packed events alone, `size` is what their table and its indexes take and
    `active_size` what that of active events takes, where the database tells. `active_events` is an
    estimate of how many there are. `oldest_active` is when the first event that could be archived
    next was recorded, `moved_at` when the last batch was archived, `ran_at` when all was that was
    to be. On PostgreSQL partitions may be `missing`, by the first of their month, and packs in the
    `default` partition for that.
    """

    events: int
    packs: int
    batches: int
    bytes: int
    size: int | None
    active_size: int | None
    active_events: int
    through_position: int
    earliest: datetime | None
    latest: datetime | None
    oldest_active: datetime | None
    moved_at: datetime | None
    ran_at: datetime | None
    restored: Sequence[Restored]
    missing: Sequence[datetime]
    default: int


class ArchivePlan(Struct, frozen=True, kw_only=True):
    """What archiving by a policy would move now, and save.

    `events` up to `through_position`. `active_bytes` is what they take, `archived_bytes` what they
    would, by those that would go first. Of the aggregates `held` nothing goes. `projections` have
    not read all of them, nor has the outbox published `unpublished` of them: both would be read
    from the archive. `behind` older ones stay, as younger ones come before them.
    """

    events: int
    through_position: int
    latest: datetime | None
    active_bytes: int | None
    archived_bytes: int | None
    held: int
    projections: Sequence[str]
    unpublished: int
    behind: int


def standing(
    database: Database, restored: Sequence[Restored], *, at_once: bool = False
) -> ArchiveStanding:
    """How the archive of a store stands; what is counted is kept by the batch.

    Sizes may take a look at all there is, and are left out where it is to be told `at_once`.
    """
    tables = database.tables.tables
    batches = tables["archive_batches"]
    [found] = database.select(
        select(
            func.coalesce(func.sum(batches.c.events), 0),
            func.coalesce(func.sum(batches.c.packs), 0),
            func.count(),
            func.coalesce(func.sum(batches.c.bytes), 0),
            func.coalesce(func.max(batches.c.last_position), 0),
            func.max(batches.c.archived_at),
        )
    )
    full = batches.c.events > 0
    [(earliest, latest)] = database.select(
        select(
            func.min(batches.c.earliest_recorded_at), func.max(batches.c.latest_recorded_at)
        ).where(full)
    )
    events = tables["events"]
    next_one = (
        select(events.c.recorded_at)
        .where(events.c.position > found[4])
        .order_by(events.c.position)
        .limit(1)
    )
    oldest = database.select(next_one)
    [(ran_at,)] = database.select(select(tables["archive"].c.ran_at))
    missing, default = missing_months(database, oldest[0][0] if oldest else None)
    active_events = database.estimated_rows("events")
    if active_events is None:
        active_events = max(database.visible_position() - int(found[0]), 0)
    return ArchiveStanding(
        events=int(found[0]),
        packs=int(found[1]),
        batches=found[2],
        bytes=int(found[3]),
        size=database.bytes_of("events_archive", at_once=at_once),
        active_size=database.bytes_of("events", at_once=at_once),
        active_events=active_events,
        through_position=found[4],
        earliest=earliest,
        latest=latest,
        oldest_active=oldest[0][0] if oldest else None,
        moved_at=found[5],
        ran_at=ran_at,
        restored=restored,
        missing=missing,
        default=default,
    )


def plan(database: Database, bound: Bound, restored: Sequence[Restored]) -> ArchivePlan:
    """What archiving up to a bound would do. Looks at every event that would go."""
    start = Archived(database).position()
    end = _end(database, bound, start)
    events = database.tables.tables["events"]
    going = [events.c.position > start, events.c.position <= end]
    held = {each.aggregate_id for each in restored}
    kept = events.c.aggregate_id.in_(held)
    counted: Any = select(func.count(), func.max(events.c.recorded_at), func.count().filter(kept))
    [(count, latest, stay)] = database.select(counted.where(*going))
    outbox = database.tables.tables["outbox"]
    [(unpublished,)] = database.select(
        select(func.count()).where(outbox.c.open, outbox.c.position <= end)
    )
    [(behind,)] = database.select(
        select(func.count()).where(
            events.c.position > max(start, end),
            events.c.position <= bound.settled,
            events.c.recorded_at < bound.recorded,
        )
    )
    active, archived = _bytes(database, start, end, count - stay)
    return ArchivePlan(
        events=count - stay,
        through_position=end,
        latest=latest,
        active_bytes=active,
        archived_bytes=archived,
        held=stay,
        projections=sorted(
            name
            for (name, target), each in Checkpoints(database).all().items()
            if target == "live" and each.position < end and count
        ),
        unpublished=unpublished,
        behind=behind,
    )


def _end(database: Database, bound: Bound, start: int) -> int:
    """The position up to which a bound takes events."""
    events = database.tables.tables["events"]
    first = max(bound.position, start)
    young = (
        select(events.c.position)
        .where(events.c.position > first, events.c.recorded_at >= bound.recorded)
        .order_by(events.c.position)
        .limit(1)
    )
    found = database.select(young)
    return min(found[0][0] - 1 if found else bound.settled, bound.settled)


def _bytes(database: Database, start: int, end: int, events: int) -> tuple[int | None, int | None]:
    """What so many events take now, and would in the archive, by those that would go first."""
    size = database.bytes_of("events")
    table = database.tables.tables["events"]
    [(active,)] = database.select(select(func.count()).select_from(table))
    rows = database.rows(
        f"SELECT {database.event_columns} FROM events"  # noqa: S608 (placeholders)
        f" WHERE position > {database.bind('start')} AND position <= {database.bind('end')}"
        f" ORDER BY position LIMIT {BATCH}",
        {"start": start, "end": end},
    )
    if not rows or not events:
        return 0, 0
    found = runs(map(database.event, rows))
    dictionary = dictionary_for(found)
    packed = sum(len(pack(run, dictionary).events) + _OF_A_PACK for run in found)
    one = (packed + len(compressed(dictionary))) / len(rows) + _OF_AN_EVENT
    return None if size is None else size * events // active, round(one * events)

"""The tables as the newest migration leaves them."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

from msgspec import to_builtins
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON
from sqlalchemy.types import TypeDecorator, TypeEngine

NAMING = {
    "pk": "%(table_name)s_pkey",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "ck": "%(table_name)s_%(constraint_name)s_check",
}


class Moment(TypeDecorator[datetime]):
    """A UTC instant in microseconds; on SQLite text such as 2026-11-22T09:34:00.000000Z.

    The text has a fixed width, so it sorts as the time does.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        """What its values are."""
        return datetime

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(27))
        return dialect.type_descriptor(DateTime(timezone=True))

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        # Itself, as the toolkit would call it by way of three functions; and it may be none.
        return _sqlite_text if dialect.name == "sqlite" else None

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        del dialect
        if isinstance(value, str):
            return datetime.fromisoformat(value)
        return value.astimezone(UTC) if isinstance(value, datetime) else None


def _sqlite_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment_text(moment)


def moment_text(moment: datetime) -> str:
    """The instant as SQLite keeps it."""
    # In a tenth of the time that isoformat takes; a fraction of 0 is left out.
    text: str = to_builtins(moment if moment.tzinfo is UTC else moment.astimezone(UTC))
    return text if "." in text else f"{text[:-1]}.000000Z"


# Byte order on both databases: prefix ranges and keyset pages depend on it.
_ID = Text().with_variant(Text(collation="C"), "postgresql")
_JSON = Text().with_variant(JSON(), "postgresql")
_POSITION = BigInteger().with_variant(Integer(), "sqlite")
_UUID = String(36).with_variant(Uuid(), "postgresql")
_UUIDS = LargeBinary().with_variant(ARRAY(Uuid()), "postgresql")


@cache
def define(*, position_is_key: bool) -> MetaData:
    """The store's tables, the same objects for every store: nobody may change them.

    `position_is_key` is SQLite's way: only an INTEGER PRIMARY KEY AUTOINCREMENT never gives a
    position twice. Elsewhere every unique key carries the aggregate id, so that the table can be
    distributed by it.
    """
    metadata = MetaData(naming_convention=NAMING)
    _define_events(metadata, position_is_key=position_is_key)
    Table(
        "aggregates",
        metadata,
        Column("aggregate_id", _ID, primary_key=True),
        Column("aggregate_type", Text, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("first_occurred_at", Moment, nullable=False),
        Column("last_occurred_at", Moment, nullable=False),
        Column("last_recorded_at", Moment, nullable=False),
        Column("archived_through", BigInteger, nullable=False, server_default="0"),
        # Only of columns that never change: any other index would end HOT updates of the head.
        Index(None, "aggregate_type", "aggregate_id"),
    )
    Table(
        "snapshots",
        metadata,
        Column("aggregate_id", _ID, primary_key=True),
        Column("version", BigInteger, primary_key=True, autoincrement=False),
        Column("fingerprint", Text, primary_key=True),
        Column("upcasters", Text, nullable=False),
        Column("state", _JSON, nullable=False),
        Column("digest", Text, nullable=False),
        Column("event_digest", LargeBinary, nullable=False),
        Column("taken_at", Moment, nullable=False),
        Index(None, "fingerprint"),
    )
    Table(
        "folds",
        metadata,
        Column("fingerprint", Text, primary_key=True),
        Column("aggregate_type", Text, nullable=False),
        Column("seen_at", Moment, nullable=False),
    )
    _define_archive(metadata, position_is_key=position_is_key)
    _define_watching(metadata)
    _define_outbox(metadata)
    _define_projections(metadata)
    _define_rollups(metadata)
    Table(
        "inbox",
        metadata,
        Column("consumer", Text, primary_key=True),
        Column("aggregate_id", _ID, primary_key=True),
        Column("version", BigInteger, primary_key=True, autoincrement=False),
        Column("handled_at", Moment, nullable=False),
        Index(None, "handled_at", postgresql_using="brin"),
    )
    Table(
        "store_info",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("store_id", _UUID, nullable=False),
        Column("epoch", Integer, nullable=False),
        Column("minimum_version", Text, nullable=False),
        CheckConstraint("id = 1", name="single_row"),
    )
    return metadata


def _define_archive(metadata: MetaData, *, position_is_key: bool) -> None:
    Table(
        "archive",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("ran_at", Moment),
        CheckConstraint("id = 1", name="single_row"),
    )
    Table(
        "archive_batches",
        metadata,
        Column("last_position", _POSITION, primary_key=True, autoincrement=False),
        Column("first_position", BigInteger, nullable=False),
        Column("events", Integer, nullable=False),
        Column("packs", Integer, nullable=False),
        Column("bytes", BigInteger, nullable=False),
        Column("earliest_occurred_at", Moment, nullable=False),
        Column("latest_occurred_at", Moment, nullable=False),
        Column("earliest_recorded_at", Moment, nullable=False),
        Column("latest_recorded_at", Moment, nullable=False),
        Column("dictionary", LargeBinary, nullable=False),
        Column("correlations", LargeBinary, nullable=False),
        Column("archived_at", Moment, nullable=False),
        Column("archived_by", Text, nullable=False),
    )
    Table(
        "archive_restored",
        metadata,
        Column("aggregate_id", _ID, primary_key=True),
        Column("restored_at", Moment, nullable=False),
        Column("restored_by", Text, nullable=False),
    )
    place = Column("last_position", _POSITION, primary_key=True, autoincrement=False)
    keys: list[Any] = [UniqueConstraint("aggregate_id", "first_version")]
    if not position_is_key:
        place = Column("last_position", _POSITION, nullable=False)
        keys = [
            PrimaryKeyConstraint("aggregate_id", "first_version", "recorded_at"),
            Index(None, "last_position"),
        ]
    Table(
        "events_archive",
        metadata,
        Column("recorded_at", Moment, nullable=False),
        Column("first_version", BigInteger, nullable=False),
        Column("last_version", BigInteger, nullable=False),
        place,
        Column("aggregate_id", _ID, nullable=False),
        Column("event_ids", _UUIDS, nullable=False),
        Column("digest", LargeBinary, nullable=False),
        Column("events", LargeBinary, nullable=False),
        *keys,
        postgresql_partition_by="RANGE (recorded_at)",
    )


def _define_watching(metadata: MetaData) -> None:
    number = BigInteger().with_variant(Integer(), "sqlite")
    Table(
        "conflicts",
        metadata,
        Column("id", number, Identity(always=True), primary_key=True),
        Column("occurred_at", Moment, nullable=False),
        Column("aggregate_type", Text, nullable=False),
        Column("aggregate_id", _ID),
        Column("expected", BigInteger),
        Column("actual", BigInteger),
        Column("losing", Text, nullable=False),
        Column("command", Text),
        Column("event_types", Text, nullable=False),
        Column("winning", Text),
        Column("winners", Text, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("outcome", Text, nullable=False),
        Column("verdict", Text, nullable=False),
        Column("actor", Text),
        Column("correlation_id", Text),
        Column("process", Text, nullable=False),
        Column("weight", BigInteger, nullable=False),
        Index(None, "occurred_at"),
        sqlite_autoincrement=True,
    )
    Table(
        "metric_samples",
        metadata,
        Column("taken_at", Moment, primary_key=True),
        Column("sampler", Text, primary_key=True),
        Column("process", Text, nullable=False),
        Column("written_at", Moment, nullable=False),
        Column("data", Text, nullable=False),
    )


def _define_outbox(metadata: MetaData) -> None:
    is_open = Column("open", Boolean, nullable=False, server_default=true())
    status = Column("status", Text, nullable=False, server_default="pending")
    finished_at = Column("finished_at", Moment)

    def only(clause: ColumnElement[bool]) -> dict[str, Any]:
        return {"postgresql_where": clause, "sqlite_where": clause}

    Table(
        "outbox",
        metadata,
        Column("aggregate_id", _ID, primary_key=True),
        Column("version", BigInteger, primary_key=True, autoincrement=False),
        Column("position", _POSITION, nullable=False),
        Column("event_id", _UUID, nullable=False),
        status,
        is_open,
        Column("attempts", Integer, nullable=False, server_default="0"),
        Column("created_at", Moment, nullable=False),
        Column("next_attempt_at", Moment),
        Column("attempted_at", Moment),
        finished_at,
        Column("last_error", Text),
        Column("lease", _UUID),
        Column("leased_by", Text),
        Column("leased_until", Moment),
        Index("outbox_open_idx", "aggregate_id", "version", **only(is_open)),
        Index("outbox_failed_idx", "aggregate_id", "version", **only(status == "failed")),
        Index("outbox_skipped_idx", "aggregate_id", "version", **only(status == "skipped")),
        Index("outbox_finished_at_idx", "finished_at", **only(status == "published")),
    )
    Table(
        "operations",
        metadata,
        Column("id", _POSITION, Identity(always=True), primary_key=True),
        Column("occurred_at", Moment, nullable=False),
        Column("actor", Text, nullable=False),
        Column("action", Text, nullable=False),
        Column("aggregate_id", _ID, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("reason", Text, nullable=False),
        Index(None, "aggregate_id", "id"),
        sqlite_autoincrement=True,
    )


def _define_projections(metadata: MetaData) -> None:
    Table(
        "checkpoints",
        metadata,
        Column("projection", Text, primary_key=True),
        Column("target", Text, primary_key=True),
        Column("version", Integer, nullable=False),
        Column("fingerprint", Text, nullable=False),
        Column("generation", Integer, nullable=False),
        Column("position", BigInteger, nullable=False),
        Column("goal", BigInteger),
        Column("moved_at", Moment, nullable=False),
        Column("moved_by", Text, nullable=False),
        Column("checked_at", Moment),
        Column("drift", BigInteger),
    )
    Table(
        "projection_failures",
        metadata,
        Column("projection", Text, primary_key=True),
        Column("position", BigInteger, primary_key=True, autoincrement=False),
        Column("aggregate_id", _ID, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("event_type", Text, nullable=False),
        Column("handler", Text),
        Column("error", Text, nullable=False),
        Column("failed_at", Moment, nullable=False),
        Column("skipped", Boolean, nullable=False),
    )


def _define_rollups(metadata: MetaData) -> None:
    Table(
        "rollup",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("position", BigInteger, nullable=False),
        CheckConstraint("id = 1", name="single_row"),
    )
    Table(
        "event_totals",
        metadata,
        Column("aggregate_type", Text, primary_key=True),
        Column("event_type", Text, primary_key=True),
        Column("event_version", Integer, primary_key=True, autoincrement=False),
        Column("events", BigInteger, nullable=False),
        Column("aggregates", BigInteger, nullable=False),
        Column("last_position", BigInteger, nullable=False),
    )
    Table(
        "event_counts",
        metadata,
        Column("axis", Text, primary_key=True),
        Column("hours", Integer, primary_key=True, autoincrement=False),
        Column("hour", Integer, primary_key=True, autoincrement=False),
        Column("aggregate_type", Text, primary_key=True),
        Column("event_type", Text, primary_key=True),
        Column("events", BigInteger, nullable=False),
        Column("first_position", BigInteger, nullable=False),
        Column("last_position", BigInteger, nullable=False),
    )
    _define_lengths(metadata)


def _define_lengths(metadata: MetaData) -> None:
    aggregate_id = Column("aggregate_id", _ID, primary_key=True)
    aggregate_type = Column("aggregate_type", Text, nullable=False)
    version = Column("version", BigInteger, nullable=False)
    last_position = Column("last_position", BigInteger, nullable=False)
    # In the order of a listing: the longest first, and those as long by id.
    order = (version.desc(), aggregate_id)
    Table(
        "history_lengths",
        metadata,
        aggregate_id,
        aggregate_type,
        version,
        last_position,
        Index("history_lengths_version_idx", *order),
        Index("history_lengths_aggregate_type_version_idx", aggregate_type, *order),
        Index("history_lengths_last_position_idx", last_position),
        Index("history_lengths_aggregate_type_last_position_idx", aggregate_type, last_position),
        sqlite_with_rowid=False,
    )


def _define_events(metadata: MetaData, *, position_is_key: bool) -> None:
    history = ("aggregate_id", "version")
    position = Column("position", _POSITION, primary_key=True)
    keys: list[Any] = [UniqueConstraint(*history)]
    if not position_is_key:
        position = Column("position", _POSITION, Identity(always=True), nullable=False)
        keys = [
            PrimaryKeyConstraint(*history),
            Index(None, "position"),
            Index("events_recorded_at_idx", "recorded_at", postgresql_using="brin"),
        ]
    correlated = Column("correlation_id", Text)
    Table(
        "events",
        metadata,
        position,
        Column("version", BigInteger, nullable=False),
        Column("occurred_at", Moment, nullable=False),
        Column("recorded_at", Moment, nullable=False),
        Column("event_id", _UUID, nullable=False),
        Column("event_version", Integer, nullable=False),
        Column("aggregate_id", _ID, nullable=False),
        Column("aggregate_type", Text, nullable=False),
        Column("event_type", Text, nullable=False),
        Column("data", _JSON, nullable=False),
        Column("metadata", _JSON, nullable=False),
        correlated,
        Column("causation_id", Text),
        Column("actor", Text),
        Column("digest", LargeBinary, nullable=False),
        *keys,
        UniqueConstraint("aggregate_id", "event_id"),
        Index(
            "events_correlation_id_idx",
            "correlation_id",
            "position",
            postgresql_where=correlated.is_not(None),
            sqlite_where=correlated.is_not(None),
        ),
        sqlite_autoincrement=True,
    )


NAMES = frozenset(define(position_is_key=False).tables)
"""What the store's own tables are called."""

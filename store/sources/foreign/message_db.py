"""message-db's table of messages (Eventide)."""

from collections.abc import Mapping, Sequence
from typing import Any

from store.sources.foreign.layout import TEXTS, Condition, Fields, Table, text_range

COLUMNS: Mapping[str, frozenset[str]] = {
    "global_position": frozenset({"bigint"}),
    "position": frozenset({"bigint"}),
    "time": frozenset({"timestamp without time zone"}),
    "stream_name": TEXTS,
    "type": TEXTS,
    "data": frozenset({"jsonb"}),
    "metadata": frozenset({"jsonb"}),
    "id": frozenset({"uuid"}),
}
MARK = "global_position"
"""A column that few other tables have."""

# Eventide's convention: a message names the place of its cause, and the stream it all began in.
_CAUSE = "e.metadata ->> 'causationMessageGlobalPosition'"


class MessageDb:
    """See `Layout`. A stream is an aggregate, its category the aggregate's type."""

    system = "message-db"
    first_version = 0
    key: Mapping[str, str] = {"stream_name": "text"}

    def __init__(self, table: Table) -> None:
        self.table = table
        self._in_byte_order = table.columns["stream_name"].in_byte_order
        self.fields = Fields(
            position="e.global_position",
            version="e.position",
            event_id="e.id",
            aggregate_id="e.stream_name",
            aggregate_type="split_part(e.stream_name, '-', 1)",
            event_type="e.type",
            moment="(e.time AT TIME ZONE 'UTC')",
            data="coalesce(e.data, '{}')::json",
            metadata="coalesce(e.metadata, '{}')::json",
            correlation_id="(e.metadata ->> 'correlationStreamName')",
            causation_id=(
                f"CASE WHEN {_CAUSE} ~ '^[0-9]{{1,18}}$' THEN (SELECT cause.id::text"  # noqa: S608 (names)
                f" FROM {table.sql} AS cause WHERE cause.global_position = ({_CAUSE})::bigint) END"
            ),
            actor="NULL::text",
        )

    def key_of(self, aggregate_id: str) -> tuple[Any, ...] | None:
        return (aggregate_id,)

    def within(self, prefix: str, aggregate_type: str | None) -> Sequence[Condition]:
        if not self._in_byte_order:
            return []
        found = text_range("e.stream_name", prefix)
        if aggregate_type:
            # The category is all of a stream's name, or what stands before its first dash.
            found.append(("e.stream_name", ">=", (aggregate_type,)))
            found.append(("e.stream_name", "<", (f"{aggregate_type}.",)))
        return found

    def streams(self, where: str, limit: str) -> str:
        # There is no table of streams: the index on stream_name and position is read by leaps.
        def first(keyset: str) -> str:
            return (
                f"SELECT e.stream_name FROM {self.table.sql} AS e WHERE {keyset}{where}"  # noqa: S608 (placeholders)
                " ORDER BY e.stream_name LIMIT 1"
            )

        return f"""
            WITH RECURSIVE streams (stream_name) AS (
                ({first("")})
                UNION ALL
                SELECT ({first("e.stream_name > streams.stream_name AND ")})
                FROM streams WHERE streams.stream_name IS NOT NULL
            )
            SELECT stream_name FROM streams WHERE stream_name IS NOT NULL LIMIT {limit}
        """  # noqa: S608 (placeholders)

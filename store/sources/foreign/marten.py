"""Marten's tables of events and streams."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote
from uuid import UUID

from store.errors import InvalidSource
from store.sources.foreign.layout import TEXTS, Condition, Fields, Table, text_range

_TEXT_OR_UUID = TEXTS | {"uuid"}
COLUMNS: Mapping[str, frozenset[str]] = {
    "seq_id": frozenset({"bigint"}),
    "id": frozenset({"uuid"}),
    "stream_id": _TEXT_OR_UUID,
    "version": frozenset({"bigint"}),
    "data": frozenset({"jsonb"}),
    "type": TEXTS,
    "timestamp": frozenset({"timestamp with time zone"}),
    "tenant_id": TEXTS,
    "is_archived": frozenset({"boolean"}),
}
STREAM_COLUMNS: Mapping[str, frozenset[str]] = {
    "id": _TEXT_OR_UUID,
    "type": TEXTS,
    "tenant_id": TEXTS,
}
STREAMS = "mt_streams"
MARK = "seq_id"
"""A column that few other tables have."""
OPTIONAL: Mapping[str, frozenset[str]] = {
    "bdata": frozenset({"bytea"}),
    "headers": frozenset({"jsonb"}),
    "correlation_id": TEXTS,
    "causation_id": TEXTS,
    "user_name": TEXTS,
}

_LOWEST, _HIGHEST = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# What stands behind the last @ of an id is the tenant, so one in its name is written otherwise.
_TENANT = "replace(replace({}, '%%', '%%25'), '@', '%%40')"


class Marten:
    """See `Layout`. Where tenants may have streams of the same id, an id is `STREAM@TENANT`.

    Raises:
        InvalidSource: positions are each tenant's own, so that events have no order of the store.
    """

    system = "Marten"
    first_version = 1

    def __init__(self, table: Table, streams: Table) -> None:
        if not any(columns <= {"seq_id", "is_archived"} for columns in table.unique):
            raise InvalidSource(
                f"{table.title}: a sequence of its own for each tenant; events have no common order"
            )
        self.table = table
        self._streams = streams
        stream_id = table.columns["stream_id"]
        self._by_uuid, self._in_byte_order = stream_id.type == "uuid", stream_id.in_byte_order
        self._by_tenant = not any(
            columns <= {"stream_id", "version", "is_archived"} for columns in table.unique
        )
        key = {"stream_id": "uuid" if self._by_uuid else "text"}
        self.key: Mapping[str, str] = key | ({"tenant_id": "text"} if self._by_tenant else {})
        self.fields = self._fields()

    def _fields(self) -> Fields:
        same = [f"s.{'id' if name == 'stream_id' else name} = e.{name}" for name in self.key]
        tenant = f" || '@' || {_TENANT.format('e.tenant_id')}" if self._by_tenant else ""
        headers = "coalesce(e.headers, '{}')" if self._has("headers") else "'{}'::jsonb"
        archived = "jsonb_build_object('is_archived', true)"
        return Fields(
            position="e.seq_id",
            version="e.version",
            event_id="e.id",
            aggregate_id=f"e.stream_id::text{tenant}",
            # An archived stream may be in another partition: two rows for a moment at most.
            aggregate_type=(
                f"coalesce((SELECT s.type FROM {self._streams.sql} AS s"  # noqa: S608 (names)
                f" WHERE {' AND '.join(same)} LIMIT 1), 'stream')"
            ),
            event_type="e.type",
            moment="e.timestamp",
            data=self._data(),
            metadata=f"(CASE WHEN e.is_archived THEN {archived} || {headers}"
            f" ELSE {headers} END)::json",
            correlation_id=self._text("correlation_id"),
            causation_id=self._text("causation_id"),
            actor=self._text("user_name"),
        )

    def _data(self) -> str:
        if not self._has("bdata"):
            return "coalesce(e.data, '{}')::json"
        said = "'not readable: ' || octet_length(e.bdata) || ' bytes of binary data'"
        return (
            f"(CASE WHEN e.bdata IS NULL THEN coalesce(e.data, '{{}}') ELSE to_jsonb({said}) END)"
            "::json"
        )

    def _has(self, name: str) -> bool:
        column = self.table.columns.get(name)
        return column is not None and column.type in OPTIONAL[name]

    def _text(self, name: str) -> str:
        return f"e.{name}" if self._has(name) else "NULL::text"

    def key_of(self, aggregate_id: str) -> tuple[Any, ...] | None:
        stream_id, tenant = aggregate_id, ""
        if self._by_tenant:
            stream_id, separator, tenant = aggregate_id.rpartition("@")
            if not separator:
                return None
        if self._by_uuid and not _UUID.fullmatch(stream_id):
            return None
        of_stream = UUID(stream_id) if self._by_uuid else stream_id
        return (of_stream, unquote(tenant)) if self._by_tenant else (of_stream,)

    def within(self, prefix: str, aggregate_type: str | None) -> Sequence[Condition] | None:
        del aggregate_type  # it has no index
        # What stands behind the first @ may be the tenant's.
        stem = prefix.partition("@")[0] if self._by_tenant else prefix
        if not self._by_uuid:
            return text_range("e.stream_id", stem) if self._in_byte_order else []
        low, high = stem + _LOWEST[len(stem) :], stem + _HIGHEST[len(stem) :]
        if not _UUID.fullmatch(low):
            return None
        return [("e.stream_id", ">=", (UUID(low),)), ("e.stream_id", "<=", (UUID(high),))]

    def streams(self, where: str, limit: str) -> str:
        columns = ", ".join(self.key)
        return f"""
            SELECT {columns} FROM (
                SELECT id AS stream_id, tenant_id FROM {self._streams.sql}
            ) AS e WHERE {where} ORDER BY {columns} LIMIT {limit}
        """  # noqa: S608 (placeholders)

"""How values come out of PostgreSQL: payloads as the bytes they are, times in UTC."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.types.string import ByteaBinaryLoader

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class _UtcLoader(Loader):
    """Times in UTC whatever zone the session is in: in some, the year 9999 has no last hours."""

    format = psycopg.pq.Format.BINARY

    def load(self, data: Buffer) -> datetime:
        return _EPOCH + timedelta(microseconds=int.from_bytes(data, signed=True))


def register_json(connection: psycopg.Connection[Any]) -> None:
    """For a connection of our own, whose session is in UTC."""
    connection.adapters.register_loader("json", ByteaBinaryLoader)


def register(cursor: psycopg.Cursor[Any]) -> None:
    """For a cursor on somebody else's connection."""
    cursor.adapters.register_loader("json", ByteaBinaryLoader)
    cursor.adapters.register_loader("timestamptz", _UtcLoader)

"""How values travel: payloads as the bytes they are, times in UTC, arrays in binary."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.types.array import ListBinaryDumper
from psycopg.types.string import ByteaBinaryLoader

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class _UtcLoader(Loader):
    """Times in UTC whatever zone the session is in: in some, the year 9999 has no last hours."""

    format = psycopg.pq.Format.BINARY

    def load(self, data: Buffer) -> datetime:
        return _EPOCH + timedelta(microseconds=int.from_bytes(data, signed=True))


def register_own(connection: psycopg.Connection[Any]) -> None:
    """For a connection of our own, whose session is in UTC."""
    _register_both_ways(connection.adapters)


def register_foreign(cursor: psycopg.Cursor[Any]) -> None:
    """For a cursor on somebody else's connection."""
    _register_both_ways(cursor.adapters)
    cursor.adapters.register_loader("timestamptz", _UtcLoader)


def _register_both_ways(adapters: AdaptersMap) -> None:
    adapters.register_loader("json", ByteaBinaryLoader)
    # The driver sends arrays as literals, escaped in Python, unless told to pack them.
    adapters.register_dumper(list, ListBinaryDumper)

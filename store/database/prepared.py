"""Prepared statements of one connection, run with nothing between them and libpq.

For a short answer the driver's cursor takes as long as the server does: it polls the connection, so
that it can be interrupted, and looks its statement up. A query that is answered at once needs
neither.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import Any, cast

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ExecStatus, Format
from psycopg.rows import TupleRow

_FEW = 64
"""Rows that may be kept until the next query."""
_SELDOM = 5
"""Times that a query is left to a cursor, as psycopg has it before it prepares one."""


class Prepared:
    """The statements of a connection; one thread at a time may use it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._server = connection.pgconn
        self._values = Transformer.from_context(connection)
        self._names: dict[tuple[bytes, tuple[int, ...]], bytes] = {}
        self._asked: Counter[tuple[bytes, tuple[int, ...]]] = Counter()
        self._numbers = count()

    def rows(self, query: bytes, values: Sequence[Any]) -> list[TupleRow] | None:
        """The answer to a query with numbered parameters.

        None where there is no answer like this; a cursor tells why.
        """
        adapter = self._values
        given = adapter.dump_sequence(values, [PyFormat.AUTO] * len(values))
        # Numbers of other sizes are other types to the server.
        asked = query, adapter.types or ()
        name = self._names.get(asked) or self._prepare(*asked)
        if name is None:
            return None
        answer = self._server.exec_prepared(
            name, cast("list[bytes]", given), adapter.formats, Format.BINARY
        )
        if answer.status != ExecStatus.TUPLES_OK:
            del self._names[asked]
            return None
        adapter.set_pgresult(answer)
        rows: list[TupleRow] = adapter.load_rows(0, answer.ntuples, tuple)
        if len(rows) > _FEW:
            adapter.set_pgresult(None)  # else it is kept
        return rows

    def _prepare(self, query: bytes, types: tuple[int, ...]) -> bytes | None:
        """A name for what is asked often enough to be worth a round trip more."""
        self._asked[query, types] += 1
        if self._asked[query, types] <= _SELDOM:
            return None
        name = f"hindsight_{next(self._numbers)}".encode()
        if self._server.prepare(name, query, types).status != ExecStatus.COMMAND_OK:
            return None
        self._names[query, types] = name
        return name

"""The databases the store runs on: the only place that knows which one it talks to."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import Connection, Engine, MetaData, Select, TextualSelect

from store.database.batch import Batch, Inserted, Refused
from store.database.claiming import Claim, Claimed, Settlement, Taken
from store.database.connections import Connections
from store.packs import Pack
from store.records import Event, EventHeader, Holder

Row = tuple[Any, ...]


class Listener(Protocol):
    """Waits for `Database.notify`; only one thread may."""

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Wait until somebody notifies, `stop` is set, or so many seconds are over.

        What was sent since the last time counts. Where other processes cannot notify, it does not
        wait for long.
        """
        ...


class Database(Protocol):
    """A database with the store's tables in it. Safe to share between threads."""

    engine: Engine
    connections: Connections
    is_remote: bool
    """Whether a statement waits for another process, so that one is better than two."""
    now: str
    """SQL for the time as the database's clock tells it."""
    tables: MetaData
    event_columns: str
    """The select list of rows that `event` reads."""

    header_columns: str
    """The select list of rows that `header` reads: the data comes last."""

    def bind(self, name: str) -> str:
        """The placeholder of a named parameter in the SQL given to `rows`."""
        ...

    def value(self, value: Any) -> Any:
        """A time or an event id as a parameter of `rows`; anything else as it is."""
        ...

    def json(self, column: str) -> str:
        """SQL for the JSON in a column as the bytes it is stored as."""
        ...

    def size(self, column: str) -> str:
        """SQL for how many bytes the JSON in a column has."""
        ...

    def microseconds(self, column: str) -> str:
        """SQL for the microseconds from 1970 to the time in a column, exact and whole."""
        ...

    def rows(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        connection: Connection | None = None,
        *,
        at_once: bool = False,
    ) -> list[Row]:
        """Run one query, in the caller's transaction or alone; no connection is held after it.

        One that is answered `at_once` may be asked in a quicker way that cannot be interrupted.
        """
        ...

    def commits(self) -> int | None:
        """A number that is another one as soon as anybody has committed anything.

        None where it takes as long as a query, or is not known just now.
        """
        ...

    def select(self, statement: Select[Any] | TextualSelect) -> list[Row]:
        """Run one query that is not hot."""
        ...

    def event(self, row: Row) -> Event:
        """The event in a row of `event_columns`."""
        ...

    def header(self, row: Row) -> EventHeader:
        """The event in a row of `header_columns`, without its data."""
        ...

    def pack(self, row: Row) -> Pack:
        """The pack in a row that begins with the columns of one."""
        ...

    def contains(self, column: str, name: str) -> str:
        """SQL for whether the bytes in a column have those of a named parameter in them."""
        ...

    def archiving(self, *, patience: float) -> AbstractContextManager[Connection]:
        """A transaction that may move events to the archive, or back.

        It waits for no lock longer than so many seconds.
        """
        ...

    def among(self, column: str, name: str) -> str:
        """SQL for whether a column is one of a parameter that `listed` made."""
        ...

    def listed(self, values: Sequence[str] | Sequence[int] | Sequence[UUID]) -> Any:
        """Texts, numbers or event ids as one parameter."""
        ...

    def insert_packs(self, connection: Connection, packs: Sequence[Pack]) -> None:
        """Write packs, and through which versions heads are archived; in an `archiving` one."""
        ...

    def put_back(self, connection: Connection, events: Sequence[Event]) -> None:
        """Write events, as they were, where they are appended to, in an `archiving` transaction."""
        ...

    def insert(self, batch: Batch, clock: datetime | None, *, publish: bool) -> Inserted | Refused:
        """Append all or nothing, in a transaction of its own; `publish` writes to the outbox, too.

        Raises:
            ConnectionLost: whether it was written is unknown.
            Deadlock: nothing was written; run it again.
        """
        ...

    def load(
        self,
        batch: Batch,
        order: Sequence[int],
        clock: datetime | None,
        meanwhile: Callable[[], None],
    ) -> Refused | None:
        """`insert` for many events: quicker, and silent about what was written.

        `meanwhile` is called up to once an event, where the caller would wait for the database.

        `order` names, for one event after the other as they get their positions, the place of its
        aggregate in `batch`. Known event ids are told only where the heads are as expected.
        """
        ...

    def insert_within(
        self, connection: Connection, batch: Batch, clock: datetime | None, *, publish: bool
    ) -> Inserted | Refused:
        """Append as a part of the caller's transaction, which stays usable when refused."""
        ...

    def claim(self, claim: Claim) -> Sequence[Taken]:
        """Take records of the outbox, counting the attempts; in the order of aggregate and version.

        Who does not come back loses them when the lease ends.
        """
        ...

    def renew(self, claim: Claim, claimed: Sequence[Claimed]) -> None:
        """Have the claim's lease of records end later: its `seconds` from its `now`."""
        ...

    def settle(
        self, lease: UUID, settlements: Sequence[Settlement], now: datetime | None
    ) -> frozenset[tuple[str, int]]:
        """Write down what became of claimed records; aggregate and version of those still claimed.

        What has another lease by now is left as it is.
        """
        ...

    def trim(self, seconds: float, *, limit: int) -> int:
        """Remove records published longer ago than so many seconds, the oldest first; how many."""
        ...

    def notify(self) -> None:
        """Wake those who listen, in all processes."""
        ...

    def listen(self) -> AbstractContextManager[Listener]:
        """A connection of its own on which to wait for `notify`.

        What the database refuses within the block is raised as the store's errors.
        """
        ...

    def last_position(self) -> int:
        """The highest position drawn so far, committed or not."""
        ...

    def writers(self) -> frozenset[str]:
        """The transactions that may hold drawn positions they have not committed yet."""
        ...

    def oldest(self, writers: frozenset[str]) -> Holder | None:
        """The one of those transactions that is open for longest; None where none is any more."""
        ...

    def drawn_before(self, writers: frozenset[str]) -> int:
        """A position, as high as is quickly found, drawn before any of those drew one."""
        ...

    def visible_position(self) -> int:
        """The highest position that is committed."""
        ...

    def bytes_used(self) -> int:
        """What the store's tables and their indexes take."""
        ...

    def bytes_of(self, table: str, *, at_once: bool = False) -> int | None:
        """What one of the tables and its indexes take; None where the database cannot tell.

        Nor is it told where it is to be told `at_once`, and all there is had to be looked at.
        """
        ...

    def estimated_rows(self, table: str) -> int | None:
        """How many rows a table has about, as it was last looked at; None where nobody has."""
        ...

    def is_replica(self) -> bool:
        """Whether this is a copy that cannot tell who writes."""
        ...

    def place(self) -> str:
        """What tells this database from a copy of it, which has the same store id."""
        ...

    def connect(self) -> AbstractContextManager[Connection]:
        """A connection in autocommit mode.

        What the database refuses within the block is raised as the store's errors.
        """
        ...

    def transaction(self) -> AbstractContextManager[Connection]:
        """A transaction that may write, committed at the end of the block."""
        ...

    def snapshot(self) -> AbstractContextManager[Connection]:
        """A transaction that reads, all through, what was committed when it first read."""
        ...

    def close(self) -> None:
        """Close the pooled connections."""
        ...

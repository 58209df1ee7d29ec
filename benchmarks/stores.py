"""Where the contenders write: databases with the migrated schema, on a real disk."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import make_url

import store
from benchmarks.bare_postgresql import BarePostgreSQL
from benchmarks.bare_sqlite import BareSQLite
from benchmarks.measures import Openers
from benchmarks.ours import Ours
from benchmarks.peer import FastPeer, Peer
from tests import servers

BARE, OURS, PEER, FAST_PEER = "bare", "ours", "eventsourcing", "eventsourcing, fast"


class PostgreSQLStores:
    """Databases of one throw-away server, which syncs every commit."""

    name = "PostgreSQL"

    def __init__(self, server: servers.PostgresServer) -> None:
        self.server = server
        self._numbers = count(1)
        server.execute("CREATE DATABASE migrated")
        store.migrate(server.url("migrated"))

    def new(self) -> str:
        """The URL of an empty, migrated store."""
        return self._create("TEMPLATE migrated")

    def openers(self, url: str) -> Openers:
        """The contenders; the peer's tables are in databases of their own."""
        return {
            BARE: partial(BarePostgreSQL, url),
            OURS: partial(Ours, url),
            PEER: partial(Peer, self._for_peer(Peer)),
            FAST_PEER: partial(FastPeer, self._for_peer(FastPeer)),
        }

    def on_one_core(self, *others: int) -> AbstractContextManager[None]:
        """What connects within it shares a core with its server, and with other processes.

        A core that idles between two calls takes, under a hypervisor, longer to wake than a load
        takes, or not, by what else happens: several times what is to be measured.
        """
        return _on_one_core(self.server.pid, *others)

    def drop(self, url: str) -> None:
        """Remove a store that nobody has open."""
        self.server.execute(f"DROP DATABASE {make_url(url).database}")

    def settle(self, url: str) -> None:
        """Leave no clean-up for the measurements."""
        self.execute(url, "VACUUM (ANALYZE)")
        self.execute(url, "CHECKPOINT")

    def execute(self, url: str, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement outside of a transaction; its rows, if it has any."""
        return self.server.execute(sql, database=str(make_url(url).database))

    def _for_peer(self, kind: type[Peer | FastPeer]) -> str:
        url = self._create("")
        kind(url, create=True).close()
        return url

    def _create(self, options: str) -> str:
        name = f"bench{next(self._numbers)}"
        self.server.execute(f"CREATE DATABASE {name} {options}")
        return self.server.url(name)


class SQLiteStores:
    """Files in one directory."""

    name = "SQLite"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = count(1)
        self._template = directory / "migrated.db"
        store.migrate(f"sqlite:///{self._template}")

    def new(self) -> str:
        """The URL of an empty, migrated store."""
        path = self._directory / f"bench{next(self._numbers)}.db"
        shutil.copy(self._template, path)
        return f"sqlite:///{path}"

    def openers(self, url: str) -> Openers:
        """The contenders."""
        return {
            BARE: partial(BareSQLite, url.removeprefix("sqlite:///")),
            OURS: partial(Ours, url),
        }

    def on_one_core(self, *others: int) -> AbstractContextManager[None]:
        """There is no server to share it with, but there may be other processes."""
        return _on_one_core(*others)

    def drop(self, url: str) -> None:
        """Remove a store that nobody has open."""
        for file in self._directory.glob(f"{Path(url).name}*"):
            file.unlink()

    def settle(self, url: str) -> None:
        """Nothing: SQLite cleans up as it goes."""


@contextmanager
def stores() -> Iterator[tuple[PostgreSQLStores, SQLiteStores]]:
    """Both databases; gone afterwards."""
    with servers.postgres() as server, tempfile.TemporaryDirectory(prefix="bench-") as directory:
        for place in (server.directory, Path(directory)):
            if file_system(place) in {"tmpfs", "ramfs"}:
                raise SystemExit(f"{place} is in memory; let TMPDIR name a directory on a disk")
        yield PostgreSQLStores(server), SQLiteStores(Path(directory))


@contextmanager
def _on_one_core(*servers: int) -> Iterator[None]:
    """This thread, those it starts, and the servers with the processes that they start."""
    processes = [psutil.Process(), *map(psutil.Process, servers)]
    before = [process.cpu_affinity() for process in processes]
    core = before[0][-1:] if before[0] else []
    for process in processes:
        process.cpu_affinity(core)
    try:
        yield
    finally:
        for process, cores in zip(processes, before, strict=True):
            process.cpu_affinity(cores)


def file_system(path: Path) -> str:
    """The kind of file system a path is on."""
    mounts = {mount.mountpoint: mount.fstype for mount in psutil.disk_partitions(all=True)}
    path = path.resolve()
    return next(mounts[str(p)] for p in (path, *path.parents) if str(p) in mounts)

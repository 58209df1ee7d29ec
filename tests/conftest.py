"""What every test may ask for: fresh stores on each database, real servers, real event logs."""

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from store import Hindsight, migrate
from tests import chromium, servers
from tests.servers import PostgresServer, RedisServer

_TEMPLATE = "template_store"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that cannot run has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
    return report


@pytest.fixture
def new_id() -> Callable[[], str]:
    """Makes aggregate ids nobody else has."""
    return lambda: f"aggregate-{uuid4()}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's PostgreSQL; tests that stop or break a server take `own_postgres`."""
    # Its data dies with the session anyway.
    with servers.postgres(directory=servers.memory_directory(), fsync="off") as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """An empty PostgreSQL with its usual durability, for one test to stop, kill and restart."""
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def _postgres_template(postgres_server: PostgresServer) -> str:
    postgres_server.execute(f"CREATE DATABASE {_TEMPLATE}")
    migrate(postgres_server.url(_TEMPLATE))
    return _TEMPLATE


@pytest.fixture(scope="session")
def _run_sql(postgres_server: PostgresServer) -> Iterator[Callable[[str], object]]:
    """Runs statements on one connection: to connect takes as long as to make a database."""
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        yield lambda sql: connection.execute(sql.encode())


@pytest.fixture
def postgres_url(
    postgres_server: PostgresServer, _postgres_template: str, _run_sql: Callable[[str], object]
) -> Iterator[str]:
    """A fresh migrated PostgreSQL database."""
    name = f"test_{uuid4().hex}"
    _run_sql(f"CREATE DATABASE {name} TEMPLATE {_postgres_template} STRATEGY file_copy")
    yield postgres_server.url(name)
    _run_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "store.db"
    migrate(f"sqlite:///{path}")
    assert not path.with_name("store.db-wal").exists(), "the migration left a connection open"
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, _sqlite_template: Path) -> str:
    """A fresh migrated SQLite file."""
    path = shutil.copy(_sqlite_template, tmp_path / "store.db")
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    """A fresh migrated database of each kind."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes a migrated store of each kind, as often as it is called."""
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("_sqlite_template")
        yield lambda: f"sqlite:///{shutil.copy(template, tmp_path / uuid4().hex)}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    origin: str = request.getfixturevalue("_postgres_template")
    made: list[str] = []

    def drop() -> None:
        while made:
            server.execute(f"DROP DATABASE {made.pop()} WITH (FORCE)")

    def create() -> str:
        drop()
        made.append(f"test_{uuid4().hex}")
        server.execute(f"CREATE DATABASE {made[0]} TEMPLATE {origin} STRATEGY file_copy")
        return server.url(made[0])

    yield create
    drop()


@pytest.fixture(
    params=[
        pytest.param(True, id="measured"),
        pytest.param(False, id="bare", marks=pytest.mark.soak),
    ]
)
def measured(request: pytest.FixtureRequest) -> bool:
    """Whether the store's parts are wrapped to count and time what they do, as they are by default.

    What a part does, the wrapped one does: tests of parts that are wrapped run with both.
    """
    return bool(request.param)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The session's Redis; tests that stop or break one take `own_redis`."""
    with servers.redis() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """An empty Redis for one test to kill, suspend and fill with garbage."""
    with servers.redis() as server:
        yield server


@pytest.fixture
def store(store_url: str) -> Iterator[Hindsight]:
    """An open store on each database; no connection may be in use when the test is over."""
    with Hindsight(store_url) as opened:
        yield opened
        assert opened.database.connections.in_use == 0


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The Chromium to drive; `make browser` installs one where there is none."""
    path = chromium.find()
    if path is None:
        pytest.fail("no Chromium found; run: make browser", pytrace=False)
    return path


@pytest.fixture(scope="session")
def data_sets(pytestconfig: pytest.Config) -> Path:
    """The folder of real event logs that lies beside the checkout."""
    path = pytestconfig.rootpath.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no real event logs at {path}")
    return path

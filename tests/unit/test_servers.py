"""The tests' own PostgreSQL: it stops, dies and comes back as the fault tests need."""

import psutil
import psycopg
import pytest

from tests import servers
from tests.servers import PostgresServer


def test_the_server_is_postgresql_18(postgres_server: PostgresServer) -> None:
    [(version,)] = postgres_server.execute("SHOW server_version_num")
    assert int(version) // 10_000 == 18


def test_committed_rows_survive_a_kill(own_postgres: PostgresServer) -> None:
    own_postgres.execute("CREATE TABLE kept AS SELECT 7 AS number")
    own_postgres.kill()
    own_postgres.start()
    assert own_postgres.execute("TABLE kept") == [(7,)]


def test_a_kill_ends_every_backend(own_postgres: PostgresServer) -> None:
    with psycopg.connect(own_postgres.url()) as connection:
        backend = psutil.Process(connection.info.backend_pid)
        own_postgres.kill()
        assert not servers.lives(backend)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_a_stopped_server_refuses_connections_until_it_starts(own_postgres: PostgresServer) -> None:
    own_postgres.stop()
    with pytest.raises(psycopg.OperationalError):
        own_postgres.execute("SELECT 1")
    own_postgres.start()
    assert own_postgres.execute("SELECT 1") == [(1,)]


def test_nothing_is_left_of_a_server() -> None:
    with servers.postgres() as server:
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children()]
    assert not server.directory.exists()
    assert not any(map(servers.lives, family))


def test_a_setting_the_server_refuses_is_told_with_its_log() -> None:
    with pytest.raises(RuntimeError, match="max_connections"), servers.postgres(max_connections=-1):
        pass

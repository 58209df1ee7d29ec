"""A whole server that was copied: its stores are others, though nothing in them tells so."""

import shutil

from store import Hindsight, migrate
from tests import servers
from tests.servers import PostgresServer, RedisServer
from tests.totals import numbers, put


def test_both_go_on_with_one_redis_and_hear_nothing_of_each_other(
    own_postgres: PostgresServer, own_redis: RedisServer
) -> None:
    migrate(own_postgres.url())
    with Hindsight(own_postgres.url()) as store:
        put(store, 1)
    own_postgres.stop()
    with servers.postgres() as copy:
        copy.stop()
        data = copy.directory / "data"
        shutil.rmtree(data)
        shutil.copytree(own_postgres.directory / "data", data, copy_function=shutil.copy2)
        for path in (data, *data.rglob("*")):
            owner = own_postgres.directory.stat()
            shutil.chown(path, owner.st_uid, owner.st_gid)
        copy.start()
        own_postgres.start()
        for server, number in ((own_postgres, 2), (copy, 1_000)):
            with Hindsight(server.url(), domain=numbers(), redis_url=own_redis.url) as store:
                put(store, number, number)
                store.load("a")
                list(store.events("a"))
        for server, total in ((own_postgres, 5), (copy, 2_001)):
            with Hindsight(server.url(), domain=numbers(), redis_url=own_redis.url) as store:
                loaded = store.load("a", max_age=60)
                assert (loaded.state.total, loaded.source) == (total, "l2")
                events = list(store.events("a", max_age=60))
                assert sum(event.data["number"] for event in events) == total

"""A server in recovery: it can be read, but late commits cannot be told from rolled back ones."""

import pytest

from store import Hindsight, NewEvent, any_, migrate
from store.errors import AccessDenied, EventStoreError
from store.records import Watermark
from tests.servers import PostgresServer, RedisServer


@pytest.fixture
def replica(own_postgres: PostgresServer) -> PostgresServer:
    """A server with an event, a hole and another event, restarted as a standby of nobody."""
    migrate(own_postgres.url())
    with Hindsight(own_postgres.url()) as store:
        store.append("thing", "a", [NewEvent("Happened", {})], expected=any_())
        own_postgres.execute("SELECT nextval('events_position_seq')")
        store.append("thing", "a", [NewEvent("Happened", {})], expected=any_())
    own_postgres.stop()
    (own_postgres.directory / "data" / "standby.signal").touch()
    own_postgres.start()
    return own_postgres


def test_a_replica_is_read_but_followed_to_the_first_hole_only(replica: PostgresServer) -> None:
    with Hindsight(replica.url()) as store:
        assert [event.version for event in store.feed()] == [1, 2]
        assert store.aggregate("a").version == 2
        followed = store.follow()
        assert next(followed).version == 1, "nothing is missing before a hole"
        with pytest.raises(EventStoreError, match="follow the primary"):
            next(followed)


def test_a_replica_shows_what_has_arrived_and_nobody_who_holds(replica: PostgresServer) -> None:
    with Hindsight(replica.url(), read_only=True) as store:
        assert store.watermark() == Watermark(position=3, holder=None)


def test_an_append_to_a_replica_is_refused_by_name(replica: PostgresServer) -> None:
    with Hindsight(replica.url()) as store, pytest.raises(AccessDenied, match="read-only"):
        store.append("thing", "a", [NewEvent("Happened", {})], expected=any_())


def test_a_replica_shares_nothing(replica: PostgresServer, own_redis: RedisServer) -> None:
    """What is newest there may not be what is newest."""
    with Hindsight(replica.url(), redis_url=own_redis.url) as store:
        assert [store.load("a").source for _ in range(2)] == ["replay", "l1"]
        assert len(list(store.events("a"))) == 2
    with own_redis.client() as client:
        assert client.keys("*") == []

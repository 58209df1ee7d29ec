"""Event tables of other systems: which are recognised, and what is made of what is in them."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import Event, FeedFilter, Hindsight, migrate
from store.analysis import Expression, Step, Stepper, bisect, blame, diff
from store.analysis.sides import side
from store.analysis.transitions import outline, transitions
from store.application import connect, open_repository, open_source, opened, parse_url
from store.cli import hindsight
from store.domain import Domains
from store.errors import AccessDenied, AggregateNotFound, HistoryGap, InvalidSource, NoStore
from store.records import AggregateSummary, Tally
from store.repository import Repository
from store.sources import EventSource
from store.sources.foreign import ForeignSource, listing, recognise
from store.transfer import import_events
from tests import foreign
from tests.foreign import Line
from tests.histories import PACKAGES
from tests.servers import PostgresServer

pytestmark = pytest.mark.slow

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
OTHER_ORDER = 'COLLATE "C.utf8"'
"""One of the operating system's collations; there are systems that have no other."""


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty PostgreSQL database."""
    name = f"foreign_{uuid4().hex}"
    postgres_server.execute(f"CREATE DATABASE {name}")
    yield postgres_server.url(name)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def reader(url: str, postgres_server: PostgresServer) -> Iterator[str]:
    """The same database for a role that has no right yet."""
    name = f"reader_{uuid4().hex}"
    postgres_server.execute(f"CREATE ROLE {name} LOGIN")
    yield url.replace("postgres@", f"{name}@")
    run(url, f"DROP OWNED BY {name}")
    postgres_server.execute(f"DROP ROLE {name}")


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def line(aggregate_id: str, version: int, hour: int = 0, **changes: Any) -> Line:
    fields = {
        "event_id": str(uuid4()),
        "aggregate_type": "order",
        "aggregate_id": aggregate_id,
        "version": version,
        "event_type": "Changed",
        "data": {"n": version},
        "occurred_at": (START + hour * HOUR).isoformat(),
    }
    return fields | changes


def message(
    url: str, stream: str, position: int, data: str = "'{}'", metadata: str = "NULL"
) -> str:
    """The id of a message that was written."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "INSERT INTO message_store.messages (stream_name, type, position, data, metadata)"
            f" VALUES (%s, 'Said', %s, {data}, {metadata}) RETURNING id::text".encode(),
            (stream, position),
        ).fetchone()
        assert row
        return str(row[0])


def ids(source: EventSource, **query: Any) -> list[str]:
    """The ids on all pages, in order."""
    return [head.aggregate_id for head in heads(source, **query)]


def heads(source: EventSource, **query: Any) -> list[AggregateSummary]:
    found: list[AggregateSummary] = []
    after = None
    while True:
        page = source.aggregates(after=after, **query)
        found += page.items
        after = page.next
        if after is None:
            return found


# Recognition


def test_each_system_is_recognised_in_any_schema(url: str) -> None:
    foreign.build_message_db(url, schema='"odd {} % Name"')
    with open_source(url) as source:
        assert source.info.first_version == 0
        assert source.info.name.startswith("odd {} % Name.messages of message-db in foreign_")
        assert list(source.feed()) == []
        assert ids(source) == []
    run(url, 'DROP SCHEMA "odd {} % Name" CASCADE')
    foreign.build_marten(url, schema="sales", optional="")
    foreign.fill_marten(url, [line("a", 1)], optional=False)
    with open_source(url) as source:
        assert source.info.first_version == 1
        assert source.info.name.startswith("sales.mt_events of Marten in foreign_")
        assert ids(source) == ["a"]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE message_store.messages DROP COLUMN metadata",
        "ALTER TABLE message_store.messages ALTER position TYPE int",
        "ALTER TABLE message_store.messages ALTER data TYPE text",
        "ALTER TABLE message_store.messages ALTER time TYPE timestamptz",
    ],
)
def test_a_table_with_other_columns_is_none(url: str, change: str) -> None:
    foreign.build_message_db(url)
    run(url, change)
    with pytest.raises(NoStore) as caught, opened(url):
        pass
    said = str(caught.value)
    assert said.startswith("no event store here, which hindsight migrate would make, and no event")
    assert "message-db (with columns global_position, position, time, stream_name" in said
    assert "Marten (with seq_id, id, stream_id" in said
    assert said.endswith("beside mt_streams) in any schema")
    assert "\n" not in said


def test_marten_needs_both_its_tables(url: str) -> None:
    foreign.build_marten(url)
    run(url, "ALTER TABLE sales.mt_streams RENAME TO streams")
    with pytest.raises(NoStore), opened(url):
        pass


def test_of_several_tables_one_is_chosen(url: str) -> None:
    for schema in ("north", "south"):
        foreign.build_marten(url, schema=schema)
        foreign.fill_marten(url, [line(f"{schema}-1", 1)], schema=schema)
    foreign.build_message_db(url)
    with pytest.raises(InvalidSource) as caught, opened(url):
        pass
    assert str(caught.value) == (
        "3 event tables: message_store.messages, north.mt_events, south.mt_events;"
        " add ?table=NAME to the URL"
    )
    for schema in ("north", "south"):
        with open_source(f"{url}&table={schema}.mt_events") as source:
            assert ids(source) == [f"{schema}-1"]
    nowhere = f"{url}&table=east.mt_events"
    with pytest.raises(NoStore, match=r"no event store at east\.mt_events, "), opened(nowhere):
        pass


def test_a_store_of_our_own_comes_first_unless_a_table_is_chosen(url: str) -> None:
    migrate(url)
    foreign.build_message_db(url)
    with opened(url) as found:
        assert found.store is not None
    with opened(f"{url}&table=message_store.messages") as found:
        assert found.store is None
        assert isinstance(found.source, ForeignSource)


def test_partitions_are_read_through_their_table(url: str) -> None:
    foreign.build_marten(url)
    run(
        url,
        "CREATE TABLE sales.parted (LIKE sales.mt_events) PARTITION BY LIST (is_archived)",
        "DROP TABLE sales.mt_events",
        "ALTER TABLE sales.parted RENAME TO mt_events",
        "CREATE TABLE sales.mt_events_active PARTITION OF sales.mt_events FOR VALUES IN (false)",
        "CREATE TABLE sales.mt_events_archived PARTITION OF sales.mt_events FOR VALUES IN (true)",
        "ALTER TABLE sales.mt_events ADD PRIMARY KEY (seq_id, is_archived)",
        "CREATE UNIQUE INDEX ON sales.mt_events (stream_id, version, is_archived)",
        "ALTER TABLE sales.mt_events ALTER seq_id SET DEFAULT nextval('sales.mt_events_sequence')",
        "ALTER TABLE sales.mt_events ALTER is_archived SET DEFAULT false",
    )
    foreign.fill_marten(url, [line("a", 1), line("b", 1), line("a", 2)])
    run(url, "UPDATE sales.mt_events SET is_archived = true WHERE stream_id = 'a'")
    with open_source(url) as source:
        assert [(e.aggregate_id, e.version) for e in source.feed()] == [
            *[("a", 1), ("b", 1), ("a", 2)]
        ]
        assert [event.metadata for event in source.events("a")] == [{"is_archived": True}] * 2
        assert next(source.events("b")).metadata == {}


def test_sequences_of_each_tenant_are_refused(url: str) -> None:
    foreign.build_marten(url, tenants=True)
    run(
        url,
        "ALTER TABLE sales.mt_events DROP CONSTRAINT mt_events_pkey",
        "ALTER TABLE sales.mt_events ADD PRIMARY KEY (seq_id, tenant_id)",
    )
    said = r"^sales\.mt_events: a sequence of its own for each tenant"
    with pytest.raises(InvalidSource, match=said), opened(url):
        pass


def test_what_an_index_only_includes_identifies_nothing(url: str) -> None:
    foreign.build_marten(url)
    foreign.fill_marten(url, [line("a", 1)])
    run(
        url,
        "ALTER TABLE sales.mt_events DROP CONSTRAINT mt_events_pkey",
        "DROP INDEX sales.mt_events_stream_id_version_idx",
        "CREATE UNIQUE INDEX ON sales.mt_events (seq_id) INCLUDE (tenant_id)",
        "CREATE UNIQUE INDEX ON sales.mt_events (stream_id, version) INCLUDE (tenant_id)",
    )
    with open_source(url) as source:
        assert ids(source) == ["a"]


@pytest.mark.parametrize(
    ("collation", "in_byte_order"),
    [("", True), ('COLLATE "POSIX"', True), ('COLLATE "ucs_basic"', True), (OTHER_ORDER, False)],
)
def test_ids_are_looked_up_by_ranges_of_bytes_where_those_are_the_order(
    *, url: str, collation: str, in_byte_order: bool
) -> None:
    foreign.build_message_db(url, collation=collation)
    database = connect(parse_url(url), read_only=True)
    layout = recognise(database)
    database.close()
    assert layout.table.columns["stream_name"].in_byte_order is in_byte_order
    wanted = [("e.stream_name", ">=", ("a",)), ("e.stream_name", "<", ("b",))]
    assert list(layout.within("a", None) or ()) == (wanted if in_byte_order else [])


# Rights


def test_the_right_to_read_is_needed_and_enough(url: str, reader: str) -> None:
    role = reader.partition("//")[2].partition("@")[0]
    foreign.build_marten(url)
    foreign.fill_marten(url, [line("a", 1)])
    denied = "this role may not read sales.mt_events; it needs USAGE on the schema and SELECT on it"
    for grant in (
        f"GRANT USAGE ON SCHEMA sales TO {role}",
        f"GRANT SELECT ON sales.mt_events TO {role}",
        f"GRANT SELECT ON sales.mt_streams TO {role}",
    ):
        with pytest.raises(AccessDenied) as caught, opened(reader):
            pass
        assert str(caught.value) == denied
        run(url, grant)
        if "mt_events" in grant:
            denied = denied.replace("mt_events", "mt_streams")
    with open_source(reader) as source:
        assert ids(source, order="longest") == ids(source, order="recent") == ids(source) == ["a"]
        assert source.counts().events == len(list(source.feed())) == source.watermark().position
        assert Repository(source, Domains()).load("a").state == {"n": 1}
    with psycopg.connect(reader) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM sales.mt_events")


def test_sessions_are_read_only_and_limited_and_none_is_kept(url: str) -> None:
    foreign.build_message_db(url)
    for position in range(5):
        message(url, "a-1", position)
    with open_source(url) as source:
        assert isinstance(source, ForeignSource)
        settings = "SELECT current_setting('transaction_read_only'), current_setting(%(name)s)"
        found = source.database.rows(settings, {"name": "statement_timeout"})
        assert found == [("on", "30s")]
        with pytest.raises(AccessDenied, match="read-only transaction"):
            source.database.rows("DELETE FROM message_store.messages", {})
        for iterator in (source.feed(batch_size=2), source.events("a-1", batch_size=2)):
            next(iterator)
            assert source.database.connections.in_use == 0
        assert len(list(source.events("a-1"))) == 5


# What is in the tables


def test_a_message_without_data_or_metadata_has_none(url: str) -> None:
    foreign.build_message_db(url)
    message(url, "account:command+position-1-2", 0, "NULL")
    message(url, "account:command+position-1-2", 1, "'null'", "'[1]'")
    message(url, "-", 0, """'{"a": 1.0, "b": 12345678901234567890}'""")
    with open_source(url) as source:
        first, second, third = source.feed()
    assert (first.data, first.raw_data, first.metadata, first.raw_metadata) == (
        {},
        b"{}",
        {},
        b"{}",
    )
    assert (second.data, second.raw_data, second.metadata) == (None, b"null", {})
    assert second.raw_metadata == b"[1]"
    assert first.aggregate_id == "account:command+position-1-2"
    assert first.aggregate_type == "account:command+position"
    assert (third.aggregate_type, third.raw_data) == ("", b'{"a": 1.0, "b": 12345678901234567890}')
    assert (third.actor, third.correlation_id, third.causation_id, third.digest) == (None,) * 4


def test_cause_and_correlation_are_those_of_eventide(url: str) -> None:
    foreign.build_message_db(url)
    begin = message(url, "a-1", 0)
    cause = """'{"correlationStreamName": "a-1", "causationMessageGlobalPosition": 1}'"""
    message(url, "b-1", 0, metadata=cause)
    for odd in ("null", '"x"', "99", "1e30", "-1", "1.5", "[1]", '"9999999999999999999"'):
        message(url, "c-1", 0, metadata=f"""'{{"causationMessageGlobalPosition": {odd}}}'""")
        run(url, "UPDATE message_store.messages SET stream_name = 'd-' || id WHERE position = 0")
    with open_source(url) as source:
        _, second, *others = source.feed()
        assert (second.correlation_id, second.causation_id) == ("a-1", begin)
        assert {event.causation_id for event in others} == {None}
        assert len(others) == 8
        found = source.feed(where=FeedFilter(correlation_id="a-1"))
        assert [event.position for event in found] == [2]


def test_a_time_without_a_zone_is_utc(url: str) -> None:
    foreign.build_message_db(url)
    moment = "2026-03-29T01:30:00.000001"
    foreign.fill_message_db(url, [line("a-1", 0, occurred_at=moment)])
    with open_source(url) as source:
        [event] = source.feed()
    wanted = datetime(2026, 3, 29, 1, 30, 0, 1, tzinfo=UTC)
    assert (event.occurred_at, event.recorded_at) == (wanted, wanted)
    assert event.occurred_at.utcoffset() == timedelta()


def test_numbers_beyond_all_bounds_are_one_line(url: str) -> None:
    foreign.build_message_db(url)
    message(url, "a-1", 0, f"""'{{"n": 1{400 * "0"}.5}}'""")
    with open_source(url) as source, pytest.raises(InvalidSource) as caught:
        list(source.feed())
    assert str(caught.value).startswith("'a-1' version 0: its data cannot be read: ")


def test_binary_payloads_are_told_and_not_read(url: str) -> None:
    foreign.build_marten(url)
    foreign.fill_marten(url, [line("a", 1), line("a", 2)])
    run(url, r"UPDATE sales.mt_events SET bdata = '\x0102030405' WHERE version = 2")
    with open_source(url) as source:
        first, second = source.events("a")
        assert first.data == {"n": 1}
        assert second.data == "not readable: 5 bytes of binary data"
        assert json.loads(second.raw_data) == second.data


def test_a_stream_without_a_type_is_a_stream(url: str) -> None:
    foreign.build_marten(url)
    foreign.fill_marten(url, [line("a", 1), line("b", 1)])
    run(url, "UPDATE sales.mt_streams SET type = NULL WHERE id = 'a'")
    with open_source(url) as source:
        assert {head.aggregate_id: head.aggregate_type for head in heads(source)} == {
            "a": "stream",
            "b": "order",
        }
        assert ids(source, aggregate_type="stream") == ["a"]
        assert Repository(source, Domains()).load("a").aggregate_type == "stream"


def test_streams_of_tenants_are_told_apart(url: str) -> None:
    foreign.build_marten(url, tenants=True)
    names = ["*DEFAULT*", "acme", "a@b%40"]
    for number, tenant in enumerate(names):
        run(
            url,
            f"INSERT INTO sales.mt_streams (id, type, version, tenant_id)"
            f" VALUES ('x@1', 'order', 1, '{tenant}')",
            f"INSERT INTO sales.mt_events (id, stream_id, version, data, type, tenant_id)"
            f" VALUES (gen_random_uuid(), 'x@1', 1, '{{\"n\": {number}}}', 'Said', '{tenant}')",
        )
    shown = ["x@1@*DEFAULT*", "x@1@a%40b%2540", "x@1@acme"]
    with open_source(url) as source:
        assert sorted(ids(source, limit=1)) == shown
        assert sorted(ids(source, order="recent", limit=1)) == shown
        assert ids(source, order="longest", limit=1) == shown
        assert ids(source, prefix="x@1@a") == ids(source, prefix="x@1@a", limit=1) == shown[1:]
        assert ids(source, prefix="x@2") == []
        repository = Repository(source, Domains())
        assert [repository.load(name).state["n"] for name in shown] == [0, 2, 1]
        for unknown in ("x@1", "x@1@nobody", "x@acme"):
            with pytest.raises(AggregateNotFound):
                source.aggregate(unknown)


def test_streams_may_have_uuids(url: str) -> None:
    foreign.build_marten(url, identity="uuid")
    names = [f"{digit}0000000-0000-0000-0000-00000000000{digit}" for digit in "0a9f"]
    foreign.fill_marten(url, [line(name, 1) for name in names])
    with open_source(url) as source:
        assert ids(source, limit=1) == sorted(names)
        assert ids(source, prefix="a0") == ids(source, prefix=names[1]) == [names[1]]
        assert ids(source, prefix="00000000-") == [names[0]]
        for odd in ("A0", "x", "a0-", names[1] + "0", "\x00"):
            assert ids(source, prefix=odd) == []
        assert source.aggregate(names[2]).version == 1
        for unknown in ("x", names[1].upper(), names[1].replace("-", ""), "\x00"):
            with pytest.raises(AggregateNotFound):
                source.aggregate(unknown)
            assert list(source.events(unknown)) == []
            assert list(source.history(unknown)) == []


def test_ids_that_ours_could_not_be_are_shown(url: str) -> None:
    foreign.build_message_db(url)
    long, odd = f"a-{'x' * 2_000}", "a-\n\t\x01"
    message(url, long, 0)
    message(url, odd, 0)
    with open_source(url) as source:
        assert ids(source) == [odd, long]
        assert source.aggregate(odd).version == source.aggregate(long).version == 0
    shown = CliRunner().invoke(hindsight, ["events", "--url", url])
    assert shown.exit_code == 0, shown.output
    assert len(shown.stdout.splitlines()) == 3
    refused = CliRunner().invoke(hindsight, ["replay", "--url", url, "--", long])
    assert refused.exit_code == 2


def test_a_gap_is_told_and_not_closed(url: str) -> None:
    foreign.build_message_db(url)
    for position in (0, 1, 3):
        message(url, "a-1", position)
    with open_source(url) as source:
        assert source.aggregate("a-1").version == 3
        assert [event.version for event in source.events("a-1")] == [0, 1, 3]
        repository = Repository(source, Domains())
        assert repository.load("a-1", version=1).version == 1
        with pytest.raises(HistoryGap, match="version 3 comes after version 1"):
            repository.load("a-1")


# Listing


NAMES = ["a-1", "A-2", "ab-1", "a.b-1", "ä-1", "B", "b-10", "b-1", "b-", "b-é", "c", "_-1"]


@pytest.mark.parametrize("collation", ["", OTHER_ORDER, 'COLLATE "C"'])
@pytest.mark.parametrize("size", [1, 5, 100])
def test_every_stream_is_listed_once_in_whatever_order(
    url: str, collation: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LOOKED_AT", 5)
    foreign.build_message_db(url, collation=collation)
    foreign.fill_message_db(
        url, [line(name, 0, hour) for hour, name in enumerate(NAMES)] + [line("b-1", 1, 99)]
    )
    with open_source(url) as source:
        for order in ("id", "recent", "longest"):
            query: dict[str, Any] = {"order": order, "limit": size}
            assert sorted(ids(source, **query)) == sorted(NAMES)
            for prefix in ("b", "b-1", "a", "ä", "z"):
                wanted = sorted(name for name in NAMES if name.startswith(prefix))
                assert sorted(ids(source, prefix=prefix, **query)) == wanted
            for kind in ("b", "a.b", "c", "", "z"):
                wanted = sorted(name for name in NAMES if name.partition("-")[0] == kind)
                if kind:
                    assert sorted(ids(source, aggregate_type=kind, **query)) == wanted
        assert ids(source, order="recent", limit=size)[:2] == ["b-1", "_-1"]
        assert ids(source, order="longest", limit=size)[0] == "b-1"


def test_a_page_ends_where_looking_did_and_goes_on_there(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LOOKED_AT", 20)
    foreign.build_marten(url)
    foreign.fill_marten(
        url,
        [line(f"{n:03}", 1, aggregate_type="rare" if n == 70 else "order") for n in range(100)],
    )
    with open_source(url) as source:
        first = source.aggregates(aggregate_type="rare", limit=2)
        assert (first.items, first.next is None) == ((), False)
        assert int(str(first.next)) in range(19, 40)
        assert ids(source, aggregate_type="rare", limit=2) == ["070"]


@pytest.mark.slow
@pytest.mark.parametrize("system", ["message-db", "marten"])
def test_what_pages_ask_for_reads_a_bounded_part_of_the_table(url: str, system: str) -> None:
    """Among 200,000 events of 50,000 streams, by what the database itself counts."""
    if system == "message-db":
        foreign.build_message_db(url)
        table, name = "message_store.messages", "s-00777"
        run(
            url,
            "INSERT INTO message_store.messages (stream_name, position, type, data)"
            " SELECT 's-' || lpad((n % 50000)::text, 5, '0'), n / 50000, 'Said', '{}'"
            " FROM generate_series(0, 199999) AS n",
        )
    else:
        foreign.build_marten(url)
        table, name = "sales.mt_events", "00777"
        run(
            url,
            "INSERT INTO sales.mt_streams (id, type, version)"
            " SELECT lpad(n::text, 5, '0'), 'order', 4 FROM generate_series(0, 49999) AS n",
            "INSERT INTO sales.mt_events (stream_id, version, type, data, id)"
            " SELECT lpad((n % 50000)::text, 5, '0'), n / 50000 + 1, 'Said', '{}',"
            " gen_random_uuid() FROM generate_series(0, 199999) AS n",
        )
    run(url, "VACUUM ANALYZE", "SELECT pg_stat_reset()")
    with open_source(url) as source:
        assert source.aggregate(name).aggregate_id == name
        prefix = name[:-1]
        for order in source.info.quick_orders:
            assert len(source.aggregates(order=order, limit=50).items) == 50
        assert len(source.aggregates(prefix=prefix, limit=50).items) == 10
        assert len(source.aggregates(prefix=prefix, after=name, limit=50).items) == 2
        assert source.aggregates(aggregate_type="nothing", limit=50).items == ()
        assert len(list(source.events(name))) == 4
        assert len([row for rows in source.history(name) for row in rows]) == 4
        assert len([row for rows in source.outline(name) for row in rows]) == 4
        assert len(list(source.feed(limit=30, backward=True))) == 30
        assert len(list(source.feed(after=100_000, before=100_020))) == 19
        assert len(source.tally(width=HOUR, after=100_000, before=105_000)) == 1
        assert source.watermark().position == 200_000
    deadline = monotonic() + 20
    scans = fetched = 0
    # A session's counts come in some time after it has ended.
    while fetched <= 5_000 and monotonic() < deadline:
        scans, fetched = counted_reads(url, [table, "sales.mt_streams"])
    assert scans == 0
    assert 5_000 < fetched < 60_000


def counted_reads(url: str, tables: Sequence[str]) -> tuple[int, int]:
    """How often whole tables were read, and how many rows were fetched by an index."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT coalesce(sum(seq_scan), 0)::int, coalesce(sum(idx_tup_fetch), 0)::int"
            " FROM pg_stat_user_tables WHERE schemaname || '.' || relname = ANY (%s)",
            (tables,),
        ).fetchone()
    return found or (0, 0)


# Following


def test_what_may_still_commit_is_not_settled(url: str) -> None:
    foreign.build_message_db(url)
    message(url, "a-1", 0)
    insert = (
        "INSERT INTO message_store.messages (stream_name, type, position) VALUES (%s, 'Said', 0)"
    )
    with open_source(url) as source, psycopg.connect(url) as slow:
        assert source.watermark().position == 1
        slow.execute(insert, ("slow-1",))
        message(url, "b-1", 0)
        assert source.watermark().position == 1
        assert [event.position for event in source.feed()] == [1, 3]
        with psycopg.connect(url) as other:
            other.execute(insert, ("other-1",))
            message(url, "c-1", 0)
            slow.commit()
            assert source.watermark().position == 3
            assert source.watermark().position == 3
        assert source.watermark().position == 5
        assert [event.position for event in source.feed()] == [1, 2, 3, 4, 5]


def test_a_first_look_among_writers_settles_what_is_old(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign.build_message_db(url)
    for position in range(9):
        message(url, "a-1", position)
    monkeypatch.setattr("store.sources.foreign.fence.LATE", 4)
    with psycopg.connect(url) as slow:
        slow.execute(
            "INSERT INTO message_store.messages (stream_name, type, position)"
            " VALUES ('slow-1', 'Said', 0)"
        )
        with open_source(url) as source:
            assert source.watermark().position == 5


# Filters and tallies


@pytest.fixture(scope="module")
def mixed(
    postgres_server: PostgresServer,
) -> Iterator[dict[str, tuple[EventSource, Sequence[Event]]]]:
    """Sixty events in a table of each kind, to whom and of what there is all sorts."""
    with ExitStack() as closing:
        sources: dict[str, tuple[EventSource, Sequence[Event]]] = {}
        for system in ("message-db", "marten"):
            name = f"mixed_{uuid4().hex}"
            postgres_server.execute(f"CREATE DATABASE {name}")
            closing.callback(postgres_server.execute, f"DROP DATABASE {name}")
            url = postgres_server.url(name)
            lines = [
                line(
                    f"{'uo'[n % 2]}-{n % 5}",
                    n // 10 + (n % 10 >= 5) * 6 + (system == "marten"),
                    n * 7 % 50,
                    event_type=("Created", "renamed", "Z")[n % 3],
                    aggregate_type="uo"[n % 2],
                    metadata={"correlation_id": f"c{n % 4}", "correlationStreamName": f"c{n % 4}"}
                    | ({"actor": "ann"} if n % 3 else {}),
                )
                for n in range(60)
            ]
            if system == "message-db":
                foreign.build_message_db(url)
                seen: dict[str, int] = {}
                for each in lines:
                    each["version"] = seen.get(each["aggregate_id"], -1) + 1
                    seen[each["aggregate_id"]] = each["version"]
                foreign.fill_message_db(url, lines)
            else:
                foreign.build_marten(url)
                seen = {}
                for each in lines:
                    each["version"] = seen.get(each["aggregate_id"], 0) + 1
                    seen[each["aggregate_id"]] = each["version"]
                foreign.fill_marten(url, lines)
            source = closing.enter_context(open_source(url))
            sources[system] = (source, list(source.feed()))
        yield sources


moments = st.none() | st.integers(-1, 51).map(lambda hour: START + hour * HOUR)


@st.composite
def filters(draw: st.DrawFn) -> FeedFilter:
    nothing = st.none()
    return FeedFilter(
        aggregate_type=draw(nothing | nothing | st.sampled_from(["u", "o", "no", "\x00"])),
        event_types=draw(
            st.just(()) | st.sampled_from([("Z", "Created"), ("Z", "\ud800"), ("\ud800",)])
        ),
        since=draw(nothing | moments),
        until=draw(nothing | moments),
        axis=draw(st.sampled_from(["occurred", "recorded"])),
        correlation_id=draw(nothing | nothing | st.sampled_from(["c1", "no", "\x00"])),
        actor=draw(nothing | nothing | st.sampled_from(["ann", "no", "\ud800"])),
    )


def is_wanted(event: Event, where: FeedFilter) -> bool:
    return (
        where.aggregate_type in {None, event.aggregate_type}
        and (not where.event_types or event.event_type in where.event_types)
        and where.correlation_id in {None, event.correlation_id}
        and where.actor in {None, event.actor}
        and where.event_id in {None, event.event_id}
        and (where.since is None or where.since <= event.occurred_at)
        and (where.until is None or event.occurred_at < where.until)
    )


def counted(events: Sequence[Event], width: timedelta) -> list[tuple[Any, ...]]:
    groups: dict[tuple[datetime, str, str], list[int]] = {}
    for event in events:
        moment = event.occurred_at
        start = moment - (moment - datetime(1970, 1, 1, tzinfo=UTC)) % width
        key = (start, event.aggregate_type, event.event_type)
        groups.setdefault(key, []).append(event.position)
    return [(*key, len(at), min(at), max(at)) for key, at in sorted(groups.items())]


def flat(tally: Tally) -> tuple[Any, ...]:
    kind = (tally.start, tally.aggregate_type, tally.event_type)
    return (*kind, tally.events, tally.first_position, tally.last_position)


@pytest.mark.parametrize("system", ["message-db", "marten"])
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    where=filters(),
    after=st.sampled_from([-(2**70), -1, 0, 7, 61, 2**63]),
    before=st.none() | st.sampled_from([-1, 0, 30, 60, 61, 2**70]),
    width=st.sampled_from([HOUR, 7 * HOUR, timedelta(days=1)]),
)
def test_the_feed_and_its_tally_are_filtered_alike(
    *,
    mixed: Any,
    system: str,
    where: FeedFilter,
    after: int,
    before: int | None,
    width: timedelta,
) -> None:
    source, events = mixed[system]
    assert {event.correlation_id for event in events} == {"c0", "c1", "c2", "c3"}
    wanted = [
        event
        for event in events
        if after < event.position < (2**70 if before is None else before)
        and is_wanted(event, where)
    ]
    query: dict[str, Any] = {"where": where, "after": after, "before": before}
    assert list(source.feed(**query)) == wanted
    assert list(source.feed(**query, backward=True, batch_size=7)) == wanted[::-1]
    assert list(map(flat, source.tally(width=width, **query))) == counted(wanted, width)


@pytest.mark.parametrize("system", ["message-db", "marten"])
def test_an_event_is_found_by_its_id(mixed: Any, system: str) -> None:
    source, events = mixed[system]
    for event in events[::9]:
        assert list(source.feed(where=FeedFilter(event_id=event.event_id))) == [event]
    assert list(source.feed(where=FeedFilter(event_id=UUID(int=1)))) == []


@pytest.mark.parametrize("system", ["message-db", "marten"])
def test_one_history_within_bounds(mixed: Any, system: str) -> None:
    source, events = mixed[system]
    own = [event for event in events if event.aggregate_id == "u-0"]
    first = source.info.first_version
    assert [event.version for event in own] == [*range(first, first + len(own))]
    bound = START + 20 * HOUR
    for axis in ("occurred", "recorded"):
        found = list(source.events("u-0", since=bound, axis=axis))
        assert found == [event for event in own if event.occurred_at >= bound]
        rows = [row for rows in source.history("u-0", as_of=bound, axis=axis) for row in rows]
        assert [row[0] for row in rows] == [e.version for e in own if e.occurred_at <= bound]
        assert rows[0][3] == "u"  # with no query of its own
    assert bound in {event.occurred_at for event in own}
    rows = [
        row for rows in source.history("u-0", after=first, to_version=first + 3) for row in rows
    ]
    assert [row[0] for row in rows] == [first + 1, first + 2, first + 3]


# One history, four ways


Stores = dict[str, tuple[Repository, int]]


@pytest.fixture(scope="module")
def four(
    postgres_server: PostgresServer, data_sets: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, Domains], Stores]]:
    """The same log in each kind of place: its repository, and the version of a first event."""
    with ExitStack() as closing:

        def open_all(name: str, domains: Domains) -> Stores:
            lines = list(foreign.lines_of(data_sets / name / "events.ndjson.gz"))
            # jsonb takes no NUL, and so no history with one.
            beyond = {x["aggregate_id"] for x in lines if "\\u0000" in json.dumps(x["data"])}
            lines = [x for x in lines if x["aggregate_id"] not in beyond]
            path = foreign.write_file(tmp_path_factory.mktemp("four") / "log.ndjson", lines)
            places = {"file": str(path)}
            for kind in ("postgresql", "message-db", "marten"):
                database = f"four_{uuid4().hex}"
                postgres_server.execute(f"CREATE DATABASE {database}")
                closing.callback(postgres_server.execute, f"DROP DATABASE {database} WITH (FORCE)")
                places[kind] = postgres_server.url(database)
            places["sqlite"] = f"sqlite:///{tmp_path_factory.mktemp('four') / 'store.db'}"
            for kind in ("sqlite", "postgresql"):
                migrate(places[kind])
                with Hindsight(places[kind]) as store, path.open("rb") as stream:
                    import_events(store.log, stream)
            foreign.build_message_db(places["message-db"])
            # Its reducer is found by the category: the streams are called by their types.
            renamed = [
                x | {"aggregate_id": f"{x['aggregate_type']}-{x['aggregate_id']}"} for x in lines
            ]
            foreign.fill_message_db(places["message-db"], map(foreign.as_messages, renamed))
            foreign.build_marten(places["marten"])
            foreign.fill_marten(places["marten"], lines)
            return {
                kind: (
                    closing.enter_context(open_repository(place, domains)),
                    int(kind == "message-db"),
                )
                for kind, place in places.items()
            }

        yield open_all


def essence(event: Event, shift: int) -> tuple[Any, ...]:
    aggregate_id = event.aggregate_id
    if shift:
        aggregate_id = aggregate_id.partition("-")[2]
    return (
        *(event.position, event.event_id, event.aggregate_type, aggregate_id),
        *(event.version + shift, event.event_type, event.data, event.occurred_at),
    )


def step_essence(step: Step, shift: int) -> tuple[Any, ...]:
    event = essence(step.event, shift)
    return (event, step.before, step.after, step.changes, step.elapsed, step.error)


def answers(
    repository: Repository, aggregate_id: str, shift: int, last: int, moment: datetime
) -> list[Any]:
    """States at versions and at a time, every step, and what is found out about them."""
    loaded = [
        repository.load(aggregate_id, version=version - shift) for version in (1, last // 2, last)
    ]
    return [
        [(each.state, each.version + shift, each.folded, each.generic) for each in loaded],
        repository.load(aggregate_id, as_of=moment).state,
        [step_essence(step, shift) for step in Stepper(repository, aggregate_id).steps()],
        *analysed(repository, aggregate_id, shift),
    ]


def analysed(repository: Repository, aggregate_id: str, shift: int) -> list[Any]:
    """Who set what, since when something held, what follows what, and what differs in the end."""
    stepper = Stepper(repository, aggregate_id)
    found = blame(stepper.steps(), initial=stepper.initial)
    fields = [
        (each.path, each.value, each.origin and each.origin.version + shift, each.changes)
        for each in found.fields()
    ]
    again = [each.written_again and each.written_again + shift for each in found.fields()]
    flips = [
        (each.first + shift, each.last + shift, each.answer)
        for each in bisect(stepper.steps(), Expression("size(state) > 2")).intervals
    ]
    follows = transitions([(aggregate_id, outline(repository.source, aggregate_id))])
    ways = [(each.before, each.after, each.count) for each in follows]
    middle = (stepper.aggregate.version + shift) // 2
    ends = (side(repository, aggregate_id, each) for each in (middle - shift, None))
    return [fields, again, flips, ways, diff(*(each.state for each in ends))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("receipt_wabo", False),
        pytest.param("scoop_main", False, marks=pytest.mark.soak),
        ("scoop_main", True),
    ],
)
def test_one_history_gives_the_same_answers_from_four_places(
    *, four: Callable[[str, Domains], Stores], name: str, domain: bool
) -> None:
    stores = four(name, Domains([PACKAGES]) if domain else Domains())
    file, _ = stores.pop("file")
    events = [essence(event, 0) for event in file.source.feed()]
    assert len(events) > 8_000
    wanted = {}
    for head in file.source.aggregates(order="longest", limit=3).items:
        moment = list(file.source.events(head.aggregate_id))[head.version // 3].occurred_at
        wanted[head, moment] = answers(file, head.aggregate_id, 0, head.version, moment)
    for kind, (repository, shift) in stores.items():
        assert [essence(event, shift) for event in repository.source.feed()] == events, kind
        for (head, moment), of_file in wanted.items():
            aggregate_id = f"{head.aggregate_type}-" * shift + head.aggregate_id
            found = answers(repository, aggregate_id, shift, head.version, moment)
            for one, other in zip(found, of_file, strict=True):
                assert one == other, (kind, aggregate_id)
            assert {generic for *_, generic in found[0]} == {not domain}


# The command line


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(hindsight, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def packages(url: str) -> str:
    foreign.build_message_db(url)
    added = {"manifest": {"version": "1"}, "path": "a.json"}
    released = {"patch": {"version": "2"}}
    lines = [
        line("package-a", 0, 1, event_type="PackageAdded", data=added),
        line("package-a", 1, 2, event_type="PackageVersionReleased", data=released),
        line("package-b", 0, 3, event_type="PackageAdded", data=added),
    ]
    foreign.fill_message_db(url, lines)
    return url


def test_reading_commands_work_on_it(packages: str, tmp_path: Path) -> None:
    events = invoke("events", "package-a", "--json", "--url", packages).splitlines()
    assert [json.loads(each)["version"] for each in events] == [0, 1]
    stats = json.loads(invoke("stats", "--json", "--url", packages))
    assert stats["counts"]["events_by_type"] == {"PackageAdded": 2, "PackageVersionReleased": 1}
    assert [each["aggregate_id"] for each in stats["longest"]] == ["package-a", "package-b"]
    generic = invoke("replay", "package-a", "--url", packages)
    assert "package-a, a package, after version 1 (the events' data merged: there is no" in generic
    options = ("--json", "--domain", "tests.histories:PACKAGES", "--url", packages)
    folded = json.loads(invoke("replay", "package-a", *options))
    assert (folded["generic"], folded["version"]) == (False, 1)
    assert folded["state"]["manifest"] == {"version": "2"}
    first = json.loads(invoke("replay", "package-a", "--version", "0", *options))
    assert first["state"]["manifest"] == {"version": "1"}
    out = tmp_path / "out.ndjson"
    invoke("export", str(out), "--url", packages)
    store = f"sqlite:///{tmp_path / 'store.db'}"
    invoke("migrate", "--url", store)
    invoke("import", str(out), "--renumber", "--url", store)
    assert json.loads(invoke("stats", "--json", "--url", store))["counts"]["events"] == 3


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("events", "--follow"), "--follow needs a store of Hindsight's own"),
        (("verify", "--all"), "no event store here"),
        (("replay", "package-a", "--version", "9"), "'package-a' has no version 9; it is at 1"),
    ],
)
def test_what_cannot_be_is_one_line(packages: str, command: tuple[str, ...], says: str) -> None:
    result = CliRunner().invoke(hindsight, [*command, "--url", packages])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert says in result.stderr

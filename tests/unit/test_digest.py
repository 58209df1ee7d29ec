"""The digest: the documented bytes, the same in Python and in PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import Hindsight, NewEvent, any_
from store.digest import event_digest

FIELDS: dict[str, Any] = {
    "aggregate_id": "user-é",
    "version": 3,
    "event_id": UUID("01a202cb-91f1-7500-ba1d-8a96c0ffee00"),
    "event_type": "Renamed",
    "event_version": 2,
    "occurred_at": datetime(2000, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC),
    "data": b'{"name":"Ann"}',
    "metadata": b'{"actor":"bob"}',
}
OTHERS: dict[str, Any] = {
    "aggregate_id": "user-e",
    "version": 4,
    "event_id": UUID("01a202cb-91f1-7500-ba1d-8a96c0ffee01"),
    "event_type": "renamed",
    "event_version": 1,
    "occurred_at": FIELDS["occurred_at"] + timedelta(microseconds=1),
    "data": b'{"name": "Ann"}',
    "metadata": b"{}",
}

# PostgreSQL's text has no NUL; in a payload it is written as an escape.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
fields = st.fixed_dictionaries(
    {
        "aggregate_id": texts,
        "version": st.integers(0, 2**63 - 1),
        "event_id": st.uuids(),
        "event_type": texts,
        "event_version": st.integers(1, 2**31 - 1),
        "occurred_at": st.datetimes(timezones=st.just(UTC)),
        "data": texts.map(str.encode),
        "metadata": texts.map(str.encode),
    }
)


def test_the_digest_is_sha_256_of_the_documented_bytes() -> None:
    message = (
        b"\x00\x00\x00\x07user-\xc3\xa9"
        b"\x00\x00\x00\x00\x00\x00\x00\x03"
        b"\x01\xa2\x02\xcb\x91\xf1\x75\x00\xba\x1d\x8a\x96\xc0\xff\xee\x00"
        b"\x00\x00\x00\x07Renamed"
        b"\x00\x00\x00\x02"
        b"\x00\x00\x00\x00\x00\x16\xe3\x60"  # 1,500,000 microseconds
        b'\x00\x00\x00\x0e{"name":"Ann"}'
        b'{"actor":"bob"}'
    )
    assert event_digest(**FIELDS) == sha256(message).digest()


def test_a_time_before_2000_counts_backwards() -> None:
    digest = event_digest(
        **FIELDS | {"occurred_at": datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)}
    )
    # Two's complement of 1,000,000.
    message = (
        b"\x00\x00\x00\x07user-\xc3\xa9\x00\x00\x00\x00\x00\x00\x00\x03"
        + FIELDS["event_id"].bytes
        + b"\x00\x00\x00\x07Renamed\x00\x00\x00\x02"
        + b"\xff\xff\xff\xff\xff\xf0\xbd\xc0"
        + b'\x00\x00\x00\x0e{"name":"Ann"}{"actor":"bob"}'
    )
    assert digest == sha256(message).digest()


@pytest.mark.parametrize("name", FIELDS)
def test_changing_a_field_changes_the_digest(name: str) -> None:
    assert event_digest(**FIELDS | {name: OTHERS[name]}) != event_digest(**FIELDS)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"data": b"12", "metadata": b"3"}, {"data": b"1", "metadata": b"23"}),
        ({"data": b"", "metadata": b"1"}, {"data": b"1", "metadata": b""}),
        ({"aggregate_id": "ab", "event_type": "c"}, {"aggregate_id": "a", "event_type": "bc"}),
    ],
)
def test_what_moves_to_the_next_field_changes_the_digest(
    one: dict[str, Any], two: dict[str, Any]
) -> None:
    assert event_digest(**FIELDS | one) != event_digest(**FIELDS | two)


@given(one=fields, two=fields, name=st.sampled_from(sorted(FIELDS)))
def test_any_change_of_one_field_changes_the_digest(
    one: dict[str, Any], two: dict[str, Any], name: str
) -> None:
    changed = one | {name: two[name]}
    assert (event_digest(**one) == event_digest(**changed)) == (one == changed)


def test_the_zone_a_time_is_said_in_does_not_matter() -> None:
    elsewhere = FIELDS["occurred_at"].astimezone(tz=None)
    assert event_digest(**FIELDS | {"occurred_at": elsewhere}) == event_digest(**FIELDS)


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a store's database, in the server's own time zone."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


_IN_SQL = """
    SELECT event_digest(%(aggregate_id)s, %(version)s::bigint, %(event_id)s, %(event_type)s,
        %(event_version)s::integer, %(occurred_at)s, convert_from(%(data)s, 'UTF8'),
        convert_from(%(metadata)s, 'UTF8'))
"""


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=fields)
def test_postgresql_computes_the_same_digest(
    postgres: psycopg.Connection[Any], values: dict[str, Any]
) -> None:
    [digest] = postgres.execute(_IN_SQL, values, binary=True).fetchone() or [None]
    assert digest == event_digest(**values)


def test_an_event_is_stored_with_its_digest(store: Hindsight) -> None:
    news = [NewEvent(f"É{n}", {"n": "\x00"}, metadata={"n": n}) for n in range(3)]
    for append in (news[:1], news[1:]):
        store.append("user", "user-é", append, expected=any_())
    for event in store.events("user-é"):
        assert event.digest == event_digest(
            aggregate_id=event.aggregate_id,
            version=event.version,
            event_id=event.event_id,
            event_type=event.event_type,
            event_version=event.event_version,
            occurred_at=event.occurred_at,
            data=event.raw_data,
            metadata=event.raw_metadata,
        )

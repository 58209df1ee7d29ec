"""Packs: what comes out is what went in, however few or odd the events are."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json
from msgspec.structs import replace

from store.digest import event_digest
from store.errors import PackDamaged
from store.packs import (
    LONGEST,
    Unpacked,
    checked,
    compressed,
    correlation,
    correlations,
    dictionary_for,
    expanded,
    pack,
    runs,
)
from store.reader import history_row
from store.records import Event

MOMENTS = st.datetimes(
    datetime(1900, 1, 1),  # noqa: DTZ001
    datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def event(  # noqa: PLR0917 (a few of its fields)
    aggregate_id: str,
    version: int,
    position: int,
    data: object = None,
    recorded_at: datetime = datetime(2024, 2, 1, tzinfo=UTC),
    occurred_at: datetime = datetime(2024, 1, 1, tzinfo=UTC),
    name: str | None = None,
) -> Event:
    encoded = Event(
        aggregate_type="user",
        aggregate_id=aggregate_id,
        version=version,
        position=position,
        event_id=UUID(int=position),
        event_type="Renamed",
        event_version=version % 3 + 1,
        schema_version=version % 3 + 1,
        correlation_id=name,
        causation_id=None,
        actor=name,
        occurred_at=occurred_at,
        recorded_at=recorded_at,
        raw_data=json.encode(data),
        raw_metadata=json.encode({"correlation_id": name}),
        digest=None,
    )
    return replace(encoded, digest=digest(encoded))


def digest(each: Event) -> bytes:
    return event_digest(
        aggregate_id=each.aggregate_id,
        version=each.version,
        event_id=each.event_id,
        event_type=each.event_type,
        event_version=each.event_version,
        occurred_at=each.occurred_at,
        data=each.raw_data,
        metadata=each.raw_metadata,
    )


@st.composite
def batches(draw: st.DrawFn) -> list[Event]:
    """Events of a few aggregates as they come, each aggregate's versions in a row."""
    versions = {name: draw(st.integers(1, 9)) for name in draw(st.sets(TEXTS, min_size=1))}
    found: list[Event] = []
    for position in range(1, draw(st.integers(1, 40)) + 1):
        name = draw(st.sampled_from(sorted(versions)))
        occurred_at = draw(MOMENTS)
        recorded_at, correlated = draw(MOMENTS), draw(st.none() | TEXTS)
        made = event(
            name, versions[name], position, draw(DATA), recorded_at, occurred_at, correlated
        )
        found.append(made)
        versions[name] += 1
    return found


def unpacked(found: Sequence[Sequence[Event]], dictionary: bytes) -> list[Event]:
    packs = [pack(run, dictionary) for run in found]
    return [each for packed in packs for each in Unpacked(packed, dictionary).events()]


@given(batches())
def test_what_comes_out_is_what_went_in(events: list[Event]) -> None:
    found = runs(events)
    dictionary = expanded(compressed(dictionary_for(found)))
    for run in found:
        packed = checked(run, pack(run, dictionary), dictionary)
        inside = Unpacked(packed, dictionary)
        assert inside.events() == list(run)
        assert inside.history() == [history_row(each) for each in run]
        assert [row[:2] for row in inside.outline()] == [(e.version, e.event_type) for e in run]
        assert packed.last_position == run[-1].position
    assert sorted(unpacked(found, dictionary), key=lambda each: each.position) == events


@given(batches())
def test_a_run_is_of_one_aggregate_and_month_and_has_no_gap(events: list[Event]) -> None:
    found = runs(events)
    for run in found:
        assert len({(e.aggregate_id, e.recorded_at and e.recorded_at.month) for e in run}) == 1
        assert [e.version for e in run] == list(range(run[0].version, run[0].version + len(run)))
    for _, own in groupby(found, key=lambda run: run[0].aggregate_id):
        firsts = [run[0].version for run in own]
        assert firsts == sorted(firsts)


def test_a_run_is_not_longer_than_one_wants_to_unpack() -> None:
    events = [event("a", version, version) for version in range(1, 2 * LONGEST + 2)]
    assert [len(run) for run in runs(events)] == [LONGEST, LONGEST, 1]


def test_an_event_that_was_damaged_keeps_its_digest() -> None:
    damaged = replace(event("a", 1, 1), digest=b"another")
    assert unpacked([[damaged]], b"") == [damaged]


def test_events_that_have_much_in_common_take_little_where_each_is_alone() -> None:
    data = {"street": "Long Lane", "city": "Littletown", "country": "Elsewhere", "code": "XY 123"}
    events = [event(f"user-{n}", 1, n, data | {"number": n}) for n in range(1, 501)]
    found = runs(events)
    dictionary = dictionary_for(found)
    size = sum(len(pack(run, dictionary).events) for run in found) + len(compressed(dictionary))
    without = sum(len(pack(run, b"").events) for run in found)
    assert size < without / 2


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_a_pack_that_is_not_as_it_was_packed_is_not_read() -> None:
    events = [event("a", version, version, {"n": version}) for version in range(1, 5)]
    dictionary = dictionary_for([events])
    packed = pack(events, dictionary)
    for at in range(len(packed.events)):
        with pytest.raises(PackDamaged, match=r"'a': the pack from version 1 on"):
            Unpacked(replace(packed, events=flipped(packed.events, at)), dictionary).events()
    others = [
        replace(packed, event_ids=flipped(packed.event_ids, 3)),
        replace(packed, digest=flipped(packed.digest, 0)),
        replace(packed, last_version=5),
        replace(packed, first_version=2, last_version=5),
        replace(packed, aggregate_id="b"),
    ]
    for other in others:
        with pytest.raises(PackDamaged):
            Unpacked(other, dictionary).events()
    with pytest.raises(PackDamaged):
        Unpacked(packed, dictionary + b"more")


def test_a_pack_that_does_not_give_back_its_events_is_refused() -> None:
    events = [event("a", 1, 1, {"n": 1})]
    with pytest.raises(PackDamaged, match="not those that went in"):
        checked([event("a", 1, 1, {"n": 2})], pack(events, b""), b"")


def test_a_batch_notes_its_correlation_ids() -> None:
    found = correlations([event("a", n, n, name=f"request {n % 3}") for n in range(1, 9)])
    assert len(found) == 3 * 4
    assert correlation("request 1") in found
    assert correlation("request 4") not in found
    assert correlations([event("a", 1, 1)]) == b""


def test_times_are_kept_to_the_microsecond() -> None:
    moment = datetime(1812, 6, 24, 1, 2, 3, 456789, tzinfo=UTC)
    [found] = unpacked([[event("a", 1, 1, recorded_at=moment, occurred_at=moment)]], b"")
    assert found.occurred_at == found.recorded_at == moment
    assert found.recorded_at - moment == timedelta()

"""Histories in and out of each database, event for event, whatever interrupts."""

import gzip
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, cast
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
import pytest

from store import Hindsight, NewEvent, exact, migrate
from store.digest import event_digest
from store.errors import AggregateNotFound, InvalidSource
from store.records import Event
from store.sources.ndjson import NdjsonSource
from store.subscription import settled_position
from store.transfer import Imported, export_events, import_events

SMALLER = ("gh_bitcoin_gui", "receipt_wabo", "scoop_main")
SETS = (*SMALLER, pytest.param("wikipedia_edits", marks=pytest.mark.soak))
START = datetime(2026, 1, 1, tzinfo=UTC)


def line(aggregate_id: str, version: int, **changes: Any) -> bytes:
    fields = {
        "event_id": str(event_id(aggregate_id, version)),
        "aggregate_type": "user",
        "aggregate_id": aggregate_id,
        "version": version,
        "event_type": "UserRenamed",
        "schema_version": 1,
        "data": {"n": version},
        "metadata": {},
        "occurred_at": (START + timedelta(minutes=version)).isoformat(),
    }
    return json.dumps(fields | changes).encode() + b"\n"


def event_id(aggregate_id: str, version: int) -> UUID:
    return uuid5(NAMESPACE_URL, f"{aggregate_id}-{version}")


def stream_of(*lines: bytes) -> io.BufferedReader:
    return io.BufferedReader(cast("io.RawIOBase", io.BytesIO(b"".join(lines))))


def imported(store: Hindsight, *lines: bytes, **options: Any) -> Imported:
    return import_events(store.log, stream_of(*lines), **options)


def import_file(store: Hindsight, path: Path, **options: Any) -> Imported:
    with path.open("rb") as stream:
        return import_events(store.log, stream, **options)


def reasons(outcome: Imported) -> list[tuple[int, str]]:
    return [(rejected.line, rejected.reason) for rejected in outcome.first_rejects]


def exported(store: Hindsight, **options: Any) -> list[bytes]:
    stream = io.BytesIO()
    export_events(store.log, stream, **options)
    return stream.getvalue().splitlines(keepends=True)


def without_storage(event: Event) -> Event:
    """The event without what only the store that holds it decides."""
    return msgspec.structs.replace(event, position=0, recorded_at=None, digest=None)


def histories(store: Hindsight) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for event in store.feed():
        found.setdefault(event.aggregate_id, []).append(event.version)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_a_real_log_goes_in_and_comes_out_equal(
    store: Hindsight, data_sets: Path, name: str
) -> None:
    path = data_sets / name / "events.ndjson.gz"
    outcome = import_file(store, path)
    assert (outcome.rejected, outcome.known) == (0, 0)
    with NdjsonSource(path) as source:
        assert outcome.lines == outcome.imported == source.counts().events
        for given, stored in zip(source.feed(), store.feed(), strict=True):
            assert without_storage(given) == without_storage(stored)
    with gzip.open(path) as lines:
        for given_line, written in zip(lines, exported(store), strict=True):
            read, out = json.loads(given_line), json.loads(written)
            assert [out[field] for field in read if field != "occurred_at"] == [
                read[field] for field in read if field != "occurred_at"
            ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["receipt_wabo", "scoop_main"])
def test_imported_heads_and_digests_are_as_after_appends(
    store: Hindsight, data_sets: Path, name: str
) -> None:
    path = data_sets / name / "events.ndjson.gz"
    import_file(store, path)
    with NdjsonSource(path) as source:
        expected = {head.aggregate_id: head for head in source.aggregates(limit=2_000).items}
    for head in store.aggregates(limit=2_000).items:
        events = list(store.events(head.aggregate_id))
        assert head.last_recorded_at == events[-1].recorded_at
        assert msgspec.structs.replace(head, last_recorded_at=None) == expected[head.aggregate_id]
        recorded = [event.recorded_at for event in events if event.recorded_at]
        assert len(recorded) == len(events)
        assert recorded == sorted(recorded)
        assert all(event.digest == digest_of(event) for event in events)


def digest_of(event: Event) -> bytes:
    return event_digest(
        aggregate_id=event.aggregate_id,
        version=event.version,
        event_id=event.event_id,
        event_type=event.event_type,
        event_version=event.event_version,
        occurred_at=event.occurred_at,
        data=event.raw_data,
        metadata=event.raw_metadata,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLER)
def test_importing_again_changes_nothing(store: Hindsight, data_sets: Path, name: str) -> None:
    path = data_sets / name / "events.ndjson.gz"
    first = import_file(store, path)
    before = exported(store)
    again = import_file(store, path)
    assert (again.known, again.imported, again.rejected) == (first.imported, 0, 0)
    assert exported(store) == before


def test_a_restored_store_is_equal_to_the_one_exported(
    store: Hindsight, data_sets: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'original.db'}"
    migrate(url)
    with Hindsight(url) as original:
        import_file(original, data_sets / "receipt_wabo" / "events.ndjson.gz")
        lines = exported(original)
        events = list(original.feed())
    assert imported(store, *lines, restore=True).imported == len(lines)
    assert exported(store) == lines
    assert list(store.feed()) == events


IMPORT_FROM_STDIN = """
import sys
from store import Hindsight
from store.transfer import import_events
with Hindsight(sys.argv[1]) as store:
    import_events(store.log, sys.stdin.buffer)
"""


@pytest.mark.slow
def test_an_import_killed_half_way_is_completed_by_the_next(
    store: Hindsight, store_url: str, data_sets: Path
) -> None:
    path = data_sets / "scoop_main" / "events.ndjson.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    command = [sys.executable, "-c", IMPORT_FROM_STDIN, store_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"".join(lines[: len(lines) // 2]))
        process.stdin.flush()
        wait_for(lambda: store.counts().events > 0)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    stored = store.counts().events
    assert 0 < stored < len(lines)
    outcome = import_file(store, path)
    assert (outcome.known, outcome.imported) == (stored, len(lines) - stored)
    with NdjsonSource(path) as source:
        for given, event in zip(source.feed(), store.feed(), strict=True):
            assert without_storage(given) == without_storage(event)


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_imports_of_one_file_at_once_store_it_once(store: Hindsight, data_sets: Path) -> None:
    path = data_sets / "receipt_wabo" / "events.ndjson.gz"
    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(lambda _: import_file(store, path), range(2)))
    assert sum(outcome.imported for outcome in outcomes) == 8_577
    assert sum(outcome.known for outcome in outcomes) == 8_577
    for versions in histories(store).values():
        assert versions == list(range(1, len(versions) + 1))


def test_an_import_beside_a_writer_of_the_same_aggregate_rejects_what_collides(
    store: Hindsight,
) -> None:
    imported(store, line("a", 1))
    store.append("user", "a", [NewEvent("UserRenamed", {})], expected=exact(1))
    outcome = imported(store, line("a", 1), line("a", 2), line("a", 3), line("b", 1))
    assert (outcome.known, outcome.imported, outcome.rejected) == (1, 1, 2)
    assert histories(store) == {"a": [1, 2], "b": [1]}


@pytest.mark.slow
def test_batches_stay_well_under_a_second(store: Hindsight, data_sets: Path) -> None:
    moments = [time.monotonic()]
    path = data_sets / "wikipedia_edits" / "events.ndjson.gz"
    import_file(store, path, progress=lambda _: moments.append(time.monotonic()))
    took = sorted(b - a for a, b in pairwise(moments))
    assert took[len(took) // 2] < 1  # a machine that is busy elsewhere may hold up any of them


def test_progress_counts_up_to_the_outcome(store: Hindsight) -> None:
    seen: list[Imported] = []
    outcome = imported(store, *(line("a", n) for n in range(1, 1_000)), progress=seen.append)
    counts = [each.imported for each in seen]
    assert len(counts) > 2
    assert counts == sorted(counts)
    assert seen[-1] == outcome


def test_positions_follow_the_lines_of_the_file(store: Hindsight) -> None:
    imported(store, line("c", 1), line("a", 1), line("c", 2), line("b", 1), line("a", 2))
    assert [(event.aggregate_id, event.version) for event in store.feed()] == [
        ("c", 1),
        ("a", 1),
        ("c", 2),
        ("b", 1),
        ("a", 2),
    ]


def test_an_imported_aggregate_can_be_appended_to(store: Hindsight) -> None:
    imported(store, line("a", 1), line("a", 2))
    appended = store.append("user", "a", [NewEvent("UserRenamed", {})], expected=exact(2))
    assert appended.version == 3
    assert imported(store, line("a", 1), line("a", 2)).known == 2


def test_a_file_may_continue_what_is_stored(store: Hindsight) -> None:
    imported(store, line("a", 1))
    assert imported(store, line("a", 2), line("a", 3)).imported == 2
    assert store.aggregate("a").version == 3


def test_a_line_twice_in_a_file_is_stored_once(store: Hindsight) -> None:
    outcome = imported(store, line("a", 1), line("a", 1), line("a", 2), line("a", 1))
    assert (outcome.imported, outcome.known, outcome.rejected) == (2, 2, 0)


def test_data_written_differently_is_the_same_event(store: Hindsight) -> None:
    imported(store, line("a", 1, data={"n": 1, "m": 2}))
    assert imported(store, line("a", 1, data={"m": 2, "n": 1})).known == 1


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (b"{\n", "Input data was truncated"),
        (line("a", 2, occurred_at="now"), "occurred_at: invalid RFC3339 encoded datetime"),
        (line("a", 2, data=float("nan")), "data: nan is not JSON"),
        (line("a", 2, wrong=1), "wrong: unknown field"),
        (line("b", 0), "version 0: versions start at 1; renumber a file that counts from 0"),
        (line("a", 3), "version 3 does not follow version 1"),
        (line("b", 2), "version 2 does not follow version 0"),
        (line("a", 2, aggregate_type="order"), "'a' is of type 'user' in the store"),
        (line("a", 1, aggregate_type="order"), "'a' is of type 'user' in the store"),
        (
            line("a", 1, event_id=str(event_id("x", 1))),
            f"version 1 is another event, {event_id('a', 1)}, in the store",
        ),
        (line("a", 1, data={}), f"event {event_id('a', 1)} is stored with other content"),
        (line("a", 1, event_type="X"), f"event {event_id('a', 1)} is stored with other content"),
        (line("a", 1, schema_version=2), f"event {event_id('a', 1)} is stored with other content"),
        (
            line("a", 2, event_id=str(event_id("a", 1))),
            f"event_id {event_id('a', 1)} is stored at another version of this aggregate",
        ),
    ],
)
def test_a_line_the_store_cannot_take_is_rejected(
    store: Hindsight, given: bytes, reason: str
) -> None:
    imported(store, line("a", 1))
    outcome = imported(store, line("c", 1), given, line("c", 2))
    assert reasons(outcome) == [(2, reason)]
    assert (outcome.imported, outcome.rejected) == (2, 1)
    assert histories(store) == {"a": [1], "c": [1, 2]}


def test_a_reason_is_the_same_within_one_file(store: Hindsight) -> None:
    again = line("a", 2, event_id=str(event_id("a", 1)))
    assert reasons(imported(store, line("a", 1), again)) == [
        (2, f"event_id {event_id('a', 1)} is stored at another version of this aggregate")
    ]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (line("a", 3), "version 3 does not follow version 1"),
        (line("a", 2, aggregate_type="order"), "'a' is of type 'user' in the store"),
        (line("a", 1, data={}), f"event {event_id('a', 1)} is stored with other content"),
    ],
)
def test_a_line_that_contradicts_the_one_before_is_rejected(
    store: Hindsight, given: bytes, reason: str
) -> None:
    assert reasons(imported(store, line("a", 1), given, line("b", 1))) == [(2, reason)]
    assert histories(store) == {"a": [1], "b": [1]}


def test_the_rest_of_a_rejected_aggregate_is_rejected_too(store: Hindsight) -> None:
    imported(store, line("a", 1))
    outcome = imported(
        store, line("a", 1, data={}), line("b", 1), line("a", 2), line("b", 2), line("a", 3)
    )
    assert reasons(outcome)[1:] == [
        (3, "line 1 of its aggregate was rejected"),
        (5, "line 1 of its aggregate was rejected"),
    ]
    assert histories(store) == {"a": [1], "b": [1, 2]}


def test_an_aggregate_stays_rejected_in_later_batches(store: Hindsight) -> None:
    others = [line("b", n) for n in range(1, 1_000)]
    outcome = imported(store, line("a", 2), *others, line("a", 1))
    assert reasons(outcome)[1:] == [(1_001, "line 1 of its aggregate was rejected")]
    assert list(histories(store)) == ["b"]


def test_rejects_are_written_in_line_order_as_json(store: Hindsight, tmp_path: Path) -> None:
    path = tmp_path / "rejects.ndjson"
    with path.open("wb") as rejects:
        imported(store, line("a", 2), b"\xffoops\n", line("b", 1), line("a", 3), rejects=rejects)
    found = [json.loads(text) for text in path.read_text().splitlines()]
    assert [(each["line"], each["reason"]) for each in found] == [
        (1, "version 2 does not follow version 0"),
        (2, "not UTF-8: byte 0 is 0xff"),
        (4, "line 1 of its aggregate was rejected"),
    ]
    assert [each["content"] for each in found][:2] == [line("a", 2).decode().strip(), "\\xffoops"]


def test_only_the_first_rejects_are_kept(store: Hindsight) -> None:
    outcome = imported(store, *[b"nothing\n"] * 500)
    assert (outcome.lines, outcome.rejected, len(outcome.first_rejects)) == (500, 500, 10)


def test_blank_lines_are_no_rejects(store: Hindsight) -> None:
    outcome = imported(store, b"\n", line("a", 1), b" \r\n", line("a", 2).rstrip())
    assert (outcome.lines, outcome.imported, outcome.rejected) == (2, 2, 0)


def test_a_file_that_counts_from_0_is_renumbered(store: Hindsight) -> None:
    lines = [line("a", 0), line("a", 1), line("b", 0)]
    assert imported(store, *lines, renumber=True).imported == 3
    assert histories(store) == {"a": [1, 2], "b": [1]}
    assert imported(store, *lines, renumber=True).known == 3


def test_gzip_is_known_by_its_content(store: Hindsight) -> None:
    assert imported(store, gzip.compress(line("a", 1) + line("a", 2))).imported == 2


def test_the_lines_before_damaged_gzip_data_are_imported(store: Hindsight) -> None:
    packed = gzip.compress(b"".join(line("a", n) for n in range(1, 5_000)))
    with pytest.raises(InvalidSource, match="damaged gzip data") as damage:
        imported(store, packed[: len(packed) // 2])
    assert str(damage.value).startswith(f"after line {store.aggregate('a').version}: ")


def test_restore_keeps_the_recorded_times(store: Hindsight) -> None:
    times = [f"{year}-01-01T00:00:00+00:00" for year in (2020, 2020, 2021)]
    lines = [line("a", n, recorded_at=moment) for n, moment in enumerate(times, 1)]
    imported(store, *lines, restore=True)
    assert [e.recorded_at and e.recorded_at.isoformat() for e in store.events("a")] == times
    assert store.aggregate("a").last_recorded_at == datetime(2021, 1, 1, tzinfo=UTC)
    assert imported(store, *lines, restore=True).known == 3


def test_without_restore_the_recorded_time_is_now(store: Hindsight) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    imported(store, line("a", 1, recorded_at="2020-01-01T00:00:00Z"), line("b", 1))
    for event in store.feed():
        assert event.recorded_at is not None
        assert before < event.recorded_at < datetime.now(UTC) + timedelta(seconds=1)


def test_restored_times_may_not_run_backwards(store: Hindsight) -> None:
    imported(store, line("a", 1, recorded_at="2020-01-02T00:00:00Z"), restore=True)
    later = line("b", 1, recorded_at="2020-01-02T00:00:00Z")
    earlier = [line(name, 2, recorded_at="2020-01-01T00:00:00Z") for name in "ab"]
    outcome = imported(store, later, *earlier, line("b", 3), restore=True)
    reason = "recorded_at: earlier than 2020-01-02T00:00:00+00:00, the last one"
    assert reasons(outcome)[:2] == [(2, reason), (3, reason)]
    assert histories(store) == {"a": [1], "b": [1]}


def test_recorded_times_never_run_backwards_behind_a_later_one(store: Hindsight) -> None:
    imported(store, line("a", 1, recorded_at="2100-01-01T00:00:00Z"), restore=True)
    imported(store, line("a", 2))
    imported(store, line("a", 3), restore=True)
    assert {e.recorded_at for e in store.events("a")} == {datetime(2100, 1, 1, tzinfo=UTC)}


def test_a_restored_line_without_a_time_is_recorded_now(store: Hindsight) -> None:
    imported(store, line("a", 1, recorded_at="2020-01-01T00:00:00Z"), line("a", 2), restore=True)
    first, second = store.events("a")
    assert first.recorded_at == datetime(2020, 1, 1, tzinfo=UTC)
    assert second.recorded_at is not None
    assert datetime.now(UTC) - second.recorded_at < timedelta(minutes=1)


def test_cloud_events_are_imported(store: Hindsight) -> None:
    cloud = {
        "specversion": "1.0",
        "id": "7",
        "source": "/shop",
        "type": "OrderPlaced",
        "subject": "order-1",
        "time": "2026-01-01T00:00:00Z",
        "aggregatetype": "order",
        "aggregateversion": 1,
        "data": {"total": 12},
        "correlationid": "c-1",
    }
    text = json.dumps(cloud).encode()
    assert imported(store, text).imported == imported(store, text).known == 1
    [event] = store.events("order-1")
    assert (event.event_type, event.data) == ("OrderPlaced", {"total": 12})
    assert event.correlation_id == "c-1"


def test_an_export_can_be_of_one_aggregate(store: Hindsight) -> None:
    imported(store, line("a", 1), line("b", 1), line("a", 2))
    found = [json.loads(text) for text in exported(store, aggregate_id="a")]
    assert [(each["aggregate_id"], each["version"], each["position"]) for each in found] == [
        ("a", 1, 1),
        ("a", 2, 3),
    ]
    with pytest.raises(AggregateNotFound):
        exported(store, aggregate_id="nobody")


def test_an_export_ends_at_the_position_asked_for(store: Hindsight) -> None:
    imported(store, line("a", 1), line("a", 2))
    until = settled_position(store.log)
    imported(store, line("a", 3))
    assert len(exported(store, until=until)) == 2


def test_a_compressed_export_is_the_same_every_time(store: Hindsight) -> None:
    imported(store, line("a", 1), line("a", 2))
    packed = b"".join(exported(store, compress=True))
    assert packed == b"".join(exported(store, compress=True))
    assert packed[4:8] == bytes(4), "the time of the export"
    assert gzip.decompress(packed) == b"".join(exported(store))


def test_an_export_reports_its_progress(store: Hindsight) -> None:
    imported(store, *(line("a", n) for n in range(1, 1_201)))
    seen: list[int] = []
    exported(store, progress=seen.append)
    assert seen == [500, 1_000, 1_200]

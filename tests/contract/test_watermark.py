"""How far readers that must miss nothing may read, where nobody holds them."""

from pathlib import Path

import pytest

from store import Hindsight, NewEvent, any_
from store.interchange import format_line
from store.records import Watermark
from store.sources.ndjson import NdjsonSource


def append(store: Hindsight, count: int = 1) -> None:
    for _ in range(count):
        store.append("thing", "a", [NewEvent("Happened", {})], expected=any_())


def test_an_empty_store_is_read_to_its_end(store: Hindsight) -> None:
    assert store.watermark() == Watermark(position=0, holder=None)


def test_the_watermark_is_the_last_position_and_moves_with_it(store: Hindsight) -> None:
    for last in (3, 6):
        append(store, 3)
        assert store.watermark() == Watermark(position=last, holder=None)


def test_two_readers_agree(store: Hindsight, store_url: str) -> None:
    append(store, 2)
    with Hindsight(store_url, read_only=True) as reader:
        assert reader.watermark() == store.watermark()


def test_a_file_is_read_to_its_last_line(tmp_path: Path, sqlite_url: str) -> None:
    path = tmp_path / "events.ndjson"
    with Hindsight(sqlite_url) as store:
        append(store, 4)
        path.write_bytes(b"".join(map(format_line, store.feed())))
    with NdjsonSource(path) as source:
        assert source.watermark() == Watermark(position=4, holder=None)


@pytest.mark.parametrize("times", [1, 5])
def test_no_connection_is_kept(store: Hindsight, times: int) -> None:
    append(store)
    for _ in range(times):
        store.watermark()
    assert store.database.connections.in_use == 0

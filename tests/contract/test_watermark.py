"""How far readers that must miss nothing may read, where nobody holds them."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from store import Hindsight, NewEvent, any_
from store.cli import hindsight
from store.interchange import format_line
from store.reader import EventReader
from store.records import Holder, Watermark
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


# `hindsight stats`


def stats(url: str, *options: str) -> str:
    result = CliRunner().invoke(hindsight, ["stats", "--url", url, *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_stats_say_nothing_where_nobody_holds(store: Hindsight, store_url: str) -> None:
    append(store, 2)
    assert "held" not in stats(store_url)
    assert json.loads(stats(store_url, "--json"))["watermark"] == {"position": 2, "holder": None}


@pytest.mark.parametrize(
    ("pid", "seconds", "said"),
    [
        (4711, 9 * 60 + 59, "readers are held at #1042 by pid 4711 for 9 min"),
        (4711, -5, "readers are held at #1042 by pid 4711 for 0 s"),
        (4711, 59, "readers are held at #1042 by pid 4711 for 59 s"),
        (4711, 60, "readers are held at #1042 by pid 4711 for 1 min"),
        (4711, 3600, "readers are held at #1042 by pid 4711 for 1 h"),
        (4711, 47 * 3600, "readers are held at #1042 by pid 4711 for 47 h"),
        (4711, 48 * 3600, "readers are held at #1042 by pid 4711 for 2 days"),
        (4711, None, "readers are held at #1042 by pid 4711"),
        (None, 60, "readers are held at #1042 by a prepared transaction for 1 min"),
    ],
)
def test_stats_say_who_holds_readers_and_for_how_long(
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
    pid: int | None,
    seconds: int | None,
    said: str,
) -> None:
    since = None if seconds is None else datetime.now(UTC) - timedelta(seconds=seconds)
    held = Watermark(position=1042, holder=Holder(pid=pid, since=since))
    monkeypatch.setattr(EventReader, "watermark", lambda _: held)
    assert said in stats(sqlite_url).splitlines()
    told = json.loads(stats(sqlite_url, "--json"))["watermark"]
    assert (told["position"], told["holder"]["pid"]) == (1042, pid)
    assert (told["holder"]["since"] is None) == (since is None)


def test_stats_see_a_transaction_that_holds(postgres_url: str) -> None:
    with Hindsight(postgres_url) as store:
        append(store)
        with store.database.transaction() as connection:
            late = [NewEvent("Late", {})]
            store.append("thing", "late", late, expected=any_(), connection=connection)
            told = json.loads(stats(postgres_url, "--json"))["watermark"]
            assert f"readers are held at #1 by pid {told['holder']['pid']} for 0 s" in stats(
                postgres_url
            )
        assert "held" not in stats(postgres_url)

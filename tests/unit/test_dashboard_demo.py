"""The demo store: believable, the same for everybody, written once."""

from datetime import UTC, datetime
from pathlib import Path

from dashboard.demo import ensure_store, story
from store import Hindsight

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_the_story_is_the_same_each_time() -> None:
    assert story(NOW) == story(NOW)


def test_nothing_happens_before_an_aggregate_begins() -> None:
    first: dict[tuple[str, str], str] = {}
    for step in story(NOW):
        first.setdefault(step.aggregate, step.event_type)
    assert set(first.values()) == {"ProductListed", "CustomerRegistered", "OrderPlaced"}


def test_nothing_happens_in_the_future() -> None:
    assert max(step.moment for step in story(NOW)) < NOW


def test_the_store_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "data" / "demo.db"
    url = ensure_store(path)
    written = path.stat().st_mtime_ns
    assert ensure_store(path) == url
    assert path.stat().st_mtime_ns == written
    with Hindsight(url) as store:
        assert store.counts().events > 1_000
        assert set(store.counts().aggregates_by_type) == {"customer", "order", "product"}
    assert [found.name for found in path.parent.iterdir()] == ["demo.db"]

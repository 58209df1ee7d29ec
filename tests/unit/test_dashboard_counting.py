"""Nobody waits for a large store to be counted."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, get_ident

import pytest

from dashboard import counting
from dashboard.counting import Counting
from store.errors import StoreUnavailable
from store.records import Counts
from store.sources.ndjson import NdjsonSource

NO_EVENTS = Counts(
    events=0, aggregates=0, last_position=0, events_by_type={}, aggregates_by_type={}
)


class SlowSource(NdjsonSource):
    """An empty file whose counting takes as long as it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.may_go_on = Event()
        self.counted_in: list[int] = []
        self.fails = False

    def counts(self) -> Counts:
        self.counted_in.append(get_ident())
        assert self.may_go_on.wait(20)
        if self.fails:
            raise StoreUnavailable("the database went away")
        return NO_EVENTS


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SlowSource]:
    path = tmp_path / "empty.ndjson"
    path.touch()
    with SlowSource(path) as opened:
        yield opened


@pytest.fixture
def counted(source: SlowSource) -> Iterator[Counting]:
    started = Counting(source)
    yield started
    source.may_go_on.set()
    started.close()


def eventually(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_small_store_is_counted_at_the_first_look(source: SlowSource, counted: Counting) -> None:
    source.may_go_on.set()
    assert counted.latest() == NO_EVENTS


def test_a_large_store_is_counted_once_while_pages_are_shown(
    source: SlowSource, counted: Counting
) -> None:
    started = time.monotonic()
    assert [counted.latest() for _ in range(50)] == [None] * 50
    assert time.monotonic() - started < 10 * counting.PATIENCE
    source.may_go_on.set()
    eventually(lambda: counted.latest() == NO_EVENTS)
    assert len(source.counted_in) == 1


def test_the_last_counts_are_shown_while_it_counts_again(
    source: SlowSource, counted: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "SHORTEST_AGE", 0)
    monkeypatch.setattr(counting, "AGE_PER_COST", 0)
    source.may_go_on.set()
    counted.latest()
    source.may_go_on.clear()
    assert counted.latest() == NO_EVENTS
    assert len(source.counted_in) == 2


def test_counts_keep_for_thirty_times_what_they_took(
    source: SlowSource, counted: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "SHORTEST_AGE", 0)
    monkeypatch.setattr(counting, "AGE_PER_COST", 1_000_000)
    source.may_go_on.set()
    for _ in range(5):
        counted.latest()
    assert len(source.counted_in) == 1


def test_a_store_that_cannot_be_counted_says_so_and_is_tried_again(
    source: SlowSource, counted: Counting
) -> None:
    source.fails = True
    source.may_go_on.set()
    with pytest.raises(StoreUnavailable, match="went away"):
        counted.latest()
    source.fails = False
    assert counted.latest() == NO_EVENTS

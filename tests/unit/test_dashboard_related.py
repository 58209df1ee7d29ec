"""What caused an event and what it caused, whatever the ids claim."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dashboard.related import NOTHING, Node, Related, related
from store import Context, Hindsight, NewEvent, any_
from store.records import Event
from store.sources.ndjson import NdjsonSource

many = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def event_id(number: int) -> UUID:
    return UUID(int=number + 1)


def write(path: Path, causes: list[str | None], ids: list[int] | None = None) -> Path:
    """A file of events of one correlation id, each with its causation id; each its own aggregate.

    `ids` are the numbers of their event ids.
    """
    lines = [
        {
            "event_id": str(event_id(number if ids is None else ids[number])),
            "aggregate_type": "order",
            "aggregate_id": f"o-{number}",
            "version": 1,
            "event_type": f"Step{number}",
            "data": {},
            "metadata": {"correlation_id": "c"} | ({"causation_id": cause} if cause else {}),
            "occurred_at": f"2026-01-01T00:00:{number % 60:02}Z",
        }
        for number, cause in enumerate(causes)
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def found(path: Path, chosen: int, **options: int) -> Related:
    with NdjsonSource(path) as source:
        events = list(source.feed())
        return related(source, events[chosen], **options)


def shape(tree: tuple[Node, ...]) -> list[str]:
    return [f"{'.' * node.depth}{node.position}" for node in tree]


def test_effects_stand_below_their_causes(tmp_path: Path) -> None:
    ids = [str(event_id(number)) for number in range(5)]
    # The third names a cause in capitals; the last one's is no event of this set.
    path = write(tmp_path / "e.ndjson", [None, ids[0], ids[1].upper(), ids[0], "a command"])
    answer = found(path, 2)
    assert shape(answer.tree) == ["1", ".2", "..3", ".4", "5"]
    assert [node.children for node in answer.tree] == [(2, 4), (3,), (), (), ()]
    assert [node.position for node in answer.tree if node.chosen] == [3]
    assert answer.cause is not None
    assert answer.cause.position == 2
    assert answer.correlation_id == "c"
    assert [event.position for event in answer.events] == [1, 2, 3, 4, 5]
    assert not answer.cut


def test_a_node_says_which_event_it_is(tmp_path: Path) -> None:
    answer = found(write(tmp_path / "e.ndjson", [None]), 0)
    [node] = answer.tree
    [event] = answer.events
    for name in (
        "aggregate_id",
        "aggregate_type",
        "version",
        "position",
        "event_type",
        "occurred_at",
    ):
        assert getattr(node, name) == getattr(event, name)
    assert answer.cause is None


def test_events_that_cause_one_another_are_shown_once(tmp_path: Path) -> None:
    ids = [str(event_id(number)) for number in range(4)]
    answer = found(write(tmp_path / "e.ndjson", [ids[2], ids[0], ids[1], ids[3]]), 1)
    assert shape(answer.tree) == ["1", ".2", "..3", "4"]


def test_a_cause_may_be_written_after_its_effect(tmp_path: Path) -> None:
    answer = found(write(tmp_path / "e.ndjson", [str(event_id(1)), None]), 0)
    assert shape(answer.tree) == ["2", ".1"]


def test_one_event_id_on_two_aggregates_has_its_effects_below_the_first(tmp_path: Path) -> None:
    path = write(tmp_path / "e.ndjson", [None, str(event_id(7)), str(event_id(7))], [7, 7, 9])
    assert shape(found(path, 2).tree) == ["1", ".2", ".3"]


def test_a_long_chain_can_be_sent(tmp_path: Path) -> None:
    causes = [None, *(str(event_id(number)) for number in range(499))]
    answer = found(write(tmp_path / "e.ndjson", causes), 499)
    assert answer.tree[-1].depth == 499
    assert msgspec.json.encode(answer.tree)


@pytest.mark.parametrize("chosen", [0, 4, 9])
def test_the_chosen_event_is_never_cut_off(tmp_path: Path, chosen: int) -> None:
    path = write(tmp_path / "e.ndjson", [None] * 10)
    answer = found(path, chosen, limit=5)
    positions = [event.position for event in answer.events]
    assert answer.cut
    assert len(positions) == 5
    assert positions == sorted(positions)
    assert chosen + 1 in positions
    assert positions[:4] == [1, 2, 3, 4]
    assert not found(path, chosen, limit=10).cut


@many
@given(data=st.data(), count=st.integers(1, 12))
@example(data=None, count=1)
def test_every_event_stands_in_the_forest_once(
    tmp_path: Path, data: st.DataObject | None, count: int
) -> None:
    numbers = st.integers(0, count - 1)
    hostile = st.sampled_from([None, "", "{}", "not an id", "\x00", "1" * 40])
    causes: list[str | None] = [None]
    ids = [0]
    if data is not None:
        cause = numbers.map(lambda n: str(event_id(n))) | hostile
        causes = data.draw(st.lists(cause, min_size=count, max_size=count))
        ids = data.draw(st.lists(numbers, min_size=count, max_size=count))
    answer = found(write(tmp_path / "e.ndjson", causes, ids), count - 1)
    standing = Counter(node.position for node in answer.tree)
    assert standing == Counter(event.position for event in answer.events)
    assert set(standing.values()) == {1}
    assert sum(node.chosen for node in answer.tree) == 1
    check_links(answer)


def check_links(answer: Related) -> None:
    """Each node that is nobody's child is a root, and each child names its parent."""
    nodes = {node.position: node for node in answer.tree}
    events = {event.position: event for event in answer.events}
    below = [child for node in answer.tree for child in node.children]
    assert len(below) == len(set(below))
    assert set(below) == {node.position for node in answer.tree if node.depth}
    for node in answer.tree:
        for child in node.children:
            assert nodes[child].depth == node.depth + 1
            assert events[child].causation_id == str(events[node.position].event_id)


@pytest.fixture
def events(sqlite_url: str) -> Iterator[tuple[Hindsight, list[Event]]]:
    with Hindsight(sqlite_url) as store:
        written: list[Event] = []
        for number in range(12):
            context = Context(correlation_id=f"c{number % 3}" if number % 4 else None)
            written += store.append(
                "thing", "t", [NewEvent("Happened", {})], expected=any_(), context=context
            ).events
        yield store, written


def test_a_store_is_asked_for_the_events_of_the_same_correlation_id(
    events: tuple[Hindsight, list[Event]],
) -> None:
    store, written = events
    for event in written:
        same = [e.position for e in written if e.correlation_id == event.correlation_id]
        if event.correlation_id is not None:
            answer = related(store.log, event)
            assert [e.position for e in answer.events] == same


def test_an_event_without_a_correlation_id_is_related_to_nothing(
    events: tuple[Hindsight, list[Event]],
) -> None:
    store, written = events
    store.close()
    assert written[0].correlation_id is None
    assert related(store.log, written[0]) == NOTHING

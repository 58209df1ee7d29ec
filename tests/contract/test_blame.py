"""Who set a field: against states known from elsewhere, and a slow and simple way to find out."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from store import Aggregate, Context, Domain, Event, Hindsight, NewEvent, any_
from store.analysis import ABSENT, Blame, Step, Stepper, blame, diff
from store.analysis.document import document, find, is_same, leaves
from store.analysis.rewriting import merged_again
from tests.histories import PACKAGES, imported, lines

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def event(version: int) -> Event:
    return Event(
        aggregate_type="thing",
        aggregate_id="t",
        version=version,
        position=version,
        event_id=uuid4(),
        event_type="Happened",
        event_version=1,
        schema_version=1,
        correlation_id=f"c{version}",
        causation_id=None,
        actor=f"a{version}",
        occurred_at=NOON,
        recorded_at=None,
        raw_data=b"{}",
        raw_metadata=b"{}",
        digest=None,
    )


def history(*documents: Any) -> list[Step]:
    """The steps through those documents, the first of them being the initial one."""
    return [
        Step(
            event=event(version),
            before=before,
            after=after,
            changes=tuple(diff(before, after)),
            elapsed=None,
            took=0.0,
            error=None,
        )
        for version, (before, after) in enumerate(pairwise(documents), start=1)
    ]


def blamed(steps: Sequence[Step]) -> Blame:
    return blame(steps, initial=steps[0].before)


def setters(*documents: Any) -> dict[str, int | None]:
    found = blamed(history(*documents))
    return {f.path: f.origin.version if f.origin else None for f in found.fields()}


def test_each_field_has_the_event_that_set_it_last() -> None:
    found = setters({"a": 0, "b": 0}, {"a": 1, "b": 0}, {"a": 1, "b": 0, "c": {"d": [1]}}, {"a": 1})
    assert found == {"/a": 1}
    assert setters({"a": 0, "b": 0}, {"a": 1, "b": 0}) == {"/a": 1, "/b": None}
    assert setters({}, {"c": {"d": [1], "e": {}}}, {"c": {"d": [1, 2], "e": {}}}) == {
        "/c/d/0": 1,
        "/c/d/1": 2,
        "/c/e": 1,
    }


def line(number: int, price: int) -> dict[str, int]:
    return {"id": number, "price": price}


def test_an_item_of_a_list_keeps_its_history_wherever_it_stands() -> None:
    found = blamed(
        history(
            [],
            [line(1, 10)],
            [line(2, 20), line(1, 10)],
            [line(2, 20), line(1, 11)],
            [line(1, 11), line(2, 20), line(3, 30)],
        )
    )
    assert {f.path: f.origin and f.origin.version for f in found.fields()} == {
        "/0/id": 1,
        "/0/price": 3,
        "/1/id": 2,
        "/1/price": 2,
        "/2/id": 4,
        "/2/price": 4,
    }
    price = found.field("/0/price")
    assert price is not None
    assert [(e.origin.version, e.change.path) for e in price.history] == [
        (1, "/0/price"),
        (3, "/1/price"),
    ]


def test_a_field_that_is_gone_tells_who_took_it_and_goes_on_when_it_is_back() -> None:
    steps = history({}, {"a": {"b": 1}}, {}, {"a": {"b": 2}}, {"a": {}}, {"a": 7}, {"a": {"b": 7}})
    gone = blamed(steps[:2]).field("/a/b")
    assert gone is not None
    assert (gone.value, gone.origin and gone.origin.version, gone.changes) == (ABSENT, 2, 2)
    back = blamed(steps).field("/a/b")
    assert back is not None
    assert [entry.origin.version for entry in back.history] == [1, 2, 3, 4, 6]
    assert [entry.change.after for entry in back.history] == [1, ABSENT, 2, ABSENT, 7]
    whole = blamed(steps).field("/a")
    assert whole is not None
    assert [entry.origin.version for entry in whole.history] == [1, 2, 3, 4, 5, 6]
    assert blamed(steps).field("/never") is None
    assert blamed(steps).field("/a/b/c") is None


def test_what_was_deep_inside_of_what_is_gone_tells_so_each_time() -> None:
    here, gone = {"a": {"b": {"c": 1}}}, {"a": 0}
    found = blamed(history(gone, here, gone, here, gone)).field("/a/b/c")
    assert found is not None
    assert [entry.origin.version for entry in found.history] == [1, 2, 3, 4]


def test_nobody_set_what_every_state_begins_with() -> None:
    found = Blame({"a": [1]}).field("/a/0")
    assert found is not None
    assert (found.value, found.origin, found.changes) == (1, None, 0)


def test_the_origin_names_the_event() -> None:
    [step] = history({"a": 0}, {"a": 1})
    [found] = blamed([step]).fields()
    origin = found.origin
    assert origin is not None
    assert (origin.event_id, origin.event_type) == (step.event.event_id, "Happened")
    assert (origin.actor, origin.correlation_id, origin.occurred_at) == ("a1", "c1", NOON)


def test_of_many_changes_the_last_are_kept_and_all_are_counted() -> None:
    found = blamed(history(*({"n": number} for number in range(1_500)))).field("/n")
    assert found is not None
    assert (found.changes, len(found.history)) == (1_499, 1_000)
    assert found.history[0].change.after == 500


VALUES = st.recursive(
    st.integers(0, 2),
    lambda inner: st.dictionaries(st.sampled_from("ab/"), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(VALUES, min_size=2, max_size=8))
def test_who_set_it_is_where_its_value_was_another_one_before(documents: list[Any]) -> None:
    found = setters(*documents)
    assert found.keys() == {path for path, _ in leaves(documents[-1])}
    for path, version in found.items():
        values = [find(each, path) for each in documents]
        changed = [at for at in range(1, len(values)) if not is_same(values[at - 1], values[at])]
        assert version == (changed[-1] if changed else None)


class Renamed(Struct, frozen=True):
    name: str


class Person(Struct, frozen=True):
    name: str = "nobody"
    address: dict[str, str] = {}
    logins: int = 0


def rename(person: Person, event: Renamed) -> Person:
    return replace(person, name=event.name)


PEOPLE = Domain(
    "people", aggregates=[Aggregate("person", initial=Person(), events=[Renamed], apply=rename)]
)


@pytest.mark.parametrize("domain", [PEOPLE, None], ids=["domain", "generic"])
def test_who_wrote_the_same_value_again_is_told_apart(
    store_url: str, domain: Domain | None
) -> None:
    names = ["Ada Lovelace", "Ada King", "Ada King", "Ada King"]
    with Hindsight(store_url, domain=domain) as store:
        events = [NewEvent("Renamed", {"name": name}) for name in names]
        context = Context(actor="admin", correlation_id="ticket-7")
        store.append("person", "p", events, expected=any_(), context=context)
        stepper = Stepper(store.repository, "p")
        found = blame(stepper.steps(), initial=stepper.initial)
        name = found.field("/name")
        assert name is not None
        assert name.origin is not None
        assert (name.origin.version, name.written_again, name.changes) == (2, 4, 2)
        assert (name.origin.actor, name.origin.correlation_id) == ("admin", "ticket-7")
        logins = found.field("/logins")
        assert logins is None or (logins.origin, logins.written_again) == (None, None)
        renamed = blame(stepper.steps(last=2), initial=stepper.initial).field("/name")
        assert renamed is not None
        assert renamed.written_again is None


def test_a_value_set_anew_was_not_written_again() -> None:
    steps = history({"a": 1}, {"a": 1}, {"a": 2})
    steps[0] = msgspec.structs.replace(steps[0], written_again=("/a", "/nowhere"))
    found = blamed(steps).field("/a")
    assert found is not None
    assert (found.origin and found.origin.version, found.written_again) == (2, None)
    assert blamed(steps[:1]).field("/a") == replace(
        found, value=1, origin=None, changes=0, history=(), written_again=1
    )


@pytest.mark.parametrize(
    ("data", "before", "places"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, ["/a"]),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, ["/a/b"]),
        ({"a": None}, {"a": None}, []),  # null takes away
        ({"a": 1}, {"a": 1.0}, []),
        ({"a/b": [1]}, {"a/b": [1]}, ["/a~1b"]),
        ({"a": 1}, {}, []),
    ],
)
def test_merged_data_tells_what_it_wrote_again(data: Any, before: Any, places: list[str]) -> None:
    assert list(merged_again(data, before)) == places


def known_origins(steps: Sequence[Step], path: str) -> Iterator[int]:
    for step in steps:
        if not is_same(find(step.before, path), find(step.after, path)):
            yield step.event.version


@pytest.mark.slow
def test_blame_on_scoop_agrees_with_every_known_state(store_url: str, data_sets: Path) -> None:
    folder = data_sets / "scoop_main"
    known = lines(folder / "expected_at_version.ndjson.gz")
    fields = 0
    with imported(store_url, folder, PACKAGES) as store:
        for expected in known:
            steps = list(
                Stepper(store.repository, expected["aggregate_id"]).steps(last=expected["version"])
            )
            found = {each.path: each for each in blamed(steps).fields()}
            state = document(expected["state"])
            assert {path: each.value for path, each in found.items()} == dict(leaves(state))
            for path, each in found.items():
                # Lists of texts keep the history of an item where it moves, a path does not.
                if not any(part.isdecimal() for part in path.split("/")):
                    last = max(known_origins(steps, path), default=None)
                    assert (each.origin and each.origin.version) == last
                    fields += 1
    assert fields > 1_000

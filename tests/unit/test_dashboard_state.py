"""What an event changed and the state after it, over any source, with domain code and without."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

import users
from dashboard.states import ABSENT, NEAR, Change, States
from store import Aggregate, Domain, Hindsight, NewEvent, none
from store.domain import Domains
from store.folding import GENERIC, HistoryRow, merge_patch
from store.identifiers import new_event_id
from store.records import Event
from store.repository import Repository
from store.sources import EventSource
from store.sources.ndjson import NdjsonSource
from tests.unit.test_dashboard_timeline import write_log

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
CREATED = NewEvent(
    "UserCreated",
    {"username": "ada", "email": "ada@example.org", "full_name": "Ada", "password_hash": "x"},
    occurred_at=BEGIN,
)
MOVED = NewEvent("EmailChanged", {"email": "ada@example.com"}, occurred_at=BEGIN)
BROKEN = NewEvent("EmailChanged", {"mail": "?"}, occurred_at=BEGIN)

Load = Callable[..., tuple[Hindsight, States]]


@pytest.fixture
def load(sqlite_url: str) -> Iterator[Load]:
    """Stores events of a user, and gives the store with its states."""
    with Hindsight(sqlite_url) as store:

        def load(*events: NewEvent, domain: Domain | None = users.domain) -> Any:
            appended = [replace(event, event_id=new_event_id()) for event in events]
            store.append("user", "ada", appended, expected=none())
            domains = Domains([domain] if domain else [])
            return store, States(store.log, Repository(store.log, domains))

        yield load


def event(source: EventSource | Hindsight, aggregate_id: str, version: int) -> Event:
    return next(source.events(aggregate_id, from_version=version, to_version=version))


def test_an_event_changes_fields_of_the_state_before_it(load: Load) -> None:
    store, states = load(CREATED, MOVED)
    effect = states.effect(event(store, "ada", 2))
    assert effect.changes == (Change("email", "ada@example.org", "ada@example.com"),)
    assert (effect.state.email, effect.version) == ("ada@example.com", 2)
    assert not effect.generic
    assert effect.failure is None


def test_the_first_event_changes_the_initial_state(load: Load) -> None:
    store, states = load(CREATED, MOVED)
    changes = states.effect(event(store, "ada", 1)).changes
    assert [change.field for change in changes] == list(CREATED.data)
    assert {change.before for change in changes} == {None}


def test_an_event_may_change_nothing(load: Load) -> None:
    store, states = load(CREATED, MOVED, MOVED)
    assert states.effect(event(store, "ada", 3)).changes == ()


def test_data_is_merged_where_the_domain_has_no_such_aggregate(load: Load) -> None:
    store, states = load(CREATED, BROKEN, domain=None)
    effect = states.effect(event(store, "ada", 2))
    assert effect.generic
    assert effect.changes == (Change("mail", ABSENT, "?"),)
    assert effect.state == {**CREATED.data, "mail": "?"}


@pytest.mark.parametrize("chosen", [2, 3])
def test_an_event_that_cannot_be_folded_is_named_from_there_on(load: Load, chosen: int) -> None:
    store, states = load(CREATED, BROKEN, MOVED)
    for _ in range(2):
        effect = states.effect(event(store, "ada", chosen))
        assert effect.failure is not None
        assert "'ada' version 2 (EmailChanged)" in effect.failure
        assert "\n" not in effect.failure
        assert (effect.state.email, effect.version) == ("ada@example.org", 1)
        assert effect.changes == ()


def test_a_first_event_that_cannot_be_folded_reaches_the_initial_state(load: Load) -> None:
    store, states = load(BROKEN)
    effect = states.effect(event(store, "ada", 1))
    assert (effect.state, effect.version) == (users.state.User(), 0)


@pytest.mark.parametrize("chosen", [3, 4])
def test_a_missing_version_is_named_with_the_state_before_it(
    load: Load, sqlite_url: str, chosen: int
) -> None:
    store, states = load(CREATED, MOVED, MOVED, MOVED)
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as connection:
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'"
        ).fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute("DELETE FROM events WHERE version = 2")
    connection.close()
    effect = states.effect(event(store, "ada", chosen))
    assert effect.failure == "Cannot fold 'ada': version 3 comes after version 1"
    assert (effect.state.email, effect.version) == ("ada@example.org", 1)


class Counted:
    """A source that counts what it is asked to fold."""

    def __init__(self, source: EventSource) -> None:
        self._source = source
        self.info = source.info
        self.read = 0

    def history(self, *given: Any, **named: Any) -> Iterator[Sequence[HistoryRow]]:
        for rows in self._source.history(*given, **named):
            self.read += len(rows)
            yield rows


def test_steps_through_a_long_history_fold_only_what_is_near(tmp_path: Path) -> None:
    length = 4 * NEAR
    with NdjsonSource(write_log(tmp_path / "log.ndjson", length)) as source:
        counted: Any = Counted(source)
        states = States(counted, Repository(source, Domains()))
        states.effect(event(source, "thing-1", length))
        assert counted.read == length
        for version in [length - 1, length - NEAR // 2, 1, 2 * NEAR + 5, length // 3, length]:
            counted.read = 0
            states.effect(event(source, "thing-1", version))
            assert counted.read <= NEAR


def test_no_more_is_kept_than_there_is_room_for(tmp_path: Path) -> None:
    with NdjsonSource(write_log(tmp_path / "log.ndjson", 90)) as source:
        counted: Any = Counted(source)
        for room in ({"keep": 2}, {"keep_bytes": 2 * len(b"{}")}):
            states = States(counted, Repository(source, Domains()), near=10, **room)
            states.effect(event(source, "thing-1", 90))
            counted.read = 0
            states.effect(event(source, "thing-1", 90))
            assert counted.read <= 1  # that and the one before it are the last that were met
            states.effect(event(source, "thing-1", 45))
            assert counted.read >= 45  # nothing on the way was kept


class Fragile(Struct, frozen=True):
    """A state that its domain's code makes of nothing."""


class Odd(Struct, frozen=True):
    """An event that can be applied."""


class Even(Struct, frozen=True):
    """An event that cannot."""


def break_on_even(state: Fragile, event: Odd | Even) -> Fragile:
    match event:
        case Odd():
            return state
        case Even():
            raise ValueError("two\nlines")


def test_a_failure_is_one_line_and_met_again_without_the_fold_before_it(tmp_path: Path) -> None:
    thing = Aggregate("thing", initial=Fragile(), events=[Odd, Even], apply=break_on_even)
    with NdjsonSource(write_log(tmp_path / "log.ndjson", 9)) as source:
        counted: Any = Counted(source)
        domains = Domains([Domain("things", aggregates=[thing])])
        states = States(counted, Repository(source, domains))
        for read in (8, 7):  # all before the chosen event, then those after the state reached
            counted.read = 0
            effect = states.effect(event(source, "thing-1", 9))
            assert effect.failure == "Cannot fold 'thing-1' version 2 (Even): ValueError: two lines"
            assert counted.read == read


def test_aggregates_do_not_meet(load: Load) -> None:
    store, states = load(CREATED, MOVED)
    store.append("user", "bo", [replace(MOVED, event_id=new_event_id())], expected=none())
    states.effect(event(store, "ada", 1))
    assert [change.field for change in states.effect(event(store, "bo", 1)).changes] == ["email"]


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_states_met_in_any_order_are_those_of_a_full_fold(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    first = data.draw(st.sampled_from([0, 1]))
    bodies = data.draw(
        st.lists(st.dictionaries(st.sampled_from("abc"), st.none() | st.integers()), min_size=1)
    )
    path = tmp_path_factory.mktemp("log") / "log.ndjson"
    path.write_text("".join(_line(first + i, body) for i, body in enumerate(bodies)))
    states_after = [GENERIC.initial]
    for body in bodies:
        states_after.append(merge_patch(states_after[-1], body))
    with NdjsonSource(path) as source:
        states = States(source, Repository(source, Domains()), near=2, keep=3)
        for i in data.draw(st.lists(st.integers(0, len(bodies) - 1), max_size=12)):
            effect = states.effect(event(source, "thing", first + i))
            assert (effect.state, effect.version) == (states_after[i + 1], first + i)
            changed = {change.field for change in effect.changes}
            assert changed == {
                key
                for key in "abc"
                if states_after[i].get(key, "-") != states_after[i + 1].get(key, "-")
            }


def _line(version: int, data: object) -> str:
    return (
        json.dumps(
            {
                "event_id": f"00000000-0000-4000-8000-{version:012}",
                "aggregate_type": "thing",
                "aggregate_id": "thing",
                "version": version,
                "event_type": "Changed",
                "schema_version": 1,
                "data": data,
                "metadata": {},
                "occurred_at": BEGIN.isoformat(),
            }
        )
        + "\n"
    )


def test_a_change_inside_of_objects_is_told_by_its_place(load: Load) -> None:
    before = {"address": {"city": "Ulm", "lines": [1, 2], "a/b": 1}, "same": {"x": 1}}
    after = {"address": {"city": "Bonn", "lines": [1], "a/b": True, "new": {}}, "same": {"x": 1}}
    store, states = load(NewEvent("Moved", before), NewEvent("Moved", after), domain=None)
    assert states.effect(event(store, "ada", 2)).changes == (
        Change("address/city", "Ulm", "Bonn"),
        Change("address/lines", [1, 2], [1]),
        Change("address/a~1b", 1, True),  # noqa: FBT003 (a value)
        Change("address/new", ABSENT, {}),
    )

"""Generated stores: as many events as wanted, sound, spread over two years, the same by seed."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from store import Aggregate, Domain, Event, Hindsight, NewEvent, any_
from store.cli import hindsight
from store.domain import Domains
from store.errors import InvalidDomain, InvalidSource
from store.generation import generate, kinds_of
from store.generation.lives import LONGEST, lengths
from store.generation.orders import EVENTS
from store.verification import verify
from users import domain as users

pytestmark = pytest.mark.slow

UNTIL = datetime(2026, 11, 28, 12, tzinfo=UTC)
USERS, NOBODY = Domains([users]), Domains()


def fill(url: str, events: int, *, domains: Domains = USERS, seed: int = 1) -> list[Event]:
    with Hindsight(url) as store:
        made = generate(store.log, kinds_of(domains), events=events, until=UNTIL, seed=seed)
        assert made.events == events
        assert store.counts().aggregates == made.aggregates
        return list(store.feed())


@pytest.mark.parametrize("domains", [USERS, NOBODY], ids=["users", "no domain"])
def test_it_makes_so_many_events_all_of_them_sound(store_url: str, domains: Domains) -> None:
    events = fill(store_url, 20_000, domains=domains)
    assert len(events) == 20_000
    with Hindsight(store_url) as store:
        found = verify(store.log, domains=domains)
        assert found.findings == ()
        assert found.replayed == (20_000 if domains is USERS else 0)
        assert store.database.rows("SELECT count(*) FROM outbox", {}) == [(0,)]
    types = {event.event_type for event in events}
    known = users.aggregates[0].events if domains is USERS else EVENTS
    assert types == {kind.__name__ for kind in known}


def test_positions_follow_the_times_at_which_events_are_recorded(store_url: str) -> None:
    events = fill(store_url, 5_000)
    recorded = [event.recorded_at for event in events if event.recorded_at]
    assert recorded == sorted(recorded)
    assert recorded[0] == UNTIL - timedelta(days=730)
    assert UNTIL - timedelta(days=2) < recorded[-1] <= UNTIL
    waited = [event.recorded_at - event.occurred_at for event in events if event.recorded_at]
    assert min(waited) > timedelta()
    assert max(waited) < timedelta(seconds=1)


def test_aggregates_are_active_in_bursts_beside_each_other(sqlite_url: str) -> None:
    events = fill(sqlite_url, 50_000)
    last: dict[str, Event] = {}
    close = apart = 0
    for event in events:
        before = last.get(event.aggregate_id)
        last[event.aggregate_id] = event
        if before is not None:
            close += event.occurred_at - before.occurred_at < timedelta(minutes=5)
            apart += event.position - before.position > 1
    assert close > 0.6 * len(events)
    assert apart > 0.1 * len(events)


def test_metadata_names_who_did_it_and_of_most_events_the_request(sqlite_url: str) -> None:
    events = fill(sqlite_url, 5_000)
    assert all(event.metadata["actor"] == event.actor for event in events)
    traced = [event for event in events if event.correlation_id]
    assert all(event.metadata["correlation_id"] == event.correlation_id for event in traced)
    assert 0.5 < len(traced) / len(events) < 0.7
    assert max(Counter(event.correlation_id for event in traced).values()) > 1


def test_a_seed_makes_the_same_events_and_another_one_others(fresh_url: Callable[[], str]) -> None:
    first, again, other = (fill(fresh_url(), 2_000, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert {event.digest for event in first}.isdisjoint(event.digest for event in other)


def test_events_are_the_same_whatever_the_time(fresh_url: Callable[[], str]) -> None:
    later = UNTIL + timedelta(days=3, microseconds=7)
    first = fill(fresh_url(), 1_000)
    with Hindsight(fresh_url()) as store:
        generate(store.log, kinds_of(USERS), events=1_000, until=later, seed=1)
        second = list(store.feed())
    facts = [(event.aggregate_id, event.event_type, event.raw_metadata) for event in first]
    assert [(each.aggregate_id, each.event_type, each.raw_metadata) for each in second] == facts
    assert {b.occurred_at - a.occurred_at for a, b in zip(first, second, strict=True)} == {
        later - UNTIL
    }


def test_a_store_with_events_is_left_alone(store_url: str) -> None:
    with Hindsight(store_url) as store:
        store.append("thing", "a", [NewEvent("Happened", {})], expected=any_())
        with pytest.raises(InvalidSource, match="has events already"):
            generate(store.log, kinds_of(USERS), events=10, until=UNTIL, seed=1)
        assert store.counts().events == 1


def test_who_writes_meanwhile_ends_it(store_url: str) -> None:
    with Hindsight(store_url) as store:

        def interfere(_: int) -> None:
            for head in store.aggregates(order="longest", limit=20).items:
                store.append("user", head.aggregate_id, [NewEvent("H", {})], expected=any_())

        with pytest.raises(InvalidSource, match="somebody else writes"):
            generate(
                store.log,
                kinds_of(USERS),
                events=50_000,
                until=UNTIL,
                seed=1,
                progress=interfere,
            )


class Happened(Struct, frozen=True):
    pass


class Unheard(Struct, frozen=True):
    pass


class Nothing(Struct, frozen=True):
    pass


def apply(state: Nothing, event: Happened) -> Nothing:
    return state


def silent(random: Random, moments: Iterable[datetime]) -> Iterator[Happened]:
    return iter(())


def short(random: Random, moments: Iterable[datetime]) -> Iterator[Happened]:
    return (Happened() for count, _ in enumerate(moments) if count)


def foreign(random: Random, moments: Iterable[datetime]) -> Iterator[Unheard]:
    return (Unheard() for _ in moments)


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (silent, r"'thing': its history makes 0 events for \d+ moments"),
        (short, r"'thing': its history makes (\d+) events for (?!\1 )\d+ moments"),
        (foreign, "'thing': its history makes 'Unheard', which is none of its events"),
    ],
)
def test_a_history_that_is_none_is_told(sqlite_url: str, history: Any, message: str) -> None:
    thing = Aggregate("thing", initial=Nothing(), events=[Happened], apply=apply, history=history)
    kinds = kinds_of(Domains([Domain("things", aggregates=[thing])]))
    with Hindsight(sqlite_url) as store, pytest.raises(InvalidDomain, match=message):
        generate(store.log, kinds, events=1_000, until=UNTIL, seed=1)


@given(st.integers(1, 300_000), st.integers())
def test_lengths_add_up(events: int, seed: int) -> None:
    found = lengths(Random(seed), events)
    assert sum(found) == events
    assert min(found) >= 1
    assert found[0] == max(found) == min(events, max(events // 100, 50))


def test_most_histories_are_short_and_some_are_very_long() -> None:
    found = sorted(lengths(Random(1), 10_000_000))
    assert 2 <= median(found) <= 5
    assert sum(length <= 50 for length in found) > 0.95 * len(found)
    assert found[-1] == LONGEST
    assert sum(found[-1_000:]) > 1_000_000
    assert all(a <= 2 * b for b, a in pairwise(found[-50:]))


def run(*arguments: str, domain: str | None = "users:domain") -> Result:
    environment = {"EVENT_STORE_DOMAIN": domain}
    return CliRunner(env=environment).invoke(hindsight, ["demo", *arguments])


def command(path: Path, *more: str) -> Sequence[str]:
    return ["--generate", "--url", f"sqlite:///{path / 'new' / 'demo.db'}", *more]


def test_the_command_makes_the_store_and_says_how_much(tmp_path: Path) -> None:
    result = run(*command(tmp_path, "--events", "1234", "--seed", "5"))
    assert result.exit_code == 0, result.output
    assert result.stdout == "1,234 events of 137 aggregates generated\n"
    result = run(*command(tmp_path, "--events", "1234"))
    assert result.exit_code == 2
    assert "the store has events already" in result.stderr


def test_without_a_domain_it_is_orders(tmp_path: Path) -> None:
    result = run(*command(tmp_path, "--events", "100"), domain=None)
    assert result.exit_code == 0, result.output
    with Hindsight(f"sqlite:///{tmp_path / 'new' / 'demo.db'}", domain=Domains()) as store:
        assert store.counts().aggregates_by_type.keys() == {"order"}
        assert store.load("order-1").state["status"] in {"placed", "paid", "sent"}


mute = Domain(
    "mute", aggregates=[Aggregate("m", initial=Nothing(), events=[Happened], apply=apply)]
)


def test_a_domain_without_histories_is_named_and_nothing_made(tmp_path: Path) -> None:
    result = run(*command(tmp_path), domain=f"{__name__}:mute")
    assert result.exit_code == 2
    assert "domain 'mute': no aggregate has a history" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_very_many_events_are_generated_unasked(tmp_path: Path) -> None:
    result = run("--url", f"sqlite:///{tmp_path / 'demo.db'}", "--events", "100001")
    assert result.stdout.startswith("100,001 events of "), result.output
    assert result.stdout.endswith(" generated\n")

"""`verify` compares snapshots with full replays, and says why one differs."""

import json
from itertools import count
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from msgspec import Struct
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from store import Aggregate, Domain, Hindsight, NewEvent, Upcaster, any_, verification
from store.cli import hindsight
from store.digest import snapshot_digest
from store.domain import Domains
from store.metrics import Metrics
from store.verification import Finding, Verification, verify
from store.work import work_once

pytestmark = pytest.mark.slow


class Named(Struct, frozen=True):
    name: str


class Person(Struct, frozen=True):
    names: list[str] = []
    extra: Any = None


OUTSIDE = {"title": ""}
CALLS = count()


def rename(state: Person, event: Named) -> Person:
    return Person([*state.names, called(event.name)])


def called(name: str) -> str:
    """What `apply` calls and the fingerprint does not see."""
    return OUTSIDE["title"] + name


def count_calls(state: Person, event: Named) -> Person:
    return Person([*state.names, event.name], next(CALLS))


def tuple_of(state: Person, event: Named) -> Person:
    return Person([*state.names, event.name], extra=(1,))


def people(apply: Any = rename, upcast: Any = None) -> Domain:
    steps = [] if upcast is None else [Upcaster("Named", 1, 2, upcast)]
    person: Aggregate[Any] = Aggregate(
        "person",
        initial=Person(),
        events=[Named],
        apply=apply,
        upcasters=steps,
        snapshot_every=2,
    )
    return Domain("people", aggregates=[person])


domain = people()


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OUTSIDE, "title", "")


@pytest.fixture(params=[1, 500])
def batched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever batches end."""
    monkeypatch.setattr(verification, "BATCH", request.param)


def fill(url: str, domain: Domain, *, events: int = 2, version: int = 1) -> None:
    """Aggregates a and b with a snapshot at their ends."""
    with Hindsight(url, domain=domain) as store:
        for name in "ab":
            for number in range(events):
                event = NewEvent("Named", {"name": f"n{number}"}, schema_version=version)
                store.append("person", name, [event], expected=any_())
            store.snapshot(name)


def execute(url: str, statement: str, **parameters: Any) -> None:
    with Hindsight(url) as store, store.database.transaction() as connection:
        connection.execute(text(statement), parameters)


def checked(url: str, domain: Domain, aggregate_id: str | None = None) -> Verification:
    with Hindsight(url, read_only=True) as store:
        return verify(store.log, aggregate_id, domains=Domains([domain]))


def drifts(found: Verification) -> list[Finding]:
    return [finding for finding in found.findings if finding.kind == "drift"]


@pytest.mark.usefixtures("batched")
def test_snapshots_that_equal_the_replay_are_counted(store_url: str) -> None:
    fill(store_url, domain)
    fill(store_url, domain)
    found = checked(store_url, domain)
    assert (found.findings, found.snapshots) == ((), 4)
    assert checked(store_url, domain, "a").snapshots == 2


@pytest.mark.usefixtures("batched")
def test_those_of_another_fold_are_not_compared(store_url: str) -> None:
    fill(store_url, domain)
    found = checked(store_url, people(count_calls_not))
    assert (found.findings, found.snapshots) == ((), 0)


def count_calls_not(state: Person, event: Named) -> Person:
    return Person([event.name])


def test_a_fold_that_changed_unseen_is_named_with_the_first_difference(store_url: str) -> None:
    fill(store_url, domain)
    OUTSIDE["title"] = "Dr "
    fill(store_url, domain)
    OUTSIDE["title"] = ""
    execute(store_url, "DELETE FROM snapshots WHERE aggregate_id = 'b'")
    [found] = checked(store_url, domain).findings
    assert (found.kind, found.aggregate_id, found.version) == ("drift", "a", 4)
    assert found.explanation == (
        'the snapshot has "Dr n0" at /names/0, the replay "n0"; it was equal at version 2;'
        " the fold changed: raise fold_version when something that apply calls changes"
    )


def test_an_upcaster_that_changed_is_named(store_url: str) -> None:
    fill(store_url, people(upcast=lambda data: {"name": data["name"].upper()}))
    found = checked(store_url, people(upcast=lambda data: data))
    assert [each.aggregate_id for each in found.findings] == ["a", "b"]
    assert found.findings[0].explanation == (
        'the snapshot has "N0" at /names/0, the replay "n0"; an upcaster changed'
    )


def test_an_upcaster_that_changed_is_no_cause_where_none_was_needed(store_url: str) -> None:
    fill(store_url, people(upcast=lambda data: {"name": data["name"].upper()}), version=2)
    OUTSIDE["title"] = "Dr "
    [found, _] = checked(store_url, people(upcast=lambda data: data)).findings
    assert "the fold changed" in found.explanation


def test_an_event_that_was_altered_is_named(store_url: str) -> None:
    fill(store_url, domain, events=3)
    guard = "events_immutable ON events" if "postgresql" in store_url else "events_no_update"
    execute(store_url, f"DROP TRIGGER {guard}")
    changed = "UPDATE events SET data = :d WHERE aggregate_id = 'a' AND version = 2"
    execute(store_url, changed, d='{"name": "mallory"}')
    found = checked(store_url, domain)
    assert [(each.kind, each.version) for each in found.findings] == [("digest", 2), ("drift", 3)]
    assert found.findings[1].explanation == (
        'the snapshot has "n1" at /names/1, the replay "mallory"; a stored event was altered'
    )


def test_a_last_event_that_is_another_one_is_named(store_url: str) -> None:
    fill(store_url, domain)
    wrong = "UPDATE snapshots SET event_digest = (SELECT digest FROM events WHERE version = 1"
    execute(store_url, f"{wrong} AND aggregate_id = 'b') WHERE aggregate_id = 'b'")
    [found] = checked(store_url, domain).findings
    assert (found.kind, found.aggregate_id, found.version) == ("snapshot", "b", 2)
    assert found.explanation == "the last event in it is not the one that is stored"


def test_a_fold_that_is_not_deterministic_is_named(store_url: str) -> None:
    fill(store_url, people(count_calls))
    found = checked(store_url, people(count_calls), "a")
    assert [each.kind for each in found.findings] == ["impure", "drift"]
    assert found.findings[1].explanation.endswith("; the fold is not deterministic")


def test_a_serialisation_that_loses_something_is_named(store_url: str) -> None:
    lossy = people(tuple_of)
    fill(store_url, domain)
    put(store_url, lossy, {"names": ["n0", "n1"], "extra": [1]})
    found = checked(store_url, lossy, "a")
    assert [each.kind for each in found.findings] == ["drift"]
    assert found.findings[0].explanation == (
        "the snapshot has [1] at /extra, the replay [1]; JSON does not keep the state as it is"
    )


def put(url: str, domain: Domain, state: Any) -> None:
    """A snapshot of `a` that this code would not have written."""
    fingerprint = domain.aggregates[0].fingerprint
    encoded = msgspec.json.encode(state)
    digest = snapshot_digest(aggregate_id="a", version=2, fingerprint=fingerprint, state=encoded)
    execute(
        url,
        "UPDATE snapshots SET fingerprint = :f, state = :s, digest = :d WHERE aggregate_id = 'a'",
        f=fingerprint,
        s=encoded.decode(),
        d=digest,
    )


def test_one_that_is_not_as_it_was_written_is_named(store_url: str) -> None:
    fill(store_url, domain)
    execute(store_url, "UPDATE snapshots SET state = '{}' WHERE aggregate_id = 'a'")
    put_bad = checked(store_url, domain)
    [found] = put_bad.findings
    assert (found.kind, found.version, found.explanation) == (
        "snapshot",
        2,
        "it is not as it was written",
    )


def test_one_that_cannot_be_read_is_named(store_url: str) -> None:
    fill(store_url, domain)
    put(store_url, domain, {"names": 7})
    [found] = checked(store_url, domain).findings
    assert found.kind == "snapshot"
    assert found.explanation.startswith("it cannot be read: Expected `array`, got `int`")


@pytest.mark.usefixtures("batched")
def test_one_ahead_of_the_events_is_named(store_url: str) -> None:
    fill(store_url, domain)
    execute(store_url, "UPDATE snapshots SET version = 9 WHERE aggregate_id = 'a'")
    execute(store_url, "UPDATE snapshots SET aggregate_id = 'bb' WHERE aggregate_id = 'b'")
    found = checked(store_url, domain).findings
    assert [(each.kind, each.aggregate_id, each.explanation) for each in found] == [
        ("snapshot", "a", "it is at version 9, the events end at 2"),
        ("snapshot", "bb", "it is at version 2, the events end at 0"),
    ]


def test_an_aggregate_that_cannot_be_folded_is_told_once(store_url: str) -> None:
    fill(store_url, domain)
    guard = "events_immutable ON events" if "postgresql" in store_url else "events_no_update"
    execute(store_url, f"DROP TRIGGER {guard}")
    changed = "UPDATE events SET data = :d WHERE aggregate_id = 'a' AND version = 1"
    execute(store_url, changed, d='{"name": 7}')
    assert [each.kind for each in checked(store_url, domain, "a").findings] == ["digest", "replay"]


def test_the_command_tells_of_drift(store_url: str) -> None:
    fill(store_url, domain)
    arguments = ["verify", "--all", "--url", store_url, "--domain", f"{__name__}:domain"]
    result = CliRunner().invoke(hindsight, arguments)
    assert result.exit_code == 0
    assert result.output.splitlines()[-1] == (
        "checked 4 events, 2 aggregates, 4 events replayed, 2 snapshots: nothing wrong"
    )
    OUTSIDE["title"] = "Dr "
    result = CliRunner().invoke(hindsight, [*arguments, "--json"])
    assert result.exit_code == 1
    assert [each["kind"] for each in json.loads(result.output)["findings"]] == ["drift"] * 2


def test_the_worker_counts_the_drift_it_finds(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store_url, domain)
    metrics = Metrics(CollectorRegistry())
    with Hindsight(store_url, domain=domain, metrics=metrics) as store:
        assert work_once(store).drift == ()
        monkeypatch.setitem(OUTSIDE, "title", "Dr ")
        found = work_once(store).drift
        assert [finding.aggregate_id for finding in found] == ["b", "a"]
    assert metrics.registry.get_sample_value("event_store_snapshot_drift_total") == 2


def test_the_worker_tells_of_drift(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store_url, domain)
    monkeypatch.setitem(OUTSIDE, "title", "Dr ")
    where = ["--url", store_url, "--domain", f"{__name__}:domain"]
    result = CliRunner().invoke(hindsight, ["work", "--once", *where])
    assert result.exit_code == 0
    assert result.stderr.startswith("error: drift: b version 2: the snapshot has ")


def test_a_snapshot_that_lost_its_aggregate_does_not_end_the_worker(store_url: str) -> None:
    fill(store_url, domain)
    execute(store_url, "UPDATE snapshots SET aggregate_id = 'lost' WHERE aggregate_id = 'a'")
    with Hindsight(store_url, domain=domain) as store:
        assert work_once(store).drift == ()

"""`verify` with a domain: every history can be replayed, and twice with the same result."""

from itertools import count

import pytest
from click.testing import CliRunner
from msgspec import Struct

from store import Aggregate, Domain, Hindsight, NewEvent, any_, verification
from store.cli import hindsight
from store.domain import Domains
from store.verification import Finding, verify


class Added(Struct, frozen=True):
    number: int


class Total(Struct, frozen=True):
    total: int = 0


def add(state: Total, event: Added) -> Total:
    return Total(state.total + event.number)


CALLS = count()


def add_calls(state: Total, event: Added) -> Total:
    return Total(state.total + event.number + next(CALLS))


pure = Domain("pure", aggregates=[Aggregate("t", initial=Total(), events=[Added], apply=add)])
impure = Domain(
    "impure", aggregates=[Aggregate("t", initial=Total(), events=[Added], apply=add_calls)]
)


@pytest.fixture(params=[1, 500])
def filled(
    request: pytest.FixtureRequest, store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> Hindsight:
    """`a` and `b` of the domain's type, `other` of none; wherever batches end."""
    monkeypatch.setattr(verification, "BATCH", request.param)
    for name, kind in (("a", "t"), ("b", "t"), ("other", "unheard")):
        events = [NewEvent("Added", {"number": n}) for n in range(3)]
        store.append(kind, name, events, expected=any_())
    return store


def findings(store: Hindsight, domain: Domain, aggregate_id: str | None = None) -> list[Finding]:
    return list(verify(store.log, aggregate_id, domains=Domains([domain])).findings)


def test_histories_that_can_be_replayed_are_no_finding(filled: Hindsight) -> None:
    assert findings(filled, pure) == []


def test_an_event_that_cannot_be_folded_is_named(filled: Hindsight) -> None:
    bad = [NewEvent("Added", {"number": "x"}), NewEvent("Unheard", {})]
    filled.append("t", "b", bad, expected=any_())
    [found] = findings(filled, pure)
    assert (found.kind, found.aggregate_id, found.version) == ("replay", "b", 4)
    assert found.explanation.startswith("Added cannot be folded: ValidationError: Expected `int`")
    assert findings(filled, pure, "a") == []


def test_two_replays_that_differ_are_named(filled: Hindsight) -> None:
    found = findings(filled, impure)
    assert [(each.kind, each.aggregate_id, each.version) for each in found] == [
        ("impure", "a", 1),
        ("impure", "b", 1),
    ]
    assert found[0].explanation == "two replays differ in total"


def test_the_command_replays_by_the_domain_it_is_given(filled: Hindsight, store_url: str) -> None:
    def run(domain: str) -> tuple[int, str]:
        arguments = ["verify", "--all", "--url", store_url, "--domain", f"{__name__}:{domain}"]
        result = CliRunner().invoke(hindsight, arguments)
        return result.exit_code, result.stdout

    assert run("pure") == (0, "checked 9 events, 3 aggregates, 6 events replayed: nothing wrong\n")
    code, told = run("impure")
    assert code == 1
    assert "impure: a version 1 position 1: two replays differ in total" in told

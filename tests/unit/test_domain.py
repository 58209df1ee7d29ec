"""What a domain is made of, and how precisely it is told where it is not one."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, to_builtins
from msgspec.structs import replace

from store import Aggregate, CommandRejected, Domain
from store.domain import Domains, load_domains
from store.errors import InvalidDomain


class Opened(Struct, frozen=True):
    owner: str


class Deposited(Struct, frozen=True):
    amount: int


class Account(Struct, frozen=True):
    owner: str | None = None
    balance: int = 0


class Deposit(Struct, frozen=True):
    amount: int

    def decide(self, account: Account) -> Sequence[Struct]:
        if account.owner is None:
            raise CommandRejected("the account is not open")
        return [Deposited(self.amount)]

    def recorded(self) -> dict[str, Any]:
        return to_builtins(self)  # type: ignore[no-any-return]


def apply(account: Account, event: Opened | Deposited) -> Account:
    match event:
        case Opened(owner):
            return replace(account, owner=owner)
        case Deposited(amount):
            return replace(account, balance=account.balance + amount)


def account(**changes: Any) -> Aggregate[Account]:
    parts: dict[str, Any] = {
        "initial": Account(),
        "events": [Opened, Deposited],
        "apply": apply,
        "commands": [Deposit],
        "personal": ["owner"],
    }
    return Aggregate("account", **parts | changes)


def test_events_are_known_by_the_names_of_their_classes() -> None:
    assert account().decode("Deposited", b'{"amount": 3, "later": true}', 1) == Deposited(3)


def test_a_domain_knows_the_aggregate_of_a_type_and_of_a_command() -> None:
    domains = Domains([Domain("bank", aggregates=[account()])])
    assert domains.aggregate("account") is not None
    assert domains.aggregate("nothing") is None
    assert domains.of_command(Deposit(1)).aggregate_type == "account"


def test_one_command_in_two_domains_is_refused() -> None:
    other = Aggregate("other", initial=Account(), events=[Opened], apply=apply, commands=[Deposit])
    with pytest.raises(InvalidDomain, match="command 'Deposit' is in 'account' and 'other'"):
        Domains([Domain("bank", aggregates=[account()]), Domain("x", aggregates=[other])])


class NoDecision(Struct, frozen=True):
    def recorded(self) -> dict[str, Any]:
        return {}


class NoRecord(Struct, frozen=True):
    def decide(self, account: Account) -> Sequence[Struct]:
        return [Deposited(account.balance)]


class Thawed(Struct):
    amount: int


class Untyped:
    pass


def wrong_arity(account: Account) -> Account:
    return account


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"events": []}, "aggregate 'account': no events"),
        ({"events": [Opened, Opened]}, "event 'Opened': named twice"),
        ({"events": [Untyped]}, "event 'Untyped': not a msgspec.Struct"),
        ({"events": [Thawed]}, "event 'Thawed': not frozen; declare it with frozen=True"),
        ({"initial": {}}, "initial: a dict is not a msgspec.Struct"),
        ({"initial": Thawed(1)}, "state 'Thawed': not frozen; declare it with frozen=True"),
        ({"apply": 3}, "apply: 3 is not a function"),
        ({"apply": wrong_arity}, "apply: takes (account), not (state, event)"),
        ({"commands": [NoDecision]}, "command 'NoDecision': no decide(state)"),
        ({"commands": [NoRecord]}, "command 'NoRecord': no recorded()"),
        ({"commands": [Deposit, Deposit]}, "command 'Deposit': named twice"),
        ({"personal": ["ownr"]}, "personal 'ownr': no event and no state has such a field"),
        ({"fold_version": 0}, "fold_version: 0 is not a whole number from 1"),
        ({"snapshot_every": 0}, "snapshot_every: 0 is not a whole number from 1"),
        ({"snapshot_every": True}, "snapshot_every: True is not a whole number from 1"),
    ],
)
def test_what_is_no_aggregate_is_refused_with_the_place(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidDomain) as refused:
        account(**changes)
    assert message in str(refused.value)


def test_two_domains_with_one_aggregate_type_are_refused() -> None:
    bank = Domain("bank", aggregates=[account()])
    other = Domain("other", aggregates=[account(commands=[])])
    with pytest.raises(InvalidDomain, match="'account' is in domains 'bank' and 'other'"):
        Domains([bank, other])


def test_one_command_for_two_aggregates_is_refused() -> None:
    other = Aggregate("other", initial=Account(), events=[Opened], apply=apply, commands=[Deposit])
    with pytest.raises(InvalidDomain, match="command 'Deposit' is in 'account' and 'other'"):
        Domain("bank", aggregates=[account(), other])


bank = Domain("bank", aggregates=[account()])
not_a_domain = 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("bank", "bank: not MODULE:NAME"),
        ("no.such:domain", "no.such:domain: no module 'no'"),
        (f"{__name__}:bnk", f"{__name__}:bnk: the module has no 'bnk'"),
        (f"{__name__}:not_a_domain", "an int is not a store.Domain"),
        ("", "no domain named"),
    ],
)
def test_a_path_that_leads_to_no_domain_is_one_line(path: str, message: str) -> None:
    with pytest.raises(InvalidDomain) as refused:
        load_domains(path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "broken:domain: the module cannot be imported: ZeroDivisionError"),
        ("import nosuchthing", "broken:domain: the module wants 'nosuchthing', which is not there"),
        ("def domain(:", "broken:domain: the module cannot be imported: SyntaxError"),
        (
            "from store import Domain\ndomain = Domain('empty', aggregates=[])",
            "broken:domain: domain 'empty': no aggregates",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    (tmp_path / "broken.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    with pytest.raises(InvalidDomain) as refused:
        load_domains("broken:domain")
    assert str(refused.value).startswith(message)


def test_several_paths_are_separated_by_commas() -> None:
    here = f"{__name__}:bank"
    assert load_domains(here).domains == (bank,)
    with pytest.raises(InvalidDomain, match="'account' is in domains 'bank' and 'bank'"):
        load_domains(f"{here}, {here}")

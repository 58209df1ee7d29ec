"""`hindsight upcasters`: which versions are stored, which are read, and what comes out."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from store import Hindsight, NewEvent, any_
from store.cli import hindsight

DOMAIN = """
from typing import Any
from msgspec import Struct
from store import Aggregate, Domain, Upcaster

class Placed(Struct, frozen=True):
    total: int
    customer: str
    note: str | None = None

class Order(Struct, frozen=True):
    total: int = 0

def apply(state: Order, event: Placed) -> Order:
    return Order(event.total)

def customer_named(data: Any) -> Any:
    return {"total": data["total"], "customer": data["by"], "note": None}

def total_counted(data: Any) -> Any:
    return data | {"total": int(data["total"])}

order = Aggregate("order", initial=Order(), events=[Placed], apply=apply, upcasters=[
    Upcaster("Placed", 1, 2, customer_named), Upcaster("Placed", 2, 3, total_counted)])
domain = Domain("orders", aggregates=[order])
"""


@pytest.fixture
def run(store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "ordering.py").write_text(DOMAIN)
    monkeypatch.syspath_prepend(tmp_path)

    def call(*arguments: str) -> Result:
        options = ["upcasters", "--url", store_url, "--domain", "ordering:domain", *arguments]
        return CliRunner().invoke(hindsight, options)

    return call


def store_events(url: str, *events: tuple[str, dict[str, Any], int]) -> None:
    with Hindsight(url) as store:
        for name, data, version in events:
            event = NewEvent(name, data, schema_version=version)
            store.append("order", f"o-{version}", [event], expected=any_())


NOW = ("Placed", {"total": 3, "customer": "ada"}, 3)
OLD = ("Placed", {"total": "1", "by": "ada", "gift": True}, 1)


def test_what_is_stored_and_read_today_is_complete(run: Any, store_url: str) -> None:
    store_events(store_url, NOW, NOW, OLD)
    result = run()
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert ["order", "Placed", "1", "1", "Placed", "3", "complete"] in lines
    assert ["order", "Placed", "3", "2", "Placed", "3", "complete"] in lines


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (("Placed", {}, 4), "newer than this code"),
        (("Sold", {}, 1), "no such event"),
    ],
)
def test_what_cannot_be_read_is_found(
    run: Any, store_url: str, event: tuple[str, dict[str, Any], int], told: str
) -> None:
    store_events(store_url, NOW, event)
    result = run()
    assert result.exit_code == 1
    assert told in result.output


def test_an_aggregate_without_domain_code_is_no_fault(run: Any, store_url: str) -> None:
    with Hindsight(store_url) as store:
        store.append("parcel", "p-1", [NewEvent("Sent", {}, schema_version=7)], expected=any_())
    result = run()
    assert result.exit_code == 0
    assert "no domain code" in result.output


def test_a_dry_run_tells_what_steps_drop_null_and_turn(run: Any, store_url: str) -> None:
    store_events(store_url, NOW, OLD, OLD)
    result = run("--dry-run", "--json")
    assert result.exit_code == 1
    found = {(f["kind"], f["path"], f["events"]) for f in json.loads(result.output)["findings"]}
    assert found == {
        ("dropped", "/gift", 2),
        ("null", "/note", 2),
        ("type", "/total", 2),
    }


def test_a_field_that_moved_is_not_dropped(run: Any, store_url: str) -> None:
    store_events(store_url, ("Placed", {"total": 1, "by": "ada"}, 1))
    paths = [f["path"] for f in json.loads(run("--dry-run", "--json").output)["findings"]]
    assert "/by" not in paths


def test_a_dry_run_tells_which_events_fail_and_why(run: Any, store_url: str) -> None:
    store_events(store_url, NOW, ("Placed", {"total": "x", "by": "ada"}, 1))
    result = run("--dry-run")
    assert result.exit_code == 1
    assert "upcaster of 'Placed' from 2 to 3: ValueError: invalid literal" in result.output
    assert "first at position 2" in result.output


def test_a_dry_run_of_what_is_as_the_code_reads_it_finds_nothing(run: Any, store_url: str) -> None:
    store_events(store_url, NOW, NOW)
    result = run("--dry-run")
    assert result.exit_code == 0
    assert "2 events went through" in result.output


def test_so_many_of_each_version_go_through(run: Any, store_url: str) -> None:
    store_events(store_url, NOW, NOW, NOW, OLD, OLD)
    report = json.loads(run("--dry-run", "--sample", "2", "--json").output)
    assert report["checked"] == 4


def test_without_a_domain_there_is_nothing_to_check(store_url: str) -> None:
    result = CliRunner().invoke(hindsight, ["upcasters", "--url", store_url])
    assert result.exit_code == 2
    assert "--domain" in result.output

"""`hindsight replay`: a state on the command line, from a store or a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from msgspec import Struct

import users
from store import Aggregate, Domain, Hindsight, NewEvent, any_
from store.cli import hindsight
from store.transfer import export_events
from users.commands import ChangeEmail, CreateUser, UpdateProfile

ADA = CreateUser(username="ada", email="a@b.example", full_name="Ada", password_hash="x")  # noqa: S106


@pytest.fixture
def history(store_url: str) -> str:
    """A store in which `user-1` has three events, and `thing-1` two of no domain."""
    with Hindsight(store_url, domain=users.domain) as store:
        store.execute("user-1", ADA)
        store.execute("user-1", UpdateProfile(full_name="Ada Lovelace"))
        store.execute("user-1", ChangeEmail(email="ada@b.example"))
        changes = [NewEvent("Changed", {"a": 1, "b": 2}), NewEvent("Changed", {"b": None})]
        store.append("thing", "thing-1", changes, expected=any_())
    return store_url


def run(*arguments: str, domain: str | None = "users:domain") -> Result:
    environment = {"EVENT_STORE_DOMAIN": domain}
    return CliRunner(env=environment).invoke(hindsight, ["replay", *arguments])


def replayed(*arguments: str, **options: Any) -> Any:
    result = run(*arguments, "--json", **options)
    assert result.exit_code == 0, result.output
    return msgspec.json.decode(result.stdout)


def test_the_newest_state_is_told_with_what_made_it(history: str) -> None:
    found = replayed("user-1", "--url", history)
    assert (found["aggregate_id"], found["aggregate_type"], found["version"]) == (
        *("user-1", "user"),
        3,
    )
    assert (found["generic"], found["left_out"]) == (False, 0)
    assert (found["state"]["full_name"], found["state"]["email"]) == (
        *("Ada Lovelace",),
        "ada@b.example",
    )


@pytest.mark.parametrize(("version", "name"), [("1", "Ada"), ("2", "Ada Lovelace")])
def test_state_at_a_version(history: str, version: str, name: str) -> None:
    found = replayed("user-1", "--version", version, "--url", history)
    assert (found["version"], found["state"]["full_name"]) == (int(version), name)
    assert found["state"]["email"] == "a@b.example"


def test_state_as_of_a_time(history: str) -> None:
    with Hindsight(history) as store:
        second = list(store.events("user-1"))[1]
    for axis in ("occurred", "recorded"):
        moment = getattr(second, f"{axis}_at").isoformat()
        found = replayed("user-1", "--as-of", moment, "--axis", axis, "--url", history)
        assert found["version"] == 2


def test_each_event_and_what_it_changed_stand_above_the_state(history: str) -> None:
    result = run("user-1", "--url", history)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["version", "occurred", "at", "(UTC)", "type", "changed"]
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "3"]
    assert lines[2].endswith("ProfileUpdated  full_name")
    assert lines[3].endswith("EmailChanged    email")
    assert "user-1, a user, after version 3" in result.stdout
    assert '"email": "ada@b.example"' in result.stdout


def test_without_domain_code_the_answer_says_so(history: str) -> None:
    assert replayed("thing-1", "--url", history)["state"] == {"a": 1}
    assert replayed("user-1", "--url", history, domain=None)["generic"]
    result = run("thing-1", "--url", history)
    assert "no domain code" in result.stdout


def test_a_file_is_replayed_as_a_store_is(history: str, tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    with Hindsight(history) as store, path.open("wb") as stream:
        export_events(store.log, stream)
    for arguments in (["user-1"], ["user-1", "--version", "2"], ["thing-1"]):
        assert replayed(*arguments, "--url", str(path)) == replayed(*arguments, "--url", history)


def test_a_file_may_count_from_zero(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_text(
        "".join(
            f"""{{"event_id":"00000000-0000-7000-8000-00000000000{version}","aggregate_id":"a",\
"aggregate_type":"thing","version":{version},"event_type":"Set","data":{{"v{version}":1}},\
"occurred_at":"2026-01-01T00:00:00Z"}}\n"""
            for version in range(3)
        )
    )
    for version in range(3):
        found = replayed("a", "--version", str(version), "--url", str(path))
        assert found["state"] == {f"v{n}": 1 for n in range(version + 1)}
    assert replayed("a", "--url", str(path))["version"] == 2


def test_a_fold_that_fails_tells_what_was_reached(history: str) -> None:
    with Hindsight(history) as store:
        bad = [NewEvent("EmailChanged", {"address": "x"}), NewEvent("Unheard", {})]
        store.append("user", "user-1", bad, expected=any_())
    result = run("user-1", "--url", history)
    assert result.exit_code == 1
    assert "user-1, a user, after version 3" in result.stdout
    assert "'user-1' version 4 (EmailChanged, position 6): ValidationError:" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert replayed("user-1", "--version", "3", "--url", history)["version"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody"], "no aggregate 'nobody'"),
        (["user-1", "--version", "9"], "'user-1' has no version 9; it is at 3"),
        (["user-1", "--version", "0"], "version: 0 is not a whole number from 1"),
        (["user-1", "--version", "1", "--as-of", "2026-01-01T00:00:00Z"], "give one of them"),
        (["user-1", "--as-of", "2001-01-01T00:00:00Z"], "no event by 2001-01-01T00:00:00"),
        (["user-1", "--as-of", "noon"], "is no time"),
        (["user-1", "--domain", "nonsense"], "nonsense: not MODULE:NAME"),
    ],
)
def test_bad_input_is_named(history: str, arguments: Sequence[str], message: str) -> None:
    result = run(*arguments, "--url", history)
    assert result.exit_code == 2
    assert message in result.stderr
    assert (result.stdout, len(result.stderr.splitlines())) == ("", 1)


class Marked(Struct, frozen=True):
    pass


class Marks(Struct, frozen=True):
    marks: Any = None


def mark(state: Marks, event: Marked) -> Marks:
    del state, event
    return Marks({(1, 2): 3})


marks = Domain("marks", aggregates=[Aggregate("m", initial=Marks(), events=[Marked], apply=mark)])


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_state_that_is_no_json_is_one_line(store_url: str, form: list[str]) -> None:
    with Hindsight(store_url) as store:
        store.append("m", "m-1", [NewEvent("Marked", {})], expected=any_())
    result = run("m-1", *form, "--url", store_url, domain=f"{__name__}:marks")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the state cannot be shown as JSON" in result.stderr

"""`hindsight trace`: one file of a history, from a store or a file, with nothing personal in it."""

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.engine import make_url

import users
from store import Aggregate, CommandRejected, Context, Domain, Hindsight, NewEvent, any_
from store.analysis import Stepper, apply
from store.analysis.changes import Change
from store.application import open_source
from store.cli import hindsight
from store.domain import Domains
from store.errors import TraceTooLarge
from store.repository import Repository
from store.trace import Masking, told
from store.transfer import export_events
from users.commands import ChangeEmail, CreateUser, RecordLogin, UpdateProfile

pytestmark = pytest.mark.slow

JANUARY = datetime(2026, 1, 31, 12, tzinfo=UTC)
PERSONAL = [
    "a@b.example",
    "ada@b.example",
    "Ada Byron",
    "Lovelace",
    "scrypt:1",
    "192.0.2.7",
    "ada-1",
]
SECRETS = [*PERSONAL, "203.0.113.9", "Agent/1.0", "Old/0.9", "zoe@b.example"]


@pytest.fixture
def history(store_url: str) -> str:
    """A store in which `user-1` has eight events, all that is personal in more than one place."""
    commands: list[CreateUser | UpdateProfile | RecordLogin | ChangeEmail] = [
        CreateUser(
            username="ada-1",
            email="a@b.example",
            full_name="Ada Byron",
            password_hash="scrypt:1",  # noqa: S106
        ),
        UpdateProfile(full_name="Lovelace"),
        RecordLogin(at=JANUARY, ip_address="192.0.2.7", user_agent="Agent/1.0"),
        ChangeEmail(email="ada@b.example"),
    ]
    with Hindsight(store_url, domain=users.domain) as store:
        for command in commands:
            store.execute("user-1", command, context=Context(actor="ada-1", correlation_id="c-1"))
        events = [
            NewEvent("AccountLocked", {"reason": "asked by ada@b.example, Lovelace"}),
            NewEvent("EmailChanged", {"mail": "ada@b.example"}, metadata={"ada-1": [1]}),
            NewEvent(
                "LoginInfoUpdated",
                {
                    "at": "2026-01-31T12:00:00Z",
                    "ip_address": "203.0.113.9",
                    "user_agent": "Old/0.9",
                },
                schema_version=2,
            ),
            NewEvent(
                "AccountUnlocked",
                {"reason": "zoe@b.example wrote"},
                metadata={"command": {"data": {"email": "zoe@b.example"}}},
            ),
        ]
        store.append("user", "user-1", events, expected=any_())
        store.append("thing", "thing-1", [NewEvent("Made", {"a": {"b": "left"}})], expected=any_())
    return store_url


def run(*arguments: str, domain: str | None = "users:domain") -> Result:
    environment = {"EVENT_STORE_DOMAIN": domain}
    return CliRunner(env=environment).invoke(hindsight, list(arguments))


def traced(path: Path, *arguments: str, **options: Any) -> str:
    result = run("trace", *arguments, "-o", str(path), **options)
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    return path.read_text()


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="trace">(.*?)</script>', page, re.DOTALL)
    assert found
    return msgspec.json.decode(found[1])


def states(found: Any) -> list[Any]:
    state, reached = found["before"], []
    for step in found["steps"]:
        state = apply([_change(each) for each in step["patch"]], state)
        reached.append(state)
    return reached


def _change(each: Any) -> Change:
    return Change(
        op=each["op"], path=each["path"], after=each.get("value"), source=each.get("from")
    )


@pytest.mark.parametrize("form", [[], ["--ndjson"]])
def test_nothing_personal_is_anywhere_in_the_file(
    history: str, tmp_path: Path, form: list[str]
) -> None:
    page = traced(tmp_path / "t", "user-1", "--url", history, *form)
    assert [secret for secret in SECRETS if secret in page] == []
    assert all(shown in page for shown in ("AccountLocked", "asked by ", "c-1"))
    cut = traced(tmp_path / "cut", "user-1", "--url", history, *form, "--from", "5")
    assert [secret for secret in SECRETS if secret in cut] == []


def test_the_states_are_those_of_the_domain_with_their_shape(history: str, tmp_path: Path) -> None:
    found = data_of(traced(tmp_path / "t", "user-1", "--url", history))
    whole = data_of(traced(tmp_path / "u", "user-1", "--url", history, "--unmasked"))
    with Hindsight(history, domain=users.domain, read_only=True) as store:
        expected = [step.after for step in Stepper(store.repository, "user-1").steps()]
    assert states(whole) == expected
    for masked, real in zip(states(found), expected, strict=True):
        assert masked.keys() == real.keys()
        assert [type(value) for value in masked.values()] == [type(v) for v in real.values()]
        assert masked["total_logins"] == real["total_logins"]
    names = [state["full_name"] for state in states(found)]
    assert names[0] != names[1] == names[2]


def test_an_event_that_fails_is_told_without_what_its_message_quotes(
    history: str, tmp_path: Path
) -> None:
    masked = data_of(traced(tmp_path / "t", "user-1", "--url", history))["steps"][5]
    real = data_of(traced(tmp_path / "u", "user-1", "--url", history, "--unmasked"))["steps"][5]
    assert masked["error"].startswith("version 6 (EmailChanged): ValidationError (")
    assert "email" in real["error"]
    assert masked["patch"] == real["patch"] == []


def test_an_older_event_is_there_as_stored_and_as_read(history: str, tmp_path: Path) -> None:
    page = traced(tmp_path / "t", "user-1", "--url", history)
    read = data_of(page)["steps"][6]["read"]
    assert (read["event_type"], read["schema_version"]) == ("LoginInfoUpdated", 3)
    assert read["data"]["client"].keys() == {"ip_address", "user_agent"}
    assert "read" not in data_of(page)["steps"][0]


@pytest.mark.parametrize(
    ("arguments", "masked", "said"),
    [
        ([], sorted(users.user.personal), "masked: client, email"),
        (["--field", "/lock_reason"], None, "masked: /lock_reason, client, email"),
        (["--unmasked"], ..., "nothing is masked\n"),
    ],
)
def test_what_is_masked_is_said(
    history: str, tmp_path: Path, arguments: list[str], masked: Any, said: str
) -> None:
    path = tmp_path / "t.html"
    result = run("trace", "user-1", "-o", str(path), "--url", history, *arguments)
    assert said in result.stderr
    header = data_of(path.read_text())["header"]
    expected = ["/lock_reason", *sorted(users.user.personal)] if masked is None else masked
    assert header["masked"] == (None if masked is ... else expected)
    assert (header["store"].count("/"), header["store"].count("@")) == (0, 0)
    assert (make_url(history).password or "postgres://") not in path.read_text()


def test_without_a_domain_only_what_is_named_is_masked(history: str, tmp_path: Path) -> None:
    path = tmp_path / "t.html"
    result = run("trace", "user-1", "-o", str(path), "--url", history, domain=None)
    assert "without a domain nothing is known to be personal" in result.stderr
    found = data_of(path.read_text())
    assert (found["header"]["masked"], found["header"]["generic"]) == ([], True)
    assert "a@b.example" in path.read_text()
    page = traced(tmp_path / "u", "thing-1", "--url", history, "--field", "/a/b", domain=None)
    assert states(data_of(page)) == [{"a": {"b": "••1••"}}]
    result = run("trace", "thing-1", "-o", str(tmp_path / "v"), "--url", history)
    assert "the domain declares nothing personal of it" in result.stderr


def test_a_part_of_a_history_begins_with_the_state_before_it(history: str, tmp_path: Path) -> None:
    page = traced(tmp_path / "t", "user-1", "--url", history, "--from", "3", "--to", "5")
    whole = data_of(traced(tmp_path / "u", "user-1", "--url", history))
    found = data_of(page)
    header = found["header"]
    assert (header["first"], header["cut"], header["newest"], len(found["steps"])) == (
        3,
        True,
        8,
        3,
    )
    assert [state["total_logins"] for state in states(found)] == [1, 1, 1]
    assert found["before"].keys() == whole["before"].keys()
    assert found["before"]["full_name"] is not None


def test_a_trace_is_read_as_a_store_is(history: str, tmp_path: Path) -> None:
    for name, form in (("t.html", []), ("t.ndjson", ["--ndjson"])):
        path = tmp_path / name
        traced(path, "user-1", "--url", history, *form)
        with open_source(str(path)) as source:
            events = list(source.events("user-1"))
            steps = list(Stepper(Repository(source, Domains([users.domain])), "user-1").steps())
        assert [event.version for event in events] == [*range(1, 9)]
        assert [step.error is not None for step in steps] == [*[False] * 5, True, False, False]
        assert run("replay", "user-1", "--version", "5", "--url", str(path)).exit_code == 0
        for command in (["events"], ["stats"], ["blame", "user-1"], ["diff", "user-1", "1", "2"]):
            assert run(*command, "--url", str(path)).exit_code in {0, 1}, command


def test_both_forms_hold_the_same_events(history: str, tmp_path: Path) -> None:
    page = traced(tmp_path / "t.html", "user-1", "--url", history)
    lines = traced(tmp_path / "t.ndjson", "user-1", "--url", history, "--ndjson")
    assert lines in page
    assert len(lines.splitlines()) == 8
    with Hindsight(history, read_only=True) as store, (tmp_path / "e").open("wb") as stream:
        export_events(store.log, stream, aggregate_id="user-1")
    unmasked = traced(tmp_path / "u", "user-1", "--url", history, "--ndjson", "--unmasked")
    assert unmasked == (tmp_path / "e").read_text()


def test_a_file_is_traced_as_a_store_is(history: str, tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    with Hindsight(history, read_only=True) as store, path.open("wb") as stream:
        export_events(store.log, stream)
    one = data_of(traced(tmp_path / "a", "user-1", "--url", str(path)))
    other = data_of(traced(tmp_path / "b", "user-1", "--url", history))
    assert one["header"]["store"] == "events.ndjson"
    assert (one["before"], states(one)) == (other["before"], states(other))


def test_a_trace_without_its_beginning_is_not_replayed(history: str, tmp_path: Path) -> None:
    path = tmp_path / "cut.html"
    traced(path, "user-1", "--url", history, "--from", "3")
    result = run("replay", "user-1", "--url", str(path))
    assert result.exit_code == 2
    assert "leaves out the first versions" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_file_is_replaced_by_force_alone_and_only_as_a_whole(
    history: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.html"
    path.write_text("precious")
    result = run("trace", "user-1", "-o", str(path), "--url", history)
    assert (result.exit_code, path.read_text()) == (2, "precious")
    assert "is there already; replace it with --force" in result.stderr
    run("trace", "nobody", "-o", str(path), "--url", history, "--force")
    assert path.read_text() == "precious"
    assert traced(path, "user-1", "--url", history, "--force").startswith("<!doctype html>")
    assert list(tmp_path.glob("*.part")) == []


def test_standard_output_gets_the_file_alone(history: str) -> None:
    result = run("trace", "user-1", "-o", "-", "--url", history)
    assert result.exit_code == 0
    assert result.stdout.startswith("<!doctype html>")
    assert result.stdout.endswith("</html>\n")


def test_a_history_that_is_too_large_is_refused(history: str) -> None:
    with Hindsight(history, domain=users.domain, read_only=True) as store:
        stepper = Stepper(store.repository, "user-1")
        with pytest.raises(TraceTooLarge, match="from version 3 on; write fewer") as raised:
            told(stepper, store.domains, Masking(), first=1, last=8, limit=1_800)
    assert raised.value.version == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody"], "no aggregate 'nobody'"),
        (["user-1", "--to", "9"], "'user-1' has no version 9; it is at 8"),
        (["user-1", "--from", "9"], "'user-1' has no version 9; it is at 8"),
        (["user-1", "--from", "3", "--to", "2"], "--from 3 is behind --to 2"),
        (["user-1", "--unmasked", "--field", "/a"], "give either --unmasked or --field"),
        (["user-1", "--field", "a"], "'a' is no JSON pointer"),
        (["user-1", "--domain", "nonsense"], "nonsense: not MODULE:NAME"),
    ],
)
def test_bad_input_is_named(
    history: str, tmp_path: Path, arguments: Sequence[str], message: str
) -> None:
    path = tmp_path / "t.html"
    result = run("trace", *arguments, "-o", str(path), "--url", history)
    assert result.exit_code == 2
    assert message in result.stderr
    assert (result.stdout, len(result.stderr.splitlines()), path.exists()) == ("", 1, False)


def test_a_gap_ends_the_trace_and_is_told(sqlite_url: str, tmp_path: Path) -> None:
    with Hindsight(sqlite_url) as store:
        events = [NewEvent("Made", {"names": ["tea", "store.db", str(n)]}) for n in range(4)]
        store.append("thing", "tea", events, expected=any_())
        with store.database.transaction() as connection:
            names = connection.execute(
                text(
                    "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'"
                )
            ).scalars()
            for name in list(names):
                connection.execute(text(f"DROP TRIGGER {name}"))
            connection.execute(text("DELETE FROM events WHERE version = 3"))
    path = tmp_path / "t.html"
    result = run(
        "trace", "tea", "-o", str(path), "--url", sqlite_url, "--field", "/names", domain=None
    )
    assert result.exit_code == 1
    assert "error: " in result.stderr
    found = data_of(path.read_text())
    assert len(found["steps"]) == 2
    assert found["header"]["gap"] == "'••1••': version 4 comes after version 2"
    assert found["header"]["store"] == "••2••"


class Renamed(Struct, frozen=True):
    name: str


class Person(Struct, frozen=True):
    full_name: str = ""


def rename(person: Person, event: Renamed) -> Person:
    del person
    if event.name == "Bad Luck":
        raise ValueError(event.name.upper())
    return Person(event.name)


people = Domain(
    "people",
    aggregates=[
        Aggregate("p", initial=Person(), events=[Renamed], apply=rename, personal=["full_name"])
    ],
)


def test_what_only_the_state_says_is_personal_is_masked_in_the_events(
    store_url: str, tmp_path: Path
) -> None:
    with Hindsight(store_url) as store:
        events = [NewEvent("Renamed", {"name": name}) for name in ("Grace H", "Bad Luck", "Ann X")]
        store.append("p", "p-1", events, expected=any_())
    domain = f"{__name__}:people"
    for form in ([], ["--ndjson"]):
        page = traced(tmp_path / f"t{form}", "p-1", "--url", store_url, *form, domain=domain)
        assert [name for name in ("Grace H", "Ann X", "BAD LUCK") if name in page] == []


def personal_texts(value: Any, *, hidden: bool = False) -> set[str]:
    """What stands as text in the fields that the domain of users declares personal."""
    if isinstance(value, dict):
        return {
            text
            for key, item in value.items()
            for text in personal_texts(item, hidden=hidden or key in users.user.personal)
        }
    return {value} if hidden and isinstance(value, str) else set()


def test_of_the_sample_nothing_personal_is_in_any_trace(sqlite_url: str, tmp_path: Path) -> None:
    with Hindsight(sqlite_url, domain=users.domain) as store:
        for each in users.domain.sample(seed=3, events=300, until=JANUARY):  # type: ignore[misc]
            with suppress(CommandRejected):
                store.execute(each.aggregate_id, each.command, context=each.context)
        heads = store.aggregates(limit=5, order="longest").items
        known = {head.aggregate_id: list(store.events(head.aggregate_id)) for head in heads}
        states = {name: store.load(name).state for name in known}
    assert sum(map(len, known.values())) > 40
    for name, events in known.items():
        personal = personal_texts(msgspec.to_builtins(states[name]))
        for event in events:
            personal |= personal_texts(event.data) | personal_texts(event.metadata)
        assert len(personal) > 4
        for form in ([], ["--ndjson"]):
            page = traced(tmp_path / "t", name, "--url", sqlite_url, "--force", *form)
            assert [text for text in personal if text in page] == []

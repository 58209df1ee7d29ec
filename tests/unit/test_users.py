"""The rules of the sample domain, and how a service author tests such rules."""

import ast
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import get_args

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

import users
from store import Command, CommandRejected, Domain
from store.testing import given
from users.commands import (
    ChangeEmail,
    ChangePassword,
    CreateUser,
    LockAccount,
    RecordFailedLogin,
    RecordLogin,
    UnlockAccount,
    UpdateProfile,
    UserCommand,
)
from users.events import (
    AccountLocked,
    AccountUnlocked,
    Client,
    EmailChanged,
    LoginFailed,
    LoginInfoUpdated,
    PasswordChanged,
    ProfileUpdated,
    UserCreated,
    UserEvent,
)
from users.state import User, apply

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
HASH = "$argon2id$v=19$m=65536$c2FsdA$aGFzaA"
CREATED = UserCreated(
    username="ada",
    email="ada@example.org",
    full_name="Ada Lovelace",
    password_hash=HASH,
    phone_verified=False,
)
CREATE = CreateUser(
    username="ada", email="ada@example.org", full_name="Ada Lovelace", password_hash=HASH
)
ADA = User(username="ada", email="ada@example.org", full_name="Ada Lovelace", password_hash=HASH)
LOGGED_IN = LoginInfoUpdated(at=NOON, client=Client(ip_address="192.0.2.1"))
LOG_IN = RecordLogin(at=NOON, ip_address="192.0.2.1")
FAILED = LoginFailed(at=NOON, ip_address="192.0.2.9", reason="wrong password")
FAIL = RecordFailedLogin(at=NOON, ip_address="192.0.2.9", reason="wrong password")
LOCKED = AccountLocked(reason="reported stolen")
LOCK = LockAccount(reason="reported stolen")
UNLOCKED = AccountUnlocked(reason="identity checked")
UNLOCK = UnlockAccount(reason="identity checked")

COMMANDS: list[Command] = [
    CREATE,
    UpdateProfile(full_name="Ada King"),
    ChangeEmail(email="ada@example.net"),
    ChangePassword(password_hash=HASH + "2"),
    LOG_IN,
    FAIL,
    LOCK,
    UNLOCK,
]


def commands_by_name(commands: Sequence[Command]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("command", commands, ids=lambda command: type(command).__name__)


# What is declared


def test_the_domain_holds_the_user() -> None:
    assert isinstance(users.domain, Domain)
    assert users.domain.name == "users"
    assert users.domain.aggregates == (users.user,)


def test_every_event_and_every_command_is_declared() -> None:
    assert users.user.events == get_args(UserEvent)
    written: Sequence[type] = UserCommand.__subclasses__()
    assert list(users.user.commands) == list(written)
    assert users.user.commands == tuple(map(type, COMMANDS))


def test_only_public_names_of_the_store_are_used() -> None:
    modules = (Path(__file__).parents[2] / "users").glob("*.py")
    nodes = [node for path in modules for node in ast.walk(ast.parse(path.read_text()))]
    named = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    assert "store" in named
    assert [name for name in named if name.startswith("store.")] == []


# What each event changes


def test_at_first_there_is_no_user() -> None:
    assert not given(users.user).state.exists
    assert given(users.user, CREATED).state.exists


@pytest.mark.parametrize(
    ("event", "before", "after"),
    [
        (CREATED, User(), ADA),
        (ProfileUpdated(full_name="Ada King"), ADA, replace(ADA, full_name="Ada King")),
        (EmailChanged(email="ada@example.net"), ADA, replace(ADA, email="ada@example.net")),
        (PasswordChanged(password_hash="new"), ADA, replace(ADA, password_hash="new")),  # noqa: S106
        (
            LOGGED_IN,
            replace(ADA, total_logins=2, failed_login_attempts=4),
            replace(ADA, total_logins=3, last_login_at=NOON, last_login_ip="192.0.2.1"),
        ),
        (
            FAILED,
            replace(ADA, failed_login_attempts=2),
            replace(ADA, failed_login_attempts=3, last_failed_login_at=NOON),
        ),
        (LOCKED, ADA, replace(ADA, account_locked=True, lock_reason="reported stolen")),
        (
            UNLOCKED,
            replace(ADA, account_locked=True, lock_reason="stolen", failed_login_attempts=5),
            ADA,
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_event_changes_what_it_is_about(event: UserEvent, before: User, after: User) -> None:
    kept = msgspec.json.encode(before)
    assert apply(before, event) == after
    assert msgspec.json.encode(before) == kept


@pytest.mark.parametrize("kind", [User, *users.user.events, *UserCommand.__subclasses__()])
def test_nothing_of_the_domain_can_be_changed_in_place(kind: type[Struct]) -> None:
    assert kind.__struct_config__.frozen


# Creating


def test_a_user_is_created() -> None:
    given(users.user).when(CREATE).then(CREATED)


def test_a_user_is_created_once() -> None:
    given(users.user, CREATED).when(CREATE).then(CommandRejected("the user exists already"))


@pytest.mark.parametrize("username", ["", " ", "\t\n"])
def test_a_blank_username_is_rejected(username: str) -> None:
    rejected = CommandRejected("the username is blank")
    given(users.user).when(replace(CREATE, username=username)).then(rejected)


@commands_by_name(COMMANDS[1:])
def test_only_a_user_that_exists_can_do_anything(command: Command) -> None:
    given(users.user).when(command).then(CommandRejected("the user does not exist"))


# Profile, e-mail address, password


def test_a_profile_is_updated() -> None:
    decided = given(users.user, CREATED).when(UpdateProfile(full_name="Ada King"))
    decided.then(ProfileUpdated(full_name="Ada King"))


def test_the_same_profile_is_no_event() -> None:
    given(users.user, CREATED).when(UpdateProfile(full_name="Ada Lovelace")).then()


def test_an_email_address_is_changed() -> None:
    decided = given(users.user, CREATED).when(ChangeEmail(email="ada@example.net"))
    decided.then(EmailChanged(email="ada@example.net"))


@pytest.mark.parametrize("email", ["ada@example.org", "Ada@EXAMPLE.org"])
def test_the_same_email_address_is_no_event_in_whatever_case(email: str) -> None:
    given(users.user, CREATED).when(ChangeEmail(email=email)).then()


@pytest.mark.parametrize("email", ["a@b", "ada+news@example.org", "ада@пример.рф"])
def test_a_plausible_email_address_is_taken(email: str) -> None:
    given(users.user).when(replace(CREATE, email=email)).then(replace(CREATED, email=email))
    given(users.user, CREATED).when(ChangeEmail(email=email)).then(EmailChanged(email=email))


@pytest.mark.parametrize(
    "email", ["", " ", "ada", "@", "ada@", "@example.org", "a@b@c", "a da@example.org", "a@b\n"]
)
def test_what_cannot_be_an_email_address_is_rejected(email: str) -> None:
    rejected = CommandRejected("the e-mail address is not of the form name@host")
    given(users.user).when(replace(CREATE, email=email)).then(rejected)
    given(users.user, CREATED).when(ChangeEmail(email=email)).then(rejected)


def test_a_password_is_changed() -> None:
    decided = given(users.user, CREATED).when(ChangePassword(password_hash=HASH + "2"))
    decided.then(PasswordChanged(password_hash=HASH + "2"))


def test_the_same_hash_is_no_event() -> None:
    given(users.user, CREATED).when(ChangePassword(password_hash=HASH)).then()


@commands_by_name(COMMANDS[1:4])
def test_a_locked_account_can_still_be_edited(command: Command) -> None:
    decided = given(users.user, CREATED, LOCKED).when(command)
    assert not isinstance(decided.outcome, CommandRejected)
    assert len(decided.outcome) == 1


# Logins


def test_a_login_is_recorded() -> None:
    given(users.user, CREATED).when(LOG_IN).then(LOGGED_IN)


def test_a_failed_login_is_recorded() -> None:
    given(users.user, CREATED).when(FAIL).then(FAILED)


def test_the_fourth_failed_login_in_a_row_does_not_lock_yet() -> None:
    given(users.user, CREATED, *[FAILED] * 3).when(FAIL).then(FAILED)


def test_the_fifth_failed_login_in_a_row_locks() -> None:
    decided = given(users.user, CREATED, *[FAILED] * 4).when(FAIL)
    decided.then(FAILED, AccountLocked(reason="5 failed logins in a row"))


@pytest.mark.parametrize("pause", [[LOGGED_IN], [LOCKED, UNLOCKED]], ids=["login", "unlocking"])
def test_failed_logins_are_counted_anew_after(pause: list[Struct]) -> None:
    before = given(users.user, CREATED, *[FAILED] * 4, *pause)
    before.when(FAIL).then(FAILED)


@commands_by_name([LOG_IN, FAIL])
def test_a_locked_account_refuses_logins(command: Command) -> None:
    rejected = CommandRejected("the account is locked")
    given(users.user, CREATED, LOCKED).when(command).then(rejected)
    accepted = given(users.user, CREATED, LOCKED, UNLOCKED).when(command)
    assert not isinstance(accepted.outcome, CommandRejected)


@pytest.mark.parametrize("zone", [None, timezone(timedelta(hours=1))], ids=["none", "+01:00"])
@pytest.mark.parametrize("command", [LOG_IN, FAIL], ids=["login", "failed login"])
def test_the_moment_of_a_login_is_in_utc(
    command: RecordLogin | RecordFailedLogin, zone: timezone | None
) -> None:
    elsewhere = replace(command, at=NOON.replace(tzinfo=zone))
    rejected = CommandRejected("the moment of a login has to be in UTC")
    given(users.user, CREATED).when(elsewhere).then(rejected)


# Locking and unlocking


def test_an_account_is_locked() -> None:
    given(users.user, CREATED).when(LOCK).then(LOCKED)


def test_a_locked_account_is_not_locked_again() -> None:
    decided = given(users.user, CREATED, LOCKED).when(LOCK)
    decided.then(CommandRejected("the account is locked already"))


def test_an_account_is_unlocked() -> None:
    given(users.user, CREATED, LOCKED).when(UNLOCK).then(UNLOCKED)


def test_an_account_that_is_not_locked_is_not_unlocked() -> None:
    decided = given(users.user, CREATED).when(UNLOCK)
    decided.then(CommandRejected("the account is not locked"))


# What is kept of a command


@commands_by_name(COMMANDS)
def test_what_is_kept_of_a_command_is_all_but_its_hash(command: UserCommand) -> None:
    kept = command.recorded()
    assert set(kept) == set(command.__struct_fields__) - {"password_hash"}
    assert HASH not in msgspec.json.encode(kept).decode()
    assert msgspec.json.decode(msgspec.json.encode(kept)) == kept


# Whatever is asked, in whatever order

anything = st.lists(
    st.sampled_from([*COMMANDS, *[FAIL] * 6, ChangeEmail(email=""), ChangeEmail(email="a@b")]),
    min_size=20,  # what holds is checked after each command, so of shorter lists too
    max_size=40,
)


@hypothesis.given(st.sampled_from([(), (CREATED,)]), anything)
def test_no_order_of_commands_breaks_a_promise(
    start: Sequence[Struct], commands: list[Command]
) -> None:
    history = list(start)
    for command in commands:
        before = given(users.user, *history)
        decided = before.when(command)
        if isinstance(decided.outcome, CommandRejected):
            assert decided.state == before.state
        else:
            history += decided.outcome
        state = given(users.user, *history).state
        assert decided.state == state
        assert state.exists or history == []
        assert state.account_locked or state.failed_login_attempts < 5
        assert state.account_locked == (state.lock_reason is not None)
        assert state.total_logins == sum(isinstance(event, LoginInfoUpdated) for event in history)

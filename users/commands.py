"""What can be asked of a user, and the rules that answer.

Setting what is set already is no event. A step that cannot be taken, such as locking a locked
account, is rejected. A locked account refuses logins and nothing else. Messages of rejections end
up in logs, so they tell nothing of the person.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, to_builtins

from store import CommandRejected
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
)
from users.state import User

FAILED_LOGINS_UNTIL_LOCKED = 5
"""How many failed logins in a row lock the account."""


class UserCommand(Struct, frozen=True, kw_only=True):
    """What the commands of users share: how they are kept."""

    def recorded(self) -> dict[str, Any]:
        """The fields as JSON values, without a password's hash: a hash can be guessed from."""
        fields: dict[str, Any] = to_builtins(self)
        fields.pop("password_hash", None)
        return fields


class CreateUser(UserCommand, frozen=True, kw_only=True):
    """Create the user. The caller hashes the password."""

    username: str
    email: str
    full_name: str
    password_hash: str

    def decide(self, user: User) -> Sequence[Struct]:
        """Rejected where the user exists, or its name or e-mail address cannot be one."""
        if user.exists:
            raise CommandRejected("the user exists already")
        if not self.username.strip():
            raise CommandRejected("the username is blank")
        _check_email(self.email)
        return [
            UserCreated(
                username=self.username,
                email=self.email,
                full_name=self.full_name,
                password_hash=self.password_hash,
                phone_verified=False,
            )
        ]


class UpdateProfile(UserCommand, frozen=True, kw_only=True):
    """Replace what the user tells of itself."""

    full_name: str

    def decide(self, user: User) -> Sequence[Struct]:
        """No event where the profile is the same."""
        _check_exists(user)
        if self.full_name == user.full_name:
            return []
        return [ProfileUpdated(full_name=self.full_name)]


class ChangeEmail(UserCommand, frozen=True, kw_only=True):
    """Send mail to another address."""

    email: str

    def decide(self, user: User) -> Sequence[Struct]:
        """No event where only upper and lower case differ: mail reaches the same person."""
        _check_exists(user)
        _check_email(self.email)
        if user.email is not None and self.email.casefold() == user.email.casefold():
            return []
        return [EmailChanged(email=self.email)]


class ChangePassword(UserCommand, frozen=True, kw_only=True):
    """Let another password open the account. The caller hashes it."""

    password_hash: str

    def decide(self, user: User) -> Sequence[Struct]:
        """No event where the hash is the same."""
        _check_exists(user)
        if self.password_hash == user.password_hash:
            return []
        return [PasswordChanged(password_hash=self.password_hash)]


class RecordLogin(UserCommand, frozen=True, kw_only=True):
    """Note that the user logged in, `at` a moment in UTC."""

    at: datetime
    ip_address: str
    user_agent: str | None = None

    def decide(self, user: User) -> Sequence[Struct]:
        """Rejected where the account is locked."""
        _check_login(user, self.at)
        client = Client(ip_address=self.ip_address, user_agent=self.user_agent)
        return [LoginInfoUpdated(at=self.at, client=client)]


class RecordFailedLogin(UserCommand, frozen=True, kw_only=True):
    """Note that somebody could not log in as the user, `at` a moment in UTC."""

    at: datetime
    ip_address: str
    reason: str | None = None

    def decide(self, user: User) -> Sequence[Struct]:
        """Locks the account with the fifth in a row; rejected where it is locked already."""
        _check_login(user, self.at)
        failed = LoginFailed(at=self.at, ip_address=self.ip_address, reason=self.reason)
        if user.failed_login_attempts + 1 < FAILED_LOGINS_UNTIL_LOCKED:
            return [failed]
        reason = f"{FAILED_LOGINS_UNTIL_LOCKED} failed logins in a row"
        return [failed, AccountLocked(reason=reason)]


class LockAccount(UserCommand, frozen=True, kw_only=True):
    """Refuse logins until the account is unlocked."""

    reason: str

    def decide(self, user: User) -> Sequence[Struct]:
        """Rejected where the account is locked: its reason stays the first."""
        _check_exists(user)
        if user.account_locked:
            raise CommandRejected("the account is locked already")
        return [AccountLocked(reason=self.reason)]


class UnlockAccount(UserCommand, frozen=True, kw_only=True):
    """Let the user log in again."""

    reason: str | None = None

    def decide(self, user: User) -> Sequence[Struct]:
        """Rejected where the account is not locked."""
        _check_exists(user)
        if not user.account_locked:
            raise CommandRejected("the account is not locked")
        return [AccountUnlocked(reason=self.reason)]


def _check_exists(user: User) -> None:
    if not user.exists:
        raise CommandRejected("the user does not exist")


def _check_email(email: str) -> None:
    # Whether an address receives mail, only mail can tell.
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        raise CommandRejected("the e-mail address is not of the form name@host")


def _check_login(user: User, at: datetime) -> None:
    _check_exists(user)
    if user.account_locked:
        raise CommandRejected("the account is locked")
    if at.utcoffset() != timedelta():
        raise CommandRejected("the moment of a login has to be in UTC")

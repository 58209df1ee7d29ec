"""Users as a table to search, sort and count, without a replay.

A handler for each kind of event says what it does to a user's row. Like `apply`, they are pure.
"""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, Table, Text

from store import EventHeader, Moment, Projection, Row
from users.events import (
    AccountLocked,
    AccountUnlocked,
    EmailChanged,
    LoginFailed,
    LoginInfoUpdated,
    PasswordChanged,
    ProfileUpdated,
    UserCreated,
)

user_read_model = Table(
    "user_read_model",
    MetaData(),
    Column("user_id", Text, primary_key=True),
    Column("username", Text, index=True),
    Column("email", Text, index=True),
    Column("full_name", Text),
    Column("total_logins", Integer, nullable=False),
    Column("last_login_at", Moment),
    Column("failed_login_attempts", Integer, nullable=False),
    Column("account_locked", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
)


def user_created(row: Row | None, created: UserCreated, event: EventHeader) -> Row:
    """There is a user."""
    return _touched(row, event) | {
        "username": created.username,
        "email": created.email,
        "full_name": created.full_name,
    }


def profile_updated(row: Row | None, updated: ProfileUpdated, event: EventHeader) -> Row:
    """It goes by another name."""
    return _touched(row, event) | {"full_name": updated.full_name}


def email_changed(row: Row | None, changed: EmailChanged, event: EventHeader) -> Row:
    """It has another address."""
    return _touched(row, event) | {"email": changed.email}


def password_changed(row: Row | None, changed: PasswordChanged, event: EventHeader) -> Row:
    """Something changed; what, is none of a table's business."""
    del changed
    return _touched(row, event)


def login_info_updated(row: Row | None, login: LoginInfoUpdated, event: EventHeader) -> Row:
    """One login more, and no failed ones in a row."""
    touched = _touched(row, event)
    return touched | {
        "total_logins": touched["total_logins"] + 1,
        "last_login_at": login.at,
        "failed_login_attempts": 0,
    }


def login_failed(row: Row | None, failed: LoginFailed, event: EventHeader) -> Row:
    """One failed login more."""
    del failed
    touched = _touched(row, event)
    return touched | {"failed_login_attempts": touched["failed_login_attempts"] + 1}


def account_locked(row: Row | None, locked: AccountLocked, event: EventHeader) -> Row:
    """No login is possible."""
    del locked
    return _touched(row, event) | {"account_locked": True}


def account_unlocked(row: Row | None, unlocked: AccountUnlocked, event: EventHeader) -> Row:
    """Logins are possible again."""
    del unlocked
    return _touched(row, event) | {"account_locked": False, "failed_login_attempts": 0}


def _touched(row: Row | None, event: EventHeader) -> dict[str, Any]:
    """The row, or that of a user of whom nothing is known, as the event finds it."""
    before = row or {
        "user_id": event.aggregate_id,
        "total_logins": 0,
        "failed_login_attempts": 0,
        "account_locked": False,
        "created_at": event.occurred_at,
    }
    return {**before, "version": event.version, "updated_at": event.occurred_at}


users = Projection(
    "users",
    table=user_read_model,
    handlers={
        UserCreated: user_created,
        ProfileUpdated: profile_updated,
        EmailChanged: email_changed,
        PasswordChanged: password_changed,
        LoginInfoUpdated: login_info_updated,
        LoginFailed: login_failed,
        AccountLocked: account_locked,
        AccountUnlocked: account_unlocked,
    },
)

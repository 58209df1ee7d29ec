"""What is known of a user, and how each event changes it."""

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from users.events import (
    AccountLocked,
    AccountUnlocked,
    EmailChanged,
    LoginFailed,
    LoginInfoUpdated,
    PasswordChanged,
    ProfileUpdated,
    UserCreated,
    UserEvent,
)


class User(Struct, frozen=True, kw_only=True):
    """A user; as it starts, one that does not exist yet. Moments are in UTC.

    `failed_login_attempts` are those in a row, since the last successful login or unlocking.
    """

    username: str | None = None
    email: str | None = None
    full_name: str | None = None
    password_hash: str | None = None
    phone_verified: bool = False
    total_logins: int = 0
    last_login_at: datetime | None = None
    last_login_ip: str | None = None
    failed_login_attempts: int = 0
    last_failed_login_at: datetime | None = None
    account_locked: bool = False
    lock_reason: str | None = None

    @property
    def exists(self) -> bool:
        """Whether the user was created."""
        return self.username is not None


def apply(user: User, event: UserEvent) -> User:
    """The user after the event."""
    match event:
        case UserCreated():
            return replace(
                user,
                username=event.username,
                email=event.email,
                full_name=event.full_name,
                password_hash=event.password_hash,
                phone_verified=event.phone_verified,
            )
        case ProfileUpdated():
            return replace(user, full_name=event.full_name)
        case EmailChanged():
            return replace(user, email=event.email)
        case PasswordChanged():
            return replace(user, password_hash=event.password_hash)
        case LoginInfoUpdated():
            return replace(
                user,
                total_logins=user.total_logins + 1,
                last_login_at=event.at,
                last_login_ip=event.client.ip_address,
                failed_login_attempts=0,
            )
        case LoginFailed():
            return replace(
                user,
                failed_login_attempts=user.failed_login_attempts + 1,
                last_failed_login_at=event.at,
            )
        case AccountLocked():
            return replace(user, account_locked=True, lock_reason=event.reason)
        case AccountUnlocked():
            return replace(user, account_locked=False, lock_reason=None, failed_login_attempts=0)

"""What happens to users.

Events are stored for good: a field may be added with a default, none is renamed or removed.
Moments are in UTC and come from the command, for neither deciding nor applying reads a clock.
"""

from datetime import datetime

from msgspec import Struct


class UserCreated(Struct, frozen=True, kw_only=True):
    """Somebody signed up, or was signed up."""

    username: str
    email: str
    full_name: str
    password_hash: str


class ProfileUpdated(Struct, frozen=True, kw_only=True):
    """What users tell of themselves is now this."""

    full_name: str


class EmailChanged(Struct, frozen=True, kw_only=True):
    """Mail goes to another address from now on."""

    email: str


class PasswordChanged(Struct, frozen=True, kw_only=True):
    """Another password opens the account; only its hash is known here."""

    password_hash: str


class LoginInfoUpdated(Struct, frozen=True, kw_only=True):
    """A login succeeded."""

    at: datetime
    ip_address: str


class LoginFailed(Struct, frozen=True, kw_only=True):
    """Somebody tried to log in, and could not."""

    at: datetime
    ip_address: str
    reason: str | None = None


class AccountLocked(Struct, frozen=True, kw_only=True):
    """No login is possible until the account is unlocked."""

    reason: str


class AccountUnlocked(Struct, frozen=True, kw_only=True):
    """Logins are possible again, and failed ones are counted from zero."""

    reason: str | None = None


UserEvent = (
    UserCreated
    | ProfileUpdated
    | EmailChanged
    | PasswordChanged
    | LoginInfoUpdated
    | LoginFailed
    | AccountLocked
    | AccountUnlocked
)

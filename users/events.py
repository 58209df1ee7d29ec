"""What happens to users.

Events are stored for good. A field may be added with a default; whatever else changes raises the
schema version, and `upcasters` gets a step from what was stored before.
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
    phone_verified: bool


class ProfileUpdated(Struct, frozen=True, kw_only=True):
    """What users tell of themselves is now this."""

    full_name: str


class EmailChanged(Struct, frozen=True, kw_only=True):
    """Mail goes to another address from now on."""

    email: str


class PasswordChanged(Struct, frozen=True, kw_only=True):
    """Another password opens the account; only its hash is known here."""

    password_hash: str


class Client(Struct, frozen=True, kw_only=True):
    """Where a login came from."""

    ip_address: str
    user_agent: str | None = None


class LoginInfoUpdated(Struct, frozen=True, kw_only=True):
    """A login succeeded."""

    at: datetime
    client: Client


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

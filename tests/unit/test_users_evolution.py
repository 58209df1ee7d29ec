"""Events of users as every version of the code stored them, read by the code of today."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from users import user
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

STORED = Path(__file__).parents[1] / "fixtures/users"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
NAMES = {"username": "ada", "email": "ada@example.org", "full_name": "Ada Lovelace"}
HASH = "$argon2id$v=19$c2FsdA$aGFzaA"

TODAY: dict[tuple[str, int], UserEvent] = {
    ("UserCreated", 1): UserCreated(**NAMES, password_hash=HASH, phone_verified=False),
    ("UserCreated", 2): UserCreated(**NAMES, password_hash=HASH, phone_verified=True),
    ("ProfileUpdated", 1): ProfileUpdated(full_name="Ada King"),
    ("EmailChanged", 1): EmailChanged(email="ada@example.com"),
    ("PasswordChanged", 1): PasswordChanged(password_hash="$argon2id$v=19$bmV3$aGFzaA"),  # noqa: S106
    ("LoginInfoUpdated", 1): LoginInfoUpdated(at=NOON, client=Client(ip_address="192.0.2.1")),
    ("LoginInfoUpdated", 2): LoginInfoUpdated(
        at=NOON, client=Client(ip_address="192.0.2.1", user_agent="Mozilla/5.0")
    ),
    ("LoginInfoUpdated", 3): LoginInfoUpdated(at=NOON, client=Client(ip_address="192.0.2.1")),
    ("LoginFailed", 1): LoginFailed(at=NOON, ip_address="192.0.2.9", reason="wrong password"),
    ("AccountLocked", 1): AccountLocked(reason="reported stolen"),
    ("AccountUnlocked", 1): AccountUnlocked(reason="identity checked"),
}


def test_every_version_that_was_ever_written_is_kept_here() -> None:
    versions = {
        (name, version)
        for name, newest in user.schema_versions.items()
        for version in range(1, newest + 1)
    }
    stored = {(path.name.split(".")[0], int(path.name.split(".")[1])) for path in STORED.iterdir()}
    assert versions == stored == TODAY.keys()


@pytest.mark.parametrize(("name", "version"), TODAY)
def test_stored_bytes_of_every_version_are_read(name: str, version: int) -> None:
    raw = (STORED / f"{name}.{version}.json").read_bytes()
    assert user.decode(name, raw, version) == TODAY[name, version]


def test_users_have_evolved() -> None:
    assert user.schema_versions["UserCreated"] == 2
    assert user.schema_versions["LoginInfoUpdated"] == 3

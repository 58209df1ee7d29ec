"""Passwords for the roles of a new stack, made once: `python deploy/passwords.py FOLDER`.

Each role gets a folder of its own with the password file that libpq reads (`pgpass`), so that a
container sees its own alone. The owner's has the passwords of the others too, in files of their
names, for `hindsight migrate --create-roles`; the database's has the owner's.
"""

import secrets
import sys
from pathlib import Path

OWNER = "hindsight_owner"
ROLES = {"app": "hindsight_app", "worker": "hindsight_worker", "reader": "hindsight_reader"}
"""The role of each folder, but for the owner's."""


def main(folder: Path) -> None:
    """Make what is not there yet; what is there stays."""
    owner = _password(folder / "owner" / OWNER)
    # PostgreSQL's image reads it as a user of its own; nobody else is given this folder.
    _write(folder / "database" / "password", owner, mode=0o644)
    _write(folder / "owner" / "pgpass", f"*:*:*:{OWNER}:{owner}\n")
    for name, role in ROLES.items():
        password = _password(folder / "owner" / role)
        _write(folder / name / "pgpass", f"*:*:*:{role}:{password}\n")


def _password(file: Path) -> str:
    if not file.exists():
        _write(file, secrets.token_urlsafe(32))
    return file.read_text()


def _write(file: Path, text: str, *, mode: int = 0o600) -> None:
    part = file.with_name(f".{file.name}")
    part.unlink(missing_ok=True)
    part.touch(mode=mode)
    part.write_text(text)
    part.replace(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

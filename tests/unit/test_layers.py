"""The rules about places that import contracts cannot state."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KNOWS_DIALECTS = ("store/database/", "store/migrations/", "store/tables.py")
# A domain knows where its own mail goes.
READS_ENVIRONMENT = ("store/settings.py", "users/notifications.py")


def _modules(*folders: str) -> Iterator[Path]:
    return (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))


def _names(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    imported = {
        alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    return attributes | imported


def _outside(allowed: tuple[str, ...], names: set[str]) -> list[str]:
    modules = (
        path.relative_to(ROOT).as_posix()
        for path in _modules("store", "users", "dashboard", "pages")
    )
    return [
        name for name in modules if not name.startswith(allowed) and names & _names(ROOT / name)
    ]


def test_only_the_ground_knows_which_database_it_talks_to() -> None:
    assert _outside(KNOWS_DIALECTS, {"dialect"}) == []


def test_only_the_settings_read_the_environment() -> None:
    assert _outside(READS_ENVIRONMENT, {"environ", "getenv"}) == []


@pytest.mark.parametrize("allowed", [KNOWS_DIALECTS, READS_ENVIRONMENT])
def test_every_allowed_place_exists(allowed: tuple[str, ...]) -> None:
    assert [place for place in allowed if not (ROOT / place).exists()] == []

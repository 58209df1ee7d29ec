"""A fold's fingerprint changes with what the fold means, and with nothing else."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Struct, defstruct, field

from store import Aggregate
from store.errors import InvalidDomain


class Counted(Struct, frozen=True):
    by: int


class Total(Struct, frozen=True):
    total: int = 0


class WiderTotal(Struct, frozen=True):
    total: int = 0
    last: int = 0


class OtherTotal(Struct, frozen=True):
    total: float = 0


def make(source: str) -> Callable[[Any, Any], Any]:
    """`apply` as another module would define it."""
    import linecache  # noqa: PLC0415

    name = f"<fold {len(linecache.cache)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    space: dict[str, Any] = {"Total": Total}
    exec(compile(source, name, "exec"), space)  # noqa: S102
    apply: Callable[[Any, Any], Any] = space["apply"]
    return apply


FOLD = "def apply(state, event):\n    return Total(state.total + event.by)\n"


def fingerprint(**changes: Any) -> str:
    parts: dict[str, Any] = {"initial": Total(), "events": [Counted], "apply": make(FOLD)}
    return Aggregate(changes.pop("aggregate_type", "total"), **parts | changes).fingerprint


@pytest.mark.parametrize(
    "source",
    [
        FOLD,
        "def apply(state, event):\n    # why\n\n    return Total(state.total +\n event.by)\n",
        'def apply(state, event):\n    """What."""\n    return Total(state.total + event.by)\n',
    ],
)
def test_comments_docstrings_and_layout_mean_nothing(source: str) -> None:
    assert fingerprint(apply=make(source)) == fingerprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"aggregate_type": "other"},
        {"fold_version": 2},
        {"initial": WiderTotal()},
        {"initial": OtherTotal()},
        {"initial": Total(1)},
        {"apply": make(FOLD.replace("+", "-"))},
    ],
)
def test_what_changes_states_changes_it(changes: dict[str, Any]) -> None:
    assert fingerprint(**changes) != fingerprint()


def test_a_fold_whose_source_cannot_be_read_is_refused() -> None:
    space: dict[str, Any] = {}
    exec("def apply(state, event): return state", space)  # noqa: S102
    with pytest.raises(InvalidDomain, match="apply: its source cannot be read"):
        fingerprint(apply=space["apply"])


class Line(Struct, frozen=True):
    notes: list[str] = field(default_factory=list)


class Basket(Struct, frozen=True):
    tags: frozenset[str] = frozenset({"a", "b", "c", "d"})
    lines: tuple[Line, ...] = (Line(),)


def test_every_process_computes_the_same() -> None:
    code = (
        "from tests.unit.test_fingerprint import *\n"
        "print(fingerprint(initial=Basket(), apply=keep))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }
    assert found == {fingerprint(initial=Basket(), apply=keep)}


def keep(state: Basket, event: Counted) -> Basket:
    return state if event.by else Basket()


def test_the_fields_of_structs_inside_count() -> None:
    def basket(line: type[Struct]) -> Struct:
        kind = defstruct("Outer", [("lines", tuple[line, ...], ())], frozen=True)  # type: ignore[valid-type]
        return kind()

    one = defstruct("Line", [("a", int, 0)], frozen=True)
    other = defstruct("Line", [("a", int, 0), ("b", int, 0)], frozen=True)
    assert fingerprint(initial=basket(one)) != fingerprint(initial=basket(other))


def test_an_initial_state_that_is_no_json_is_refused() -> None:
    kind = defstruct("Odd", [("value", Any, None)], frozen=True)
    with pytest.raises(InvalidDomain, match="initial: "):
        fingerprint(initial=kind({(1, 2): 3}))

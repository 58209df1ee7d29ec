"""Questions to a state in CEL, the Common Expression Language: `status == "locked"`."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias

from cel_expr_python import cel
from msgspec import Struct

from store.analysis.document import ABSENT, is_same
from store.analysis.evaluator import without_status
from store.analysis.syntax import Path, places
from store.errors import InvalidExpression

LONGEST = 2_000
"""Characters of an expression. It can be neither long nor nested deep, so compiling it is cheap."""
STATE = "state"
"""The variable that is the whole document; a field of that name is `state.state`."""

Kind: TypeAlias = Literal["value", "undefined", "error"]
_Wanted: TypeAlias = "dict[str, _Wanted] | None"
"""Which fields of a value are wanted, or all of it."""

_FAULT = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_RANGE = "expression of type 'dyn' cannot be the range of a comprehension"
"""What the checker says of `state["a"].exists(…)`, whose range only shows when it is there."""
_UNKNOWN = re.compile(r"undeclared reference to '(.*)' \(in container ''\)")


class Answer(Struct, frozen=True, omit_defaults=True):
    """What an expression is at a state: a JSON value, undefined, or an error with its text.

    It is undefined where a field, key or index that it needs is not there.
    """

    kind: Kind
    value: Any = None
    error: str | None = None

    def is_same(self, other: "Answer") -> bool:
        """Whether both read the same."""
        alike = (self.kind, self.error) == (other.kind, other.error)
        return alike and is_same(self.value, other.value)


UNDEFINED: Final = Answer("undefined")


class Expression:
    """An expression that compiles. Safe to share between threads.

    The state's fields at the top are its variables, and `state` is the whole of it. The names of
    CEL's types, such as `type`, mean those; such a field is `state.type`.

    Raises:
        InvalidExpression: it is no CEL, is too long, or calls a function that there is not.
    """

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            reason = f"{len(text):,} characters; the limit is {LONGEST:,}"
            raise InvalidExpression(text, reason)
        if not _is_text(text):
            raise InvalidExpression(text, "it has a character that is no text")
        self.text = text
        found = [path for path in places(_parsed(text)) if not _is_type(path[0])]
        self.names = frozenset(path[0] for path in found)
        self.checked = _is_checked(text, self.names)
        self._wanted = _tree(found)

    def part(self, document: Any) -> dict[str, Any]:
        """By name, of the variables that are there, as much of the document as is referred to."""
        fields = document if isinstance(document, dict) else {}
        found = {}
        for name, wanted in self._wanted.items():
            value = document if name == STATE else fields.get(name, ABSENT)
            if value is not ABSENT:
                found[name] = _part(value, wanted)
        return found


def _is_text(text: str) -> bool:
    """Whether CEL takes it as it stands: it ends where a NUL is."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _parsed(text: str) -> bytes:
    try:
        parsed: bytes = cel.NewEnv().compile(text, disable_check=True).serialize()
    except RuntimeError as error:
        raise next(_faults(text, str(error))) from None
    return parsed


def _is_type(name: str) -> bool:
    try:
        cel.NewEnv().compile(name)
    except RuntimeError:
        return False
    return True


def _is_checked(text: str, names: Iterable[str]) -> bool:
    """Whether CEL's checker, which does not know the types of variables, finds it right.

    Raises:
        InvalidExpression: it is wrong, whatever the types.
    """
    try:
        cel.NewEnv(variables=dict.fromkeys(names, cel.Type.DYN)).compile(text)
    except RuntimeError as error:
        faults = [each for each in _faults(text, str(error)) if not each.reason.startswith(_RANGE)]
        if faults:
            raise faults[0] from None
        return False
    return True


def _faults(text: str, told: str) -> Iterator[InvalidExpression]:
    found = _FAULT.findall(told)
    for line, column, reason in found:
        place = {"line": int(line), "column": int(column)} if int(line) > 0 else {}
        yield InvalidExpression(text, _reason(reason), **place)
    if not found:
        yield InvalidExpression(text, without_status(told))


def _reason(told: str) -> str:
    """A fault in the parser's words, less what it would have taken instead."""
    told = re.sub(r" expecting \{.*", "", told)
    told = told.replace("mismatched input '<EOF>'", "it ends too early")
    return _UNKNOWN.sub(r"there is no function '\1'", told)


def _tree(paths: Iterable[Path]) -> dict[str, _Wanted]:
    within: dict[str, list[Path]] = {}
    for first, *rest in paths:
        within.setdefault(first, []).append(tuple(rest))
    return {name: None if () in inner else _tree(inner) for name, inner in within.items()}


def _part(value: Any, wanted: _Wanted) -> Any:
    if wanted is None or not isinstance(value, dict):
        return value
    return {name: _part(value[name], inner) for name, inner in wanted.items() if name in value}

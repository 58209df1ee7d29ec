"""Which fold a state came from: equal fingerprints promise equal states for equal events."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, get_args

import msgspec
from msgspec import Struct

from store.errors import InvalidDomain


def fold_fingerprint(
    *,
    aggregate_type: str,
    fold_version: int,
    initial: Struct,
    event_versions: Mapping[str, int],
    apply: Callable[..., Any],
) -> str:
    """SHA-256, in hex, over all that decides what states come out.

    These are the parameters as they are named, with the initial state's values, field names and
    types, and the syntax tree of `apply` without docstrings. What `apply` calls is not seen; that
    is what `fold_version` is for.

    Raises:
        InvalidDomain: the source of `apply` cannot be read, or the initial state is no JSON.
    """
    try:
        values = msgspec.to_builtins(initial, order="deterministic", str_keys=True)
    except (TypeError, ValueError) as error:
        raise InvalidDomain(f"initial: {error}") from error
    parts = [
        aggregate_type,
        fold_version,
        sorted(event_versions.items()),
        _fields(type(initial), set()),
        values,
        _syntax(apply),
    ]
    return sha256(msgspec.json.encode(parts)).hexdigest()


def code_fingerprint(functions: Iterable[tuple[Any, Callable[..., Any]]]) -> str:
    """SHA-256, in hex, over named functions: their syntax trees, without source their bytecode."""
    parts = [(name, _code(function)) for name, function in functions]
    return sha256(repr(parts).encode()).hexdigest()


def _code(function: Callable[..., Any]) -> Any:
    try:
        return _syntax(function)
    except InvalidDomain:
        code = getattr(function, "__code__", None)
        return type(function).__qualname__ if code is None else (code.co_code, code.co_consts)


def _fields(kind: type[Struct], above: set[type]) -> list[Any]:
    """Names and types of the fields, with those of the Structs among them."""
    return [
        [
            field.name,
            str(field.type),
            [
                _fields(inner, above | {kind})
                for inner in _structs(field.type)
                if inner not in above | {kind}
            ],
        ]
        for field in msgspec.structs.fields(kind)
    ]


def _structs(annotation: Any) -> list[type[Struct]]:
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return [annotation]
    return [inner for part in get_args(annotation) for inner in _structs(part)]


def _syntax(function: Callable[..., Any]) -> str:
    try:
        source = textwrap.dedent(inspect.getsource(function))
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError) as error:
        raise InvalidDomain(
            f"apply: its source cannot be read ({error}); define it in a module with def"
        ) from error
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)

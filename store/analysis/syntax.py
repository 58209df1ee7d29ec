"""Which places of a state an expression refers to, from its syntax tree as CEL serialises it.

The tree is a protocol buffer, `cel.expr.ParsedExpr` of CEL's specification. Reading the few kinds
of node that it has needs neither generated code nor the protobuf package.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str, ...]
Node: TypeAlias = dict[int, list[Any]]
"""A message: what stands under each field number, numbers as int and all else as bytes."""

_CONSTANT, _NAME, _SELECTION, _CALL, _LIST, _STRUCT, _COMPREHENSION = range(3, 10)
_STRING = 6
_INDEX = b"_[_]"


def places(serialised: bytes) -> frozenset[Path]:
    """Each place that is used as it stands: a variable's name, then the fields within it."""
    [parsed] = _node(serialised)[2]
    [expression] = _node(parsed)[2]
    return frozenset(_places(_node(expression), frozenset()))


def _places(node: Node, bound: frozenset[str]) -> Iterator[Path]:
    path = _path(node)
    if path is not None:
        if path[0] not in bound:
            yield path
    elif _COMPREHENSION in node:
        yield from _within_comprehension(_node(node[_COMPREHENSION][0]), bound)
    else:
        for inner in _parts(node):
            yield from _places(inner, bound)


def _within_comprehension(node: Node, bound: frozenset[str]) -> Iterator[Path]:
    """What a macro such as `exists` became: its variables are names of its own."""
    variables = {_text(name) for number in (1, 3) for name in node.get(number, ())}
    for number, names in ((2, bound), (4, bound), *((n, bound | variables) for n in (5, 6, 7))):
        for inner in node.get(number, ()):
            yield from _places(_node(inner), names)


def _path(node: Node) -> Path | None:
    """The place that the node is, if it is a name, a field or a key written out."""
    if _NAME in node:
        return (_text(_node(node[_NAME][0])[1][0]).removeprefix("."),)
    if _SELECTION in node:
        selection = _node(node[_SELECTION][0])
        of, field = _path(_node(selection[1][0])), _text(selection[2][0])
    elif _CALL in node and _node(node[_CALL][0])[2] == [_INDEX]:
        value, key = (_node(each) for each in _node(node[_CALL][0])[3])
        constant = _node(key[_CONSTANT][0]) if _CONSTANT in key else {}
        if _STRING not in constant:
            return None
        of, field = _path(value), _text(constant[_STRING][0])
    else:
        return None
    return None if of is None else (*of, field)


def _parts(node: Node) -> Iterator[Node]:
    for kind, numbers in ((_SELECTION, (1,)), (_CALL, (1, 3)), (_LIST, (1,))):
        for content in map(_node, node.get(kind, ())):
            for number in numbers:
                yield from map(_node, content.get(number, ()))
    for struct in map(_node, node.get(_STRUCT, ())):
        for entry in map(_node, struct.get(2, ())):
            for number in (3, 4):
                yield from map(_node, entry.get(number, ()))


def _text(content: bytes) -> str:
    return content.decode()


def _node(message: bytes) -> Node:
    found: Node = {}
    at = 0
    while at < len(message):
        tag, at = _number(message, at)
        number, kind = tag >> 3, tag & 7
        content: Any
        if kind == 0:
            content, at = _number(message, at)
        else:
            size, at = _number(message, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
            content, at = message[at : at + size], at + size
        found.setdefault(number, []).append(content)
    return found


def _number(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, seven bits a byte, and where it ends."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at

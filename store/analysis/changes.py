"""What makes one document of another: operations of JSON Patch (RFC 6902) that can be undone.

Objects in lists are matched by their identity, a field such as `id`, so that an insertion in front
is one operation and not a change of every item behind it.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from store.analysis.document import ABSENT, escaped, is_index, is_same, parts_of

Operation: TypeAlias = Literal["add", "remove", "replace", "move"]

IDENTITIES = ("id", "_id", "uuid", "key", "name")
"""The fields that may identify an object in a list, the first that all of them have."""
ALIGNED = 1_000_000
"""Items of one list times items of the other up to which they are aligned, as that is quadratic."""


class Change(Struct, frozen=True, kw_only=True):
    """One operation, with the values before and after it, so that it can be undone.

    `source` is where a `move` takes its value from.
    """

    op: Operation
    path: str
    before: Any = ABSENT
    after: Any = ABSENT
    source: str | None = None

    def as_patch(self) -> dict[str, Any]:
        """The operation as RFC 6902 writes it."""
        if self.op == "move":
            return {"op": "move", "from": self.source, "path": self.path}
        if self.op == "remove":
            return {"op": "remove", "path": self.path}
        return {"op": self.op, "path": self.path, "value": self.after}

    def undone(self) -> "Change":
        """The operation that takes this one back."""
        if self.op == "move":
            return Change(op="move", path=self.source or "", source=self.path)
        back: dict[Operation, Operation] = {"add": "remove", "remove": "add"}
        return Change(
            op=back.get(self.op, self.op), path=self.path, before=self.after, after=self.before
        )


Changes: TypeAlias = Sequence[Change]


class PatchFailed(ValueError):
    """A change does not fit the document it is applied to."""


def diff(one: Any, other: Any, *, identities: Sequence[str] = IDENTITIES) -> list[Change]:
    """The changes, in order, that make `other` of `one`, both documents.

    `identities` are the fields that may identify the objects of a list.
    """
    return list(_between("", one, other, tuple(identities)))


def apply(changes: Changes, value: Any) -> Any:
    """The document after the changes. The one given stays as it is, and shares what is unchanged.

    Raises:
        PatchFailed: a place is not there.
    """
    for change in changes:
        if change.op == "move":
            source = parts_of(change.source or "")
            moved = _at(value, source)
            value = _changed(
                _changed(value, source, _removed), parts_of(change.path), _adding(moved)
            )
        elif change.op == "remove":
            value = _changed(value, parts_of(change.path), _removed)
        elif change.op == "add":
            value = _changed(value, parts_of(change.path), _adding(change.after))
        else:
            value = _changed(value, parts_of(change.path), _replacing(change.after))
    return value


def undone(changes: Changes) -> list[Change]:
    """The changes that take these back."""
    return [change.undone() for change in reversed(changes)]


def as_patch(changes: Changes) -> list[dict[str, Any]]:
    """The changes as a JSON Patch document."""
    return [change.as_patch() for change in changes]


def _between(path: str, one: Any, other: Any, identities: tuple[str, ...]) -> Iterator[Change]:
    if one is other:
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for key, before in one.items():
            place = f"{path}/{escaped(key)}"
            if key in other:
                yield from _between(place, before, other[key], identities)
            else:
                yield Change(op="remove", path=place, before=before)
        for key, after in other.items():
            if key not in one:
                yield Change(op="add", path=f"{path}/{escaped(key)}", after=after)
    elif isinstance(one, list) and isinstance(other, list):
        yield from _between_lists(path, one, other, identities)
    elif not is_same(one, other):
        yield Change(op="replace", path=path, before=one, after=other)


def _between_lists(
    path: str, one: list[Any], other: list[Any], identities: tuple[str, ...]
) -> Iterator[Change]:
    names = _names(one, other, identities)
    if names is None:
        yield from _aligned(path, one, other, identities)
        return
    before, after = names
    yield from _arranged(path, one, other, before, after)
    items = dict(zip(before, one, strict=True))
    for index, (name, item) in enumerate(zip(after, other, strict=True)):
        if name in items:
            yield from _between(f"{path}/{index}", items[name], item, identities)


def _names(
    one: list[Any], other: list[Any], identities: tuple[str, ...]
) -> tuple[list[Any], list[Any]] | None:
    """The items of both by their identity, if they have one; numbers and texts are their own."""
    if not all(isinstance(item, dict) for item in (*one, *other)):
        return None
    for field in identities:
        found = [[_name(item.get(field)) for item in items] for items in (one, other)]
        if all(None not in names and len(set(names)) == len(names) for names in found):
            return found[0], found[1]
    return None


def _name(value: Any) -> tuple[type, Any] | None:
    return (type(value), value) if isinstance(value, str | int) else None


def _arranged(
    path: str, one: list[Any], other: list[Any], before: list[Any], after: list[Any]
) -> Iterator[Change]:
    """Items removed, moved and added, until their names stand as they do `after`."""
    wanted = {name: index for index, name in enumerate(after)}
    standing = list(before)
    for index in range(len(before) - 1, -1, -1):
        if before[index] not in wanted:
            del standing[index]
            yield Change(op="remove", path=f"{path}/{index}", before=one[index])
    stay = {after[place] for place in _longest_rise([wanted[name] for name in standing])}
    known = set(standing)
    previous = None
    for name in after:
        if name in known and name not in stay:
            source = standing.index(name)
            del standing[source]
            target = 0 if previous is None else standing.index(previous) + 1
            standing.insert(target, name)
            if source != target:
                yield Change(op="move", path=f"{path}/{target}", source=f"{path}/{source}")
        previous = name if name in known else previous
    for index, name in enumerate(after):
        if name not in known:
            yield Change(op="add", path=f"{path}/{index}", after=other[index])


def _longest_rise(numbers: Sequence[int]) -> list[int]:
    """A longest rising subsequence of numbers that are all different, by patience sorting."""
    tails: list[int] = []
    earlier: dict[int, int | None] = {}
    for number in numbers:
        at = bisect_left(tails, number)
        tails[at : at + 1] = [number]
        earlier[number] = tails[at - 1] if at else None
    rising: list[int] = []
    last = tails[-1] if tails else None
    while last is not None:
        rising.append(last)
        last = earlier[last]
    return rising[::-1]


def _aligned(
    path: str, one: list[Any], other: list[Any], identities: tuple[str, ...]
) -> Iterator[Change]:
    """Items matched by what they are; those in between are compared one by one, then added or not.

    Everything in front of an operation stands as in `other` already, so indexes are those there.
    """
    for kind, start, stop, first, last in _opcodes(one, other):
        if kind == "equal":
            continue
        both = min(stop - start, last - first)
        for offset in range(both):
            place = f"{path}/{first + offset}"
            yield from _between(place, one[start + offset], other[first + offset], identities)
        for before in one[start + both : stop]:
            yield Change(op="remove", path=f"{path}/{first + both}", before=before)
        for index in range(first + both, last):
            yield Change(op="add", path=f"{path}/{index}", after=other[index])


def _opcodes(one: list[Any], other: list[Any]) -> Sequence[tuple[str, int, int, int, int]]:
    keys, others = list(map(_content, one)), list(map(_content, other))
    front = _common(keys, others)
    back = _common(keys[front:][::-1], others[front:][::-1])
    middle, other_middle = keys[front : len(keys) - back], others[front : len(others) - back]
    if len(middle) * len(other_middle) > ALIGNED:
        return [("replace", front, len(keys) - back, front, len(others) - back)]
    matcher = SequenceMatcher(None, middle, other_middle, autojunk=False)
    return [(kind, *(front + at for at in places)) for kind, *places in matcher.get_opcodes()]  # type: ignore[misc]


def _content(item: Any) -> Any:
    if isinstance(item, dict | list):
        return msgspec.json.encode(item, order="sorted")
    return type(item), item


def _common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many items both have in common at their beginnings."""
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return min(len(one), len(other))


_Edit: TypeAlias = Callable[[Any, str], Any]
"""Makes a container, of one and the part of a path that names a place in it."""


def _at(value: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        value = value[_place(value, part)]
    return value


def _changed(value: Any, parts: Sequence[str], edit: _Edit) -> Any:
    """A copy of the containers on the way to a place, with the last of them edited."""
    if not parts:
        return edit({"": value}, "").get("", ABSENT)
    part, *rest = parts
    if not rest:
        return edit(value, part)
    place = _place(value, part)
    copy = value.copy()
    copy[place] = _changed(value[place], rest, edit)
    return copy


def _place(value: Any, part: str) -> Any:
    if isinstance(value, dict) and part in value:
        return part
    if isinstance(value, list) and is_index(part) and int(part) < len(value):
        return int(part)
    raise PatchFailed(f"there is nothing at {part!r}")


def _removed(value: Any, part: str) -> Any:
    place, copy = _place(value, part), value.copy()
    del copy[place]
    return copy


def _adding(item: Any) -> _Edit:
    def edit(value: Any, part: str) -> Any:
        if isinstance(value, dict):
            return value | {part: item}
        if isinstance(value, list) and is_index(part) and int(part) <= len(value):
            return [*value[: int(part)], item, *value[int(part) :]]
        raise PatchFailed(f"nothing can be added at {part!r}")

    return edit


def _replacing(item: Any) -> _Edit:
    def edit(value: Any, part: str) -> Any:
        place, copy = _place(value, part), value.copy()
        copy[place] = item
        return copy

    return edit

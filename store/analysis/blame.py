"""Which event last set a field of the state, and all those that ever did.

The history of a field goes with it: an item of a list keeps its own when others come in front, and
a field that is gone keeps it until it comes back.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from msgspec import Struct

from store.analysis.changes import Change
from store.analysis.document import escaped, find, is_index, leaves, parts_of
from store.analysis.stepping import Step
from store.records import Event

KEPT = 1_000
"""How many of a field's changes are kept, the last ones."""


class Origin(Struct, frozen=True, kw_only=True):
    """The event that changed something, as whoever looks for the culprit needs it."""

    version: int
    event_id: UUID
    event_type: str
    occurred_at: datetime
    actor: str | None
    correlation_id: str | None


class Entry(Struct, frozen=True):
    """A change of a field, or of something inside of it, whose place was `change.path` then."""

    origin: Origin
    change: Change


class FieldBlame(Struct, frozen=True, kw_only=True):
    """Who set what stands at `path`, a JSON pointer.

    `value` is `ABSENT` where the last event took the field away. `origin` is None for what every
    state begins with. `changes` counts all changes, `history` holds the last of them, oldest first.
    `written_again` is the last version, as far as is known, that wrote the same value once more.
    """

    path: str
    value: Any
    origin: Origin | None
    changes: int
    history: tuple[Entry, ...]
    written_again: int | None


class Blame:
    """Who set the fields of a state. Feed it the steps from the first event on.

    `initial` is the document of the state before that.
    """

    def __init__(self, initial: Any) -> None:
        self.version: int | None = None
        self.document = initial
        self._root = _Node()
        self._root.hold(initial, "", None)

    def add(self, step: Step) -> None:
        """Take in the next step."""
        self.version, self.document = step.event.version, step.after
        origin = _origin(step.event) if step.changes or step.written_again else None
        if origin is None:
            return
        for change in step.changes:
            self._root.change(Entry(origin, change))
        for path in step.written_again:
            node = self._root.at(parts_of(path))
            if node is not None:
                node.written_again = step.event.version

    def fields(self, below: str = "") -> Iterator[FieldBlame]:
        """Each field without fields inside of it, of those at and below a place of the state."""
        for path, value in leaves(find(self.document, below), below):
            yield self._blamed(path, value)

    def field(self, path: str) -> FieldBlame | None:
        """The field at a place, whatever is inside of it; None where there never was one."""
        if self._root.at(parts_of(path)) is None:
            return None
        return self._blamed(path, find(self.document, path))

    def _blamed(self, path: str, value: Any) -> FieldBlame:
        node = self._root.at(parts_of(path)) or _Node()
        last = node.entries[-1].origin if node.entries else None
        again = node.written_again
        return FieldBlame(
            path=path,
            value=value,
            origin=last,
            changes=node.count,
            history=tuple(node.entries),
            written_again=None if again is None or (last and again <= last.version) else again,
        )


def blame(steps: Iterable[Step], *, initial: Any) -> Blame:
    """Who set the fields of the state that the steps lead to, from the first event on."""
    found = Blame(initial)
    for step in steps:
        found.add(step)
    return found


_Children: TypeAlias = "dict[str, _Node] | list[_Node] | None"


class _Node:
    """A place of the state, with the changes of it and of what is inside.

    A key that an object has no more stays, with what became of it; an item of a list does not.
    """

    __slots__ = ("children", "count", "entries", "is_there", "written_again")

    def __init__(self) -> None:
        self.children: _Children = None
        self.is_there = True
        self.count = 0
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self.written_again: int | None = None

    def at(self, parts: Iterable[str]) -> "_Node | None":
        """The place that many parts further in, if there ever was one."""
        node: _Node | None = self
        for part in parts:
            node = None if node is None else node.child(part)
        return node

    def child(self, part: str) -> "_Node | None":
        if isinstance(self.children, dict):
            return self.children.get(part)
        if self.children is None or not is_index(part) or int(part) >= len(self.children):
            return None
        return self.children[int(part)]

    def note(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.count += 1

    def change(self, entry: Entry) -> None:
        """Follow a change of the state that this place is the whole of."""
        parts = parts_of(entry.change.path)
        node = self
        for part in parts[:-1]:
            node.note(entry)
            child = node.child(part)
            assert child is not None, f"{entry.change.path} leads nowhere"  # noqa: S101
            node = child
        if not parts:
            node.set(entry)
            return
        node.note(entry)
        if isinstance(node.children, list):
            node.change_item(int(parts[-1]), entry)
        else:
            node.children = node.children or {}
            node.children.setdefault(parts[-1], _Node()).set(entry)

    def change_item(self, index: int, entry: Entry) -> None:
        """Follow a change of the list's item there."""
        assert isinstance(self.children, list)  # noqa: S101
        if entry.change.op == "remove":
            del self.children[index]
        elif entry.change.op == "move":
            source = int(parts_of(entry.change.source or "")[-1])
            self.children.insert(index, self.children.pop(source))
        else:
            if entry.change.op == "add":
                self.children.insert(index, _Node())
            self.children[index].set(entry)

    def set(self, entry: Entry) -> None:
        """Note that the value as a whole was set, or taken away."""
        self.note(entry)
        self.lose(entry)
        self.is_there = entry.change.op != "remove"
        self.hold(entry.change.after, entry.change.path, entry.origin)

    def lose(self, entry: Entry) -> None:
        """Note that what is inside is gone."""
        if isinstance(self.children, list):
            self.children = None
        for child in (self.children or {}).values():
            if child.is_there:
                child.is_there = False
                child.note(entry)
                child.lose(entry)

    def hold(self, value: Any, path: str, origin: Origin | None) -> None:
        """Make the places inside of a value; `origin` set them, None: every state begins so."""
        inside: Iterable[tuple[str, _Node, Any]] = ()
        if isinstance(value, list):
            self.children = [_Node() for _ in value]
            inside = zip(map(str, range(len(value))), self.children, value, strict=True)
        elif isinstance(value, dict):
            known = self.children if isinstance(self.children, dict) else {}
            self.children = known
            inside = ((key, known.setdefault(key, _Node()), item) for key, item in value.items())
        for part, child, item in inside:
            place = f"{path}/{escaped(part)}"
            child.is_there = True
            if origin is not None:
                child.note(Entry(origin, Change(op="add", path=place, after=item)))
            child.hold(item, place, origin)


def _origin(event: Event) -> Origin:
    return Origin(
        version=event.version,
        event_id=event.event_id,
        event_type=event.event_type,
        occurred_at=event.occurred_at,
        actor=event.actor,
        correlation_id=event.correlation_id,
    )

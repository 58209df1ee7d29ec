"""Personal values taken out of documents, texts and events; what is left keeps its shape."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Self, TypeAlias

import msgspec
from msgspec import inspect
from msgspec.structs import replace

from store.analysis.document import parts_of
from store.domain import Aggregate
from store.errors import InvalidEvent
from store.records import Event

SHORTEST = 3
"""Characters from which on a personal text is looked for inside of other texts, too."""
EVERY = "*"
"""The part of a pointer that stands for every key or index."""
_CACHED = 100_000

_Places: TypeAlias = tuple[tuple[str, ...], ...]
"""What is left of the pointers, below some place."""


class Masking:
    """Masks the fields called `names` wherever they are, and those at `pointers`.

    A text becomes `••1••`: equal texts get the same number, others another. A number becomes its
    own such number, true becomes false; null and what is empty stay. Keys inside of a masked field
    are masked, but for `declared` ones. A personal text is masked elsewhere, too, wherever it is
    all of a text or a key, or a part of SHORTEST characters or more: so `learn` every document
    before the first is masked.

    Raises:
        InvalidEvent: one of `pointers` is none.
    """

    def __init__(
        self,
        names: Iterable[str] = (),
        pointers: Iterable[str] = (),
        declared: Iterable[str] = (),
    ) -> None:
        self.names = frozenset(names)
        self.pointers = tuple(pointers)
        self._declared = frozenset(declared)
        try:
            self._places: _Places = tuple(tuple(parts_of(pointer)) for pointer in self.pointers)
        except ValueError as error:
            raise InvalidEvent(str(error)) from None
        self._tags: dict[str, str] = {}
        self._numbers: dict[float, int] = {}
        self._by_start: dict[str, list[str]] = {}
        self.text = lru_cache(_CACHED)(self._text)

    @classmethod
    def of(cls, aggregate: Aggregate[Any], pointers: Iterable[str] = ()) -> Self:
        """What the domain declares personal, and what is at `pointers`."""
        declared = _field_names([aggregate.state_type, *aggregate.events])
        return cls(aggregate.personal, pointers, declared)

    @property
    def active(self) -> bool:
        """Whether there is anything to mask."""
        return bool(self.names or self._places)

    def learn(self, document: Any) -> None:
        """Note the personal texts of a document."""
        if self.active:
            for text in self._personal(document, self._places, hidden=() in self._places):
                self._tag(text)

    def document(self, value: Any) -> Any:
        """The document without personal values; the one given stays as it is."""
        if not self.active:
            return value
        return self._masked(value, self._places, hidden=() in self._places)

    def event(self, event: Event) -> Event:
        """The event without personal values, as if it had been stored so."""
        if not self.active:
            return event
        data, metadata = self.document(event.data), self.document(event.metadata)
        # Encoded anew even where nothing changed: a key that is there twice hides a value.
        return replace(
            event,
            aggregate_id=self.text(event.aggregate_id),
            actor=event.actor and metadata["actor"],
            correlation_id=event.correlation_id and metadata["correlation_id"],
            causation_id=event.causation_id and metadata["causation_id"],
            raw_data=msgspec.json.encode(data),
            raw_metadata=msgspec.json.encode(metadata),
            upcast_data=None,
            digest=None,
        )

    def _personal(self, value: Any, places: _Places, *, hidden: bool) -> Iterator[str]:
        if isinstance(value, str):
            if hidden and value:
                yield value
        elif isinstance(value, dict):
            for key, item in value.items():
                if hidden and key and key not in self._declared:
                    yield key
                below = _below(places, key)
                yield from self._personal(item, below, hidden=hidden or self._hides(key, below))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                below = _below(places, str(index))
                yield from self._personal(item, below, hidden=hidden or () in below)

    def _masked(self, value: Any, places: _Places, *, hidden: bool) -> Any:
        if isinstance(value, dict):
            found = {}
            for key, item in value.items():
                below = _below(places, key)
                inside = hidden or self._hides(key, below)
                found[self._key(key, hidden=hidden)] = self._masked(item, below, hidden=inside)
            return found
        if isinstance(value, list):
            return [
                self._masked(item, below, hidden=hidden or () in below)
                for item, below in ((each, _below(places, str(i))) for i, each in enumerate(value))
            ]
        if isinstance(value, str):
            return self._tag(value) if hidden else self.text(value)
        return self._number(value) if hidden else value

    def _hides(self, key: str, below: _Places) -> bool:
        return key in self.names or () in below

    def _key(self, key: str, *, hidden: bool) -> str:
        if key in self._declared or key in self.names:
            return key
        return self._tag(key) if hidden else self.text(key)

    def _number(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return None if value is None else False
        return type(value)(self._numbers.setdefault(value, len(self._numbers) + 1))

    def _tag(self, text: str) -> str:
        if not text:
            return text
        known = self._tags.get(text)
        if known is None:
            known = self._tags[text] = f"••{len(self._tags) + 1}••"
            if len(text) >= SHORTEST:
                alike = self._by_start.setdefault(text[:SHORTEST], [])
                alike.append(text)
                alike.sort(key=len, reverse=True)
            self.text.cache_clear()
        return known

    def _text(self, text: str) -> str:
        """A text with the personal ones in it masked."""
        if text in self._tags:
            return self._tags[text]
        parts: list[str] = []
        at = copied = 0
        while at <= len(text) - SHORTEST:
            found = self._found(text, at)
            if found is None:
                at += 1
                continue
            parts += [text[copied:at], self._tags[found]]
            at = copied = at + len(found)
        return "".join([*parts, text[copied:]]) if parts else text

    def _found(self, text: str, at: int) -> str | None:
        alike = self._by_start.get(text[at : at + SHORTEST], ())
        return next((each for each in alike if text.startswith(each, at)), None)


def _below(places: _Places, part: str) -> _Places:
    return tuple(rest[1:] for rest in places if rest and rest[0] in {part, EVERY})


def _field_names(kinds: Iterable[type]) -> set[str]:
    """The names of all fields of structs, and of the structs inside of them."""
    found: set[str] = set()
    seen: set[int] = set()
    waiting: list[Any] = list(inspect.multi_type_info(kinds))
    while waiting:
        info = waiting.pop()
        if id(info) in seen:
            continue
        seen.add(id(info))
        if isinstance(info, inspect.Field):
            found |= {info.name, info.encode_name}
        if isinstance(info, tuple | list):
            waiting += info
        elif isinstance(info, inspect.Type | inspect.Field):
            waiting += [getattr(info, name) for name in info.__struct_fields__]
    return found

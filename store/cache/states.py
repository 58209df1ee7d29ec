"""Newest states, kept as the objects they are where nobody can change them, else as their JSON."""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import astuple, replace

from store.cache.levels import TwoLevels
from store.cache.tails import Tail, Tails
from store.comparison import faithful_json
from store.domain import Aggregate, Domains
from store.folding import HistoryRow
from store.records import Loaded

if TYPE_CHECKING:
    from store.cache.shared import Found

Extend = Callable[[Loaded[Any], Sequence[HistoryRow]], Loaded[Any]]
"""The state after rows, from the one before them."""

_UNCHANGING = frozenset(
    {str, int, float, bool, type(None), bytes, datetime, date, time, timedelta, UUID, Decimal}
)
_GENERIC = "generic"


class KeptState(Struct, frozen=True):
    """A state, the mark of its last event, and how many bytes its JSON has.

    The JSON itself is there in place of a state that must not be given away, as it may be changed.
    """

    loaded: Loaded[Any]
    mark: str
    size: int
    json: bytes | None

    @property
    def version(self) -> int:
        """The version of the last event in it."""
        return self.loaded.version


class _InRedis(Struct, frozen=True, array_like=True):
    """A state as L2 has it."""

    aggregate_type: str
    mark: str
    state: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_InRedis).decode


class StateKind:
    """The `Kind` of the states that `domains` make of events; `extend` folds."""

    name = "state"

    def __init__(self, tails: Tails, domains: Domains, extend: Extend) -> None:
        self._tails = tails
        self._domains = domains
        self._extend = extend
        prints = {_fingerprint(each): each.aggregate_type for each in domains.aggregates}
        self._types = prints | {_GENERIC: None}
        self._fingerprints = tuple(self._types)

    def tail(self, aggregate_id: str, version: int) -> Tail:
        """See `Kind.tail`."""
        return self._tails.history(aggregate_id, version)

    def extended(self, aggregate_id: str, value: KeptState, tail: Tail) -> KeptState | None:
        """See `Kind.extended`."""
        del aggregate_id
        return self.kept(self._extend(self.given(value), tail.rows), tail.last)

    def kept(self, loaded: Loaded[Any], mark: str) -> KeptState | None:
        """The state as it is kept; None where it would not come back as it is."""
        state = loaded.state
        try:
            if is_unchanging(state):
                size = len(msgspec.json.encode(state))
                return KeptState(replace(loaded, source="l1", folded=0), mark, size, None)
            encoded = faithful_json(state, self._state_type(loaded.aggregate_type))
        except (ValueError, TypeError, RecursionError, msgspec.MsgspecError):
            return None
        bare = replace(loaded, source="l1", folded=0, state=None)
        return KeptState(bare, mark, len(encoded), encoded)

    def given(self, kept: KeptState) -> Loaded[Any]:
        """The state for somebody who may do to it what he likes."""
        loaded = kept.loaded
        if kept.json is None:
            return loaded
        state = msgspec.json.decode(kept.json, type=self._state_type(loaded.aggregate_type))
        return replace(loaded, state=state)

    def fingerprints(self) -> Sequence[str]:
        """See `Kind.fingerprints`: one for each aggregate type, as nothing tells it beforehand."""
        return self._fingerprints

    def encoded(self, value: KeptState) -> tuple[str, bytes] | None:
        """See `Kind.encoded`."""
        loaded, encoded = value.loaded, value.json
        aggregate = self._domains.aggregate(loaded.aggregate_type)
        if encoded is None:
            try:
                encoded = faithful_json(loaded.state, self._state_type(loaded.aggregate_type))
            except ValueError:
                return None
        body = _encode(_InRedis(loaded.aggregate_type, value.mark, encoded))
        return _GENERIC if aggregate is None else _fingerprint(aggregate), body

    def decoded(self, aggregate_id: str, fingerprint: str, found: "Found") -> KeptState:
        """See `Kind.decoded`."""
        read = _decode(found.body)
        expected = self._types[fingerprint]
        aggregate = self._domains.aggregate(read.aggregate_type)
        if read.aggregate_type != expected and (expected is not None or aggregate is not None):
            raise ValueError(f"a state of {read.aggregate_type!r}")
        state = msgspec.json.decode(read.state, type=self._state_type(read.aggregate_type))
        loaded = Loaded(
            aggregate_id=aggregate_id,
            aggregate_type=read.aggregate_type,
            state=state,
            version=found.version,
            source="l1",
            generic=expected is None,
        )
        unchanging = is_unchanging(state)
        return KeptState(
            loaded if unchanging else replace(loaded, state=None),
            read.mark,
            len(read.state),
            None if unchanging else read.state,
        )

    def _state_type(self, aggregate_type: str) -> Any:
        aggregate = self._domains.aggregate(aggregate_type)
        return Any if aggregate is None else aggregate.state_type


class States:
    """Newest states, kept in two levels. Safe to share between threads."""

    def __init__(self, kind: StateKind, levels: TwoLevels[KeptState]) -> None:
        self.tail = kind.tail
        self._kind = kind
        self._levels = levels

    def fresh(self, aggregate_id: str, max_age: float | None) -> Loaded[Any] | None:
        """What this process keeps; see `TwoLevels.fresh`."""
        kept = self._levels.fresh(aggregate_id, max_age)
        if kept is None or kept.json is None:
            return None if kept is None else kept.loaded
        return self._kind.given(kept)

    def newest(
        self,
        aggregate_id: str,
        max_age: float | None,
        read: Callable[[str], tuple[Loaded[Any] | None, str]],
    ) -> Loaded[Any] | None:
        """The newest state, where it was not `fresh`; None where there is none.

        `read` tells the state and its last event's mark; without that the state is not kept. See
        `TwoLevels.newest`.
        """
        answer = self._levels.checked(aggregate_id, max_age)
        if answer is None:
            found: list[Loaded[Any] | None] = []

            def read_and_keep() -> KeptState | None:
                loaded, mark = read(aggregate_id)
                found.append(loaded)
                return self._kind.kept(loaded, mark) if loaded and mark else None

            answer = self._levels.newest(aggregate_id, max_age, read_and_keep)
            if answer is None:
                return found[0]
        loaded = self._kind.given(answer.value)
        if answer.more or answer.level == "l2":
            return replace(loaded, source=answer.level, folded=answer.more)
        return loaded


def is_unchanging(value: Any) -> bool:
    """Whether nothing in the value can be changed by whoever holds it."""
    kind = type(value)
    if kind in _UNCHANGING or isinstance(value, Enum):
        return True
    if kind is tuple or kind is frozenset:
        return all(map(is_unchanging, value))
    if isinstance(value, Struct):
        config = value.__struct_config__
        if not config.frozen or config.dict:
            return False
        return all(map(is_unchanging, astuple(value)))
    return False


def _fingerprint(aggregate: Aggregate[Any]) -> str:
    """What upcasters make of events is in the state, too."""
    parts = f"{aggregate.fingerprint} {aggregate.upcasting.fingerprint}"
    return sha256(parts.encode()).hexdigest()[:32]

"""Comparing snapshots with full replays: what differs, and why."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from store.comparison import first_difference, value_at
from store.database import Database
from store.digest import snapshot_digest
from store.domain import Aggregate, Domains

Cause: TypeAlias = Literal[
    "a stored event was altered",
    "the fold is not deterministic",
    "JSON does not keep the state as it is",
    "an upcaster changed",
    "the fold changed: raise fold_version when something that apply calls changes",
]

LONGEST_VALUE = 60


class Kept(Struct, frozen=True, kw_only=True):
    """A snapshot as it is stored."""

    aggregate_id: str
    version: int
    aggregate: Aggregate[Any]
    upcasters: str
    state: bytes
    digest: str
    event_digest: bytes


class Replayed(Struct, frozen=True, kw_only=True):
    """What a full replay has come to, and what it has met on the way."""

    state: Any
    upcasted: bool
    altered: bool
    impure: bool


def kept_snapshots(
    database: Database, domains: Domains, *, after: tuple[str, int], last: str | None
) -> Mapping[str, Sequence[Kept]]:
    """By aggregate, the snapshots of the domains' folds behind `after`, up to aggregate `last`."""
    folds = {aggregate.fingerprint: aggregate for aggregate in domains.aggregates}
    if not folds:
        return {}
    bind = database.bind
    names = {f"f{index}": fingerprint for index, fingerprint in enumerate(folds)}
    bounds: dict[str, Any] = {"id": after[0], "version": after[1]}
    until = ""
    if last is not None:
        until, bounds["last"] = f"AND aggregate_id <= {bind('last')}", last
    sql = f"""
        SELECT aggregate_id, version, fingerprint, upcasters, {database.json("state")}, digest,
            event_digest
        FROM snapshots
        WHERE (aggregate_id, version) > ({bind("id")}, {bind("version")}) {until}
        AND fingerprint IN ({", ".join(map(bind, names))})
        ORDER BY aggregate_id, version
    """  # noqa: S608 (placeholders)
    found: dict[str, list[Kept]] = {}
    for row in database.rows(sql, bounds | names):
        kept = Kept(
            aggregate_id=row[0],
            version=row[1],
            aggregate=folds[row[2]],
            upcasters=row[3],
            state=bytes(row[4]),
            digest=row[5],
            event_digest=bytes(row[6]),
        )
        found.setdefault(kept.aggregate_id, []).append(kept)
    return found


def fault_of(kept: Kept, event_digest: bytes | None) -> str | None:
    """What a load would pass the snapshot over for, given the digest of its last event."""
    expected = snapshot_digest(
        aggregate_id=kept.aggregate_id,
        version=kept.version,
        fingerprint=kept.aggregate.fingerprint,
        state=kept.state,
    )
    if kept.digest != expected:
        return "it is not as it was written"
    if event_digest != kept.event_digest:
        return "the last event in it is not the one that is stored"
    try:
        _state(kept)
    except (msgspec.MsgspecError, RecursionError) as error:
        return f"it cannot be read: {error}"
    return None


def drift_of(kept: Kept, replayed: Replayed, equal_at: int | None) -> str | None:
    """How a readable snapshot differs from the replay up to its version, and why.

    `equal_at` is the version of an earlier snapshot that did not differ.
    """
    state = _state(kept)
    place = first_difference(state, replayed.state)
    if place is None:
        return None
    one, other = _shown(state, place), _shown(replayed.state, place)
    said = [f"the snapshot has {one} at {place or 'its top'}, the replay {other}"]
    if equal_at is not None:
        said.append(f"it was equal at version {equal_at}")
    return "; ".join([*said, _cause(kept, state, replayed)])


def _cause(kept: Kept, state: Any, replayed: Replayed) -> Cause:
    if replayed.altered:
        return "a stored event was altered"
    if replayed.impure:
        return "the fold is not deterministic"
    if _is_what_json_makes_of(replayed.state, state, kept.aggregate):
        return "JSON does not keep the state as it is"
    if replayed.upcasted and kept.upcasters != kept.aggregate.upcasting.fingerprint:
        return "an upcaster changed"
    return "the fold changed: raise fold_version when something that apply calls changes"


def _is_what_json_makes_of(replayed: Any, state: Any, aggregate: Aggregate[Any]) -> bool:
    try:
        read = msgspec.json.decode(msgspec.json.encode(replayed), type=aggregate.state_type)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        return False
    return first_difference(state, read) is None


def _state(kept: Kept) -> Any:
    return msgspec.json.decode(kept.state, type=kept.aggregate.state_type)


def _shown(state: Any, place: str) -> str:
    found = value_at(state, place)
    if not found:
        return "nothing"
    text = msgspec.json.encode(found[0], enc_hook=repr).decode()
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"

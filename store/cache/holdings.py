"""What Redis holds of a store, in numbers."""

from collections.abc import Sequence

from msgspec import Struct


class Holding(Struct, frozen=True, kw_only=True):
    """How many values Redis holds of a kind, and the memory they take.

    They are `current` where they are of the store's epoch; others only wait for their end.
    """

    kind: str
    current: bool
    values: int
    bytes: int


class Held(Struct, frozen=True, kw_only=True):
    """A Redis, and what it holds of a store."""

    address: str
    version: str
    holdings: Sequence[Holding]

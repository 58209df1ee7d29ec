"""What a process keeps itself, and for how long."""

from msgspec import Struct

from store.cache import local
from store.cache.local import Entry, Local
from store.cache.tails import Generation

FIRST, SECOND = (Generation("store", "here", epoch) for epoch in (1, 2))


class Value(Struct, frozen=True):
    version: int = 1
    mark: str = "e"
    size: int = 10


def entry(version: int = 1, *, at: float = 0.0, size: int = 10) -> Entry[Value]:
    return Entry(FIRST, Value(version, size=size), at, at)


def kept(values: Local[Value], *names: str, now: float = 0.0) -> list[bool]:
    return [values.get(name, FIRST, now) is not None for name in names]


def filled(*names: str) -> Local[Value]:
    values: Local[Value] = Local()
    values.get("", FIRST, 0.0)
    for name in names:
        values.put(name, entry())
    return values


def test_of_many_those_used_last_are_kept() -> None:
    values = filled(*(f"a{number}" for number in range(local.AGGREGATES)))
    assert kept(values, "a0")
    values.put("another", entry())
    assert kept(values, "a0", "a1", "a2", "another") == [True, False, True, True]


def test_nothing_is_kept_for_longer_than_a_minute() -> None:
    values = filled("a")
    assert kept(values, "a", now=59.9) == [True]
    assert kept(values, "a", now=60.0) == [False]
    assert values.size == 0


def test_large_ones_drive_out_others_and_too_large_ones_are_not_kept() -> None:
    values = filled("a", "b", "c")
    for number in range(8):
        values.put(f"large{number}", entry(size=local.LARGEST))
    assert kept(values, "a", "b", "c", "large0", "large7") == [False, False, False, True, True]
    assert values.size <= local.BYTES
    values.put("large7", entry(2, size=local.LARGEST + 1))
    assert kept(values, "large7") == [False]


def test_an_older_version_does_not_replace_a_newer_one() -> None:
    values = filled()
    values.put("a", entry(5))
    values.put("a", entry(4))
    found = values.get("a", FIRST, 0.0)
    assert found is not None
    assert found.value.version == 5


def test_the_size_is_that_of_what_is_there() -> None:
    values = filled("a", "b")
    values.put("a", entry(2, size=70))
    assert values.size == 80
    values.drop("b")
    values.drop("b")
    assert values.size == 70
    for number in range(local.AGGREGATES):
        values.put(f"c{number}", entry(size=number))
    assert values.size == sum(range(local.AGGREGATES))


def test_of_another_generation_nothing_is_kept() -> None:
    values = filled("a")
    assert values.get("a", SECOND, 0.0) is None
    values.put("a", entry())
    assert values.get("a", SECOND, 0.0) is None
    assert kept(values, "a") == [False]

"""Where an event wrote a value that was there already, as far as that can be known.

A state that was merged tells by the event's data. Of one that a domain's code made, what the code
left alone is the same object as before, and what it wrote is another one, however equal. That
cannot be told of values that Python has one object of: True, None, small numbers, constants.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from store.analysis.document import escaped, is_same


def merged_again(data: Any, before: Any, path: str = "") -> Iterator[str]:
    """The places of a merged state (RFC 7396) to which `data` wrote what was there."""
    if isinstance(data, dict) and isinstance(before, dict):
        for key, value in data.items():
            if key in before and value is not None:
                yield from merged_again(value, before[key], f"{path}/{escaped(key)}")
    elif is_same(data, before):
        yield path


def written_again(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """The places of a state where an equal value stands that is another object than before."""
    if before is after or type(before) is not type(after):
        return
    inside = _inside(before, after)
    if inside is None:
        if before == after:
            yield path
        return
    for part, one, other in inside:
        yield from written_again(one, other, f"{path}/{escaped(part)}")


def _inside(before: Any, after: Any) -> Iterator[tuple[str, Any, Any]] | None:
    """What two containers of one type both have, by name; None of anything else."""
    if isinstance(before, Struct):
        names = zip(before.__struct_encode_fields__, before.__struct_fields__, strict=True)
        return ((name, getattr(before, own), getattr(after, own)) for name, own in names)
    if isinstance(before, Mapping):
        return ((str(key), before[key], after[key]) for key in before if key in after)
    if isinstance(before, list | tuple):
        return iter(())  # an item of the same index may be another item
    return None

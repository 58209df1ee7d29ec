"""Which events a page of the list holds.

A page is a range of versions, so it is found without counting through those before it.
"""

import msgspec

from dashboard.outline import Outline

PAGE_EVENTS = 15


class ListPage(msgspec.Struct, frozen=True, kw_only=True):
    """The page's versions, inclusive, where it stands, and versions that lead to its neighbours.

    `first_row` and `last_row` count from 1 in the direction of the list.
    """

    from_version: int
    to_version: int
    first_row: int
    last_row: int
    rows: int
    previous: int | None
    following: int | None


def page_of(
    outline: Outline, *, at: int | None, newest_first: bool, size: int = PAGE_EVENTS
) -> ListPage | None:
    """The page that holds version `at`, or the first one; None where there are no events."""
    total = len(outline)
    if not total:
        return None
    index = None if at is None else outline.index_of(at)
    row = 0 if index is None else total - 1 - index if newest_first else index
    first = row // size * size
    last = min(first + size, total) - 1

    def version(row: int) -> int:
        return int(outline.versions[total - 1 - row if newest_first else row])

    ends = sorted((version(first), version(last)))
    return ListPage(
        from_version=ends[0],
        to_version=ends[1],
        first_row=first + 1,
        last_row=last + 1,
        rows=total,
        previous=version(first - size) if first else None,
        following=version(last + 1) if last + 1 < total else None,
    )

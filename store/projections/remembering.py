"""Rows as a projector left them: what comes next often goes on from there."""

from collections.abc import Collection, Mapping

from store.projection import Key, Row

ROWS = 5_000
"""Rows that are remembered: as many as a few batches change."""


class Remembered:
    """Rows of a table that nobody else writes meanwhile. Not to be shared between threads."""

    def __init__(self, limit: int = ROWS) -> None:
        self._limit = limit
        self._rows: dict[Key, Row | None] = {}

    def of(self, keys: Collection[Key]) -> dict[Key, Row | None]:
        """Those of the rows that it knows, None where there is none."""
        return {key: self._rows[key] for key in keys if key in self._rows}

    def note(self, rows: Mapping[Key, Row | None]) -> None:
        """Remember what was written, None for what was removed."""
        if len(self._rows) + len(rows) > self._limit:
            self._rows.clear()
        self._rows.update(rows)

    def forget(self) -> None:
        """Somebody else has written."""
        self._rows.clear()

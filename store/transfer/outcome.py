"""What became of the lines of an import."""

from msgspec import Struct


class Rejected(Struct, frozen=True, kw_only=True):
    """A line that was not imported. In `content`, bytes that are no UTF-8 are escaped."""

    line: int
    reason: str
    content: str


class Imported(Struct, frozen=True, kw_only=True):
    """How many lines were read, and how many events imported, known before, and rejected."""

    lines: int
    imported: int
    known: int
    rejected: int
    first_rejects: tuple[Rejected, ...]

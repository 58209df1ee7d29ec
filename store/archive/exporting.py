"""Copies of the archive as files: a month each, with the digests that `sha256sum -c` checks."""

import gzip
import hashlib
import os
from collections.abc import Iterator
from datetime import MAXYEAR, UTC, datetime
from pathlib import Path

from msgspec import Struct
from sqlalchemy import func, select

from store.archived import Archived
from store.database import Database
from store.errors import InvalidSource
from store.interchange import format_line
from store.records import Event

SUMS = "SHA256SUMS"


class Exported(Struct, frozen=True, kw_only=True):
    """A month of the archive in a file."""

    month: datetime
    path: str
    events: int
    digest: str


def export(database: Database, folder: Path) -> Iterator[Exported]:
    """Write each month's archived events to `events-YYYY-MM.ndjson.gz`; they stay in the archive.

    Those of an aggregate are in a row, as an import with `--restore` takes them. A file is there
    whole, or not. The same events give the same bytes.

    Raises:
        InvalidSource: the folder cannot be written to.
        PackDamaged: archived events cannot be read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sums = {}
        for month, following in _months(database):
            exported = _export_month(database, folder, month, following)
            sums[Path(exported.path).name] = exported.digest
            yield exported
        lines = [f"{digest}  {name}\n" for name, digest in sorted(sums.items())]
        _replace(folder / SUMS, "".join(lines).encode())
    except OSError as error:
        raise InvalidSource(f"{error.filename or folder}: {error.strerror}") from None


def _months(database: Database) -> Iterator[tuple[datetime, datetime | None]]:
    """The months there is anything of: where each begins and ends, but for the last one."""
    packs = database.tables.tables["events_archive"]
    first = select(func.min(packs.c.recorded_at))
    [(moment,)] = database.select(first)
    while moment is not None:
        month = datetime(moment.year, moment.month, 1, tzinfo=UTC)
        year, number = divmod(moment.year * 12 + moment.month, 12)
        following = datetime(year, number + 1, 1, tzinfo=UTC) if year <= MAXYEAR else None
        yield month, following
        if following is None:
            return
        [(moment,)] = database.select(first.where(packs.c.recorded_at >= following))


def _export_month(
    database: Database, folder: Path, month: datetime, following: datetime | None
) -> Exported:
    path = folder / f"events-{month.year:04d}-{month.month:02d}.ndjson.gz"
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    count = 0
    try:
        with (
            partial.open("wb") as file,
            gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed,
        ):
            for event in _events(database, month, following):
                packed.write(format_line(event))
                count += 1
        with partial.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return Exported(month=month, path=str(path), events=count, digest=digest)


def _events(database: Database, month: datetime, following: datetime | None) -> Iterator[Event]:
    archived = Archived(database)
    after = ("", 0)
    while True:
        with database.snapshot() as connection:
            packs = archived.of_time(connection, after=after, since=month, until=following)
            events = [
                event
                for packed, batch in packs
                for event in archived.unpacked(packed, batch, connection).events()
            ]
        yield from events
        if not packs:
            return
        after = packs[-1][0].aggregate_id, packs[-1][0].last_version


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)

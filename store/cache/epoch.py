"""Ending what every process keeps of a store, wherever it keeps it."""

from datetime import UTC, datetime

from sqlalchemy import select, update

from store.database import Database

_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


def current_epoch(database: Database) -> int:
    """The store's epoch; what was kept of it in another one is not used."""
    [(epoch,)] = database.select(select(database.tables.tables["store_info"].c.epoch))
    return int(epoch)


def raise_epoch(database: Database) -> int:
    """Put the store in a new epoch: nothing that any process keeps of it is used any more.

    It is the time in seconds since 2026, so that one which a restored backup does not know is not
    drawn again.

    Raises:
        AccessDenied: this role may not.
    """
    info = database.tables.tables["store_info"]
    now = int((datetime.now(UTC) - _BEGINNING).total_seconds())
    with database.transaction() as connection:
        epoch: int = connection.execute(select(info.c.epoch).with_for_update()).scalar_one()
        raised = max(epoch + 1, now)
        connection.execute(update(info).values(epoch=raised))
    return raised

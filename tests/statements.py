"""Counting what a store says to its database, by the driver's own trace."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import psycopg

from store import Hindsight


def round_trips(store: Hindsight, trace: Path, action: Callable[[], object]) -> int:
    """How many times `action` waits for the database on the store's idle connection.

    On SQLite, which nobody waits for, how many statements it runs.
    """
    connection = store.database.connections.take()
    driver = connection.driver_connection
    store.database.connections.give_back(connection)
    if isinstance(driver, sqlite3.Connection):
        statements: list[str] = []
        driver.set_trace_callback(statements.append)
        action()
        driver.set_trace_callback(None)
        return len(statements)
    assert isinstance(driver, psycopg.Connection)
    with trace.open("w+b") as file:
        driver.pgconn.trace(file.fileno())
        action()
        driver.pgconn.untrace()
    # Time, direction (Frontend or Backend), length, message; a multi-line value has no such fields.
    lines = [line.split("\t") for line in trace.read_text().splitlines()]
    sent = [fields[3] for fields in lines if fields[1:2] == ["F"]]
    return sent.count("Sync") + sent.count("Query")

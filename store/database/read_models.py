"""The tables of read models: created, written in batches, and put in each other's place."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from operator import itemgetter
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg.sql import SQL, Composable, Identifier
from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    TableValuedAlias,
    UniqueConstraint,
    bindparam,
    delete,
    func,
    inspect,
    literal,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchTableError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.schema import CreateIndex, DropIndex, conv

from store.errors import ReadModelInUse

LOCK_TIMEOUT = 2_000
"""Milliseconds for which one table waits to take another's place: who reads waits behind it."""
_KEYS_AT_ONCE = 500
_DEPENDENT = re.compile("error in ((?:view|trigger) .+?): (.+)", re.DOTALL)
_AGAIN = "drop it, and create it again after the rebuild"
_NOT_THE_VALUES = (pg.UndefinedTable, pg.UndefinedColumn, pg.InsufficientPrivilege)

# Rights of the whole table and of single columns, as the server keeps them.
_GRANTS = """
    SELECT NULL AS column, grantee.rolname, acl.privilege_type, acl.is_grantable
    FROM pg_class, LATERAL aclexplode(relacl) AS acl
    LEFT JOIN pg_roles AS grantee ON grantee.oid = acl.grantee
    WHERE pg_class.oid = %(table)s::regclass
    UNION ALL
    SELECT attname, grantee.rolname, acl.privilege_type, acl.is_grantable
    FROM pg_attribute, LATERAL aclexplode(attacl) AS acl
    LEFT JOIN pg_roles AS grantee ON grantee.oid = acl.grantee
    WHERE attrelid = %(table)s::regclass AND NOT attisdropped
"""
_USERS = """
    SELECT grantee, bool_or(privilege_type = 'INSERT') FROM information_schema.role_table_grants
    WHERE table_schema = current_schema() AND table_name = 'events'
    AND privilege_type IN ('SELECT', 'INSERT') AND grantee NOT IN ('PUBLIC', current_user)
    GROUP BY grantee
"""
_INDEXES = """
    SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = %(table)s::regclass
"""


def beside(table: Table, suffix: str) -> Table:
    """The same table under the name that has the suffix, as do its indexes."""
    metadata = MetaData(naming_convention=table.metadata.naming_convention)
    copied = table.to_metadata(metadata, name=table.name + suffix)
    for column in copied.primary_key.columns:
        column.autoincrement = False  # their values are given, whatever their type
    keys = (PrimaryKeyConstraint, UniqueConstraint)
    for indexed in (*copied.indexes, *(c for c in copied.constraints if isinstance(c, keys))):
        name = indexed.name
        if isinstance(name, conv) and table.name in name and suffix not in name:
            # The toolkit cuts it where it is too long: at its end, so the suffix is not there.
            indexed.name = conv(name.replace(table.name, copied.name))
        elif isinstance(name, str) and suffix not in name:
            indexed.name = f"{name}{suffix}"
    return copied


def create(connection: Connection, table: Table) -> None:
    """Create the table with its indexes; who may read or write events may read or write it, too."""
    beside(table, "").create(connection)
    if connection.dialect.name != "postgresql":
        return
    for role, writes in connection.exec_driver_sql(_USERS).all():
        rights = SQL("SELECT, INSERT, UPDATE, DELETE" if writes else "SELECT")
        grant = SQL("GRANT {} ON {} TO {}")
        _run(connection, grant.format(rights, Identifier(table.name), Identifier(role)))


def exists(connection: Connection, table: Table) -> bool:
    """Whether there is a table of that name."""
    return inspect(connection).has_table(table.name)


def drop(connection: Connection, table: Table) -> None:
    """Remove the table, if it is there."""
    beside(table, "").drop(connection, checkfirst=True)


def columns_of(connection: Connection, table: Table) -> list[str]:
    """The columns that the table has in the database, whatever is declared; none: it is gone."""
    try:
        return [column["name"] for column in inspect(connection).get_columns(table.name)]
    except NoSuchTableError:
        return []


def find(
    connection: Connection,
    table: Table,
    keys: Collection[tuple[Any, ...]],
    columns: Collection[str] | None = None,
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The rows with those primary keys, by key; of some columns, the key's among them, or all."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    names = table.columns.keys() if columns is None else list(columns)
    query, key = select(*(table.c[name] for name in names)), table.primary_key.columns.keys()
    with _planned_anew(connection):
        for chosen in _among(connection, table, keys):
            for values in connection.execute(query.where(chosen)).all():
                row = dict(zip(names, values, strict=True))
                found[tuple([row[name] for name in key])] = row
    return found


def write(
    connection: Connection, table: Table, rows: Mapping[tuple[Any, ...], Mapping[str, Any] | None]
) -> None:
    """Have the table hold these rows; None removes one."""
    if kept := [row for row in rows.values() if row is not None]:
        _upsert(connection, table, kept)
    gone = [key for key, row in rows.items() if row is None]
    with _planned_anew(connection):
        for chosen in _among(connection, table, gone):
            connection.execute(delete(table).where(chosen))


def is_refusal(error: object) -> bool:
    """Whether the database does not take the values it was given, as they are."""
    if not isinstance(error, DBAPIError) or isinstance(error.orig, _NOT_THE_VALUES):
        return False
    if isinstance(error, IntegrityError | DataError | ProgrammingError):
        return True
    # Such as a text that is longer than an index takes.
    return isinstance(error.orig, pg.ProgramLimitExceeded)


def put_in_place(connection: Connection, table: Table, built: Table) -> None:
    """Have `built` take the place, the name and, on PostgreSQL, the rights of `table`.

    Raises:
        ReadModelInUse: other objects of the database depend on the table.
        DatabaseBusy: it is in use for longer than others can be let wait.
    """
    if connection.dialect.name == "sqlite":
        _put_in_place_on_sqlite(connection, table, built)
    else:
        _put_in_place_on_postgresql(connection, table, built)


def _put_in_place_on_sqlite(connection: Connection, table: Table, built: Table) -> None:
    quote = connection.dialect.identifier_preparer.quote
    drop(connection, table)
    try:
        connection.exec_driver_sql(f"ALTER TABLE {quote(built.name)} RENAME TO {quote(table.name)}")
    except OperationalError as error:
        detail = _in_the_way(table, str(error.orig))
        if detail is None:
            raise
        raise ReadModelInUse(table=table.name, detail=detail) from error
    # SQLite cannot rename an index.
    for index in built.indexes:
        connection.execute(DropIndex(index))
    for index in beside(table, "").indexes:
        connection.execute(CreateIndex(index))


def _in_the_way(table: Table, message: str) -> str | None:
    """What depends on the table that is gone, as SQLite's message has it; None: nothing does."""
    found = _DEPENDENT.fullmatch(message)
    if found is None:
        return None
    dependent, reason = found.groups()
    if reason.casefold() == f"no such table: main.{table.name}".casefold():
        return f"{dependent} depends on table {table.name}; {_AGAIN}"
    return f"SQLite renames no table while there is an {message}"


def _put_in_place_on_postgresql(connection: Connection, table: Table, built: Table) -> None:
    old, new = Identifier(table.name), Identifier(built.name)
    suffix = built.name.removeprefix(table.name)
    if exists(connection, table):
        _remove_on_postgresql(connection, table, new)
    _run(connection, SQL("ALTER TABLE {} RENAME TO {}").format(new, old))
    named = {"table": _text(connection, old)}
    for (index,) in connection.exec_driver_sql(_INDEXES, named).all():
        renamed = index.replace(suffix, "")
        statement = SQL("ALTER INDEX {} RENAME TO {}")
        _run(connection, statement.format(Identifier(index), Identifier(renamed)))


def _remove_on_postgresql(connection: Connection, table: Table, heir: Identifier) -> None:
    old = Identifier(table.name)
    _run(connection, SQL("SET LOCAL lock_timeout TO {}").format(LOCK_TIMEOUT))
    _run(connection, SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(old))
    for grant in _grants(connection, table, heir):
        _run(connection, grant)
    try:
        _run(connection, SQL("DROP TABLE {}").format(old))
    except DBAPIError as error:
        if not isinstance(error.orig, pg.DependentObjectsStillExist):
            raise
        dependents = ", ".join(str(error.orig.diag.message_detail).splitlines())
        raise ReadModelInUse(table=table.name, detail=f"{dependents}; {_AGAIN}") from error


def _grants(connection: Connection, table: Table, to: Identifier) -> Sequence[Composable]:
    """What gives another table the rights that there are on this one."""
    named = {"table": _text(connection, Identifier(table.name))}
    grants: list[Composable] = []
    for column, role, privilege, grantable in connection.exec_driver_sql(_GRANTS, named).all():
        grants.append(
            SQL("GRANT {}{} ON {} TO {}{}").format(
                SQL(privilege),  # one of PostgreSQL's own words
                SQL("") if column is None else SQL(" ({})").format(Identifier(column)),
                to,
                SQL("PUBLIC") if role is None else Identifier(role),
                SQL(" WITH GRANT OPTION" if grantable else ""),
            )
        )
    return grants


def _run(connection: Connection, statement: Composable) -> None:
    # A percent sign would be a placeholder to the driver.
    connection.exec_driver_sql(_text(connection, statement).replace("%", "%%"))


def _text(connection: Connection, statement: Composable) -> str:
    return statement.as_string(connection.connection.driver_connection)


def insert(connection: Connection, table: Table) -> Any:
    """An INSERT that may say what is to be done where the key is there already."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def _upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = {name: [row[name] for row in rows] for name in table.columns.keys()}  # noqa: SIM118
    if connection.dialect.name == "sqlite":
        values = list(zip(*_adapted(connection, table, columns).values(), strict=True))
        key = itemgetter(*(n for n, column in enumerate(table.columns) if column.primary_key))
        if len(set(map(key, values))) < len(values):
            # As PostgreSQL does: one would be written over the other.
            raise ValueError("two rows of a batch have one key")
        text = _replacing_text(table, connection.dialect)
        connection.exec_driver_sql(text, values)
    elif _can_be_packed(connection, table, columns):
        adapted = _adapted(connection, table, columns).values()
        packed = {f"p{number}": list(values) for number, values in enumerate(adapted)}
        connection.exec_driver_sql(_replacing_text(table, connection.dialect), packed)
    else:
        statement = _replacing(insert(connection, table), table)
        connection.execute(statement, [dict(row) for row in rows])


@lru_cache(256)
def _replacing_text(table: Table, dialect: Dialect) -> str:
    """The statement as the driver takes it: of single rows, or of an array for each column."""
    if dialect.name == "sqlite":
        return str(_replacing(sqlite.insert(table), table).compile(dialect=dialect))
    names = table.columns.keys()
    arrays = [
        # By number: a name may have signs in it that a placeholder cannot.
        bindparam(f"p{number}", type_=postgresql.ARRAY(table.columns[name].type))
        for number, name in enumerate(names)
    ]
    rows = func.unnest(*arrays).table_valued(*names).render_derived()
    statement = postgresql.insert(table).from_select(names, select(*rows.columns))
    return str(_replacing(statement, table).compile(dialect=dialect))


def _adapted(
    connection: Connection, table: Table, columns: Mapping[str, Sequence[Any]]
) -> Mapping[str, Iterable[Any]]:
    """Values as the driver takes them: the toolkit's own way costs twice as much."""
    adapted: dict[str, Iterable[Any]] = {}
    for name, values in columns.items():
        dialect = connection.dialect
        adapt = table.columns[name].type.dialect_impl(dialect).bind_processor(dialect)
        adapted[name] = values if adapt is None else map(adapt, values)
    return adapted


def _replacing(statement: Any, table: Table) -> Any:
    key = [column.name for column in table.primary_key]
    others = [column.name for column in table.columns if not column.primary_key]
    if not others:
        return statement.on_conflict_do_nothing(index_elements=key)
    values = {name: statement.excluded[name] for name in others}
    return statement.on_conflict_do_update(index_elements=key, set_=values)


def _among(
    connection: Connection, table: Table, keys: Collection[tuple[Any, ...]]
) -> Iterator[ColumnElement[bool]]:
    """Conditions that together choose the rows with those primary keys."""
    if not keys:
        return
    wanted, key = list(keys), list(table.primary_key)
    columns = dict(zip(table.primary_key.columns.keys(), zip(*keys, strict=True), strict=True))
    if _can_be_packed(connection, table, columns):
        yield tuple_(*key).in_(select(*_packed(table, columns).columns))
        return
    for start in range(0, len(wanted), _KEYS_AT_ONCE):
        some = wanted[start : start + _KEYS_AT_ONCE]
        if len(key) > 1:
            yield tuple_(*key).in_(some)
        else:
            # As the column writes them: the toolkit would go by the values' types.
            ones = [one for (one,) in some]
            yield key[0].in_(bindparam(None, ones, type_=key[0].type, expanding=True))


@contextmanager
def _planned_anew(connection: Connection) -> Iterator[None]:
    """Without plans that are kept: one made for an empty table reads all of the full one."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        yield
        return
    threshold, driver.prepare_threshold = driver.prepare_threshold, None
    try:
        yield
    finally:
        driver.prepare_threshold = threshold


def _can_be_packed(
    connection: Connection, table: Table, columns: Mapping[str, Sequence[Any]]
) -> bool:
    """Whether the values of each column can go as one array, as PostgreSQL takes them fastest.

    The driver packs values of one type only. Arrays of arrays would come out flat, and what is too
    long for its column be cut, not refused.
    """
    dialect = connection.dialect
    if dialect.name != "postgresql":
        return False
    types = [table.columns[name].type.dialect_impl(dialect) for name in columns]
    if any(getattr(found, "length", None) is not None for found in types):
        return False
    kinds = [{type(value) for value in values} - {type(None)} for values in columns.values()]
    return all(len(found) <= 1 and list not in found for found in kinds)


def _packed(table: Table, columns: Mapping[str, Sequence[Any]]) -> TableValuedAlias:
    arrays = [
        literal(list(values), postgresql.ARRAY(table.columns[name].type))
        for name, values in columns.items()
    ]
    return func.unnest(*arrays).table_valued(*columns).render_derived()

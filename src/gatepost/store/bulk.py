"""
One statement for many rows, without SQLAlchemy's work for each of them.

Accept and settle write some ten rows a message; building a dictionary of parameters for each costs more than writing it.
The statement is SQLAlchemy's, compiled once for a dialect, and so are the conversions of its parameters' types.
On SQLite they run on the driver's own connection, since what SQLAlchemy does around a statement takes longer than the
statement; what the driver raises is raised as SQLAlchemy's.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.engine import Dialect

Row = Mapping[str, Any]


def insert(conn: Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """
    Insert rows; none is fine.

    Args:
        rows: By column name, all with the same names; what is no column of the table is left out.

    Raises:
        sqlalchemy.exc.IntegrityError: One of them breaks a constraint; none is inserted.
    """
    if rows:
        statement, names = _insert_into(table, tuple(rows[0]))
        _run(conn, statement, names, rows)


def execute(conn: Connection, statement: Any, rows: Sequence[Row]) -> None:
    """
    Run an INSERT, UPDATE or DELETE for each of some rows; for none, nothing is run.

    Args:
        statement: One that is made once and kept: it is compiled once.
        rows: By name of column or parameter, all with the same names.

    Raises:
        sqlalchemy.exc.IntegrityError: One of them breaks a constraint; none takes effect.
    """
    if rows:
        _run(conn, statement, tuple(rows[0]), rows)


def read(conn: Connection, statement: sa.TextClause, values: Row) -> Sequence[Any]:
    """
    Run a SELECT that is made once and kept, and return its rows as the driver has them.

    Args:
        values: Of its parameters, by name.
    """
    if _has_own_way(conn):
        found: Sequence[Any] = _on_driver(conn, "execute", statement.text, values).fetchall()
        return found
    return conn.execute(statement, values).all()


def _run(conn: Connection, statement: Any, names: tuple[str, ...], rows: Sequence[Row]) -> None:
    text, values_of = _prepared(statement, names, conn.dialect)
    values = [values_of(row) for row in rows]
    if _has_own_way(conn):
        _on_driver(conn, "executemany", text, values)
    else:
        conn.exec_driver_sql(text, values)


def _has_own_way(conn: Connection) -> bool:
    """Tell whether the driver may be used as it is; the transaction must have begun, since the driver begins none."""
    return conn.dialect.name == "sqlite" and conn.in_transaction()


def _on_driver(conn: Connection, method: str, text: str, values: Any) -> Any:
    try:
        return getattr(conn.connection.dbapi_connection, method)(text, values)
    except conn.dialect.loaded_dbapi.Error as error:
        raise sa.exc.DBAPIError.instance(
            text, None, error, conn.dialect.loaded_dbapi.Error, hide_parameters=True, dialect=conn.dialect
        ) from error


@lru_cache(maxsize=100)
def _insert_into(table: sa.Table, names: tuple[str, ...]) -> tuple[sa.Insert, tuple[str, ...]]:
    return sa.insert(table), tuple(name for name in names if name in table.c)


@lru_cache(maxsize=200)
def _prepared(statement: Any, names: tuple[str, ...], dialect: Dialect) -> tuple[str, Callable[[Row], tuple[Any, ...]]]:
    """Compile a statement; return it with what puts a row's values in its order."""
    compiled = statement.compile(dialect=dialect, column_keys=list(names))
    order = compiled.positiontup
    if not set(order) <= set(names) or len(order) < 2:
        raise ValueError(f"the statement needs {', '.join(order)}; the rows have {', '.join(names)}")
    pick: Callable[[Row], tuple[Any, ...]] = itemgetter(*order)
    found = [(at, _converter(compiled.binds[name].type, dialect)) for at, name in enumerate(order)]
    converters = [(at, convert) for at, convert in found if convert is not None]
    if not converters:
        return str(compiled), pick

    if len(converters) == 1:
        [(only, convert_only)] = converters

        def converted_once(row: Row) -> tuple[Any, ...]:
            values = pick(row)
            return (*values[:only], convert_only(values[only]), *values[only + 1 :])

        return str(compiled), converted_once

    def converted(row: Row) -> tuple[Any, ...]:
        values = list(pick(row))
        for at, convert in converters:
            values[at] = convert(values[at])
        return tuple(values)

    return str(compiled), converted


def _converter(kind: Any, dialect: Dialect) -> Callable[[Any], Any] | None:
    """Return what a type does to a value on its way; both drivers take bytes and truth values as they are."""
    implementation = kind.dialect_impl(dialect)
    if isinstance(implementation, sa.LargeBinary | sa.Boolean):
        return None
    found: Callable[[Any], Any] | None = implementation.bind_processor(dialect)
    return found

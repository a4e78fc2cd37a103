"""
Rows in bulk: one INSERT run for many rows, without SQLAlchemy's work for each of them.

Accept and settle write six rows a message; building a dictionary of parameters for each costs more than writing it. The
statement is SQLAlchemy's, compiled once for a table and a dialect, and so are the conversions of its columns' types.
Not here: upserts and RETURNING.
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
        rows: By column name, all with the same columns.

    Raises:
        sqlalchemy.exc.IntegrityError: One of them breaks a constraint; none is inserted.
    """
    if not rows:
        return
    text, values_of = _prepared(table, tuple(rows[0]), conn.dialect)
    conn.exec_driver_sql(text, [values_of(row) for row in rows])


@lru_cache(maxsize=100)
def _prepared(table: sa.Table, names: tuple[str, ...], dialect: Dialect) -> tuple[str, Callable[[Row], tuple[Any, ...]]]:
    """Compile the statement of a table; return it with what puts a row's values in its order."""
    compiled = sa.insert(table).compile(dialect=dialect, column_keys=list(names))
    order = compiled.positiontup
    assert order is not None
    assert len(order) > 1
    pick: Callable[[Row], tuple[Any, ...]] = itemgetter(*order)
    found = [(at, table.c[name].type.dialect_impl(dialect).bind_processor(dialect)) for at, name in enumerate(order)]
    converters = [(at, convert) for at, convert in found if convert is not None]
    if not converters:
        return str(compiled), pick

    def converted(row: Row) -> tuple[Any, ...]:
        values = list(pick(row))
        for at, convert in converters:
            values[at] = convert(values[at])
        return tuple(values)

    return str(compiled), converted

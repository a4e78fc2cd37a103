"""
Conditions on a list of values of any length, in statements whose text stays the same.

SQLAlchemy writes a parameter for each value of `IN` and makes the text anew at each run, which costs more than finding the
rows. Here the list is one parameter: an array on PostgreSQL, JSON on SQLite.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

_encode = msgspec.json.encode


def is_listed(column: Any, dialect: str, name: str = "listed") -> Any:
    """Write the condition that a column of texts has one of the values of parameter `name`."""
    if dialect == "postgresql":
        return column == sa.any_(sa.cast(sa.bindparam(name), ARRAY(sa.Text)))
    return column.in_(sa.text(f"SELECT value FROM json_each(:{name})"))  # noqa: S608 - names are ours


def as_parameter(values: Sequence[Any], dialect: str) -> Any:
    """Return values as that parameter."""
    return list(values) if dialect == "postgresql" else _encode(values).decode()

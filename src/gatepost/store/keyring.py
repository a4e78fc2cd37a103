"""
The keyring: one key for each tenant and day, by which values are sealed; and the key of the hashes that are searched.

Arrives: values with their tenant, place and day. Leaves: sealed values, and the other way round.
A data key stands in the table `data_key`, wrapped by the master key, and is made in the transaction of the first value
that it seals: neither is ever committed without the other. Who only has the database, or its copy, has neither.
Standards: NIST SP 800-38D (GCM with random 96-bit nonces), RFC 2104 (HMAC).
Not here: where master keys come from (master_key), what is sealed (one module per noun).
Bugs: none known.
"""

import datetime as dt
import functools
import hmac
import os
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gatepost.clock import DAY
from gatepost.store.errors import KeyLost, MasterKeyRefused, SealBroken
from gatepost.store.master_key import MasterKey, MasterKeys
from gatepost.store.schema import data_key

SEARCH: Final = "search"
"""The day of the row that holds the key of hashes. Its master is the one in force: new data keys are wrapped by it."""

_VERSION: Final = 1
_NONCE = slice(3, 15)
_OVERHEAD: Final = 1 + 2 + 12 + 16
"""Version, day, nonce and tag."""
_RANDOM_BLOCK: Final = 12 * 340
_KEYS_IN_MEMORY: Final = 10_000
_HASHES_IN_MEMORY: Final = 1_000
_INFO: Final = "gatepost.made_keys"

Name = tuple[str, str]
"""Tenant and day (`2026-11-24`) of a data key."""


class _Nonces:
    """Random 96-bit values; drawn in blocks, since a system call for each hands the interpreter to another thread."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Draw anew next time: a forked child must not use its parent's."""
        self._ready: list[bytes] = []

    def next(self) -> bytes:
        """Return the next value; each is taken out, so no two threads get the same one."""
        while True:
            try:
                return self._ready.pop()
            except IndexError:
                block = os.urandom(_RANDOM_BLOCK)
                self._ready += [block[at : at + 12] for at in range(0, _RANDOM_BLOCK, 12)]


@functools.lru_cache(256)
def _head(day: int) -> bytes:
    return b"%c%b" % (_VERSION, day.to_bytes(2))


_nonces = _Nonces()
os.register_at_fork(after_in_child=_nonces.forget)


class Keyring:
    """The data keys of a database, as far as this process used them."""

    def __init__(self, masters: MasterKeys) -> None:
        self.masters = masters
        self._ciphers: dict[tuple[str, int], AESGCM] = {}
        self._search: bytes | None = None
        self._hashes: dict[str, str] = {}

    def forget(self) -> None:
        """Look keys up anew from now on: the database may be another server, which lacks some."""
        self._ciphers.clear()
        self._hashes.clear()
        self._search = None

    def open(self, conn: Connection) -> None:
        """
        Check at the start that the master key is the database's; make what must exist, on a database that is new.

        Raises:
            MasterKeyRefused: It is missing or another one; nothing was changed.
        """
        known = master_ids(conn)
        for master_id in known:
            if self.masters.find(master_id) is None:
                raise _refused(self.masters, master_id)
        if self._search_key(conn) is None:
            if known:
                raise MasterKeyRefused("the key of hashes is gone from the table data_key: bring the table back from a backup")
            self._make_search_key(conn)

    def seal(self, conn: Connection, data: bytes, tenant_id: str, place: str, day: int) -> bytes:
        """
        Seal a value.

        Args:
            place: Table, column and row that it is stored in.
            day: Days since 1970.
        """
        cipher = self._ciphers.get((tenant_id, day)) or self._cipher_to_seal(conn, tenant_id, day)
        nonce = _nonces.next()
        return _head(day) + nonce + cipher.encrypt(nonce, data, f"{tenant_id}|{place}".encode())

    def unseal(self, conn: Connection, sealed: bytes, tenant_id: str, place: str) -> bytes:
        """
        Open a sealed value.

        Raises:
            KeyLost: Its data key is gone or cannot be unwrapped.
            SealBroken: It was altered, or stands in another place.
        """
        if len(sealed) < _OVERHEAD or sealed[0] != _VERSION:
            raise SealBroken(f"{place}: this is no sealed value")
        day = (sealed[1] << 8) | sealed[2]
        cipher = self._ciphers.get((tenant_id, day)) or self._cipher_to_open(conn, tenant_id, day, place)
        try:
            return cipher.decrypt(sealed[_NONCE], sealed[15:], f"{tenant_id}|{place}".encode())
        except InvalidTag:
            raise SealBroken(f"{place}: the sealed value was altered, or belongs elsewhere") from None

    def prepare(self, conn: Connection, wanted: Iterable[tuple[str, int]]) -> None:
        """
        See to it that there are keys for some tenants and days.

        Made one by one, in another order by each of two transactions, new keys could lock each other out.
        """
        for tenant_id, day in sorted({one for one in wanted if one not in self._ciphers}):
            self._cipher_to_seal(conn, tenant_id, day)

    def hash(self, conn: Connection, data: bytes) -> bytes:
        """Return 128 bits that stand for a text and, without the master key, tell nothing about it (HMAC-SHA-256, truncated)."""
        key = self._search or self._search_key(conn)
        if key is None:
            key = self._make_search_key(conn)
        return hmac.digest(key, data, "sha256")[:16]

    def hash_text(self, conn: Connection, text: str) -> str:
        """Return the hash of a text as columns hold it; of the last ones it is remembered, since a commit asks several times."""
        found = self._hashes.get(text)
        if found is None:
            found = self.hash(conn, text.encode()).hex()
            if self._search is not None:  # else the key may be gone with this transaction
                if len(self._hashes) >= _HASHES_IN_MEMORY:
                    self._hashes.clear()
                self._hashes[text] = found
        return found

    def rewrap(self, conn: Connection, name: Name, master: MasterKey) -> dict[str, Any]:
        """
        Wrap a data key by another master key; return the row's new values.

        Raises:
            KeyLost: It cannot be unwrapped.
            MasterKeyRefused: The master key that wraps it is not known.
        """
        secret = self._load(conn, name)
        if secret is None:
            raise KeyLost(f"the data key of {name[1]} is gone")
        return {"b_tenant_id": name[0], "b_day": name[1], "wrapped": master.wrap(secret, context_of(name)), "master_id": master.id}

    def _cipher_to_open(self, conn: Connection, tenant_id: str, day: int, place: str) -> AESGCM:
        try:
            cipher = self._find(conn, tenant_id, day)
        except MasterKeyRefused as error:
            raise KeyLost(f"{place}: {error}") from error
        if cipher is None:
            raise KeyLost(f"{place}: the data key of {date_of(day)} is gone")
        return cipher

    def _cipher_to_seal(self, conn: Connection, tenant_id: str, day: int) -> AESGCM:
        cipher = self._find(conn, tenant_id, day)
        if cipher is not None:
            return cipher
        name = (tenant_id, date_of(day))
        master = self._master_in_force(conn)
        secret = _put(conn, name, AESGCM.generate_key(256), master, _made_in(conn))
        if secret is None:  # another transaction was first; what it made is committed now
            cipher = self._find(conn, tenant_id, day)
            if cipher is None:
                raise KeyLost(f"the data key of {name[1]} is gone")
            return cipher
        return AESGCM(secret)

    def _find(self, conn: Connection, tenant_id: str, day: int) -> AESGCM | None:
        name = (tenant_id, date_of(day))
        made = _made_in(conn)
        secret = made.get(name) or self._load(conn, name)
        if secret is None:
            return None
        cipher = AESGCM(secret)
        if name not in made:  # a key of this very transaction may still be taken back: later ones must look again
            if len(self._ciphers) >= _KEYS_IN_MEMORY:
                self._ciphers.clear()
            self._ciphers[tenant_id, day] = cipher
        return cipher

    def _load(self, conn: Connection, name: Name) -> bytes | None:
        row = conn.execute(_SELECT, {"tenant": name[0], "day": name[1]}).one_or_none()
        if row is None:
            return None
        master = self.masters.find(row.master_id)
        if master is None:
            raise _refused(self.masters, row.master_id)
        try:
            return master.unwrap(bytes(row.wrapped), context_of(name))
        except SealBroken as error:
            raise KeyLost(str(error)) from error

    def _search_key(self, conn: Connection) -> bytes | None:
        name, made = ("", SEARCH), _made_in(conn)
        key = made.get(name) or self._load(conn, name)
        if key is not None and name not in made:
            self._search = key
        return key

    def _make_search_key(self, conn: Connection) -> bytes:
        """Make the first key of all: whoever makes it decides which master key is the database's."""
        master = self.masters.newest() or self.masters.make()
        secret = _put(conn, ("", SEARCH), os.urandom(32), master, _made_in(conn)) or self._search_key(conn)
        assert secret is not None
        return secret

    def _master_in_force(self, conn: Connection) -> MasterKey:
        """Return the master key that wraps new keys; a rotation that begins now waits until this transaction ends."""
        if self._search_key(conn) is None:
            self._make_search_key(conn)
        statement = IN_FORCE.with_for_update(read=True) if conn.dialect.name == "postgresql" else IN_FORCE
        master_id = conn.execute(statement).scalar_one()
        master = self.masters.find(master_id)
        if master is None:
            raise _refused(self.masters, master_id)
        return master


_SELECT = sa.select(data_key.c.wrapped, data_key.c.master_id).where(
    data_key.c.tenant_id == sa.bindparam("tenant"), data_key.c.day == sa.bindparam("day")
)
IN_FORCE = sa.select(data_key.c.master_id).where(data_key.c.tenant_id == "", data_key.c.day == SEARCH)
"""Names the master key that wraps new data keys."""


def _made_in(conn: Connection) -> dict[Name, bytes]:
    """Return the keys that a connection's transaction made so far: nobody else can see them, and they may be taken back."""
    transaction = conn.get_transaction()
    held: tuple[Any, dict[Name, bytes]] | None = conn.info.get(_INFO)
    if held is None or held[0] is not transaction or transaction is None:
        held = conn.info[_INFO] = (transaction, {})
    return held[1]


def _put(conn: Connection, name: Name, secret: bytes, master: MasterKey, made: dict[Name, bytes]) -> bytes | None:
    """Write a new key; None when another transaction wrote one meanwhile."""
    if conn.in_nested_transaction():
        raise RuntimeError("a data key cannot be made inside a savepoint: taken back, it would stay in memory")
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    row = {"tenant_id": name[0], "day": name[1], "wrapped": master.wrap(secret, context_of(name)), "master_id": master.id}
    if not conn.execute(insert(data_key).values(row).on_conflict_do_nothing()).rowcount:
        return None
    made[name] = secret
    return secret


def context_of(name: Name) -> str:
    """Name what a data key is for: it unwraps only there."""
    return f"data key|{name[0]}|{name[1]}"


def date_of(day: int) -> str:
    """Write a day, counted from 1970, as `2026-11-24`."""
    return (dt.date(1970, 1, 1) + dt.timedelta(days=day)).isoformat()


def day_of(at: int) -> int:
    """Return the day of an instant, counted from 1970."""
    return at // DAY


def master_ids(conn: Connection) -> list[str]:
    """List the names of the master keys that wrap any data key, by one index seek each."""
    found: list[str] = []
    while (master_id := conn.execute(_NEXT_MASTER, {"after": found[-1] if found else ""}).scalar_one()) is not None:
        found.append(master_id)
    return found


_NEXT_MASTER = sa.select(sa.func.min(data_key.c.master_id)).where(data_key.c.master_id > sa.bindparam("after"))


def _refused(masters: MasterKeys, master_id: str) -> MasterKeyRefused:
    newest = masters.newest()
    given = f"{masters.where} holds {newest.id}" if newest else f"there is none: {masters.where} does not exist"
    return MasterKeyRefused(
        f"this database is sealed under the master key {master_id}, and {given}. Give the right key, in secrets.master_key or"
        " secrets.master_key_file; without it nothing sealed can be read, and a new key would not help"
    )

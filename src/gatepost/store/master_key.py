"""
Master keys: what wraps the data keys, and where a process gets them from.

Arrives: a text of one or more keys (base64, 32 bytes each): the first is the newest, the others still unwrap.
Leaves: keys that wrap and unwrap. A master key never touches data, so that changing it means wrapping some rows anew.
Standards: NIST SP 800-38D (GCM), NIST SP 800-108 (derivation by HMAC).
Not here: the data keys (keyring), the file of keys (key_file). A key-management service is another `MasterKey` behind another `MasterKeys`.
Bugs: none known.
"""

import base64
import binascii
import hmac
import os
import secrets
from collections.abc import Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gatepost.store.errors import MasterKeyRefused, SealBroken

KEY_BYTES = 32
_NONCE_BYTES = 12
CREDENTIAL = "gatepost-master-key"
PREFIX = "sealed:"
"""Begins the value of an option that is sealed under the master key."""


class MasterKey(Protocol):
    """Wraps data keys."""

    @property
    def id(self) -> str:
        """Name of the key, which tells nothing about it."""
        ...

    def wrap(self, key: bytes, context: str) -> bytes:
        """
        Wrap a key.

        Args:
            context: What it is for; it unwraps only with the same.
        """
        ...

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """
        Unwrap a key.

        Raises:
            SealBroken: It was altered, or is for something else, or was wrapped by another key.
        """
        ...


class MasterKeys(Protocol):
    """The master keys that a process knows."""

    @property
    def where(self) -> str:
        """Say where they come from."""
        ...

    def newest(self) -> MasterKey | None:
        """Return the newest one; None when there is none yet."""
        ...

    def find(self, master_id: str) -> MasterKey | None:
        """Return one by its name, looking again where they come from when it is not known."""
        ...

    def make(self) -> MasterKey:
        """
        Make the first one.

        Raises:
            MasterKeyRefused: It must be given.
        """
        ...


class LocalMasterKey:
    """A master key in this process's memory."""

    def __init__(self, secret: bytes) -> None:
        """
        Args:
            secret: 32 random bytes.
        """
        self.text = base64.b64encode(secret).decode()
        self.id = _derive(secret, "id").hex()[:16]
        self._wrapping = AESGCM(_derive(secret, "wrapping"))
        self._options = AESGCM(_derive(secret, "options"))

    def __repr__(self) -> str:
        return f"LocalMasterKey({self.id})"

    def wrap(self, key: bytes, context: str) -> bytes:
        """Wrap a key."""
        return _encrypt(self._wrapping, key, context)

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """Unwrap a key."""
        return _decrypt(self._wrapping, wrapped, context)

    def seal_option(self, value: str) -> str:
        """Seal an option's value, such as a relay's URL with its password, for a file of settings."""
        packed = self.id.encode() + _encrypt(self._options, value.encode(), "option")
        return PREFIX + base64.urlsafe_b64encode(packed).decode()

    def open_option(self, packed: bytes) -> str:
        """Open what `seal_option` packed, without the id in front."""
        return _decrypt(self._options, packed, "option").decode()


def _derive(secret: bytes, purpose: str) -> bytes:
    return hmac.digest(secret, f"gatepost master key: {purpose}".encode(), "sha256")


def _encrypt(cipher: AESGCM, data: bytes, context: str) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, data, context.encode())


def _decrypt(cipher: AESGCM, packed: bytes, context: str) -> bytes:
    try:
        return cipher.decrypt(packed[:_NONCE_BYTES], packed[_NONCE_BYTES:], context.encode())
    except (InvalidTag, ValueError):
        raise SealBroken(f"what the master key sealed cannot be opened: {context}") from None


def generate() -> LocalMasterKey:
    """Make a new master key."""
    return LocalMasterKey(secrets.token_bytes(KEY_BYTES))


def parse(text: str, where: str) -> tuple[LocalMasterKey, ...]:
    """
    Read master keys, the newest first, with white space between them.

    Raises:
        MasterKeyRefused: There is none, or one of them is not base64 of 32 bytes.
    """
    keys = []
    for word in text.split():
        try:
            secret = base64.b64decode(word, validate=True)
        except binascii.Error:
            secret = b""
        if len(secret) != KEY_BYTES:
            raise MasterKeyRefused(f"{where}: a master key is the base64 of 32 random bytes: openssl rand -base64 32 makes one")
        keys.append(LocalMasterKey(secret))
    if not keys:
        raise MasterKeyRefused(f"{where}: there is no key in it")
    return tuple(keys)


class GivenKeys:
    """Master keys given as a value: by an option or by the environment."""

    def __init__(self, text: str, where: str) -> None:
        """
        Raises:
            MasterKeyRefused: See `parse`.
        """
        self.where = where
        self.all: Sequence[LocalMasterKey] = parse(text, where)

    def newest(self) -> LocalMasterKey | None:
        """Return the first one."""
        return self.all[0]

    def find(self, master_id: str) -> LocalMasterKey | None:
        """Return one by its name."""
        return next((key for key in self.all if key.id == master_id), None)

    def make(self) -> LocalMasterKey:
        """Return the one that was given."""
        return self.all[0]


def open_option(value: str, keys: Sequence[LocalMasterKey]) -> str:
    """
    Open an option's value when it is sealed; another value is returned as it is.

    Raises:
        SealBroken: It was altered, or none of the keys sealed it.
    """
    if not value.startswith(PREFIX):
        return value
    packed, key = _packed(value), None
    if packed is not None:
        key = next((one for one in keys if one.id == option_master(value)), None)
    if packed is None or key is None:
        raise SealBroken("a sealed option was sealed under another master key, or altered")
    return key.open_option(packed[len(key.id) :])


def option_master(value: str) -> str | None:
    """Name the master key that an option's value is sealed under; None when it is not sealed."""
    packed = _packed(value)
    return None if packed is None else packed[:16].decode("ascii", "replace")


def _packed(value: str) -> bytes | None:
    if not value.startswith(PREFIX):
        return None
    try:
        return base64.b64decode(value.removeprefix(PREFIX), altchars=b"-_", validate=True)
    except binascii.Error:
        return None

"""
What a TLS client says first: the name it wants, the protocols it speaks, the key exchanges it knows.

Arrives: the bytes that a client sent so far. Leaves: a `ClientHello`, or that it is not whole yet.
A server that reads it before it chooses a certificate can give each client what it asked for. Nothing is decided by it that
the handshake itself does not check again.
Standards: RFC 8446 §4.1.2, §5.1 (records), §4.2.7 and §4.2.8 (groups), RFC 6066 §3 (server name), RFC 7301 §3.1 (ALPN).
Not here: the handshake (ssl), the choice (net.server_tls).
Bugs: none known.
"""

from dataclasses import dataclass
from typing import Final

MAX_BYTES: Final = 64 * 1024
"""More than any honest ClientHello; beyond it there is nothing to read."""

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME, _GROUPS, _ALPN, _KEY_SHARE = 0, 10, 16, 51


class Unreadable(Exception):  # noqa: N818
    """These bytes are no ClientHello."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello:
    """
    What a client offers.

    Attributes:
        server_name: Lower case, without a final dot; empty when it names none.
        protocols: ALPN protocols in its order.
        groups: Key-exchange groups in its order, by their numbers (RFC 8446 §4.2.7).
        key_shares: The groups for which it sent its half already.
    """

    server_name: str = ""
    protocols: tuple[bytes, ...] = ()
    groups: tuple[int, ...] = ()
    key_shares: tuple[int, ...] = ()


def read_client_hello(data: bytes) -> ClientHello | None:
    """
    Read the first flight of a client; None while it is not whole.

    Raises:
        Unreadable: It is something else.
    """
    message = bytearray()
    at = 0
    while len(data) >= at + 5:
        if data[at] != _HANDSHAKE or data[at + 1] != 3:
            raise Unreadable
        size = int.from_bytes(data[at + 3 : at + 5])
        message += data[at + 5 : at + 5 + size]
        at += 5 + size
        whole = _size_of(message)
        if whole is not None and len(message) >= whole:
            return _parse(bytes(message[4:whole]))
    if len(data) > MAX_BYTES or (data and data[0] != _HANDSHAKE):
        raise Unreadable
    return None


def _size_of(message: bytearray) -> int | None:
    if message and message[0] != _CLIENT_HELLO:
        raise Unreadable
    if len(message) < 4:
        return None
    size = 4 + int.from_bytes(message[1:4])
    if size > MAX_BYTES:
        raise Unreadable
    return size


class _Reader:
    """Takes length-prefixed pieces off some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at >= len(self._data)

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise Unreadable
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, length_bytes: int) -> bytes:
        return self.take(self.number(length_bytes))


def _parse(body: bytes) -> ClientHello:
    reader = _Reader(body)
    reader.take(2 + 32)  # legacy version, random
    reader.vector(1)  # session
    reader.vector(2)  # cipher suites
    reader.vector(1)  # compression
    found: dict[int, bytes] = {}
    if not reader.is_at_end:
        extensions = _Reader(reader.vector(2))
        while not extensions.is_at_end:
            kind = extensions.number(2)
            found[kind] = extensions.vector(2)
    return ClientHello(
        server_name=_server_name(found.get(_SERVER_NAME, b"")),
        protocols=_protocols(found.get(_ALPN, b"")),
        groups=_groups(found.get(_GROUPS, b"")),
        key_shares=_key_shares(found.get(_KEY_SHARE, b"")),
    )


def _server_name(data: bytes) -> str:
    if not data:
        return ""
    names = _Reader(_Reader(data).vector(2))
    while not names.is_at_end:
        kind, name = names.number(1), names.vector(2)
        if kind == 0:
            return name.decode("ascii", "replace").lower().rstrip(".")
    return ""


def _protocols(data: bytes) -> tuple[bytes, ...]:
    if not data:
        return ()
    reader, found = _Reader(_Reader(data).vector(2)), []
    while not reader.is_at_end:
        found.append(reader.vector(1))
    return tuple(found)


def _groups(data: bytes) -> tuple[int, ...]:
    if not data:
        return ()
    reader, found = _Reader(_Reader(data).vector(2)), []
    while not reader.is_at_end:
        found.append(reader.number(2))
    return tuple(found)


def _key_shares(data: bytes) -> tuple[int, ...]:
    if not data:
        return ()
    reader, found = _Reader(_Reader(data).vector(2)), []
    while not reader.is_at_end:
        found.append(reader.number(2))
        reader.vector(2)
    return tuple(found)

"""
The header that a TCP proxy sends ahead of a connection, to say who the client is; versions 1 and 2.

Arrives: the first bytes of a connection. Leaves: the client's address, and how long the header was.
Standards: the PROXY protocol, HAProxy's `doc/proxy-protocol.txt`, §2.1 (version 1), §2.2 (version 2).
Not here: from whom a header is believed (smtpd): believing anybody's would let clients choose their address.
Bugs: version 2's further fields (TLVs) are skipped.
"""

import ipaddress
from dataclasses import dataclass
from typing import Final

_V1: Final = b"PROXY "
_V1_MAX_BYTES: Final = 107
_V2: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD_BYTES: Final = 16
_V2_MAX_BYTES: Final = 2_048
_V2_ADDRESS_BYTES: Final = {0x11: 4, 0x21: 16}
"""TCP over IPv4 and over IPv6, by the size of one address."""


class NotProxied(ValueError):  # noqa: N818
    """The connection does not begin with a well-formed header."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """
    What a header says.

    Attributes:
        client: The client's address; None when the proxy speaks for itself, such as for a health check.
        size_bytes: How much of the input it is.
    """

    client: str | None
    size_bytes: int


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """
    Read a header; None while it is not complete.

    Raises:
        NotProxied: It is none.
    """
    if data[: len(_V2)] == _V2[: len(data)]:
        return _read_v2(data)
    if data[: len(_V1)] == _V1[: len(data)]:
        return _read_v1(data)
    raise NotProxied("no PROXY header")


def _read_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _V1_MAX_BYTES)
    if end < 0:
        if len(data) >= _V1_MAX_BYTES:
            raise NotProxied("the line is too long")
        return None
    try:
        words = data[:end].decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise NotProxied("the line is no ASCII") from None
    if words[1] == "UNKNOWN":
        return ProxyHeader(None, end + 2)
    version = {"TCP4": 4, "TCP6": 6}.get(words[1])
    if version is None or len(words) != 6 or not all(word.isdigit() and int(word) < 65_536 for word in words[4:]):
        raise NotProxied("the line is malformed")
    return ProxyHeader(_address(words[2], version), end + 2)


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD_BYTES:
        return None
    kind, family, size = data[12], data[13], int.from_bytes(data[14:16], "big") + _V2_HEAD_BYTES
    if kind not in {0x20, 0x21} or size > _V2_MAX_BYTES:
        raise NotProxied("the header is malformed")
    if len(data) < size:
        return None
    address_bytes = _V2_ADDRESS_BYTES.get(family)
    if kind == 0x20 or address_bytes is None:
        return ProxyHeader(None, size)
    if size < _V2_HEAD_BYTES + 2 * address_bytes + 4:
        raise NotProxied("the header is too short for its addresses")
    return ProxyHeader(str(ipaddress.ip_address(data[_V2_HEAD_BYTES : _V2_HEAD_BYTES + address_bytes])), size)


def _address(text: str, version: int) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise NotProxied("the address is none") from None
    if address.version != version:
        raise NotProxied("the address is of the other version")
    return str(address)

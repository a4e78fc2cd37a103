"""
SOCKS 5, the client's side, before the proxied connection begins.

Arrives: where to connect, a user's name and password, the proxy's bytes. Leaves: bytes for the proxy; that it is done, or why not.
Not a byte beyond the proxy's answer is asked for, so that what follows belongs to the connection.
Standards: RFC 1928 (SOCKS 5: CONNECT only), RFC 1929 (user name and password).
Not here: sockets (net.dial), which source goes by a proxy (settings). GSSAPI is not offered.
"""

import errno
import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote, urlsplit

_VERSION = 5
_NO_AUTHENTICATION, _PASSWORD, _NONE_ACCEPTABLE = 0x00, 0x02, 0xFF
_IPV4, _NAME, _IPV6 = 0x01, 0x03, 0x04
_ADDRESS_BYTES = {_IPV4: 4, _IPV6: 16}

_REMOTE = {
    3: (errno.ENETUNREACH, "the network cannot be reached"),
    4: (errno.EHOSTUNREACH, "the host cannot be reached"),
    5: (errno.ECONNREFUSED, "the connection was refused"),
    6: (errno.ETIMEDOUT, "the connection timed out"),
}
"""RFC 1928 §6: what the other side's trouble is, and not the proxy's."""
_OURS = {
    1: "it failed",
    2: "its rules do not allow the connection",
    7: "it does not know CONNECT",
    8: "it does not know this type of address",
}


class ProxyFailed(OSError):  # noqa: N818 - beside the names of the system's own errors
    """The proxy, not the host beyond it, is in trouble: our side of the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A SOCKS 5 proxy."""

    host: str
    port: int
    user: str = ""
    password: str = ""


def parse_proxy(url: str) -> Proxy:
    """
    Read `socks5://[user:password@]host:port`.

    Raises:
        ValueError: It is something else, or name or password are longer than 255 bytes (RFC 1929 §2).
    """
    parsed = urlsplit(url)
    if parsed.scheme not in {"socks5", "socks5h"} or not parsed.hostname or parsed.path.strip("/") or parsed.query or parsed.fragment:
        raise ValueError("a proxy is written socks5://[user:password@]host:port")
    user, password = unquote(parsed.username or ""), unquote(parsed.password or "")
    if max(len(user.encode()), len(password.encode())) > 255 or (password and not user):
        raise ValueError("a proxy's user name and password have 1 to 255 bytes")
    return Proxy(host=parsed.hostname, port=parsed.port or 1080, user=user, password=password)


class _Phase(StrEnum):
    METHOD = "method"
    PASSWORD = "password"  # noqa: S105 - the name of a phase
    REPLY = "reply"
    DONE = "done"


class Socks5:
    """
    One handshake: send what `begin` and `receive` return, and read exactly `wanted` bytes, until `is_done`.

    Attributes:
        wanted: How many bytes of the proxy come next.
    """

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        """
        Args:
            host: An IP address, or a name, which the proxy then resolves.

        Raises:
            ValueError: The name has more than 255 bytes.
        """
        self._proxy = proxy
        self._request = bytes((_VERSION, 1, 0)) + _address(host) + port.to_bytes(2, "big")
        self._phase = _Phase.METHOD
        self._head = b""
        self.wanted = 2

    @property
    def is_done(self) -> bool:
        """True when the connection to the host stands."""
        return self._phase is _Phase.DONE

    def begin(self) -> bytes:
        """Return the first bytes: the methods of authentication on offer (RFC 1928 §3)."""
        methods = (_NO_AUTHENTICATION, _PASSWORD) if self._proxy.user else (_NO_AUTHENTICATION,)
        return bytes((_VERSION, len(methods), *methods))

    def receive(self, data: bytes) -> bytes:
        """
        Take exactly `wanted` bytes; return what to send.

        Raises:
            ProxyFailed: The proxy refused us, or is no SOCKS 5 proxy.
            OSError: The proxy could not reach the host; the number says why.
        """
        match self._phase:
            case _Phase.METHOD:
                return self._method(data)
            case _Phase.PASSWORD:
                if data[1] != 0:
                    raise ProxyFailed("the proxy refused the user name or password")
                return self._ask()
            case _:
                self._reply(data)
                return b""

    def _method(self, data: bytes) -> bytes:
        if data[0] != _VERSION:
            raise ProxyFailed("the proxy does not speak SOCKS 5")
        if data[1] == _NO_AUTHENTICATION:
            return self._ask()
        if data[1] != _PASSWORD or not self._proxy.user:
            wants = "a user name and a password" if data[1] in {_PASSWORD, _NONE_ACCEPTABLE} else "an authentication we do not know"
            raise ProxyFailed(f"the proxy wants {wants}")
        user, password = self._proxy.user.encode(), self._proxy.password.encode()
        self._phase, self.wanted = _Phase.PASSWORD, 2
        return bytes((1, len(user))) + user + bytes((len(password),)) + password

    def _ask(self) -> bytes:
        self._phase, self.wanted = _Phase.REPLY, 5  # up to the first byte of the address, which is the length of a name
        return self._request

    def _reply(self, data: bytes) -> None:
        if self._head:  # the rest of the bound address, which nobody needs
            self._phase, self.wanted = _Phase.DONE, 0
            return
        self._head = data
        version, code, kind = data[0], data[1], data[3]
        if version != _VERSION:
            raise ProxyFailed("the proxy does not speak SOCKS 5")
        if code in _REMOTE:
            number, words = _REMOTE[code]
            raise OSError(number, f"{words}, says the proxy")
        if code != 0:
            raise ProxyFailed(f"the proxy says that {_OURS.get(code, f'it failed with code {code}')}")
        if kind != _NAME and kind not in _ADDRESS_BYTES:
            raise ProxyFailed("the proxy's answer makes no sense")
        self.wanted = (_ADDRESS_BYTES[kind] - 1 if kind in _ADDRESS_BYTES else data[4]) + 2


def _address(host: str) -> bytes:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode()
        if not 0 < len(name) < 256:
            raise ValueError("a host's name has 1 to 255 bytes") from None
        return bytes((_NAME, len(name))) + name
    return bytes((_IPV4 if found.version == 4 else _IPV6,)) + found.packed

"""
HTTP as a client: the one way out to other people's servers over HTTP.

Arrives: a request. Leaves: the answer, whatever its status; or `HttpFault`, which says whether the other side may have the request.
Connections are used again; no redirect is followed; answers are bounded in size and time; plain HTTP is spoken on this machine only,
unless who asks judges each address that is connected to (`may_connect`).
Names are resolved by our own resolver where one is given, so that `dns.server` counts here, too.
Standards: RFC 9110, RFC 9112; §9.2.2 (a request that is not idempotent is never repeated by itself).
Not here: JSON for OpenID and OAuth (json_client), what an answer means (whoever asks).
Bugs: a server that closes an idle connection in the moment it is used again leaves it open whether it has the request.
"""

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from gatepost.net.dns import Addresses, NoAddresses, NoDomain, Resolver
from gatepost.net.tls import describe

if TYPE_CHECKING:
    import aiohttp
    import yarl

MAX_BYTES: Final = 512 * 1024
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_KEPT_S = 8.0
"""How long an idle connection is kept: less than servers do, who otherwise close it under our hands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request; its headers may hold secrets, so it is never logged."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    is_cut: bool = False
    """A long answer is read up to the limit, instead of refused."""
    connect_timeout_s: float | None = None
    """For name, connection and TLS of this request, where that is less than the client's."""
    is_encoded: bool = False
    """The URL goes out as it stands, as a signature over it wants; else its percent signs may be written another way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """
    An answer.

    Attributes:
        headers: Names in lower case; of several with one name the first.
        peer: Address and port of who answered.
        tls: Protocol and cipher; None without TLS.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    peer: str | None = None
    tls: str | None = None


class HttpFault(Exception):  # noqa: N818
    """
    There is no answer; the text is for an operator and holds no secret.

    Attributes:
        is_sent: The other side may have got the request, and acted on it.
        is_timeout: It was waited for long enough.
        peer: As in `HttpAnswer`; None where no connection was made.
    """

    def __init__(self, detail: str, *, is_sent: bool, is_timeout: bool = False, peer: str | None = None, tls: str | None = None) -> None:
        """Say what happened."""
        super().__init__(detail)
        self.is_sent = is_sent
        self.is_timeout = is_timeout
        self.peer = peer
        self.tls = tls


def _as_it_stands(url: str) -> "yarl.URL":
    import yarl  # noqa: PLC0415 - comes with aiohttp

    return yarl.URL(url, encoded=True)


def is_safe_url(url: str) -> bool:
    """Tell whether a URL may be asked: over TLS, or on this machine."""
    try:
        parsed = urlsplit(url)
        is_here = parsed.hostname in _LOOPBACK
    except ValueError:
        return False
    return parsed.scheme in ({"https", "http"} if is_here else {"https"}) and bool(parsed.hostname) and parsed.username is None


@dataclass(slots=True)
class _Line:
    """The connection that a request got, noted by the connector."""

    is_open: bool = False
    peer: str | None = None
    tls: str | None = None

    def note(self, transport: Any) -> None:
        """Keep who is at the other end."""
        self.is_open = True
        if transport is None:
            return
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self.peer = f"[{name[0]}]:{name[1]}" if ":" in str(name[0]) else f"{name[0]}:{name[1]}"
        self.tls = describe(transport.get_extra_info("ssl_object"))


_LINE: ContextVar[_Line] = ContextVar("line")


class HttpClient:
    """Asks other servers; made without loading anything, ready at the first request."""

    def __init__(
        self,
        *,
        timeout_s: float,
        connect_timeout_s: float = 10.0,
        max_bytes: int = MAX_BYTES,
        connections: int = 20,
        ca_file: str = "",
        resolver: Resolver | None = None,
        may_connect: Callable[[str], bool] | None = None,
    ) -> None:
        """
        Args:
            timeout_s: For the whole of one request.
            connect_timeout_s: For name, connection and TLS of it.
            max_bytes: The longest answer that is read.
            ca_file: PEM file of authorities that are trusted instead of the system's.
            connections: At once; 0 is as many as are wanted.
            resolver: For host names; None is the system's.
            may_connect: Tells of an IP address whether a connection to it may be made. A name is looked up once, and the
                connection goes to an address that was judged. With it, the URL's scheme is the caller's to judge.
        """
        self._timeout_s = timeout_s
        self._connect_timeout_s = min(connect_timeout_s, timeout_s)
        self._max_bytes = max_bytes
        self._connections = connections
        self._ca_file = ca_file
        self._resolver = resolver
        self._may_connect = may_connect
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, request: HttpRequest) -> HttpAnswer:
        """
        Send a request and read the answer.

        Raises:
            HttpFault: There is none, or it is too long.
        """
        shown = shown_url(request.url)
        if self._may_connect is None and not is_safe_url(request.url):
            raise HttpFault(f"{shown} is not asked: only https:// is, and http:// on this machine", is_sent=False)
        import aiohttp  # noqa: PLC0415 - most gateways ask nobody

        line = _Line()
        token = _LINE.set(line)
        try:
            return await self._ask(request, line)
        except TimeoutError as error:  # aiohttp's own, too
            what = f"gave no answer within {self._timeout_s:g} s" if line.is_open else "cannot be reached: timed out"
            raise HttpFault(f"{shown} {what}", is_sent=line.is_open, is_timeout=True, peer=line.peer, tls=line.tls) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            what = f"broke off before its answer: {_reason(error)}" if line.is_open else f"cannot be reached: {_reason(error)}"
            raise HttpFault(f"{shown} {what}", is_sent=line.is_open, peer=line.peer, tls=line.tls) from error
        finally:
            _LINE.reset(token)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, request: HttpRequest, line: _Line) -> HttpAnswer:
        if self._session is None or self._session.closed:
            self._session = self._open()
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", **request.headers}
        url = _as_it_stands(request.url) if request.is_encoded else request.url
        async with self._session.request(
            request.method, url, data=request.body or None, headers=headers, allow_redirects=False, timeout=self._time_for(request)
        ) as answer:  # fmt: skip
            body = bytearray()
            async for chunk in answer.content.iter_chunked(16_384):
                body += chunk
                if len(body) > self._max_bytes and request.is_cut:
                    del body[self._max_bytes :]
                    break
                if len(body) > self._max_bytes:
                    detail = f"{shown_url(request.url)} answered with more than {self._max_bytes} bytes"
                    raise HttpFault(detail, is_sent=True, peer=line.peer, tls=line.tls)
            found: dict[str, str] = {}
            for name, value in answer.headers.items():
                found.setdefault(name.lower(), value)
            return HttpAnswer(status=answer.status, headers=found, body=bytes(body), peer=line.peer, tls=line.tls)

    def _open(self) -> "aiohttp.ClientSession":
        import aiohttp  # noqa: PLC0415

        return aiohttp.ClientSession(
            connector=_connector(
                connections=self._connections, context=self._context(), resolver=self._resolver, may_connect=self._may_connect
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "Gatepost"},
        )

    def _time_for(self, request: HttpRequest) -> "aiohttp.ClientTimeout":
        import aiohttp  # noqa: PLC0415

        connect_s = min(self._connect_timeout_s, request.connect_timeout_s or self._connect_timeout_s)
        return aiohttp.ClientTimeout(total=self._timeout_s, connect=None, sock_connect=connect_s)

    def _context(self) -> "ssl.SSLContext | bool":
        if not self._ca_file:
            return True  # aiohttp's own, made once: the system's authorities
        context = ssl.create_default_context(cafile=self._ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def shown_url(url: str) -> str:
    """Write a URL without what may be secret in it."""
    return url.partition("?")[0][:200]


class AddressRefused(OSError):  # noqa: N818
    """A connection may not be made, since of the addresses that a name has, or a URL names, none is allowed."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "its address is not one that may be connected to")


def _connector(
    *, connections: int, context: ssl.SSLContext | bool, resolver: Resolver | None, may_connect: Callable[[str], bool] | None
) -> Any:
    """Make a connector that notes which connection a request got; a class of its own, since aiohttp is loaded late."""
    import aiohttp  # noqa: PLC0415
    from aiohttp.abc import AbstractResolver, ResolveResult  # noqa: PLC0415

    def judged(found: list[Any]) -> list[Any]:
        allowed = found if may_connect is None else [one for one in found if may_connect(one["host"])]
        if found and not allowed:
            raise AddressRefused
        return allowed

    class Names(AbstractResolver):
        def __init__(self, own: Resolver | None) -> None:
            self._own = own

        async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
            answer = await self._own.addresses(host) if self._own is not None and "." in host else None
            if isinstance(answer, Addresses):
                return judged([_entry(host, address, port) for address in answer.addresses])
            if isinstance(answer, NoAddresses | NoDomain):
                raise OSError(None, "the name is not known")
            if answer is not None:
                raise OSError(None, "DNS did not answer")
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return judged([_entry(host, str(one[4][0]), port) for one in found])

        async def close(self) -> None:
            """Nothing is open."""

    class Connector(aiohttp.TCPConnector):
        async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:  # noqa: ASYNC109 - the signature is aiohttp's
            if may_connect is not None and _is_address(host := req.url.raw_host or "") and not may_connect(host):
                raise AddressRefused  # it is not looked up, so nobody else asks
            connection = await super().connect(req, traces, timeout)
            if (line := _LINE.get(None)) is not None:
                line.note(connection.transport)
            return connection

    names = None if resolver is None and may_connect is None else Names(resolver)
    return Connector(limit=connections, keepalive_timeout=_KEPT_S, ssl=context, resolver=names, use_dns_cache=names is None)


def _is_address(host: str) -> bool:
    if ":" in host:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _entry(host: str, address: str, port: int) -> Any:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return {"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": socket.AI_NUMERICHOST}


def _reason(error: BaseException) -> str:
    """Put an error into words; never the text of one that might hold what was sent."""
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {inner.verify_message}"
    if isinstance(inner, ssl.SSLError):
        return f"TLS failed: {inner.reason or 'no common ground'}"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return {"ServerDisconnectedError": "the connection was closed by the server"}.get(type(inner).__name__, type(inner).__name__)

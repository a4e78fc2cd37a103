"""
What encryption means for HTTP: facts of a TLS connection, HSTS, and what is not said without TLS.

Arrives: every request, before the application. Leaves: the same request with the connection's facts in its scope; or a
redirect, a refusal, or the answer to an authority that asks whether a name is ours.
Without TLS and from outside loopback nothing that is secret is taken: who sent a key that way should hear about it the
first time. A trusted proxy that says https counts as TLS (peers). On this very machine nothing changes.
Standards: RFC 6797 (HSTS), RFC 8555 §8.3 (http-01), ASGI's TLS extension 0.2.
Not here: certificates (net.server_tls, certificates), what a request is (exchange).
Bugs: none known.
"""

import hashlib
import re
import ssl
from collections.abc import Callable
from typing import Any, Final

from cryptography import x509

from gatepost.domain.errors import Refused
from gatepost.http import exchange
from gatepost.net.peer import parse_peer
from gatepost.settings import Settings

CHALLENGES: Final = "/.well-known/acme-challenge/"
_OPEN: Final = frozenset({"/livez", "/readyz"})
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


def describe(connection: Any) -> dict[str, Any]:
    """
    Say what ASGI's TLS extension says of a connection, and `client_cert_sha256`: the fingerprint of a checked certificate.

    Args:
        connection: The transport's `ssl_object`, after the handshake.
    """
    der = connection.getpeercert(binary_form=True)
    certificate = None if der is None else x509.load_der_x509_certificate(der)
    return {
        "server_cert": None,
        "client_cert_chain": [] if der is None else [ssl.DER_cert_to_PEM_cert(der)],
        "client_cert_name": None if certificate is None else certificate.subject.rfc4514_string(),
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(connection.version()),
        "cipher_suite": None,
        "client_cert_sha256": None if der is None else hashlib.sha256(der).hexdigest(),
    }


def encrypted(protocol: Any) -> Any:
    """Make a protocol that puts the facts of its TLS connection into each request's scope."""

    class Encrypted(protocol):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            self._tls = describe(transport.get_extra_info("ssl_object"))
            super().connection_made(transport)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope["extensions"] = {"tls": self._tls}

    return Encrypted


class Encryption:
    """The application behind the rules of encryption."""

    def __init__(self, app: Any, settings: Settings, https_port: int, find_answer: Callable[[str], bytes | None]) -> None:
        """
        Args:
            https_port: Where readers are sent to, with `http.redirect_to_https`.
            find_answer: Returns the answer to an authority's token (RFC 8555 §8.3).
        """
        self._app = app
        self._http = settings.http
        self._https_port = https_port
        self._find_answer = find_answer
        self._hsts = f"max-age={settings.https.hsts_s}".encode() if settings.https.hsts_s and settings.https.listen else b""

    @property
    def state(self) -> Any:
        """The application's state."""
        return self._app.state

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"].startswith(CHALLENGES):
            await self._answer_authority(scope, send)
        elif scope["scheme"] == "https":
            await self._app(scope, receive, self._with_hsts(scope, send))
        elif is_from_here(scope) or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
        elif (answer := self._judge(scope)) is not None:
            await exchange.send_answer(answer, exchange.request_id(scope), send)
        else:
            await self._app(scope, receive, send)

    def _with_hsts(self, scope: Any, send: Any) -> Any:
        if not self._hsts or not _may_pin(_host_of(scope)):
            return send

        async def send_pinned(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"strict-transport-security", self._hsts)]
            await send(message)

        return send_pinned

    def _judge(self, scope: Any) -> exchange.Answer | None:
        """Redirect or refuse what comes without TLS from outside; None lets it pass."""
        names = {name for name, _ in scope["headers"]}
        is_secret = b"authorization" in names or scope["method"] not in _SAFE
        host = _host_of(scope)
        if self._http.redirect_to_https and not is_secret and _NAME.fullmatch(host):
            port = "" if self._https_port == 443 else f":{self._https_port}"
            query = scope["query_string"]
            target = f"https://{host}{port}".encode() + (scope.get("raw_path") or scope["path"].encode()) + (b"?" + query if query else b"")
            return exchange.Answer(308, headers=[(b"location", target)])
        if (is_secret or b"cookie" in names) and not self._http.allow_plain:
            return exchange.refuse(Refused("encryption_required", "what was sent may have been read on the way: use https"), scope)
        return None

    async def _answer_authority(self, scope: Any, send: Any) -> None:
        found = self._find_answer(scope["path"].removeprefix(CHALLENGES))
        if found is None or scope["method"] not in _SAFE:
            answer = exchange.refuse(Refused("not_found", "no challenge with this token is under way"), scope)
        else:
            answer = exchange.Answer(200, found, b"application/octet-stream")
        await exchange.send_answer(answer, exchange.request_id(scope), send)


def is_from_here(scope: Any) -> bool:
    """Tell whether nobody can listen in: the other end is this machine."""
    client = scope.get("client")
    if not client:
        return True  # a socket of this machine
    try:
        return parse_peer(str(client[0])).is_loopback
    except ValueError:
        return False


def _host_of(scope: Any) -> str:
    """Return the name that was asked for, lower case, without its port."""
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    return hosts[0].lower().partition(":")[0] if len(hosts) == 1 else ""


def _may_pin(host: str) -> bool:
    """Tell names from addresses, for which HSTS is not meant (RFC 6797 §8.1.1), and from a developer's own machine."""
    last = host.rpartition(".")[2]
    return _NAME.fullmatch(host) is not None and last != "localhost" and not last.isdigit()

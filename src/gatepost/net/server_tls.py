"""
The certificates of our doors: chosen by the name that a client asks for, and exchanged while connections are open.

Arrives: where certificates lie. Leaves: one context for each door. It reads a client's first message, and then the client
gets the certificate for its name, by a key exchange that it knows.
Files are looked at every few seconds. A changed pair is used for new connections once certificate and key belong together;
of one that cannot be used is told once, and the old certificate stays. Open connections keep what they have.
Standards: RFC 6066 §3 (server name), RFC 8737 §3 (acme-tls/1).
Not here: versions and ciphers (tls_policy), reading one certificate (certificate), getting certificates (certificates).
Bugs: OCSP responses are not stapled; authorities stop offering them.
"""

import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self, cast

from gatepost.clock import DAY, Clock, Instant
from gatepost.net import certificate, tls_policy
from gatepost.net.certificate import HTTPS, SMTP, Certificate, Place, UnusableCertificate
from gatepost.net.tls_policy import ACME, ClientCheck
from gatepost.observe import maillog, metrics
from gatepost.wire.tls_hello import ClientHello, Unreadable, read_client_hello

__all__ = ["HTTPS", "SMTP", "DoorContext", "Place", "ServerCertificates", "UnusableCertificate"]

_SOON = 14 * DAY

FindChallenge = Callable[[str], Path | None]
"""Finds the certificate that answers an authority's challenge for a name (RFC 8737)."""


class ServerCertificates:
    """
    The certificates in use, kept fresh by `refresh`.

    Attributes:
        current: In the order of their places; those that are still awaited are missing.
    """

    def __init__(
        self, places: Iterable[Place], clock: Clock, *, clients: ClientCheck | None = None, find_challenge: FindChallenge | None = None
    ) -> None:
        """
        Args:
            places: The first one serves clients that ask for no name, or for one that nobody has.
            clients: What clients of the HTTPS door must show.
        """
        self._places = tuple(places)
        self._clock = clock
        self._clients = clients
        self._find_challenge = find_challenge
        self.current: tuple[Certificate, ...] = ()
        self._by_name: dict[str, Certificate] = {}
        self._seen: dict[str, object] = {}
        self._failed: dict[str, tuple[object, bool]] = {}
        self._warned_at: dict[str, Instant] = {}
        self._bare = tls_policy.bare_context()

    def load(self) -> Self:
        """
        Read all certificates for the first time.

        Raises:
            UnusableCertificate: One that should be there cannot be used.
        """
        found = {}
        for place in self._places:
            if place.is_awaited and not place.cert.exists():
                continue
            self._seen[place.name] = self._look_of(place)
            found[place.name] = certificate.load(place, self._clients)
        self._use(found)
        return self

    def refresh(self) -> bool:
        """Look whether files changed, and use what changed; return whether anything did."""
        found = {one.place.name: one for one in self.current}
        changed = False
        for place in self._places:
            fresh = self._refreshed(place)
            if fresh is not None:
                found[place.name], changed = fresh, True
        if changed:
            self._use(found)
        self._tell_ages()
        return changed

    def context(self, door: str) -> "DoorContext":
        """Make the context of a door; it stays right when certificates change."""
        return DoorContext(self, door)

    def choose(self, door: str, hello: ClientHello) -> ssl.SSLContext:
        """Choose the context for a client."""
        if ACME in hello.protocols and door == HTTPS:
            return self._challenged(hello)
        chosen = certificate.find(self._by_name, hello.server_name) or (self.current[0] if self.current else None)
        if chosen is None:
            return self._bare
        return tls_policy.choose(chosen.contexts[door], hello.key_shares, hello.groups)

    def _challenged(self, hello: ClientHello) -> ssl.SSLContext:
        """Answer an authority; whoever else says `acme-tls/1` gets nothing (RFC 8737 §3)."""
        path = self._find_challenge(hello.server_name) if self._find_challenge is not None else None
        if path is None or hello.protocols != (ACME,):
            return self._bare
        try:
            variants = tls_policy.create_contexts(path, path, protocols=(ACME,))
        except OSError:  # it is over already
            return self._bare
        return tls_policy.choose(variants, hello.key_shares, hello.groups)

    def _refreshed(self, place: Place) -> Certificate | None:
        look = self._look_of(place)
        if look == self._seen.get(place.name):
            return None
        if place.is_awaited and look is None and place.name not in self._seen:
            return None
        try:
            fresh = certificate.load(place, self._clients)
        except UnusableCertificate as error:
            self._tell_unusable(place, look, error)
            return None
        if self._look_of(place) != look:
            return None  # still being written: look again
        self._seen[place.name] = look
        self._failed.pop(place.name, None)
        facts = fresh.facts
        maillog.lifecycle("certificate in use", certificate=place.name, fingerprint=facts.fingerprint, ends_at=facts.not_after)
        return fresh

    def _tell_unusable(self, place: Place, look: object, error: UnusableCertificate) -> None:
        """Tell once, and only of what stays so until the next look: files are exchanged one after the other."""
        before, is_told = self._failed.get(place.name, (None, False))
        if before == look and not is_told:
            maillog.trouble("a changed certificate cannot be used; the old one stays", certificate=place.name, error=str(error))
            is_told = True
        self._failed[place.name] = (look, is_told and before == look)

    def _look_of(self, place: Place) -> object:
        paths = [place.cert, place.key] + ([self._clients.ca_file] if self._clients is not None else [])
        try:
            return tuple((facts.st_ino, facts.st_mtime_ns, facts.st_size) for facts in (path.stat() for path in paths))
        except OSError:
            return None

    def _use(self, found: dict[str, Certificate]) -> None:
        self.current = tuple(found[place.name] for place in self._places if place.name in found)
        self._by_name = certificate.by_name(self.current)
        self._tell_ages()

    def _tell_ages(self) -> None:
        now = self._clock.now()
        for one in self.current:
            left, name = one.facts.not_after - now, one.place.name
            metrics.certificate_expires_seconds.labels(name).set(left / 1000)
            if left < _SOON and now - self._warned_at.get(name, -DAY) >= DAY:
                self._warned_at[name] = now
                maillog.trouble("a certificate ends soon" if left > 0 else "a certificate has ended", certificate=name, days=left // DAY)


class DoorContext(ssl.SSLContext):
    """What a door's sockets are given: it lets each client choose, by its first message."""

    _certificates: ServerCertificates
    _door: str

    def __new__(cls, certificates: ServerCertificates, door: str) -> Self:
        """Make it; it has no certificate of its own."""
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made._certificates, made._door = certificates, door
        return made

    def __init__(self, certificates: ServerCertificates, door: str) -> None:
        """See `ServerCertificates.context`."""

    @property
    def is_ready(self) -> bool:
        """Tell whether there is a certificate to show."""
        return bool(self._certificates.current)

    def choose(self, hello: ClientHello) -> ssl.SSLContext:
        """Choose the context for a client."""
        return self._certificates.choose(self._door, hello)

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = True,  # noqa: FBT001, FBT002 - the signature is ssl's
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin a connection; its real context is chosen when the client has spoken."""
        return cast("ssl.SSLObject", Handshake(self, incoming, outgoing))


class Handshake:
    """A server's side of TLS that waits for the client's first message, and from then on is an `ssl.SSLObject`."""

    def __init__(self, context: DoorContext, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._context = context
        self._incoming = incoming
        self._outgoing = outgoing
        self._begun: ssl.SSLObject | None = None

    def do_handshake(self) -> None:
        """
        Go on with the handshake.

        Raises:
            SSLWantReadError: More is needed from the client.
            SSLError: It failed.
        """
        if self._begun is None:
            self._begun = self._begin()
        self._begun.do_handshake()

    def read(self, size: int = 1024, buffer: Any = None) -> Any:
        """Read as `ssl.SSLObject` does."""
        return self._object.read(size) if buffer is None else self._object.read(size, buffer)

    def write(self, data: Any) -> int:
        """Write as `ssl.SSLObject` does."""
        return self._object.write(data)

    def pending(self) -> int:
        """Count what can be read without asking the network."""
        return self._object.pending()

    def unwrap(self) -> None:
        """End TLS."""
        self._object.unwrap()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._object, name)

    @property
    def _object(self) -> ssl.SSLObject:
        if self._begun is None:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "the client has not spoken yet")
        return self._begun

    def _begin(self) -> ssl.SSLObject:
        seen = self._incoming.read()
        self._incoming.write(seen)
        try:
            hello = read_client_hello(seen)
        except Unreadable:
            hello = ClientHello()  # the handshake itself will say what is wrong with it
        if hello is None:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "the client's first message is not whole")
        return self._context.choose(hello).wrap_bio(self._incoming, self._outgoing, server_side=True)

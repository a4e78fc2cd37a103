"""Options of the doors, and of what stands behind them: database, keys, certificates."""

from typing import Annotated

import msgspec
from msgspec import Meta

from gatepost.settings.section import Section


class Database(Section, frozen=True):
    """Where state is kept."""

    url: Annotated[str, Meta(description="postgresql://user:password@host/name, or empty for SQLite in the data directory")] = ""
    pool_size: Annotated[int, Meta(ge=2, le=100, description="PostgreSQL connections per process")] = 8


class Secrets(Section, frozen=True):
    """The key under which everything private is sealed on disk. Keep it, and a copy of it, elsewhere than the data."""

    master_key: Annotated[
        str,
        Meta(description="base64 of 32 random bytes; best given as GATEPOST_SECRETS__MASTER_KEY; older keys may follow after a blank"),
    ] = ""
    master_key_file: Annotated[
        str,
        Meta(
            description="file that holds it; without either, systemd's credential gatepost-master-key counts, else DIR/master.key, made at"
            " the first start"
        ),
    ] = ""


class Http(Section, frozen=True):
    """The HTTP door."""

    listen: Annotated[str, Meta(description="host:port of the API and the pages; empty switches the door off")] = "127.0.0.1:8025"
    max_connections: Annotated[int, Meta(ge=1, description="open connections at once")] = 2_000
    max_connections_per_peer: Annotated[
        int, Meta(ge=1, description="open connections at once from one address (IPv6: one /64) outside loopback and trusted_proxies")
    ] = 200
    header_timeout_s: Annotated[int, Meta(ge=1, description="time a client has for its request, and between requests")] = 30
    min_bytes_per_s: Annotated[
        int, Meta(ge=1, description="a body that arrives, or an answer that is read, more slowly is cut off after header_timeout_s")
    ] = 4096
    trusted_proxies: Annotated[
        list[str],
        Meta(description="networks (CIDR) of reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed; nobody else's are"),
    ] = msgspec.field(default_factory=list)
    show_content: Annotated[
        bool, Meta(description="let the pages show the content of mail that really was sent, not only of sandboxed mail")
    ] = False
    redirect_to_https: Annotated[bool, Meta(description="send readers who come without TLS from outside loopback to https.listen")] = False
    allow_plain: Annotated[bool, Meta(description="take keys, passwords and cookies over plain HTTP from outside loopback too")] = False


class Https(Section, frozen=True):
    """The HTTP door with TLS: the same API and pages."""

    listen: Annotated[str, Meta(description="host:port of the API and the pages over TLS; empty switches the door off")] = ""
    hsts_s: Annotated[
        int,
        Meta(ge=0, description="how long browsers keep to HTTPS (RFC 6797); 0 does not ask them to, nor is it sent for IP addresses"),
    ] = 63_072_000
    client_certificates: Annotated[
        str,
        Meta(
            pattern="^(off|optional|required)$",
            description="off, optional (checked when a client shows one) or required (no connection without one)",
        ),
    ] = "off"
    client_ca: Annotated[str, Meta(description="PEM file with the authorities that clients' certificates must come from")] = ""
    bound_keys: Annotated[
        dict[str, list[str]],
        Meta(description="API keys that work only with one of these client certificates: key id = [SHA-256 fingerprints, hex]"),
    ] = msgspec.field(default_factory=dict)

    def bound(self) -> dict[str, frozenset[str]]:
        """Return `bound_keys` with its fingerprints in one form."""
        return {key_id: frozenset(one.replace(":", "").lower() for one in prints) for key_id, prints in self.bound_keys.items()}


class Smtp(Section, frozen=True):
    """The SMTP submission door, with STARTTLS."""

    listen: Annotated[str, Meta(description="host:port; empty switches the door off")] = "127.0.0.1:2525"
    hostname: Annotated[str, Meta(description="name in the greeting; empty is this machine's name")] = ""
    max_connections: Annotated[int, Meta(ge=1, description="open connections at once")] = 2_000
    max_connections_per_peer: Annotated[int, Meta(ge=1, description="open connections at once from one address outside loopback")] = 100
    command_timeout_s: Annotated[int, Meta(ge=1, description="time a client has for its next command (RFC 5321 §4.5.3.2.7)")] = 300
    data_timeout_s: Annotated[int, Meta(ge=1, description="time a client has to send a whole message")] = 600
    trusted_proxies: Annotated[
        list[str],
        Meta(description="networks (CIDR) of proxies whose connections begin with a PROXY protocol header, version 1 or 2"),
    ] = msgspec.field(default_factory=list)


class Smtps(Section, frozen=True):
    """The SMTP submission door with TLS from the first byte (RFC 8314)."""

    listen: Annotated[str, Meta(description="host:port; empty switches the door off")] = ""


class CertificateFiles(Section, frozen=True):
    """One certificate with its key."""

    cert: Annotated[str, Meta(description="PEM file with the certificate chain")]
    key: Annotated[str, Meta(description="PEM file with the private key")]


class Tls(Section, frozen=True):
    """Certificates of the HTTPS and SMTP doors; changed files are used for new connections without a restart."""

    cert: Annotated[
        str, Meta(description="PEM file with the certificate chain; STARTTLS and HTTPS are offered when there is a certificate")
    ] = ""
    key: Annotated[str, Meta(description="PEM file with the private key")] = ""
    certificates: Annotated[
        dict[str, CertificateFiles],
        Meta(description="more certificates, chosen by the name that a client asks for: [tls.certificates.NAME] with cert and key"),
    ] = msgspec.field(default_factory=dict)
    check_every_s: Annotated[float, Meta(ge=0.1, description="how often the files are looked at")] = 2.0


class Acme(Section, frozen=True):
    """Certificates from an authority by ACME (RFC 8555), kept in DIR/acme and renewed in time."""

    directory_url: Annotated[
        str, Meta(description="directory of the authority, such as https://acme-v02.api.letsencrypt.org/directory; empty is off")
    ] = ""
    agree_to_terms: Annotated[bool, Meta(description="you agree to the authority's terms of service; needed")] = False
    contact: Annotated[list[str], Meta(description="addresses at which the authority may reach you")] = msgspec.field(default_factory=list)
    domains: Annotated[list[str], Meta(description="host names; each gets a certificate of its own")] = msgspec.field(default_factory=list)
    challenge: Annotated[
        str,
        Meta(
            pattern="^(http-01|tls-alpn-01)$",
            description="http-01 (the authority asks http.listen on port 80) or tls-alpn-01 (https.listen on port 443)",
        ),
    ] = "http-01"
    ca_file: Annotated[str, Meta(description="PEM file to trust for the directory; empty is the usual authorities")] = ""
    eab_kid: Annotated[str, Meta(description="key id of an external account, for authorities that want one")] = ""
    eab_key: Annotated[str, Meta(description="HMAC key of the external account, base64url")] = ""

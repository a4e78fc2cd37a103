"""
Every option once: name, type, default and help.

The example file, the documentation and `gatepost settings` are made from these.
Not here: where values come from (loading), what no type can say of them (checks).
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

Strictness = Literal["off", "warn", "refuse"]
OnFailure = Literal["open", "closed"]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A group of options."""


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


class Egress(Section, frozen=True):
    """How mail leaves."""

    default_route: Annotated[
        str,
        Meta(
            description="sandbox (nothing leaves), or roads in order of preference, divided by commas: mx (straight to recipients'"
            " servers), relays' names; main,mx goes by the relay main, and straight when that fails"
        ),
    ] = "sandbox"
    hostname: Annotated[str, Meta(description="EHLO name and domain of Message-IDs; empty is this machine's name")] = ""
    source_address: Annotated[str, Meta(description="local address to connect from; empty lets the system choose")] = ""
    mx_port: Annotated[int, Meta(ge=1, le=65535, description="port of recipients' servers")] = 25
    connections_per_site: Annotated[int, Meta(ge=1, le=1000, description="connections at once to one site on route mx")] = 10
    connections_per_relay: Annotated[int, Meta(ge=1, le=1000, description="connections at once to one relay")] = 20
    messages_per_connection: Annotated[int, Meta(ge=1, description="messages after which a connection is closed")] = 1_000
    idle_connection_s: Annotated[int, Meta(ge=0, description="how long an idle connection is kept for the next message")] = 5
    connect_timeout_s: Annotated[int, Meta(ge=1, description="time for connecting to one address")] = 30
    timeout_scale: Annotated[float, Meta(gt=0, description="factor on the timeouts of RFC 5321 §4.5.3.2")] = 1.0
    use_ipv6: Annotated[bool, Meta(description="connect to IPv6 addresses too")] = False


class RelayOAuth(Section, frozen=True):
    """Access tokens for a smarthost that takes no passwords (XOAUTH2); off while nothing of it is set."""

    token_url: Annotated[
        str, Meta(description="where tokens are got; empty for smtp.gmail.com and smtp.office365.com, which are known")
    ] = ""
    tenant: Annotated[str, Meta(description="Microsoft 365: id or domain of the directory")] = ""
    client_id: Annotated[str, Meta(description="name under which the gateway is registered there")] = ""
    client_secret: Annotated[str, Meta(description="its secret; without a refresh token it stands for itself (client credentials)")] = ""
    refresh_token: Annotated[str, Meta(description="what a person's consent gave; access tokens are got with it")] = ""
    service_account_file: Annotated[
        str, Meta(description="Google: JSON key file of a service account that acts for the user in the URL (domain-wide delegation)")
    ] = ""
    scope: Annotated[str, Meta(description="what the tokens are for; empty is sending mail at the known hosts")] = ""


class RelayHook(Section, frozen=True):
    """Whom to believe at `POST /hooks/NAME`, where the relay's provider says what became of messages; off while nothing is set."""

    secret: Annotated[
        str,
        Meta(
            description="SendGrid: verification key; Mailgun: webhook signing key; Resend: whsec_…; Postmark and Mailjet: user:password;"
            " Brevo: token or user:password; may be sealed"
        ),
    ] = ""
    topic: Annotated[str, Meta(description="SES: ARN of the SNS topic; notifications of no other are looked at")] = ""
    provider: Annotated[
        Literal["", "ses", "sendgrid", "mailgun", "postmark", "resend", "mailjet", "brevo"],
        Meta(description="whose hook it is; empty is the URL's, which an SMTP smarthost does not say"),
    ] = ""


class Relay(Section, frozen=True):
    """One SMTP smarthost, or one provider's HTTP API."""

    url: Annotated[
        str,
        Meta(
            description="smtp://[user[:password]@]host:port, smtps:// for TLS from the first byte;"
            " ?tls=never|may|must (default: may, must with a password). ses://KEY:SECRET@REGION, sendgrid://:KEY@,"
            " mailgun://:KEY@DOMAIN, postmark://:TOKEN@, resend://:KEY@, mailjet://KEY:SECRET@, brevo://:KEY@;"
            " ?region=eu for SendGrid and Mailgun, ?stream=NAME for Postmark, ?configuration_set=NAME for SES"
        ),
    ]
    secret: Annotated[
        str, Meta(description="password, API key or token, where it does not stand in the URL; may be sealed, or come from a …_FILE")
    ] = ""
    secret_file: Annotated[str, Meta(description="or a file that holds it, read at the start")] = ""
    session_token: Annotated[str, Meta(description="SES: the token that temporary credentials come with")] = ""
    endpoint: Annotated[
        str, Meta(description="base URL instead of the provider's own: https://, or http:// on this machine; for tests and proxies")
    ] = ""
    ca_file: Annotated[str, Meta(description="PEM file of authorities that a provider's API is trusted by, not the system's")] = ""
    timeout_s: Annotated[float, Meta(gt=0, le=600, description="time for one answer of a provider's API")] = 30.0
    rate: Annotated[
        str,
        Meta(pattern=r"^([1-9][0-9]{0,8}/(second|minute|hour))?$", description="recipients at most, such as 14/second; empty is no limit"),
    ] = ""
    quota: Annotated[
        str,
        Meta(
            pattern=r"^([1-9][0-9]{0,11}/(hour|day|month))?$",
            description="recipients at most per calendar hour, day or month (UTC), such as 50000/day; empty is no limit",
        ),
    ] = ""
    status_url: Annotated[
        str,
        Meta(description="the provider's status page, one made with Statuspage, such as https://status.example.com; empty asks nobody"),
    ] = ""
    price_per_1000: Annotated[
        float, Meta(ge=0, description="what 1,000 recipients by this relay cost, on top of the tenant's own price")
    ] = 0.0
    return_paths: Annotated[
        bool,
        Meta(
            description="SMTP: mail by this relay has the gateway's return paths, see inbound.bounce_domain; many allow only senders' own"
        ),
    ] = False
    oauth: RelayOAuth = RelayOAuth()
    hook: RelayHook = RelayHook()


class SiteLimits(Section, frozen=True):
    """
    What a site gets from each source at most; what is not given is as policy/shaping.toml, and then `egress`, has it.

    `[shaping."SITE"]` is for all sources, `[pools.NAME.shaping."SITE"]` and `[sources.NAME.shaping."SITE"]` for some; `*` is every site.
    """

    connections: Annotated[Annotated[int, Meta(ge=1, le=1000)] | None, Meta(description="connections at once, idle ones included")] = None
    messages_per_connection: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="messages after which a connection is closed")
    ] = None
    messages_per_second: Annotated[
        Annotated[float, Meta(ge=0, le=100_000)] | None, Meta(description="messages a second, such as 0.5; 0 is no limit")
    ] = None
    burst: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)] | None, Meta(description="messages that may go at once after a pause; 1 spreads them evenly")
    ] = None
    recipients_per_transaction: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None, Meta(description="recipients in one transaction; more are split")
    ] = None
    warm_up_from: Annotated[
        str, Meta(pattern=r"^(\d{4}-\d{2}-\d{2})?$", description="first day (UTC) of warming up, such as 2026-11-24; empty is none")
    ] = ""
    warm_up: Annotated[
        list[Annotated[int, Meta(ge=0)]] | None,
        Meta(description="messages on each day from warm_up_from on, such as [50, 100, 200]; afterwards there is no cap"),
    ] = None


class SourceAddress(Section, frozen=True):
    """Where connections to recipients' servers come from; a pool names its sources."""

    address: Annotated[str, Meta(description="local address to connect from, IPv4 or IPv6; with a proxy the one that the world sees")] = ""
    hostname: Annotated[str, Meta(description="EHLO name; empty is egress.hostname")] = ""
    proxy: Annotated[str, Meta(description="socks5://[user:password@]host:port whose address it is; empty connects from this machine")] = ""
    shaping: Annotated[dict[str, SiteLimits], Meta(description="limits of sites from this source")] = msgspec.field(default_factory=dict)


class SourcePool(Section, frozen=True):
    """Sources that share the mail of a road: mx:NAME, and mx for the pool default."""

    sources: Annotated[list[str], Meta(min_length=1, description="names of sources; a source is in one pool")]
    weights: Annotated[
        dict[str, Annotated[int, Meta(ge=0, le=1000)]],
        Meta(description="share of a source, such as {a = 3, b = 1}; 1 if not given, 0 rests it"),
    ] = msgspec.field(default_factory=dict)
    shaping: Annotated[dict[str, SiteLimits], Meta(description="limits of sites from each source of this pool")] = msgspec.field(
        default_factory=dict
    )


class Dns(Section, frozen=True):
    """The resolver."""

    server: Annotated[str, Meta(description="host:port of the resolver; empty is the system's")] = ""
    timeout_s: Annotated[float, Meta(gt=0, description="time for one answer")] = 5.0
    trust_ad: Annotated[
        Literal["auto", "always", "never"],
        Meta(
            description="believe the resolver that DNSSEC vouches for an answer, which DANE needs; auto believes one on this machine,"
            " always is right only where nobody can alter its answers on the way"
        ),
    ] = "auto"


class Sites(Section, frozen=True):
    """Mail systems that take many domains' mail: they share one budget."""

    file: Annotated[
        str,
        Meta(description='TOML file with further systems, which go before the known ones: [NAME] with mx = ["suffix of host names"]'),
    ] = ""


class BounceMessages(Section, frozen=True):
    """Reports to the sender by mail (RFC 3461 to 3464), for mail of which the sender asks for them, or does not say (NOTIFY)."""

    default: Annotated[
        list[Literal["smtp", "http"]],
        Meta(description="doors whose mail gets a report of failure when it does not say what it wants"),
    ] = msgspec.field(default_factory=lambda: ["smtp"])
    sender: Annotated[
        str,
        Meta(
            description="address that reports come from, signed where its domain is one of the default tenant's; empty is MAILER-DAEMON at"
            " egress.hostname"
        ),
    ] = ""
    delay_after_s: Annotated[
        int, Meta(ge=60, description="a sender who asks for it (NOTIFY=DELAY) is told once of mail that is late by so much")
    ] = 4 * 3600
    full_bytes: Annotated[int, Meta(ge=0, description="a larger message is not returned whole (RET=FULL), only its headers")] = 1024 * 1024


class TlsPolicy(Section, frozen=True):
    """What recipients' servers must fulfil: DANE (RFC 7672) before MTA-STS (RFC 8461); else TLS is taken where it is offered."""

    dane: Annotated[bool, Meta(description="heed TLSA records; see dns.trust_ad")] = True
    mta_sts: Annotated[bool, Meta(description="heed MTA-STS policies")] = True
    ca_file: Annotated[
        str,
        Meta(
            description="PEM file of the authorities that certificates of recipients' servers and policy hosts must come from; empty is the"
            " system's"
        ),
    ] = ""
    https_port: Annotated[int, Meta(ge=1, le=65535, description="port of MTA-STS policy hosts")] = 443
    fetch_timeout_s: Annotated[float, Meta(gt=0, le=60, description="time for one policy (RFC 8461 §3.3 allows a minute)")] = 15.0
    refresh_s: Annotated[
        int, Meta(ge=60, le=604_800, description="a policy that is kept is fetched again after so long, or half of its own time")
    ] = 86_400


class TlsReports(Section, frozen=True):
    """Daily reports about TLS to recipients' domains that ask for them (RFC 8460)."""

    sender: Annotated[
        str,
        Meta(description="address that reports come from, in a verified domain of `tenant`; empty collects nothing and sends none"),
    ] = ""
    tenant: Annotated[str, Meta(description="name or id of the tenant whose mail the reports are")] = "default"
    organization: Annotated[str, Meta(max_length=200, description="who reports; empty is the sender's domain")] = ""
    contact: Annotated[str, Meta(max_length=200, description="whom to ask about a report; empty is the sender's address")] = ""
    flush_s: Annotated[float, Meta(ge=0.1, le=3600, description="how often results are written down")] = 20.0
    spread_s: Annotated[
        int, Meta(ge=0, le=43_200, description="time after midnight UTC over which a day's reports are spread (RFC 8460 §4.1)")
    ] = 4 * 3600


class Watch(Section, frozen=True):
    """What is looked after: senders' domains, the addresses that mail leaves from, relays."""

    domains_every_s: Annotated[int, Meta(ge=0, description="how often each domain's DNS records are looked at; 0 never")] = 3600
    grace_s: Annotated[int, Meta(ge=0, description="a verified domain whose DKIM records are gone for so long may not send any more")] = (
        3 * 86_400
    )
    concurrency: Annotated[int, Meta(ge=1, le=100, description="domains that are looked at at once")] = 8
    addresses: Annotated[
        list[str],
        Meta(description="public addresses that mail leaves from, where the machine does not see them itself, as behind NAT"),
    ] = msgspec.field(default_factory=list)
    blocklists: Annotated[
        list[str], Meta(description="DNS blocklists that are asked about these addresses; your use of them is subject to their terms")
    ] = msgspec.field(default_factory=lambda: ["zen.spamhaus.org", "bl.spamcop.net"])
    relays_every_s: Annotated[int, Meta(ge=0, description="how often each relay is tried without sending anything; 0 never")] = 60
    success_objective: Annotated[
        float, Meta(gt=0, lt=1, description="share of attempts that a relay must take, whatever becomes of their recipients")
    ] = 0.99
    latency_objective: Annotated[float, Meta(gt=0, lt=1, description="share of attempts that must not take longer than latency_s")] = 0.95
    latency_s: Annotated[float, Meta(gt=0, description="how long an attempt at a relay may take; counted up to the next measured step")] = (
        5.0
    )


class Routing(Section, frozen=True):
    """When mail leaves a road that fails, and when a road is left alone for a while."""

    breaker_failures: Annotated[int, Meta(ge=1, le=1000, description="failures of a road in a row that open its breaker")] = 5
    breaker_share: Annotated[float, Meta(gt=0, le=1, description="or such a share of the transactions of breaker_window_s")] = 0.5
    breaker_least: Annotated[int, Meta(ge=1, description="of at least so many of them")] = 20
    breaker_window_s: Annotated[int, Meta(ge=12, le=3600, description="time over which health is measured")] = 60
    breaker_open_s: Annotated[
        float, Meta(ge=0.1, le=3600, description="how long an open breaker keeps mail away before one message, or a probe, tries the road")
    ] = 10.0
    breaker_longest_s: Annotated[float, Meta(ge=0.1, le=3600, description="doubled at each failed try, up to so long")] = 120.0
    mx_sites: Annotated[
        int, Meta(ge=2, le=100, description="the road to MX hosts has failed when so many sites in a row cannot be reached, and none can")
    ] = 5
    patience: Annotated[
        int,
        Meta(ge=1, le=100, description="attempts that a recipient's own server may put off (greylisting) before the next road is taken"),
    ] = 3
    unsure_attempts: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="attempts after which mail that may have been delivered already is tried on another road after all, which may"
            " deliver it twice; 0 never",
        ),
    ] = 6
    supersede_codes_s: Annotated[
        int,
        Meta(
            ge=0,
            le=86_400,
            description="a second message of stream codes to the same recipient within this time takes another road, and cancels the first"
            " if it still waits; 0 switches that off",
        ),
    ] = 300


class RouteRule(Section, frozen=True):
    """A route: roads, and the mail that takes them; what is left empty matches everything."""

    roads: Annotated[str, Meta(min_length=1, description="roads in order of preference, such as main,mx; with weights main:80,second:20")]
    strategy: Annotated[
        Literal["ordered", "weighted", "cheapest"],
        Meta(description="which road comes first: the first one, one drawn by weight, or the one with the lowest price"),
    ] = "ordered"
    tenants: Annotated[list[str], Meta(description="names or ids of tenants")] = msgspec.field(default_factory=list)
    streams: Annotated[list[str], Meta(description="streams")] = msgspec.field(default_factory=list)
    senders: Annotated[list[str], Meta(description="senders' domains; *.acme.example is every domain below")] = msgspec.field(
        default_factory=list
    )
    recipients: Annotated[list[str], Meta(description="recipients' domains, in the same way")] = msgspec.field(default_factory=list)
    sites: Annotated[list[str], Meta(description="mail systems that take the recipients' domains")] = msgspec.field(default_factory=list)
    tags: Annotated[list[str], Meta(description="messages with one of these tags")] = msgspec.field(default_factory=list)
    may_be_named: Annotated[bool, Meta(description="messages that it matches may ask for it by its name")] = False
    is_chosen: Annotated[bool, Meta(description="false: only messages that ask for it take it")] = True


_SCHEDULE = [60, 300, 900, 1800, 3600, 7200, 10800, 14400]

_CODES_SCHEDULE = [5, 15, 30, 60, 120]


class Retry(Section, frozen=True):
    """What happens after a refusal for now."""

    schedule: Annotated[
        list[int],
        Meta(min_length=1, max_length=100, description="seconds to wait after attempt 1, 2, …; the last one repeats until max_age_s"),
    ] = msgspec.field(default_factory=lambda: list(_SCHEDULE))
    max_age_s: Annotated[int, Meta(ge=60, description="give up this long after a message was due, unless it says otherwise itself")] = (
        72 * 3600
    )
    jitter: Annotated[float, Meta(ge=0, le=0.9, description="random share of each wait, so that retries do not come in waves")] = 0.1
    classes: Annotated[
        dict[str, list[int]],
        Meta(description="schedules that streams may name: name = [seconds]; the one named codes is that of the lane of codes"),
    ] = msgspec.field(default_factory=lambda: {"codes": list(_CODES_SCHEDULE)})
    codes_ttl_s: Annotated[
        int, Meta(ge=10, description="a code that is so old is worth nothing, unless its message or stream says otherwise")
    ] = 900
    transactional_ttl_s: Annotated[int, Meta(ge=0, description="the same for transactional mail; 0 is max_age_s")] = 0
    bulk_ttl_s: Annotated[int, Meta(ge=0, description="the same for bulk mail; 0 is max_age_s")] = 0


class Limits(Section, frozen=True):
    """Bounds on what the doors take."""

    message_bytes: Annotated[int, Meta(ge=1024, description="size of a composed message")] = 25 * 1024 * 1024
    recipients: Annotated[int, Meta(ge=1, le=1000, description="recipients of one message")] = 50
    search_messages: Annotated[
        int, Meta(ge=100, le=1_000_000, description="newest messages that a search by text opens, since they are stored sealed")
    ] = 5_000
    batch_messages: Annotated[int, Meta(ge=1, le=500, description="messages of one batch, personalizations included")] = 500
    attachments: Annotated[int, Meta(ge=0, description="attachments of one message")] = 50
    header_bytes: Annotated[int, Meta(ge=1024, description="size of all header fields together")] = 256 * 1024
    headers: Annotated[int, Meta(ge=1, description="number of header fields")] = 500
    more_headers: Annotated[list[str], Meta(description="header fields that callers may set by name, beside X-… and the usual ones")] = (
        msgspec.field(default_factory=list)
    )
    line_bytes: Annotated[
        int, Meta(ge=998, description="length of one line of a raw message, without CRLF (RFC 5322 §2.1.1 asks for at most 998)")
    ] = 998
    mime_depth: Annotated[int, Meta(ge=1, le=100, description="nesting of MIME parts")] = 20
    mime_parts: Annotated[int, Meta(ge=1, le=10_000, description="number of MIME parts")] = 500
    schedule_ahead_s: Annotated[int, Meta(ge=0, description="how far ahead a message may be scheduled")] = 30 * 86400


class Admission(Section, frozen=True):
    """
    What is refused, and when, so that the gateway stays standing.

    From a soft mark on bulk mail is refused for now, halfway to the hard mark transactional mail too, from the hard mark on codes as well.
    """

    body_bytes: Annotated[
        int, Meta(ge=1024 * 1024, description="bytes of requests and messages that may be in memory at once, at all doors together")
    ] = 128 * 1024 * 1024
    messages_soft: Annotated[int, Meta(ge=1, description="messages being checked or waiting for their commit: soft mark")] = 1_000
    messages_hard: Annotated[int, Meta(ge=1, description="messages being checked or waiting for their commit: hard mark")] = 5_000
    memory_soft_mb: Annotated[int, Meta(ge=1, description="resident memory of the door process: soft mark")] = 512
    memory_hard_mb: Annotated[int, Meta(ge=1, description="resident memory of the door process: hard mark")] = 768
    disk_soft_mb: Annotated[
        int, Meta(ge=0, description="free disk in the data directory: soft mark, but at most a tenth of the disk; 0 switches it off")
    ] = 1_024
    disk_hard_mb: Annotated[
        int, Meta(ge=0, description="free disk in the data directory: hard mark, but at most a fortieth of the disk; 0 switches it off")
    ] = 256
    commit_soft_s: Annotated[float, Meta(gt=0, description="average time of a commit: soft mark")] = 0.5
    commit_hard_s: Annotated[float, Meta(gt=0, description="average time of a commit: hard mark")] = 2.5
    wait_soft_s: Annotated[float, Meta(gt=0, description="age of the oldest message that waits for its commit: soft mark")] = 1.0
    wait_hard_s: Annotated[float, Meta(gt=0, description="age of the oldest message that waits for its commit: hard mark")] = 5.0
    lag_soft_s: Annotated[float, Meta(gt=0, description="how late the event loop is, most of the time: soft mark")] = 0.1
    lag_hard_s: Annotated[float, Meta(gt=0, description="how late the event loop is, most of the time: hard mark")] = 1.0


_LimitText = Annotated[str, Meta(pattern=r"^(requests|messages|recipients|bytes)=[0-9]{1,13}/(second|minute|hour|day|month)$")]


class Rates(Section, frozen=True):
    """How much may be sent, such as messages=1000/day: requests, messages, recipients or bytes per second, minute, hour, day or month."""

    per_key: Annotated[
        list[_LimitText], Meta(description="limits of every key and OAuth client, unless it has its own for the same resource and window")
    ] = msgspec.field(default_factory=list)
    per_tenant: Annotated[
        list[_LimitText], Meta(description="limits of every tenant, unless it has its own for the same resource and window")
    ] = msgspec.field(default_factory=list)
    per_domain: Annotated[
        list[Annotated[str, Meta(pattern=r"^(messages|recipients|bytes)=[0-9]{1,13}/(second|minute|hour|day|month)$")]],
        Meta(description="limits of every sender's domain: messages, recipients or bytes"),
    ] = msgspec.field(default_factory=list)
    codes_per_recipient: Annotated[
        int, Meta(ge=0, description="messages of stream codes that one person may get in an hour, from all tenants together; 0 is no cap")
    ] = 10
    transactional_per_recipient: Annotated[int, Meta(ge=0, description="the same for stream transactional")] = 30
    bulk_per_recipient: Annotated[int, Meta(ge=0, description="the same for stream bulk")] = 4
    valkey_url: Annotated[
        str,
        Meta(
            description="valkey://, redis:// or rediss:// server that counts limits per second, minute and hour exactly across machines;"
            " empty counts them in the database, within one slice"
        ),
    ] = ""
    valkey_timeout_s: Annotated[float, Meta(gt=0, le=10, description="time for one answer of it; then the database counts")] = 0.25


_BLOCKED_EXTENSIONS: list[str] = (  # noqa: SIM905 - fifty-four words are easier to compare without quotes
    "ade adp apk appx appxbundle bat cab chm cmd com cpl diagcab diagcfg diagpkg dll dmg ex ex_ exe hta img ins iso isp jar jnlp js jse lib"
    " lnk mde mjs msc msi msix msixbundle msp mst nsh pif ps1 scr sct shb sys vb vbe vbs vhd vxd wsc wsf wsh xll"
).split()


class Screening(Section, frozen=True):
    """
    What is looked at beyond syntax; each rule is off, warn (the sender is told, the mail goes) or refuse.

    A tenant may have other values: `gatepost policy set`.
    """

    recipient_domains: Annotated[
        Strictness, Meta(description="ask DNS whether a recipient's domain takes mail; a resolver that fails refuses nothing")
    ] = "off"
    typos: Annotated[Strictness, Meta(description="slips of the finger in well-known domains, such as gmial.com")] = "warn"
    disposable: Annotated[Strictness, Meta(description="recipients at providers of mailboxes that are thrown away after use")] = "off"
    roles: Annotated[Strictness, Meta(description="recipients that are a task, not a person: postmaster@, abuse@, noreply@ …")] = "off"
    attachments: Annotated[
        Strictness, Meta(description="files that run: by every name a reader may see, by their first bytes, and inside zip files")
    ] = "refuse"
    macros: Annotated[Strictness, Meta(description="Office documents with macros")] = "refuse"
    active_content: Annotated[Strictness, Meta(description="attached HTML and SVG files with scripts")] = "refuse"
    encrypted_archives: Annotated[Strictness, Meta(description="zip files and Office documents that nobody can look into")] = "warn"
    variables_links: Annotated[
        Strictness,
        Meta(description="variables: links, line breaks and more than 200 characters in names; look-alike and unsafe links in any value"),
    ] = "refuse"
    variables_markup: Annotated[Strictness, Meta(description="variables: HTML in names; it is escaped in any case")] = "warn"
    links: Annotated[
        Strictness, Meta(description="links of the HTML: look-alike hosts, unsafe schemes, a text that shows another domain than its link")
    ] = "off"
    html: Annotated[
        Strictness, Meta(description="scripts, event handlers and embedded pages in the HTML; nothing is ever removed from it")
    ] = "off"
    spam: Annotated[Strictness, Meta(description="what rspamd would mark or delay; what it would reject is always refused")] = "warn"
    alignment: Annotated[
        Strictness,
        Meta(description="mail that neither DKIM nor an aligned SPF speaks for, by what DNS said of the domain lately; not in the sandbox"),
    ] = "warn"
    operator_only: Annotated[
        list[str], Meta(description="rules of this section that tenants cannot change for themselves, only the operator's command line")
    ] = msgspec.field(default_factory=list)
    blocked_extensions: Annotated[
        list[str], Meta(description="endings of file names that the rule attachments looks for; the default is Gmail's list")
    ] = msgspec.field(default_factory=lambda: list(_BLOCKED_EXTENSIONS))
    disposable_files: Annotated[
        list[str], Meta(description="files with further domains for the rule disposable, one a line; read at the start")
    ] = msgspec.field(default_factory=list)
    dns_timeout_s: Annotated[float, Meta(gt=0, le=1, description="time for all questions about one message; then it passes")] = 1.0
    dns_concurrency: Annotated[int, Meta(ge=1, le=1000, description="questions at once per process")] = 50


class Rspamd(Section, frozen=True):
    """A spam scanner: rspamd's normal worker, asked over HTTP."""

    url: Annotated[str, Meta(pattern="^(http://.*)?$", description="such as http://127.0.0.1:11333; empty switches it off")] = ""
    timeout_s: Annotated[float, Meta(gt=0, le=60, description="time for one message, waiting for a free place included")] = 5.0
    concurrency: Annotated[int, Meta(ge=1, le=1000, description="messages at once per process")] = 16
    on_failure: Annotated[OnFailure, Meta(description="open lets mail pass while it does not answer, closed refuses it for now")] = "open"


class Clamd(Section, frozen=True):
    """A malware scanner: clamd, asked with INSTREAM."""

    address: Annotated[str, Meta(description="its socket's path or host:port; empty switches it off")] = ""
    timeout_s: Annotated[float, Meta(gt=0, le=60, description="time for one message, waiting for a free place included")] = 10.0
    concurrency: Annotated[int, Meta(ge=1, le=1000, description="messages at once per process")] = 8
    on_failure: Annotated[OnFailure, Meta(description="open lets mail pass while it does not answer, closed refuses it for now")] = "open"


class Scanning(Section, frozen=True):
    """What is scanned, and by whom."""

    streams: Annotated[list[str], Meta(description="streams whose mail is scanned")] = msgspec.field(
        default_factory=lambda: ["codes", "transactional", "bulk"]
    )
    tenants: Annotated[list[str], Meta(description="ids of the tenants whose mail is scanned; empty is every tenant")] = msgspec.field(
        default_factory=list
    )
    max_bytes: Annotated[
        int,
        Meta(ge=1024, description="larger messages are not scanned: they pass with a warning, or are refused where a scanner fails closed"),
    ] = 25 * 1024 * 1024
    pause_s: Annotated[
        float, Meta(gt=0, le=60, description="a scanner that failed three times in a row rests so long, then longer, up to 60 s")
    ] = 5.0
    rspamd: Rspamd = Rspamd()
    clamd: Clamd = Clamd()


class Log(Section, frozen=True):
    """The mail log: one JSON line per business event, on standard error."""

    level: Annotated[str, Meta(pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")] = "info"
    mask_addresses: Annotated[bool, Meta(description="write a***@example.net instead of recipients' addresses")] = True


class Workers(Section, frozen=True):
    """Processes of `gatepost serve`."""

    dispatch: Annotated[int, Meta(ge=0, le=64, description="dispatch processes; 0 is one per core beyond the first, at least one")] = 0
    lease_s: Annotated[float, Meta(ge=1, description="a dispatch process that is silent for so long loses its shards")] = 15.0
    longest_pause_s: Annotated[
        float, Meta(ge=0.2, le=3600, description="longest wait before a process that keeps dying is started again; the first waits 0.2 s")
    ] = 30.0


class Dashboard(Section, frozen=True):
    """The pages: who gets in, and for how long."""

    url: Annotated[
        str,
        Meta(
            pattern=r"^(https?://[^/\s?#@]+)?$",
            description="address of the pages as browsers know it, such as https://gate.example.com: links, passkeys and single sign-on"
            " use it; empty takes the address that was asked for",
        ),
    ] = ""
    require_login: Annotated[
        bool,
        Meta(description="ask visitors on this very machine to sign in even while nobody has been set up; afterwards everybody is asked"),
    ] = False
    session_s: Annotated[int, Meta(ge=300, le=30 * 86400, description="after this time one has to sign in again")] = 12 * 3600
    idle_s: Annotated[int, Meta(ge=60, le=30 * 86400, description="a session that was not used for so long is over")] = 2 * 3600
    recent_s: Annotated[
        int, Meta(ge=60, le=86400, description="how fresh the sign-in must be for changing passwords, second factors and roles")
    ] = 15 * 60
    invitation_s: Annotated[int, Meta(ge=300, le=90 * 86400, description="how long an invitation is valid")] = 7 * 86400


class Oidc(Section, frozen=True):
    """Single sign-on at the pages with an OpenID provider; off while `issuer` is empty."""

    issuer: Annotated[
        str, Meta(description="the provider, such as https://id.example.com; /.well-known/openid-configuration is read there")
    ] = ""
    client_id: Annotated[str, Meta(description="name under which the gateway is registered at the provider")] = ""
    client_secret: Annotated[str, Meta(description="its secret; best given as GATEPOST_OIDC__CLIENT_SECRET_FILE")] = ""
    name: Annotated[str, Meta(description="name of the provider on the button")] = "single sign-on"
    domains: Annotated[list[str], Meta(description="domains of e-mail addresses that may sign in; empty allows every one")] = msgspec.field(
        default_factory=list
    )
    invited_only: Annotated[bool, Meta(description="let in only who has been invited; else everybody the provider vouches for")] = True
    tenant: Annotated[str, Meta(description="tenant of people who come without an invitation: its name or id")] = "default"
    role: Annotated[str, Meta(pattern="^(admin|developer|viewer)$", description="their role: admin, developer or viewer")] = "viewer"
    role_claim: Annotated[
        str, Meta(description="claim of the ID token with the role in `tenant`: owner, admin, developer or viewer; applied at each sign-in")
    ] = ""
    timeout_s: Annotated[float, Meta(gt=0, le=60, description="time for one answer of the provider")] = 10.0


class Issuer(Section, frozen=True):
    """An outside issuer whose access tokens are taken, within bounds."""

    url: Annotated[str, Meta(min_length=1, description="the issuer as its tokens name it (claim iss), exactly")]
    audience: Annotated[str, Meta(min_length=1, description="what its tokens for this gateway name as their audience (claim aud)")]
    tenant: Annotated[str, Meta(min_length=1, description="id or name of the tenant that its tokens act in")]
    max_scopes: Annotated[list[str], Meta(min_length=1, description="scopes that its tokens may have at most, such as messages:send")]
    jwks_url: Annotated[str, Meta(description="https:// URL of its public keys (RFC 7517); http:// on this machine only")] = ""
    jwks_file: Annotated[str, Meta(description="or a file with them, which is read at the start")] = ""
    scope_claim: Annotated[str, Meta(min_length=1, description="claim that says what a token may do: words, or a list of them")] = "scope"
    scopes: Annotated[
        dict[str, list[str]],
        Meta(description="what a word of that claim gives: word = [scopes]; empty takes words that are scopes here as they are"),
    ] = msgspec.field(default_factory=dict)
    typ: Annotated[
        str, Meta(pattern="^(at\\+jwt|JWT)$", description="type in the header of its tokens: at+jwt (RFC 9068), or JWT for older issuers")
    ] = "at+jwt"
    mode: Annotated[str, Meta(pattern="^(live|test)$", description="live, or test: their mail never leaves the sandbox")] = "live"
    domains: Annotated[list[str], Meta(description="sender's domains that they may use; empty is every one of the tenant")] = msgspec.field(
        default_factory=list
    )
    networks: Annotated[list[str], Meta(description="networks (CIDR) that they may come from; empty is everywhere")] = msgspec.field(
        default_factory=list
    )


class OAuth(Section, frozen=True):
    """Access tokens (OAuth 2.0): our own, and those of issuers that are trusted."""

    issuer: Annotated[
        str,
        Meta(
            pattern=r"^(https?://[^/\s?#@]+)?$",
            description="address under which clients know this gateway, such as https://gate.example.com; it stands in every token."
            " Empty takes dashboard.url, else http.listen",
        ),
    ] = ""
    token_lifetime_s: Annotated[int, Meta(ge=60, le=86400, description="how long an access token is valid")] = 900
    key_rotation_days: Annotated[int, Meta(ge=1, le=365, description="a new key signs after so many days")] = 30
    issuers: Annotated[
        dict[str, Issuer],
        Meta(description="outside issuers: [oauth.issuers.NAME] with url, audience, tenant, max_scopes and jwks_url"),
    ] = msgspec.field(default_factory=dict)


_Host = Annotated[str, Meta(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+)?$")]


class Inbound(Section, frozen=True):
    """What comes back by mail: return paths and complaints. There is no mailbox for anything else."""

    listen: Annotated[str, Meta(description="host:port of the SMTP listener, 0.0.0.0:25 in production; empty switches it off")] = ""
    bounce_domain: Annotated[
        _Host,
        Meta(
            description="domain of return paths, in lower case, whose MX is this gateway: mail then leaves with return paths that say"
            " which recipient comes back; empty leaves senders' own"
        ),
    ] = ""
    return_paths: Annotated[
        dict[str, _Host],
        Meta(
            description="another such domain for the mail of a sender's domain:"
            ' {"acme.example" = "bounces.acme.example"}, for SPF alignment'
        ),
    ] = msgspec.field(default_factory=dict)
    token_days: Annotated[int, Meta(ge=7, le=365, description="how long after a delivery a return path is good")] = 30
    message_bytes: Annotated[int, Meta(ge=65_536, le=100 * 1024 * 1024, description="size of one message")] = 10 * 1024 * 1024
    max_connections: Annotated[int, Meta(ge=1, description="open connections at once")] = 500
    max_connections_per_peer: Annotated[int, Meta(ge=1, description="open connections at once from one address outside loopback")] = 20
    messages_per_minute: Annotated[
        int, Meta(ge=1, description="messages from one address (IPv6: one /64) outside loopback, per process")
    ] = 600
    timeout_s: Annotated[int, Meta(ge=1, description="time a client has for its next command, and for a whole message")] = 300


class Feedback(Section, frozen=True):
    """How mail that comes back, and refusals at delivery, are understood."""

    rules_file: Annotated[
        str,
        Meta(
            description="file (TOML) with rules that name the reasons of refusals, asked before those that come with the gateway;"
            " empty for none"
        ),
    ] = ""
    hard_bounce_days: Annotated[int, Meta(ge=0, le=3650, description="how long a dead address is suppressed; 0 is for good")] = 0
    complaint_days: Annotated[
        int, Meta(ge=0, le=3650, description="how long who complained gets no more of that stream's mail; 0 is for good")
    ] = 0
    inactive_count: Annotated[int, Meta(ge=1, le=100, description="bounces of an inactive mailbox after which it is suppressed")] = 3
    inactive_days: Annotated[int, Meta(ge=1, le=45, description="time in which they count")] = 30
    inactive_rest_days: Annotated[int, Meta(ge=0, le=3650, description="how long an inactive mailbox is suppressed; 0 is for good")] = 90
    block_count: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="addresses at one site whose reports say, within an hour, that it blocks a source, which then rests",
        ),
    ] = 5
    block_rest_s: Annotated[int, Meta(ge=60, le=86_400, description="how long a source rests at a site whose reports say so")] = 900


class Webhooks(Section, frozen=True):
    """Calls to tenants' own servers about what happened."""

    allow_networks: Annotated[
        list[str],
        Meta(
            description="networks (CIDR) that webhooks may lead to besides the public Internet, also over plain http://; whoever may make"
            " webhooks then reaches every server in them"
        ),
    ] = msgspec.field(default_factory=list)
    retry_schedule: Annotated[
        list[int],
        Meta(description="waits in seconds after the first, second … failure, a tenth more or less; after the last it is given up"),
    ] = msgspec.field(default_factory=lambda: [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400])
    timeout_s: Annotated[float, Meta(gt=0, le=60, description="time for one call: name, connection, TLS and answer")] = 15.0
    concurrency: Annotated[int, Meta(ge=1, le=100, description="calls at once to one webhook; one that fails gets one at a time")] = 20
    disable_after_s: Annotated[
        int, Meta(ge=3600, description="a webhook that only fails for so long is switched off; so is one that answers 410, at once")
    ] = 5 * 86400
    keep_s: Annotated[int, Meta(ge=86400, description="how long the log of deliveries is kept, and may be replayed")] = 30 * 86400
    max_per_tenant: Annotated[int, Meta(ge=1, le=1000, description="webhooks of one tenant")] = 20
    ca_file: Annotated[str, Meta(description="PEM file of authorities that are trusted instead of the system's")] = ""


class Settings(Section, frozen=True):
    """All options."""

    database: Database = Database()
    secrets: Secrets = Secrets()
    http: Http = Http()
    https: Https = Https()
    smtp: Smtp = Smtp()
    smtps: Smtps = Smtps()
    tls: Tls = Tls()
    acme: Acme = Acme()
    egress: Egress = Egress()
    relays: dict[str, Relay] = msgspec.field(default_factory=dict)
    sources: dict[str, SourceAddress] = msgspec.field(default_factory=dict)
    pools: dict[str, SourcePool] = msgspec.field(default_factory=dict)
    shaping: dict[str, SiteLimits] = msgspec.field(default_factory=dict)
    dns: Dns = Dns()
    sites: Sites = Sites()
    bounce_messages: BounceMessages = BounceMessages()
    tls_policy: TlsPolicy = TlsPolicy()
    tls_reports: TlsReports = TlsReports()
    watch: Watch = Watch()
    routing: Routing = Routing()
    routes: dict[str, RouteRule] = msgspec.field(default_factory=dict)
    retry: Retry = Retry()
    webhooks: Webhooks = Webhooks()
    inbound: Inbound = Inbound()
    feedback: Feedback = Feedback()
    limits: Limits = Limits()
    rates: Rates = Rates()
    admission: Admission = Admission()
    screening: Screening = Screening()
    scanning: Scanning = Scanning()
    log: Log = Log()
    workers: Workers = Workers()
    dashboard: Dashboard = Dashboard()
    oidc: Oidc = Oidc()
    oauth: OAuth = OAuth()

"""Options of the way out: roads, relays, sources and pools, shaping, DNS, TLS, watching, routing, retries."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gatepost.settings.section import Section


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


class RelaySuppressions(Section, frozen=True):
    """The provider's own suppression list, kept in step with ours; Mailjet and smarthosts have none that can be read."""

    pull: Annotated[
        bool, Meta(description="addresses that the provider takes no mail for are suppressed here for the tenants who mailed them that way")
    ] = False
    push: Annotated[
        list[Literal["bounces", "complaints", "unsubscribes"]],
        Meta(
            description="what the provider is told, where its API takes it: most lists are the whole account's, and then no tenant's mail"
            " goes to these addresses by this relay"
        ),
    ] = msgspec.field(default_factory=list)
    remove: Annotated[bool, Meta(description="what a person lifts here is taken off the provider's list, too")] = False
    follow_removals: Annotated[
        bool,
        Meta(
            description="what came from the provider's list is lifted here when a reading of the whole list has it no more; never what"
            " our own mail, or a person, says. Needs pull"
        ),
    ] = False
    every_s: Annotated[
        int, Meta(ge=60, le=604_800, description="how often; a list that can only be read as a whole is read every six hours at most")
    ] = 3600
    tenants: Annotated[list[str], Meta(description="names or ids of tenants whom the account is for; empty is everybody")] = msgspec.field(
        default_factory=list
    )

    @property
    def is_wanted(self) -> bool:
        """Whether anything is done at all."""
        return self.pull or bool(self.push) or self.remove


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
    suppressions: RelaySuppressions = RelaySuppressions()


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


class Dkim(Section, frozen=True):
    """Keys of senders' domains."""

    algorithms: Annotated[
        list[Literal["rsa-sha256", "ed25519-sha256"]],
        Meta(
            min_length=1,
            description="what new keys are for, one key and one DNS record each: every key signs every message",
        ),
    ] = msgspec.field(default_factory=lambda: ["rsa-sha256", "ed25519-sha256"])


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
    silence_s: Annotated[
        float,
        Meta(
            ge=0,
            le=600,
            description="how long a relay may say nothing, or all deliveries to it hang, before mail that was not handed over yet takes its"
            " next road, where that is open; 0 waits as long as RFC 5321 §4.5.3.2 asks",
        ),
    ] = 2.0
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

"""
Every option once: name, type, default and help.

The example file, the documentation and `gatepost settings` are made from these.
Not here: where values come from (loading), what no type can say of them (checks).
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gatepost.settings.delivery import (
    BounceMessages,
    Dkim,
    Dns,
    Egress,
    Relay,
    Retry,
    RouteRule,
    Routing,
    SiteLimits,
    Sites,
    SourceAddress,
    SourcePool,
    TlsPolicy,
    TlsReports,
    Watch,
)
from gatepost.settings.doors import Acme, Database, Http, Https, Secrets, Smtp, Smtps, Tls
from gatepost.settings.mailboxes import Mailbox, Placement, Seed
from gatepost.settings.section import Section
from gatepost.settings.stats import Stats
from gatepost.settings.telling import Deliverability, Reports, Unusual
from gatepost.settings.tracking import Tracking

Strictness = Literal["off", "warn", "refuse"]
OnFailure = Literal["open", "closed"]


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
    keep_cores: Annotated[bool, Meta(description="each process keeps its loop to one core, where there are as many of both")] = True
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
    keep_days: Annotated[
        int, Meta(ge=1, le=3650, description="how long what led to nothing is kept for a person to look at; the newest 500 of each kind")
    ] = 30


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
    keep_reports_days: Annotated[int, Meta(ge=7, le=3650, description="how long DMARC and TLS reports of senders' domains are kept")] = 92
    keep_ended_days: Annotated[int, Meta(ge=1, le=3650, description="how long a suppression is still listed after it ended")] = 30
    keep_lifted_days: Annotated[
        int,
        Meta(
            ge=30,
            le=3650,
            description="how long it is remembered that a person lifted a suppression after a provider's list last said the opposite",
        ),
    ] = 180


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
    dkim: Dkim = Dkim()
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
    tracking: Tracking = Tracking()
    mailboxes: dict[str, Mailbox] = msgspec.field(default_factory=dict)
    seeds: dict[str, Seed] = msgspec.field(default_factory=dict)
    placement: Placement = Placement()
    stats: Stats = Stats()
    deliverability: Deliverability = Deliverability()
    unusual: Unusual = Unusual()
    reports: Reports = Reports()
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

"""
The parts of the house, made from the settings; nothing is opened or connected yet.

Not here: how they are put together (door, dispatch).
"""

import re
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gatepost.bounce_messages import BounceMessages
from gatepost.clock import Clock
from gatepost.domain import route as routes
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.egress.courier import Courier
from gatepost.net.dns import DnsResolver
from gatepost.net.valkey import Valkey
from gatepost.policy.notify import NotifyRules
from gatepost.policy.sites import InvalidSites, Sites
from gatepost.policy.sites import load as load_sites
from gatepost.policy.suppressing import SuppressRules
from gatepost.settings import InvalidSettings, Loaded, Relay, Settings
from gatepost.store.blobs import Blobs, LocalBlobs
from gatepost.store.engine import Engine
from gatepost.suppressing import Suppressing
from gatepost.tenants.directory import Directory
from gatepost.tenants.domains import Domains
from gatepost.tenants.limits import Limits

if TYPE_CHECKING:
    from gatepost.app.tls import OutgoingTls
    from gatepost.egress.pacing import Ledger
    from gatepost.screening.screener import Screener, StandingSource

_HOSTNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def create_blobs(loaded: Loaded) -> Blobs:
    """Make the store of large contents."""
    return LocalBlobs(loaded.data_dir / "blobs")


def create_limits(settings: Settings, engine: Engine, clock: Clock) -> Limits:
    """
    Make what counts limits.

    Raises:
        InvalidSettings: `rates.valkey_url` has no valid value.
    """
    rates = settings.rates
    try:
        valkey = Valkey(rates.valkey_url, rates.valkey_timeout_s) if rates.valkey_url else None
    except ValueError as error:
        raise InvalidSettings(f"rates.valkey_url: {error}") from error
    return Limits(engine, clock, settings, valkey)


def create_resolver(settings: Settings, clock: Clock) -> DnsResolver:
    """
    Make the resolver.

    Raises:
        InvalidSettings: `dns.server` is not an address with a port.
    """
    try:
        return DnsResolver(
            server=settings.dns.server, timeout_s=settings.dns.timeout_s, clock=clock, use_ipv6=settings.egress.use_ipv6,
            trust_ad=settings.dns.trust_ad,
        )  # fmt: skip
    except ValueError as error:
        raise InvalidSettings(f"dns.server: {error}") from error


def create_domains(loaded: Loaded, engine: Engine, clock: Clock, directory: Directory | None = None) -> Domains:
    """
    Make the register of senders' domains.

    Raises:
        InvalidSettings: `dns.server` is not an address with a port.
    """
    settings = with_hostnames(loaded.settings)
    return Domains(
        engine, clock, create_resolver(settings, clock), directory, hostname=settings.egress.hostname, algorithms=settings.dkim.algorithms
    )


def create_screener(settings: Settings, directory: Directory, clock: Clock, standings: "StandingSource | None" = None) -> "Screener":
    """
    Make the rules on content and recipients.

    Args:
        standings: Knows the domains whose signatures cannot be verified; None knows none.

    Raises:
        InvalidSettings: A scanner's address, a list's file or `dns.server` cannot be used.
    """
    from gatepost.screening.screener import Screener  # noqa: PLC0415

    resolver = create_resolver(settings, clock)
    try:
        return Screener(settings=settings, policies=directory, resolver=resolver, clock=clock, standings=standings)
    except ValueError as error:
        raise InvalidSettings(str(error)) from error


def with_hostnames(settings: Settings) -> Settings:
    """Fill in this machine's name where no name is given; DNS is not asked, since a start must not wait for it."""
    name = socket.gethostname()
    name = name if _HOSTNAME.fullmatch(name) else "localhost"
    return msgspec.structs.replace(
        settings,
        smtp=msgspec.structs.replace(settings.smtp, hostname=settings.smtp.hostname or name),
        egress=msgspec.structs.replace(settings.egress, hostname=settings.egress.hostname or name),
    )


def listen_address(name: str, text: str) -> tuple[str, int]:
    """
    Read `host:port`.

    Raises:
        InvalidSettings: It is something else; the message names the option.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise InvalidSettings(f"{name}: {text!r} is not host:port")
    return host.strip("[]"), int(port)


def create_bounce_messages(settings: Settings, blobs: Blobs) -> BounceMessages:
    """
    Make what tells senders by mail.

    Args:
        settings: With host names filled in.

    Raises:
        InvalidSettings: `bounce_messages.sender` is no address.
    """
    options = settings.bounce_messages
    try:
        sender = str(parse_address(options.sender)) if options.sender else ""
    except InvalidAddress as error:
        raise InvalidSettings(f"bounce_messages.sender: {error}") from error
    return BounceMessages(
        NotifyRules(default=frozenset(options.default), delay_ms=options.delay_after_s * 1000), blobs,
        hostname=settings.egress.hostname, sender=sender, full_bytes=options.full_bytes, lifetime_ms=settings.retry.max_age_s * 1000,
    )  # fmt: skip


def create_suppressing(settings: Settings) -> Suppressing:
    """Make what keeps the suppression list by what comes back."""
    return Suppressing(create_suppress_rules(settings))


def create_suppress_rules(settings: Settings) -> SuppressRules:
    """Read what the operator decided of the suppression list."""
    options = settings.feedback
    return SuppressRules(
        inactive_count=options.inactive_count, inactive_days=options.inactive_days, inactive_rest_days=options.inactive_rest_days,
        hard_days=options.hard_bounce_days, complaint_days=options.complaint_days, block_count=options.block_count,
        block_rest_ms=options.block_rest_s * 1000,
    )  # fmt: skip


def create_sites(settings: Settings) -> Sites:
    """
    Read the table of mail systems.

    Raises:
        InvalidSettings: `sites.file` cannot be used.
    """
    try:
        return load_sites(Path(settings.sites.file) if settings.sites.file else None)
    except InvalidSites as error:
        raise InvalidSettings(f"sites.file: {error}") from error


def create_couriers(
    settings: Settings, clock: Clock, ledger: "Ledger | None" = None, resolver: DnsResolver | None = None,
    outgoing: "OutgoingTls | None" = None,
) -> dict[str, Courier]:  # fmt: skip
    """
    Make one courier for each route.

    Args:
        settings: With host names filled in.
        ledger: Where the use of relays is kept; None keeps it in memory.
        resolver: The process's own; None makes one.
        outgoing: What domains ask of TLS; None heeds only what messages and relays ask for.

    Raises:
        InvalidSettings: A relay's URL or a name is not valid.
    """
    from gatepost.app.relays import create_relay  # noqa: PLC0415
    from gatepost.egress.sandbox import SandboxCourier  # noqa: PLC0415
    from gatepost.egress.smtp.courier import SmtpCourier  # noqa: PLC0415
    from gatepost.net.dial import SocketDialer  # noqa: PLC0415
    from gatepost.net.families import WatchingDialer  # noqa: PLC0415
    from gatepost.net.tls import ClientTls  # noqa: PLC0415

    resolver, tls = resolver or create_resolver(settings, clock), ClientTls()
    dialer = WatchingDialer(SocketDialer(settings.egress.source_address), resolver.families)

    def smtp(route: str, relay: Relay | None, secret: str = "") -> Courier:
        try:
            return SmtpCourier(
                route=route,
                settings=settings,
                relay=relay,
                resolver=resolver,
                dialer=dialer,
                clock=clock,
                hostname=settings.egress.hostname,
                tls=tls if outgoing is None or relay is not None else outgoing.contexts,
                secret=secret,
                policies=None if outgoing is None else outgoing.policies,
                results=None if outgoing is None else outgoing.results,
            )
        except ValueError as error:
            raise InvalidSettings(f"egress.hostname: {error}") from error

    couriers: dict[str, Courier] = {routes.SANDBOX: SandboxCourier(clock), routes.MX: smtp(routes.MX, None)}
    for name, relay in settings.relays.items():
        couriers[name] = create_relay(
            name, relay, settings, clock=clock, resolver=resolver, ledger=ledger, smtp=partial(smtp, name, relay)
        )  # fmt: skip
    return couriers

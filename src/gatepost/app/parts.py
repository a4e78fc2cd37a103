"""
The parts of the house, made from the settings; nothing is opened or connected yet.

Not here: how they are put together (door, dispatch).
"""

import re
import socket
from typing import TYPE_CHECKING

import msgspec

from gatepost.app.secrets import master_keys, unsealed
from gatepost.clock import Clock
from gatepost.domain import route as routes
from gatepost.egress.courier import Courier
from gatepost.net.dns import DnsResolver
from gatepost.net.valkey import Valkey
from gatepost.settings import InvalidSettings, Loaded, Relay, Settings
from gatepost.store import opening
from gatepost.store.blobs import Blobs, LocalBlobs
from gatepost.store.engine import Engine
from gatepost.tenants.directory import Directory
from gatepost.tenants.domains import Domains
from gatepost.tenants.limits import Limits

if TYPE_CHECKING:
    from gatepost.screening.screener import Screener

_HOSTNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def create_engine(loaded: Loaded) -> Engine:
    """
    Make the database engine that the settings ask for; nothing is opened yet.

    Raises:
        InvalidSettings: `database.url` is neither empty nor a PostgreSQL URL.
        LibraryTooOld: The SQLite library is not safe.
        MasterKeyRefused: The master key that the settings give is none.
    """
    database = unsealed(loaded).settings.database
    try:
        return opening.create_engine(database.url, loaded.data_dir, database.pool_size, master_keys(loaded))
    except ValueError as error:
        raise InvalidSettings(str(error)) from error


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
        return DnsResolver(server=settings.dns.server, timeout_s=settings.dns.timeout_s, clock=clock, use_ipv6=settings.egress.use_ipv6)
    except ValueError as error:
        raise InvalidSettings(f"dns.server: {error}") from error


def create_domains(loaded: Loaded, engine: Engine, clock: Clock, directory: Directory | None = None) -> Domains:
    """
    Make the register of senders' domains.

    Raises:
        InvalidSettings: `dns.server` is not an address with a port.
    """
    settings = with_hostnames(loaded.settings)
    return Domains(engine, clock, create_resolver(settings, clock), directory, hostname=settings.egress.hostname)


def create_screener(settings: Settings, directory: Directory, clock: Clock) -> "Screener":
    """
    Make the rules on content and recipients.

    Raises:
        InvalidSettings: A scanner's address, a list's file or `dns.server` cannot be used.
    """
    from gatepost.screening.screener import Screener  # noqa: PLC0415

    resolver = create_resolver(settings, clock)
    try:
        return Screener(settings=settings, policies=directory, resolver=resolver, clock=clock)
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


def create_couriers(settings: Settings, clock: Clock) -> dict[str, Courier]:
    """
    Make one courier for each route.

    Args:
        settings: With host names filled in.

    Raises:
        InvalidSettings: A relay's URL or a name is not valid.
    """
    from gatepost.egress.sandbox import SandboxCourier  # noqa: PLC0415
    from gatepost.egress.smtp.courier import SmtpCourier  # noqa: PLC0415
    from gatepost.net.dial import SocketDialer  # noqa: PLC0415
    from gatepost.net.tls import ClientTls  # noqa: PLC0415

    resolver, dialer, tls = create_resolver(settings, clock), SocketDialer(settings.egress.source_address), ClientTls()
    relays: dict[str, Relay | None] = {routes.MX: None, **settings.relays}
    couriers: dict[str, Courier] = {routes.SANDBOX: SandboxCourier(clock)}
    for route, relay in relays.items():
        try:
            couriers[route] = SmtpCourier(
                route=route,
                settings=settings,
                relay=relay,
                resolver=resolver,
                dialer=dialer,
                clock=clock,
                hostname=settings.egress.hostname,
                tls=tls,
            )
        except ValueError as error:
            raise InvalidSettings(f"egress.hostname: {error}") from error
    return couriers

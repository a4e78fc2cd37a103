"""
The parts of the house, made from the settings; nothing is opened or connected yet.

Not here: how they are put together (door, dispatch).
"""

import re
import socket
import ssl

import msgspec

from gatepost.clock import Clock
from gatepost.domain import route as routes
from gatepost.egress.courier import Courier
from gatepost.net.dns import DnsResolver
from gatepost.settings import InvalidSettings, Loaded, Relay, Settings
from gatepost.store import opening
from gatepost.store.blobs import Blobs, LocalBlobs
from gatepost.store.engine import Engine
from gatepost.tenants.directory import Directory
from gatepost.tenants.domains import Domains

_HOSTNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def create_engine(loaded: Loaded) -> Engine:
    """
    Make the database engine that the settings ask for; nothing is opened yet.

    Raises:
        InvalidSettings: `database.url` is neither empty nor a PostgreSQL URL.
        LibraryTooOld: The SQLite library is not safe.
    """
    database = loaded.settings.database
    try:
        return opening.create_engine(database.url, loaded.data_dir, database.pool_size)
    except ValueError as error:
        raise InvalidSettings(str(error)) from error


def create_blobs(loaded: Loaded) -> Blobs:
    """Make the store of large contents."""
    return LocalBlobs(loaded.data_dir / "blobs")


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


def server_tls(settings: Settings) -> ssl.SSLContext | None:
    """
    Load the certificate of the SMTP doors; None when there is none.

    Raises:
        InvalidSettings: The files cannot be read or do not belong together.
    """
    if not settings.tls.cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls.cert, settings.tls.key)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidSettings(f"tls.cert and tls.key: {error.strerror or error}") from error
    return context


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

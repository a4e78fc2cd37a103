"""
A door process: HTTP, SMTP, pages, and the housekeeping of the database.

Arrives: the settings. Leaves: accepted mail in the store, handed over to the dispatch processes.
While the database is away at the start, stand-ins answer: 503 and 421.
Not here: the doors themselves (http, smtpd, dashboard), processes and restarts (serve).
"""

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection

from gatepost.accept import Acceptor
from gatepost.accept.admission import AdmissionControl
from gatepost.accept.handing import Handing
from gatepost.app.base import DRAIN_S, REFRESH_S, Base, OnReady, create_base, open_patiently
from gatepost.app.encryption import create_certificates, keep_certificates
from gatepost.app.inbound import Inbound, create_inbound
from gatepost.app.listening import StandIns, address_of, bind
from gatepost.app.parts import create_limits, create_resolver, create_screener, listen_address
from gatepost.app.pressure import EVERY_S, Sampler, create_admission
from gatepost.app.relay_probe import probe_relay
from gatepost.app.telling import tell_teams
from gatepost.app.tracking import create_tracking_desk
from gatepost.app.watching import Watched, create_watched
from gatepost.certificates.shelf import Shelf
from gatepost.clock import HOUR, Instant
from gatepost.control import Control
from gatepost.dispatch.resolving import Following
from gatepost.domain.message import RawSubmission
from gatepost.domain.tenant import Caller
from gatepost.http.app import create_app
from gatepost.http.deps import HttpDeps
from gatepost.http.encryption import Encryption
from gatepost.http.server import HttpDoor
from gatepost.http.tracking_hosts import TrackingHosts
from gatepost.ids import new
from gatepost.net.server_tls import HTTPS, SMTP, ServerCertificates
from gatepost.observe import maillog, metrics
from gatepost.placement.sending import PlacementTests
from gatepost.settings import Loaded, Settings
from gatepost.smtpd.door import SmtpDoor
from gatepost.store import opening, partitions
from gatepost.store.errors import StorageUnavailable
from gatepost.store.schema import REVISION
from gatepost.tenants import alignments as standings
from gatepost.tenants.identity import Identity, create_identity
from gatepost.tenants.limits import Limits
from gatepost.tenants.policies import Policies
from gatepost.tenants.routing import Routing
from gatepost.tracking.desk import TrackingDesk
from gatepost.upkeep.rollups import Rollups

_READY_TIMEOUT_S = 2.0
_ENCRYPTED = {"https": HTTPS, "smtps": SMTP}
"""Doors with TLS from the first byte."""
_USES_S = 30.0
"""How often it is written down when keys were used last."""


async def run_door(loaded: Loaded, stopping: asyncio.Event, on_ready: OnReady) -> None:
    """
    Run a door process until `stopping`: HTTP, SMTP, pages, housekeeping.

    Args:
        on_ready: Called once when the doors are open, with the address of each.

    Raises:
        CannotListen: An address is taken.
        InvalidSettings: An option has no valid value.
    """
    base = create_base(loaded)
    try:
        doors = _bind_doors(base.settings)
        certificates = create_certificates(base.loaded, base.clock)
        tenant_id = await _open_behind_stand_ins(base, doors, certificates, stopping)
        if tenant_id is not None:
            await _serve_doors(base, doors, certificates, tenant_id, stopping, on_ready)
    finally:
        await base.close()


def _bind_doors(settings: Settings) -> dict[str, socket.socket]:
    doors = {}
    for name in ("http", "https", "smtp", "smtps", "inbound"):
        text = getattr(settings, name).listen
        if text:
            doors[name] = bind(f"{name}.listen", *listen_address(f"{name}.listen", text))
    return doors


async def _open_behind_stand_ins(
    base: Base, doors: dict[str, socket.socket], certificates: ServerCertificates | None, stopping: asyncio.Event
) -> str | None:
    stand_ins = StandIns(base.settings.smtp.hostname)
    for name, sock in doors.items():
        tls = certificates.context(_ENCRYPTED[name]) if certificates is not None and name in _ENCRYPTED else None
        await (stand_ins.start_http if name.startswith("http") else stand_ins.start_smtp)(sock, tls)
    try:
        return await open_patiently(base, stopping)
    finally:
        await stand_ins.close()


async def _serve_doors(
    base: Base,
    doors: dict[str, socket.socket],
    certificates: ServerCertificates | None,
    tenant_id: str,
    stopping: asyncio.Event,
    on_ready: OnReady,
) -> None:
    admission = create_admission(base)
    limits = create_limits(base.settings, base.engine, base.clock)
    following = Following(base.engine, base.clock)
    routing = Routing(base.engine, base.directory, base.settings, base.clock, system_of=following.system_of)
    await _refresh(routing)
    alignments = standings.Alignments(base.engine)
    acceptor = Acceptor(
        engine=base.engine, blobs=base.blobs, directory=base.directory, settings=base.settings, clock=base.clock,
        hostname=base.settings.egress.hostname, handing=Handing(base.bell), admission=admission,
        screening=create_screener(base.settings, base.directory, base.clock, alignments), limits=limits, node=socket.gethostname(),
        system_of=following.system_of, routing=routing,
    )  # fmt: skip
    sampler = Sampler(admission, acceptor, base.loaded.data_dir, base.clock)
    identity = create_identity(base.engine, base.directory, base.clock, base.settings)
    listening = {name: address_of(sock) for name, sock in doors.items()}
    tls = certificates.context(SMTP) if certificates is not None else None
    smtp = SmtpDoor(
        base.settings, tls, _Submitting(acceptor, limits), identity.authenticator,
        on_event=tell_smtp_event, clock=base.clock, admission=admission,
    )  # fmt: skip
    watched = create_watched(base.settings, base.engine, base.clock, base.directory)
    inbound = await create_inbound(base)
    tracking = await create_tracking_desk(base)
    app = _create_http(base, acceptor, admission, identity, limits, watched, routing, inbound, tracking, tenant_id, stopping)
    http = _open_http(base, doors, certificates, app, admission)
    if http is not None:
        await http.start()
    for name in ("smtp", "smtps"):
        if name in doors:
            await smtp.start_on(doors[name], implicit_tls=name == "smtps")
    if certificates is not None:
        keep_certificates(base, certificates)
    _follow(base, routing, following, limits, identity)
    base.repeat("pressure", EVERY_S, sampler.step)
    watch = watched.watch(base.engine, base.clock, base.settings, f"{socket.gethostname()}:{os.getpid()}")
    base.repeat("alignments", standings.EVERY_S, alignments.refresh)
    base.repeat("watch domains", REFRESH_S, watch.step)
    base.repeat("rollups", base.settings.stats.fold_every_s, Rollups(base.engine, base.clock, base.settings.stats, new("node")).step)
    if base.settings.tls_reports.sender:
        from gatepost.app.tls_reports import send_tls_reports  # noqa: PLC0415 - most gateways send none

        send_tls_reports(base, acceptor, create_resolver(base.settings, base.clock))
    stop_telling = tell_teams(base, acceptor, watched.domains)
    base.repeat("upkeep", HOUR / 1000, lambda: base.engine.write(lambda conn: _keep_up(conn, base.settings, base.clock.now())))
    await inbound.open(base, doors.get("inbound"), tls, admission)
    on_ready(listening)
    await stopping.wait()
    maillog.lifecycle("stopping")
    await asyncio.gather(smtp.close(DRAIN_S - 5), inbound.close(DRAIN_S - 5), *([http.stop()] if http is not None else []))
    await asyncio.gather(acceptor.drain(), tracking.drain())
    await limits.close()
    with contextlib.suppress(StorageUnavailable):
        await identity.authenticator.write_uses(base.engine)
        await watch.close()
        await stop_telling()


def _follow(base: Base, routing: Routing, following: Following, limits: Limits, identity: Identity) -> None:
    """Keep up with what other processes write, and write down what this one counted."""
    base.repeat("refresh", REFRESH_S, base.directory.refresh)
    base.repeat("routes", REFRESH_S, routing.refresh)
    base.repeat("mail systems", REFRESH_S, following.step)
    base.repeat("refresh limits", REFRESH_S, limits.refresh)
    base.repeat("limits", REFRESH_S, limits.step)
    base.repeat("tokens", REFRESH_S, identity.refresh)
    base.repeat("last use", _USES_S, lambda: identity.authenticator.write_uses(base.engine))


async def _refresh(routing: Routing) -> None:
    """Know the rules before the first message comes, if the database answers."""
    with contextlib.suppress(StorageUnavailable):
        await routing.refresh()


@dataclass(frozen=True, slots=True)
class _Stored:
    message_id: str


@dataclass(frozen=True, slots=True)
class _Submitting:
    """The acceptor as the SMTP door knows it."""

    acceptor: Acceptor
    limits: Limits

    async def submit_raw(self, caller: Caller, submission: RawSubmission) -> _Stored:
        """Store a message, which is a request as one over HTTP is; see `Acceptor.submit_raw`."""
        await self.limits.count_request(caller)
        return _Stored((await self.acceptor.submit_raw(caller, submission)).id)


def _open_http(
    base: Base, doors: dict[str, socket.socket], certificates: ServerCertificates | None, app: Any, admission: AdmissionControl
) -> HttpDoor | None:
    """Make the HTTP door for its one or two sockets."""
    if "http" not in doors and "https" not in doors:
        return None
    tls = (doors["https"], certificates.context(HTTPS)) if certificates is not None and "https" in doors else None
    https_port = doors["https"].getsockname()[1] if "https" in doors else 0
    hosts = base.settings.tracking.names
    behind = Encryption(TrackingHosts(app, hosts) if hosts else app, base.settings, https_port, Shelf(base.loaded.data_dir).find_answer)
    return HttpDoor(behind, base.settings, doors.get("http"), tls, admission)


def _create_http(
    base: Base, acceptor: Acceptor, admission: AdmissionControl, identity: Identity, limits: Limits, watched: Watched, routing: Routing,
    inbound: Inbound, tracking: TrackingDesk, tenant_id: str, stopping: asyncio.Event,
) -> Any:  # fmt: skip

    async def is_ready() -> list[str]:
        return ["stopping"] if stopping.is_set() else [*admission.problems(), *await _problems(base)]

    return create_app(
        HttpDeps(
            engine=base.engine,
            blobs=base.blobs,
            acceptor=acceptor,
            control=Control(base.engine, base.settings, base.clock, base.bell.ring),
            directory=base.directory,
            identity=identity,
            policies=Policies(base.engine, base.clock, base.settings.screening, base.directory),
            domains=watched.register,
            domain_health=watched.domains,
            settings=base.settings,
            clock=base.clock,
            default_tenant_id=tenant_id,
            is_ready=is_ready,
            limits=limits,
            routing=routing,
            hooks=inbound.hooks,
            tracking=tracking,
            probe_relay=partial(probe_relay, base.settings, base.clock),
            placement=_create_placement(base, acceptor),
        )
    )


def _create_placement(base: Base, acceptor: Acceptor) -> PlacementTests | None:
    if not base.settings.seeds:
        return None
    from gatepost.app.imap import create_placement  # noqa: PLC0415 - most gateways have no seeds

    return create_placement(base, acceptor)


async def _problems(base: Base) -> list[str]:
    """Say what keeps a door from taking mail."""
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            revision = await base.engine.read(opening.current_revision)
    except (StorageUnavailable, TimeoutError):
        return ["the database cannot be used"]
    return [] if revision == REVISION else ["the database's schema is another release's"]


def _keep_up(conn: Connection, settings: Settings, now: Instant) -> None:
    from gatepost.upkeep import retention  # noqa: PLC0415 - an hour later is early enough

    retention.forget(conn, settings, now)
    partitions.create_ahead(conn, now)


_SMTP_SECURITY = {
    "smtp_authentication_failed": "key_refused",
    "smtp_connection_refused": "connection_refused",
    "smtp_tls_failed": "tls_failed",
}


def tell_smtp_event(name: str, /, **fields: Any) -> None:
    """Write what happens at the SMTP door into the mail log."""
    if name == "smtp_refused":
        metrics.requests_refused.labels("smtp", fields["code"]).inc()
        if fields["code"] != "overloaded":  # those are counted; a line for each would be one more load
            maillog.refused(source="smtp", **fields)
    elif name == "smtp_failed":
        maillog.trouble("the SMTP door failed", **fields)
    elif name in _SMTP_SECURITY:
        maillog.security(_SMTP_SECURITY[name], source="smtp", **fields)

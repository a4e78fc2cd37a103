"""
A door process: HTTP, SMTP, pages, and the housekeeping of the database.

Arrives: the settings. Leaves: accepted mail in the store, and a ring of the bell for the dispatch processes.
While the database is away at the start, stand-ins answer: 503 and 421.
Not here: the doors themselves (http, smtpd, dashboard), processes and restarts (serve).
"""

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from gatepost.accept import Acceptor
from gatepost.app.base import DRAIN_S, REFRESH_S, Base, OnReady, create_base, open_patiently
from gatepost.app.listening import StandIns, address_of, bind
from gatepost.app.parts import create_resolver, listen_address, server_tls
from gatepost.clock import HOUR, Instant
from gatepost.control import Control
from gatepost.domain.message import RawSubmission
from gatepost.domain.tenant import Caller
from gatepost.http.app import create_app
from gatepost.http.deps import HttpDeps
from gatepost.http.server import HttpDoor
from gatepost.observe import maillog, metrics
from gatepost.settings import InvalidSettings, Loaded, Settings
from gatepost.smtpd.door import SmtpDoor
from gatepost.store import idempotency, opening, partitions
from gatepost.store.errors import StorageUnavailable
from gatepost.store.schema import REVISION
from gatepost.tenants.domains import Domains

_READY_TIMEOUT_S = 2.0


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
        tls = server_tls(base.settings)
        if "smtps" in doors and tls is None:
            raise InvalidSettings("smtps.listen: needs a certificate, set tls.cert and tls.key")
        tenant_id = await _open_behind_stand_ins(base, doors, stopping)
        if tenant_id is not None:
            await _serve_doors(base, doors, tls, tenant_id, stopping, on_ready)
    finally:
        await base.close()


def _bind_doors(settings: Settings) -> dict[str, socket.socket]:
    doors = {}
    for name in ("http", "smtp", "smtps"):
        text = getattr(settings, name).listen
        if text:
            doors[name] = bind(f"{name}.listen", *listen_address(f"{name}.listen", text))
    return doors


async def _open_behind_stand_ins(base: Base, doors: dict[str, socket.socket], stopping: asyncio.Event) -> str | None:
    stand_ins = StandIns(base.settings.smtp.hostname)
    if "http" in doors:
        await stand_ins.start_http(doors["http"])
    if "smtp" in doors:
        await stand_ins.start_smtp(doors["smtp"])
    try:
        return await open_patiently(base, stopping)
    finally:
        await stand_ins.close()


async def _serve_doors(
    base: Base, doors: dict[str, socket.socket], tls: ssl.SSLContext | None, tenant_id: str, stopping: asyncio.Event, on_ready: OnReady
) -> None:
    acceptor = Acceptor(
        engine=base.engine, blobs=base.blobs, directory=base.directory, settings=base.settings, clock=base.clock,
        hostname=base.settings.egress.hostname, on_committed=base.bell.ring,
    )  # fmt: skip
    listening = {name: address_of(sock) for name, sock in doors.items()}
    smtp = SmtpDoor(base.settings, tls, _Submitting(acceptor), base.directory, on_event=tell_smtp_event, clock=base.clock)
    http = HttpDoor(_create_http(base, acceptor, tenant_id, stopping), base.settings, doors["http"]) if "http" in doors else None
    if http is not None:
        await http.start()
    for name in ("smtp", "smtps"):
        if name in doors:
            await smtp.start_on(doors[name], implicit_tls=name == "smtps")
    base.repeat("refresh", REFRESH_S, base.directory.refresh)
    base.repeat("upkeep", HOUR / 1000, lambda: base.engine.write(lambda conn: _keep_up(conn, base.clock.now())))
    on_ready(listening)
    await stopping.wait()
    maillog.lifecycle("stopping")
    await asyncio.gather(smtp.close(DRAIN_S - 5), *([http.stop()] if http is not None else []))
    await acceptor.drain()


@dataclass(frozen=True, slots=True)
class _Stored:
    message_id: str


@dataclass(frozen=True, slots=True)
class _Submitting:
    """The acceptor as the SMTP door knows it."""

    acceptor: Acceptor

    async def submit_raw(self, caller: Caller, submission: RawSubmission) -> _Stored:
        """Store a message; see `Acceptor.submit_raw`."""
        return _Stored((await self.acceptor.submit_raw(caller, submission)).id)


def _create_http(base: Base, acceptor: Acceptor, tenant_id: str, stopping: asyncio.Event) -> Any:

    async def is_ready() -> list[str]:
        return ["stopping"] if stopping.is_set() else await _problems(base)

    return create_app(
        HttpDeps(
            engine=base.engine,
            blobs=base.blobs,
            acceptor=acceptor,
            control=Control(base.engine, base.settings, base.clock, base.bell.ring),
            directory=base.directory,
            domains=Domains(
                base.engine, base.clock, create_resolver(base.settings, base.clock), base.directory, hostname=base.settings.egress.hostname
            ),
            settings=base.settings,
            clock=base.clock,
            default_tenant_id=tenant_id,
            is_ready=is_ready,
        )
    )


async def _problems(base: Base) -> list[str]:
    """Say what keeps a door from taking mail."""
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            revision = await base.engine.read(opening.current_revision)
    except (StorageUnavailable, TimeoutError):
        return ["the database cannot be used"]
    return [] if revision == REVISION else ["the database's schema is another release's"]


def _keep_up(conn: Connection, now: Instant) -> None:
    idempotency.purge(conn, now)
    partitions.create_ahead(conn, now)


_SMTP_SECURITY = {
    "smtp_authentication_failed": "login failed",
    "smtp_connection_refused": "connection refused",
    "smtp_tls_failed": "TLS failed",
}


def tell_smtp_event(name: str, /, **fields: Any) -> None:
    """Write what happens at the SMTP door into the mail log."""
    if name == "smtp_refused":
        metrics.requests_refused.labels("smtp", fields["code"]).inc()
        maillog.refused(source="smtp", **fields)
    elif name == "smtp_failed":
        maillog.trouble("the SMTP door failed", **fields)
    elif name in _SMTP_SECURITY:
        maillog.security(_SMTP_SECURITY[name], source="smtp", **fields)

"""
What comes back, in a door process: the listener for return paths and complaints, and the loop that works on it.

Arrives: the settings, a socket. Leaves: an open door; statements settled. Each door process looks for work, whatever it listens to.
Not here: the rules of the door (returns.listening), the loop (returns.loop).
"""

import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from gatepost.accept.admission import AdmissionControl
from gatepost.app.base import Base
from gatepost.app.parts import create_bounce_messages, create_resolver, create_suppressing
from gatepost.net.http_client import HttpClient, HttpFault, HttpRequest
from gatepost.observe import maillog
from gatepost.returns.hooks.desk import HookDesk, create_hooks
from gatepost.returns.listening import Listening
from gatepost.returns.loop import FeedbackLoop, Reader
from gatepost.returns.mail import MailReader
from gatepost.settings import InvalidSettings, Settings
from gatepost.smtpd.door import SmtpDoor
from gatepost.store import sealing
from gatepost.wire.return_path import ReturnPaths

if TYPE_CHECKING:
    from gatepost.returns.relay_lists.loop import RelayListLoop

EVERY_S = 0.5
"""How often it is looked whether something came."""
_RECIPIENTS = 20
_FETCH_S = 10.0
_MOST_FETCHED = 64 * 1024


async def create_return_paths(base: Base) -> ReturnPaths | None:
    """
    Make what return paths are made with; None while the settings name no domain for them.

    Raises:
        StorageUnavailable: The key cannot be read.
    """
    options = base.settings.inbound
    if not options.bounce_domain:
        return None
    key = await base.engine.write(_key)
    return ReturnPaths(key=key, domain=options.bounce_domain, by_sender=options.return_paths, days=options.token_days)


def _key(conn: Connection) -> bytes:
    """Derive the key from the database's own: every process has the same, and without the master key nobody has it."""
    return sealing.keyring_of(conn).hash(conn, b"gatepost return paths")


@dataclass(slots=True)
class Inbound:
    """
    What comes back, in one process.

    Attributes:
        hooks: Takes relays' hooks.
    """

    hooks: HookDesk
    paths: ReturnPaths | None
    client: HttpClient
    door: SmtpDoor | None = None
    lists: "RelayListLoop | None" = None

    async def open(self, base: Base, sock: socket.socket | None, tls: ssl.SSLContext | None, admission: AdmissionControl) -> None:
        """Open the listener, where there is one, and begin to work on what comes."""
        paths = self.paths
        readers: dict[str, Reader] = {"hook": self.hooks.read}
        if paths is not None:
            readers["mail"] = MailReader(base.engine, paths).read
        senders = create_bounce_messages(base.settings, base.blobs)
        loop = FeedbackLoop(base.engine, base.clock, create_suppressing(base.settings), readers, senders)
        base.repeat("what comes back", EVERY_S, loop.step)
        if base.settings.mailboxes:
            from gatepost.app.imap import read_mailboxes  # noqa: PLC0415 - most gateways have none

            read_mailboxes(base)
        if any(relay.suppressions.is_wanted for relay in base.settings.relays.values()):
            from gatepost.app.relay_lists import keep_relay_lists  # noqa: PLC0415 - most gateways do without

            self.lists = keep_relay_lists(base)
        if sock is None or paths is None:
            return
        listening = Listening(base.engine, base.clock, paths, per_minute=base.settings.inbound.messages_per_minute)
        self.door = SmtpDoor(
            _door_settings(base.settings), tls, listening, listening, on_event=_tell, clock=base.clock, admission=admission,
            why_not_to=listening.why_not_to, offers_auth=False,
        )  # fmt: skip
        await self.door.start_on(sock)

    async def close(self, drain_s: float) -> None:
        """Stop listening; see `SmtpDoor.close`."""
        if self.door is not None:
            await self.door.close(drain_s)
        if self.lists is not None:
            await self.lists.close()
        await self.client.close()


async def create_inbound(base: Base) -> Inbound:
    """
    Make what takes and works on what comes back; nothing is open yet.

    Raises:
        InvalidSettings: A relay's hook has no valid value.
        StorageUnavailable: The key of return paths cannot be read.
    """
    resolver = create_resolver(base.settings, base.clock)
    client = HttpClient(timeout_s=_FETCH_S, max_bytes=_MOST_FETCHED, connections=2, resolver=resolver)

    async def fetch(url: str) -> bytes:
        try:
            answer = await client.ask(HttpRequest(method="GET", url=url, headers={"Accept": "*/*"}))
        except HttpFault as error:
            raise OSError(str(error)) from error
        if answer.status != 200:
            raise OSError(f"it answered {answer.status}")
        return answer.body

    try:
        hooks = create_hooks(base.settings.relays, fetch)
    except ValueError as error:
        raise InvalidSettings(str(error)) from error
    return Inbound(HookDesk(base.engine, base.clock, hooks), await create_return_paths(base), client)


def _door_settings(settings: Settings) -> Settings:
    """Write the listener's options where an SMTP door looks for them."""
    options = settings.inbound
    smtp = msgspec.structs.replace(
        settings.smtp, max_connections=options.max_connections, max_connections_per_peer=options.max_connections_per_peer,
        command_timeout_s=options.timeout_s, data_timeout_s=options.timeout_s,
    )  # fmt: skip
    limits = msgspec.structs.replace(settings.limits, message_bytes=options.message_bytes, recipients=_RECIPIENTS)
    return msgspec.structs.replace(settings, smtp=smtp, limits=limits)


def _tell(name: str, /, **fields: object) -> None:
    """Write what happens at the door into the mail log."""
    if name in {"smtp_connection_refused", "smtp_tls_failed"}:
        maillog.security("connection_refused" if name == "smtp_connection_refused" else "tls_failed", source="inbound", **fields)
    elif name == "smtp_failed":
        maillog.trouble("the inbound listener failed", **fields)
    elif name == "smtp_refused" and fields.get("code") != "overloaded":
        maillog.refused(source="inbound", **fields)

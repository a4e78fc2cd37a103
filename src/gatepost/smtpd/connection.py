"""
One client's connection: glue between a transport, the server machine and the acceptor.

Arrives: bytes from the transport; the machine's events.
Leaves: bytes to the transport; a `RawSubmission` per message.
Standards: RFC 3207 §4.2 (nothing from before TLS counts), RFC 5321 §4.5.3.2.7 (timeouts), §3.8 (421).
Not here: any rule of the dialogue (wire.smtp_server) or of acceptance (accept).
Bugs: a key that is revoked while its connection is open is refused with its next message, not before.
"""

import asyncio
import math
import ssl
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, assert_never, cast

from gatepost import ids
from gatepost.domain.errors import Refused
from gatepost.domain.message import RawSubmission, Steering
from gatepost.domain.tenant import Caller
from gatepost.net.peer import Peer, parse_peer
from gatepost.smtpd.inside_tls import InsideTls
from gatepost.smtpd.ports import Proof
from gatepost.wire.proxy_protocol import read_proxy_header
from gatepost.wire.smtp_reply import format_reply
from gatepost.wire.smtp_server import SmtpServer
from gatepost.wire.smtp_server_dialogue import Phase
from gatepost.wire.smtp_server_events import Authenticate, Closed, CloseReason, MessageReceived, ServerEvent, StartTls

if TYPE_CHECKING:
    from gatepost.smtpd.door import SmtpDoor

HANDSHAKE_S: Final = 30.0
"""Time for a TLS handshake."""
_LINGER_S: Final = 10.0
_PROXY_S: Final = 5.0
_MAX_WAITING_BYTES: Final = 65_536
"""Input that may pile up behind a message that is being accepted; beyond it the client is not read from."""
_MAX_AUTH_DELAY_S: Final = 5.0
_MAX_LIMITS_HIT: Final = 10
"""Messages in a row that a limit refused, after which the connection ends."""


class SmtpConnection(asyncio.Protocol):
    """
    One connection.

    Attributes:
        deadline_s: On the door's monotonic clock; `time_out` is due then.
        entered_s: On the same clock; when it was let in.
    """

    def __init__(self, door: "SmtpDoor") -> None:
        self._door = door
        self._proof: Proof | None = None
        self._principal_id: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._auth_failures = 0
        self._limits_hit = 0
        self._has_entered = False
        self._has_client_ended = False
        self._is_lost = False
        self._is_closing = False
        self._is_output_full = False
        self._is_paused = False
        self._is_resting = False
        self._progress = -1
        self._held_bytes = 0
        self._submitted_bytes = 0
        self._early: bytes | None = None
        self._proxy_timer: asyncio.TimerHandle | None = None
        self.deadline_s = math.inf
        self.entered_s = 0.0

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client or refuse the connection; with implicit TLS the handshake is done."""
        self._transport = cast("asyncio.Transport", transport)
        try:
            self._peer: Peer = parse_peer(transport.get_extra_info("peername")[0])
        except (TypeError, ValueError):  # gone already
            self._is_lost = True
            self._transport.abort()
            return
        if self._door.is_proxy(self._peer):
            self._early = b""
            self._proxy_timer = asyncio.get_running_loop().call_later(_PROXY_S, self._transport.abort)
        else:
            self._enter()

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the machine; while it waits for an answer they pile up, to a bound."""
        if self._is_lost:
            return
        if self._early is not None:
            self._read_proxy_header(self._early + data)
            return
        self._machine.feed(data)
        if self._task is None:
            self._advance()
        elif self._machine.buffered_bytes > _MAX_WAITING_BYTES:
            self._update_reading()
        self._account()

    def eof_received(self) -> bool:
        """Close; but a client that only shut down its sending side still gets the answer to its message."""
        self._has_client_ended = True
        return self._early is None and self._task is not None and not self._machine.is_tls

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client. A message that is being accepted is accepted all the same; the client will not know."""
        self._is_lost = True
        if self._proxy_timer is not None:
            self._proxy_timer.cancel()
        if self._task is None and self._has_entered:
            self._leave()

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read our replies."""
        self._is_output_full = True
        self._update_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._is_output_full = False
        self._update_reading()

    # What the door calls

    def time_out(self) -> None:
        """End the dialogue with 421; cut the connection when it does not end."""
        if self._is_closing or self._machine.phase is Phase.HANDSHAKE:
            self.cut()
        elif self._task is None:
            self._machine.time_out()
            self._advance()

    def drain(self) -> None:
        """End the dialogue with 421, now or after the message in progress."""
        if self._task is None and not self._machine.is_in_transaction:
            self._machine.shut_down()
            self._advance()

    def cut(self) -> None:
        """Close at once; what was not sent is lost."""
        if not self._is_lost:
            self._transport.abort()

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""
        return self._peer

    @property
    def is_stranger(self) -> bool:
        """True while it has not shown that it may send mail: the first to go when places run out."""
        return not self._is_closing and not self._machine.is_authenticated

    # The dialogue

    def _read_proxy_header(self, data: bytes) -> None:
        """Learn from a trusted proxy who the client is, before anything is said or counted."""
        try:
            header = read_proxy_header(data)
            if header is None:
                self._early = data
                return
            if header.client is not None:
                self._peer = parse_peer(header.client)
        except ValueError:
            self._door.on_event("smtp_connection_refused", peer=self._peer.name, reason="no PROXY header")
            self.cut()
            return
        assert self._proxy_timer is not None
        self._proxy_timer.cancel()
        self._early = None
        self._enter()
        if len(data) > header.size_bytes:
            self.data_received(data[header.size_bytes :])

    def _enter(self) -> None:
        reply = self._door.enter(self, self._peer)
        if reply is not None:
            self._turn_away(*reply)
            return
        self._has_entered = True
        self.entered_s = self._door.clock.monotonic()
        self._begin()

    def _begin(self) -> None:
        is_trusted = self._door.authenticator.trusted(self._peer.name) is not None
        is_tls = self._transport.get_extra_info("sslcontext") is not None
        self._machine = SmtpServer(
            self._door.options,
            offers_starttls=self._door.offers_tls and not is_tls,
            is_tls=is_tls,
            is_authenticated=is_trusted,
            requires_tls=not self._peer.is_loopback,
        )
        self._machine.why_not_now = self._door.why_not_now
        self._machine.why_not_to = self._door.why_not_to
        # Until it may send mail a client has one command's time in all: small talk wins nothing.
        self._anonymous_until_s = self._door.clock.monotonic() + self._door.settings.command_timeout_s
        self._advance()

    def _turn_away(self, enhanced: str, text: str) -> None:
        self._is_lost = True
        self._transport.write(format_reply(421, enhanced, text))
        self._transport.close()

    def _leave(self) -> None:
        self._submitted_bytes = 0
        self._door.bodies.hold(self._held_bytes, 0)
        self._held_bytes = 0
        self._door.leave(self, self._peer)

    def _account(self) -> None:
        """Tell how much is held of what the client sent; too much ends the dialogue."""
        held_bytes = self._machine.held_bytes + self._submitted_bytes
        before_bytes, self._held_bytes = self._held_bytes, held_bytes
        if not self._door.bodies.hold(before_bytes, held_bytes) and self._task is None:
            self._machine.give_up(self._door.refusal_text("bodies"))
            self._advance()
            self._account()

    def _advance(self) -> None:
        """Let the machine go on, send its replies in one write, and start the clock anew."""
        while (event := self._machine.next_event()) is not None:
            self._handle(event)
        self._flush()
        if self._is_closing:
            self._transport.close()
        elif self._machine.progress != self._progress:
            self._renew_deadline()

    def _flush(self) -> None:
        output = self._machine.take_output()
        if output and not self._is_lost:
            self._transport.write(output)

    def _handle(self, event: ServerEvent) -> None:
        match event:
            case MessageReceived():
                self._submitted_bytes = len(event.content)
                self._await_answer(self._submit(event))
            case Authenticate():
                self._await_answer(self._authenticate(event))
            case StartTls():
                self._flush()
                self._transport.pause_reading()
                self._await_answer(self._shake_hands())
            case Closed():
                self._close(event.reason)
            case _:
                assert_never(event)

    def _close(self, reason: CloseReason) -> None:
        self._is_closing = True
        self.deadline_s = self._door.clock.monotonic() + _LINGER_S
        if reason is not CloseReason.QUIT:
            self._door.on_event("smtp_closed", peer=self._peer.name, reason=reason.value)

    def _renew_deadline(self) -> None:
        self._progress = self._machine.progress
        if self._task is not None:
            self.deadline_s = math.inf
            return
        settings = self._door.settings
        timeout_s = settings.data_timeout_s if self._machine.is_receiving else settings.command_timeout_s
        deadline_s = self._door.clock.monotonic() + timeout_s
        self.deadline_s = deadline_s if self._machine.is_authenticated else min(deadline_s, self._anonymous_until_s)

    def _update_reading(self) -> None:
        is_waiting = self._task is not None and self._machine.buffered_bytes > _MAX_WAITING_BYTES
        must_pause = self._is_output_full or is_waiting or self._is_resting
        if must_pause == self._is_paused or self._is_lost or self._is_closing:
            return
        self._is_paused = must_pause
        if must_pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _rest(self) -> None:
        """Do not listen for a moment: more comes than can be taken."""
        if not self._is_resting:
            self._is_resting = True
            self._door.rest(self._end_rest)

    def _end_rest(self) -> None:
        self._is_resting = False
        self._update_reading()

    # Answers

    def _await_answer(self, answer: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(answer)

    def _answered(self) -> None:
        """Go on after an answer was given to the machine."""
        self._task = None
        self._submitted_bytes = 0
        if self._is_lost:
            self._leave()
            return
        if self._door.is_draining and not self._machine.is_in_transaction:
            self._machine.shut_down()
        self._advance()
        self._account()
        self._update_reading()
        if self._has_client_ended and self._task is None:
            self._transport.close()

    async def _submit(self, message: MessageReceived) -> None:
        request_id = ids.new("req")
        try:
            message_id = await self._accept(message, request_id)
        except Refused as refused:
            self._refuse(refused, request_id)
        except Exception as error:  # noqa: BLE001 - whatever breaks inside, the client gets an answer
            self._door.on_event("smtp_failed", peer=self._peer.name, request_id=request_id, error=type(error).__name__)
            self._machine.refuse(451, "4.3.0", "Something went wrong here; try again later")
        else:
            self._limits_hit = 0
            self._machine.accept_message(message_id)
        self._answered()

    async def _accept(self, message: MessageReceived, request_id: str) -> str:
        proof = self._proof or self._door.authenticator.trusted(self._peer.name)
        if proof is None:  # it was trusted when it came
            raise Refused("authentication_required", "This network is no longer trusted")
        principal = self._door.authenticator.check(proof, self._peer.name)  # it may have been revoked since
        self._principal_id = principal.id
        accepted = await self._door.acceptor.submit_raw(
            Caller(principal=principal, peer=self._peer.name, request_id=request_id),
            RawSubmission(
                envelope_from=message.envelope_from,
                recipients=message.recipients,
                content=message.content,
                ret=message.ret,
                envid=message.envid,
                steering=Steering(requires_tls=message.requires_tls, needs_requiretls=message.requires_tls),
            ),
        )
        return accepted.message_id

    def _refuse(self, refused: Refused, request_id: str) -> None:
        code, _, enhanced = refused.kind.smtp.partition(" ")
        self._door.on_event(
            "smtp_refused",
            peer=self._peer.name,
            key_id=self._principal_id,
            request_id=request_id,
            code=refused.code,
            smtp=refused.kind.smtp,
        )
        self._limits_hit = self._limits_hit + 1 if refused.kind.smtp == "452 4.7.1" else 0
        if self._limits_hit < _MAX_LIMITS_HIT:
            self._machine.refuse(int(code), enhanced, words_of(refused))
        else:
            self._machine.throttle("A limit was reached again and again; try later")
        if refused.code == "overloaded":
            self._rest()

    async def _authenticate(self, credentials: Authenticate) -> None:
        door = self._door
        is_locked = door.auth_throttle.is_locked(self._peer, door.clock.monotonic())
        refused = None
        try:
            if not is_locked:
                await self._prove(credentials.secret)
        except Refused as refusal:
            refused = refusal
        except Exception as error:  # noqa: BLE001 - whatever breaks inside, the client gets an answer
            door.on_event("smtp_failed", peer=self._peer.name, request_id=None, error=type(error).__name__)
            self._machine.refuse(454, "4.7.0", "Authentication is not possible now")
            self._answered()
            return
        if refused is None and not is_locked:
            self._machine.accept_authentication()
        else:
            await self._refuse_authentication(refused)
        self._answered()

    async def _prove(self, secret: str) -> None:
        proof = await self._door.authenticator.prove(secret)
        principal = self._door.authenticator.check(proof, self._peer.name)
        self._proof, self._principal_id = proof, principal.id
        self._door.on_event("smtp_authenticated", peer=self._peer.name, key_id=principal.id)

    async def _refuse_authentication(self, refused: Refused | None) -> None:
        """Refuse slowly; None when the peer is locked out, and what it showed was not looked at."""
        door = self._door
        code = refused.code if refused is not None else None
        who = getattr(refused, "principal_id", None)
        door.on_event("smtp_authentication_failed", peer=self._peer.name, is_locked=refused is None, code=code, key_id=who)
        if code == "authentication_failed":
            door.auth_throttle.failed(self._peer, door.clock.monotonic())
        await door.clock.sleep(min(_MAX_AUTH_DELAY_S, door.auth_delay_s * 2**self._auth_failures))
        self._auth_failures += 1
        if refused is None:
            self._machine.refuse(454, "4.7.0", "Too many failed authentications; try again later")
        elif code == "authentication_failed":
            self._machine.refuse(535, "5.7.8", "The key or token is not valid; the password must be an API key")
        else:
            smtp_code, _, enhanced = refused.kind.smtp.partition(" ")
            self._machine.refuse(int(smtp_code), enhanced, words_of(refused))

    # TLS

    async def _shake_hands(self) -> None:
        context = self._door.ssl_context
        assert context is not None
        inside = InsideTls(self)
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self._transport, inside, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )
        except (OSError, ssl.SSLError) as error:  # timeouts and lost connections are OSErrors
            self._tls_failed(type(error).__name__)
            return
        if transport is None:
            self._tls_failed("closed")
            return
        self._transport = transport
        self._tls_started(inside)

    def _tls_started(self, inside: InsideTls) -> None:
        self._machine.tls_started()
        self._proof = self._principal_id = None
        early = inside.open()
        if early:
            self._machine.feed(early)
        self._answered()

    def _tls_failed(self, error: str) -> None:
        self._door.on_event("smtp_tls_failed", peer=self._peer.name, error=error)
        self._task = None
        self.cut()
        self.connection_lost(None)


def words_of(refused: Refused) -> str:
    """Put a refusal in one line: the first fault with its place, or the detail, or the title."""
    if refused.faults:
        fault = refused.faults[0]
        return f"{fault.pointer}: {fault.detail}" if fault.pointer else fault.detail
    return refused.detail or refused.kind.title

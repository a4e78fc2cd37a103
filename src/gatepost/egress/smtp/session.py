"""
One SMTP connection: the socket and the clock around `wire.smtp_client`.

Arrives: bytes, the end of the connection, the passing of time; a batch to send.
Leaves: bytes; a future that is done when something can be done next. Verdicts are read from `client`.
Fast path: one future and two writes per transaction, no task switch per reply, and one timer that is moved only when it fires.
Standards: RFC 5321 §4.5.3.2 (timeouts), RFC 3207.
Not here: choosing hosts and reusing connections (pool, courier).
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import cast

from gatepost.egress.courier import Batch
from gatepost.egress.smtp.tls_policy import Proof
from gatepost.net.tls import ResumingContext, describe
from gatepost.wire.smtp_client import Phase, SmtpClient
from gatepost.wire.smtp_client_verdict import Stage

_TIMEOUTS_S: dict[Stage, float] = {
    Stage.CONNECT: 300,
    Stage.GREETING: 300,
    Stage.EHLO: 300,
    Stage.TLS: 120,
    Stage.AUTH: 300,
    Stage.RSET: 300,
    Stage.MAIL: 300,
    Stage.RCPT: 300,
    Stage.DATA: 120,
    Stage.CONTENT: 600,
    Stage.QUIT: 2,
}
_DATA_BLOCK_S = 180.0
_NEVER = float("inf")


def timeouts(scale: float) -> Mapping[Stage, float]:
    """Return seconds to wait for each reply (RFC 5321 §4.5.3.2), times `scale`."""
    return {stage: seconds * scale for stage, seconds in _TIMEOUTS_S.items()}


class Session(asyncio.Protocol):
    """
    One connection.

    Attributes:
        client: The protocol's state.
        host: Name of the host spoken to.
        site: Whose budget the connection counts in.
        transactions: Mails sent so far.
        idle_since: When it was last put aside, by the loop's clock.
        patience_s: Seconds to wait for an answer before content is sent, where that is less than the protocol's; None is the protocol's.
        proof: What it has shown, once it is ready for mail.
        ended: Done when the connection is closed.
    """

    def __init__(
        self, *, client: SmtpClient, host: str, site: str, timeouts_s: Mapping[Stage, float], data_block_s: float = _DATA_BLOCK_S
    ) -> None:
        """Wait for a connection."""
        self.client = client
        self.host = host
        self.site = site
        self.transactions = 0
        self.idle_since = 0.0
        self.patience_s: float | None = None
        self.peer: str | None = None
        self.tls: str | None = None
        self.proof = Proof(host=host)
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._waiter: asyncio.Future[None] | None = None
        self._timeouts_s = timeouts_s
        self._data_block_s = data_block_s
        self._deadline = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._is_write_paused = False
        self._unwritten = 0

    @property
    def is_usable(self) -> bool:
        """True when another mail may be sent."""
        # Content still on its way after its answer: the server may take what is left for commands.
        is_quiet = not self._is_write_paused and self.transport is not None and not self.transport.is_closing()
        return is_quiet and self.client.phase is Phase.READY

    # What the courier calls.

    def progress(self) -> asyncio.Future[None]:
        """Return a future that is done when the phase is HANDSHAKE, READY or CLOSED."""
        self._waiter = self._loop.create_future()
        if self.client.phase not in {Phase.NEGOTIATING, Phase.BUSY}:
            self._waiter.set_result(None)
        return self._waiter

    def transact(self, batch: Batch) -> asyncio.Future[None]:
        """Start sending; the future is done when `client.verdicts` are complete."""
        self.transactions += 1
        self.patience_s = batch.patience_s
        out = self.client.send(batch)
        if out and self.transport is not None:
            self.transport.write(out)
            self._arm(self._time_for(self.client.stage))
        return self.progress()

    def encrypted(self, transport: asyncio.Transport) -> asyncio.Future[None]:
        """Go on over TLS."""
        self._adopt(transport)
        transport.write(self.client.encrypted())
        self._arm(self._time_for(Stage.EHLO))
        return self.progress()

    def quit(self) -> None:
        """Say QUIT where that is possible, and close."""
        transport = self.transport
        if transport is None or self.ended.done():
            return
        if self.is_usable:
            transport.write(self.client.quit())
            self._arm(self._timeouts_s[Stage.QUIT])
        else:
            self.abort("closed by us")

    def abort(self, detail: str) -> None:
        """Cut the connection now."""
        self.client.lost(detail, is_all_sent=not self._is_write_paused)
        self._disarm()
        self._wake()
        if self.transport is not None:
            self.transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start waiting for the greeting."""
        self._adopt(cast("asyncio.Transport", transport))
        self.client.stage = Stage.GREETING
        self._arm(self._time_for(Stage.GREETING))

    def data_received(self, data: bytes) -> None:
        """Let the client answer."""
        transport = self.transport
        if transport is None:
            return
        client = self.client
        if client.stage is Stage.QUIT:
            return  # the server closes after its answer; until then it counts the connection, and so do we
        out = client.receive(data)
        if out:
            transport.write(out)
        if client.phase is Phase.BUSY or client.phase is Phase.NEGOTIATING:
            self._arm(self._data_block_s if self._is_write_paused else self._time_for(client.stage))
        else:
            self._deadline = _NEVER
            self._wake()
            if client.phase is Phase.CLOSED:
                transport.close()

    def pause_writing(self) -> None:
        """Note that bytes of ours wait in a buffer."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """Note that everything went out: now the server has its time for the final dot."""
        self._is_write_paused = False
        self._unwritten = 0
        if self.client.stage is Stage.CONTENT:
            self._arm(self._timeouts_s[Stage.CONTENT])

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the client, and whoever waits."""
        # While bytes of ours were waiting, the final dot cannot have arrived: then nothing was delivered.
        detail = "the connection was closed by the server" if exc is None else f"the connection broke: {str(exc) or type(exc).__name__}"
        self.client.lost(detail, is_all_sent=not self._is_write_paused)
        self._disarm()
        self._wake()
        if not self.ended.done():
            self.ended.set_result(None)

    # Inner matters.

    def _adopt(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=1, low=0)  # so that a pause means: not everything is out
        self._is_write_paused = False
        name = transport.get_extra_info("peername")
        if name is not None and self.peer is None:
            self.peer = f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
        self.tls = describe(transport.get_extra_info("ssl_object"))

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _time_for(self, stage: Stage) -> float:
        """Say how long an answer may take: once the content is out, nobody but the server knows, and it has all its time."""
        seconds, patience_s = self._timeouts_s[stage], self.patience_s
        return seconds if patience_s is None or stage is Stage.CONTENT else min(seconds, patience_s)

    def _arm(self, seconds: float) -> None:
        """Set the deadline; the timer that is already running finds it when it fires, so most deadlines cost nothing."""
        self._deadline = deadline = self._loop.time() + seconds
        timer = self._timer
        if timer is not None:
            if timer.when() <= deadline:
                return
            timer.cancel()
        self._timer = self._loop.call_at(deadline, self._on_timer)

    def _disarm(self) -> None:
        self._deadline = _NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        if self._deadline == _NEVER:
            return
        if self._deadline > self._loop.time():
            self._timer = self._loop.call_at(self._deadline, self._on_timer)
        elif self._is_moving():
            self._arm(self._data_block_s)
        else:
            self.abort(f"timed out waiting for the answer to {self.client.stage.upper()}")

    def _is_moving(self) -> bool:
        """True when a long content still flows: each block has its own time (RFC 5321 §4.5.3.2.5)."""
        if not self._is_write_paused or self.transport is None:
            return False
        before, self._unwritten = self._unwritten, self.transport.get_write_buffer_size()
        return before == 0 or self._unwritten < before


def remember_tls(session: Session, context: ssl.SSLContext | None) -> None:
    """Keep a session's TLS ticket, so that the next connection to the same name starts cheaper."""
    if isinstance(context, ResumingContext) and session.transport is not None and session.tls is not None:
        context.remember(session.transport.get_extra_info("ssl_object"))

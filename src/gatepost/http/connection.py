"""
One connection of the HTTP door: uvicorn's protocol, with bounds on what it may cost.

Arrives: bytes. Leaves: requests for the application; or a refusal before one is begun, as early as it can be known.
uvicorn knows no limit on the time that a request takes to arrive, nor on the size of its header, nor on how many requests
may wait behind one another, nor on memory: all four are added here, so that a client that sends a byte now and then is
cut off (slowloris) and an endless header ends early.
Standards: RFC 9112 §3.2 (one Host), §6.3 (one length), §9.6 (closing so that the answer is read), RFC 9110 §15.6.4 (503).
Not here: what all connections share (gate), what is served (app).
Bugs: the framing of messages is llhttp's judgement, as strict as it comes.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gatepost import ids
from gatepost.domain.errors import Refused
from gatepost.http import problems
from gatepost.http.exchange import IS_SHED
from gatepost.http.gate import Gate
from gatepost.observe import maillog, metrics

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_PIPELINED: Final = 32
"""Requests that may wait behind the one that is being answered; each costs memory before anybody looked at it."""

_REASONS = {400: b"Bad Request", 413: b"Content Too Large", 503: b"Service Unavailable"}
_LINGER_S: Final = 2.0


class _Stop(Exception):  # noqa: N818
    """Ends the parser: the request was refused."""


class Connection(HttpToolsProtocol):
    """
    One connection with a clock.

    Attributes:
        gate: Set by a subclass for each door.
    """

    gate: Gate

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timeout_s = self.gate.settings.header_timeout_s
        self._least_bytes = self.gate.settings.min_bytes_per_s * self._timeout_s
        self._deadline: asyncio.TimerHandle | None = None
        self._reader_deadline: asyncio.TimerHandle | None = None
        self._is_arriving = True
        self._is_in_head = True
        self._is_refused = False
        self._head_bytes = 0
        self._body_bytes = 0
        self._held_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock, or send the connection away when there are too many."""
        super().connection_made(transport)
        refusal = self.gate.enter(self, str(self.client[0]) if self.client else "")
        if refusal is not None:
            self._refuse(refusal, may_linger=False)
            return
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks, and give back what is held."""
        self._stop_clock()
        self._let_go()
        self.gate.leave(self)
        super().connection_lost(exc)
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; keep the clock going while a request is on its way."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_arriving = True
        super().data_received(data)
        if self._is_refused or self.transport.is_closing():
            return
        if not self._is_arriving:
            self._stop_clock()
            return
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(Refused("malformed_request", f"the header has more than {MAX_HEAD_BYTES} bytes"))
                return
        if self._deadline is None:
            self._start_clock()

    def on_message_begin(self) -> None:
        """Note that a request starts."""
        self._is_arriving = self._is_in_head = True
        self._head_bytes = self._body_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Look at the head, and refuse the request here if it will be: before its body is read and before anything is begun."""
        self._is_in_head = False
        refusal = self._judge_head()
        if refusal is not None:
            self._refuse(refusal)
            raise _Stop
        self.gate.works(self)
        self.gate.proxies.resolve(self.scope)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count what arrives."""
        self._body_bytes += len(body)
        if not self.cycle.response_complete:
            before_bytes, self._held_bytes = self._held_bytes, self._held_bytes + len(body)
            refusal = self.gate.may_grow(self.cycle.scope["path"], before_bytes, self._held_bytes)
            if refusal is not None:
                self._refuse(refusal)
                raise _Stop
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a request is here as a whole."""
        self._is_arriving, self._is_in_head, self._head_bytes = False, True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Let go of what was answered; what came in behind it is held on."""
        if self.pipeline:
            super().on_response_complete()
            return
        self._let_go()
        self.gate.idles(self)
        super().on_response_complete()
        if IS_SHED in self.cycle.scope and not self.transport.is_closing():
            self.flow.pause_reading()
            self.gate.admission.rest(self.flow.resume_reading)

    def pause_writing(self) -> None:
        """Watch a client that does not read its answer as fast as it is written."""
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Stop watching."""
        super().resume_writing()
        if self._reader_deadline is not None:
            self._reader_deadline.cancel()
            self._reader_deadline = None

    def cut(self) -> None:
        """Close at once: others need the place more."""
        self.transport.abort()

    def shutdown(self) -> None:
        """End when what is under way is answered; an answer without end, such as a stream of events, is cut."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP with a problem like any other."""
        self._refuse(Refused("malformed_request", "this is not valid HTTP/1.1"))

    def _judge_head(self) -> Refused | None:
        if len(self.pipeline) >= MAX_PIPELINED:
            return Refused("malformed_request", f"more than {MAX_PIPELINED} requests were sent ahead of their answers")
        length: int | None = 0
        hosts = 0
        for name, value in self.headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                length = None
            elif name == b"host":
                hosts += 1
        if hosts != 1 and (hosts > 1 or self.parser.get_http_version() == "1.1"):
            return Refused("malformed_request", "a request has one Host header (RFC 9112 section 3.2)")
        return self.gate.refusal_of(self.url.decode("latin-1"), length)

    def _refuse(self, refusal: Refused, *, may_linger: bool = True) -> None:
        self._stop_clock()
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        identity, status = ids.new("req"), refusal.kind.status
        if status != 503:  # those are counted; a line for each would be one more load
            maillog.refused(source="http", code=refusal.code, request_id=identity, peer=str(self.client[0]) if self.client else "")
        metrics.requests_refused.labels("http", refusal.code).inc()
        if self._may_answer():
            body = problems.body_of(refusal, "/", identity)
            head = [b"HTTP/1.1 %d %s" % (status, _REASONS[status]), b"content-length: %d" % len(body), b"connection: close"]
            headers = [(b"content-type", problems.CONTENT_TYPE), (b"request-id", identity.encode()), *problems.headers_of(refusal)]
            head += [name + b": " + value for name, value in headers]
            self.transport.write(b"\r\n".join(head) + b"\r\n\r\n" + body)
        self._abandon()
        if may_linger:
            self._linger()
        else:
            self.transport.close()

    def _may_answer(self) -> bool:
        """Tell whether no other answer is under way that this one would run into."""
        return self.cycle is None or self.cycle.response_complete or not (self.pipeline or self.cycle.response_started)

    def _abandon(self) -> None:
        """Tell the application that its request is gone, and let go of it."""
        self._let_go()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _linger(self) -> None:
        """Close the sending side, and throw away what arrives for a while: a reset would take the answer out of the client's hands."""
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline = self.loop.call_later(_LINGER_S, self.transport.close)

    def _let_go(self) -> None:
        self.gate.bodies.hold(self._held_bytes, 0)
        self._held_bytes = 0

    def _start_clock(self) -> None:
        self._deadline = self.loop.call_later(self._timeout_s, self._on_deadline, self._body_bytes)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _watch_reader(self, unread: int) -> None:
        self._reader_deadline = self.loop.call_later(self._timeout_s, self._on_reader_deadline, unread)

    def _on_reader_deadline(self, unread_before: int) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread_before - unread >= self._least_bytes:
            self._watch_reader(unread)
        else:
            self.transport.abort()

    def _on_deadline(self, bytes_before: int) -> None:
        self._deadline = None
        is_waiting_for_us = self.flow is not None and self.flow.read_paused
        if not self._is_in_head and (is_waiting_for_us or self._body_bytes - bytes_before >= self._least_bytes):
            self._start_clock()
            return
        self.transport.abort()

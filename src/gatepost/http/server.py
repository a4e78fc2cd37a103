"""
The sockets of the HTTP door: uvicorn inside the running loop, with bounds on what a connection may cost.

uvicorn knows no limit on the time that a request takes to arrive, nor on the size of its header: both are added to its
protocol here, so that a client that sends a byte now and then is cut off (slowloris) and an endless header ends early.
Standards: RFC 9112. Proxies are not believed: the peer is who the connection comes from.
Not here: what is served (app).
Bugs: uvicorn's own limit on time between requests is the same setting, `http.header_timeout_s`.
"""

import asyncio
import contextlib
import logging
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gatepost import ids
from gatepost.domain.errors import Refused
from gatepost.http import problems
from gatepost.observe import maillog, metrics
from gatepost.settings import Settings

MAX_HEAD_BYTES = 64 * 1024
MIN_BODY_BYTES_PER_S = 4 * 1024
"""A body that arrives, or an answer that is read, more slowly than this is cut off when the time is over."""

_REASONS = {400: b"Bad Request", 413: b"Content Too Large", 503: b"Service Unavailable"}
_DRAIN_S = 30


class BoundedProtocol(HttpToolsProtocol):
    """
    One connection with a clock.

    Attributes:
        header_timeout_s: Time for a whole request to arrive; a body that keeps coming gets as much again, and so does an
            answer that keeps being read.
        max_connections: Connections at once.
    """

    header_timeout_s: float = 30
    max_connections: int = 2_000

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._reader_deadline: asyncio.TimerHandle | None = None
        self._is_arriving = True
        self._is_in_head = True
        self._head_bytes = 0
        self._body_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock, or send the connection away when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(Refused("overloaded", "too many connections are open", retry_after_s=1))
            return
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop_clock()
        super().connection_lost(exc)
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; keep the clock going while a request is on its way."""
        if self.transport.is_closing():
            return
        self._is_arriving = True
        super().data_received(data)
        if self.transport.is_closing():
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
        """Note that the header is here."""
        self._is_in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count what arrives."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a request is here as a whole."""
        self._is_arriving, self._is_in_head, self._head_bytes = False, True, 0
        super().on_message_complete()

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

    def shutdown(self) -> None:
        """End when what is under way is answered; an answer without end, such as a stream of events, is cut."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP with a problem like any other."""
        self._refuse(Refused("malformed_request", "this is not valid HTTP/1.1"))

    def _refuse(self, refusal: Refused) -> None:
        self._stop_clock()
        if self.transport.is_closing():
            return
        identity, status = ids.new("req"), refusal.kind.status
        peer = str(self.client[0]) if self.client else ""
        maillog.refused(source="http", code=refusal.code, request_id=identity, peer=peer)
        metrics.requests_refused.labels("http", refusal.code).inc()
        body = problems.body_of(refusal, "/", identity)
        head = [b"HTTP/1.1 %d %s" % (status, _REASONS[status]), b"content-length: %d" % len(body), b"connection: close"]
        headers = [(b"content-type", problems.CONTENT_TYPE), (b"request-id", identity.encode()), *problems.headers_of(refusal)]
        head += [name + b": " + value for name, value in headers]
        if self.cycle is None or self.cycle.response_complete:  # else an answer is under way, and this would run into it
            self.transport.write(b"\r\n".join(head) + b"\r\n\r\n" + body)
        self.transport.close()

    def _start_clock(self) -> None:
        self._deadline = self.loop.call_later(self.header_timeout_s, self._on_deadline, self._body_bytes)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _watch_reader(self, unread: int) -> None:
        self._reader_deadline = self.loop.call_later(self.header_timeout_s, self._on_reader_deadline, unread)

    def _on_reader_deadline(self, unread_before: int) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread_before - unread >= MIN_BODY_BYTES_PER_S * self.header_timeout_s:
            self._watch_reader(unread)
        else:
            self.transport.abort()

    def _on_deadline(self, bytes_before: int) -> None:
        self._deadline = None
        is_waiting_for_us = self.flow is not None and self.flow.read_paused
        if not self._is_in_head and (is_waiting_for_us or self._body_bytes - bytes_before >= MIN_BODY_BYTES_PER_S * self.header_timeout_s):
            self._start_clock()
            return
        self.transport.abort()


class _ToMaillog(logging.Handler):
    """Takes uvicorn's complaints to the mail log; what a client did wrong is told there already."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell what was logged as an error."""
        if record.exc_info and record.exc_info[1] is not None:
            maillog.crashed("http server", record.exc_info[1])
        else:
            maillog.trouble("http server", detail=record.getMessage()[:200])


def _adopt_log() -> None:
    log = logging.getLogger("uvicorn")
    log.propagate = False
    log.setLevel(logging.ERROR)
    log.handlers = [_ToMaillog()]
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: signals belong to the process, see `serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave signals alone."""
        yield


class HttpDoor:
    """The HTTP door of a process."""

    def __init__(self, app: Any, settings: Settings, sock: socket.socket | None = None) -> None:
        """
        Args:
            sock: A bound socket to listen on, instead of `http.listen`.
        """
        self._app = app
        self._settings = settings
        self._sock = sock
        self._task: asyncio.Task[None] | None = None
        self._server = _Server(_config(app, settings))

    @property
    def port(self) -> int:
        """The port that is listened on, once started."""
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    async def start(self) -> None:
        """
        Listen.

        Raises:
            OSError: The address cannot be listened on.
        """
        sock = self._sock or _bind(self._settings.http.listen)
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]), name="http-door")
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise OSError("the HTTP server ended while it started")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Take no more connections, answer what is under way for at most 30 seconds, close."""
        self._app.state.is_closing = True  # live streams end: an open page must not hold up the stop
        self._server.should_exit = True
        if self._task is not None:
            await self._task


def _config(app: Any, settings: Settings) -> uvicorn.Config:
    _adopt_log()
    http = settings.http
    bounds = {"header_timeout_s": http.header_timeout_s, "max_connections": http.max_connections}
    return uvicorn.Config(
        app,
        http=type("Protocol", (BoundedProtocol,), bounds),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=http.header_timeout_s,
        timeout_graceful_shutdown=_DRAIN_S,
        backlog=2048,
    )


def _bind(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, int(port)))
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock

"""
The sockets of the HTTP door: uvicorn inside the running loop.

Standards: RFC 9112.
Not here: what a connection may cost (connection, gate), what is served (app).
Bugs: uvicorn's own limit on time between requests is the same setting, `http.header_timeout_s`.
"""

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
from typing import Any, cast

import uvicorn

from gatepost.accept.admission import AdmissionControl
from gatepost.clock import SystemClock
from gatepost.http.connection import Connection
from gatepost.http.encryption import encrypted
from gatepost.http.gate import Gate
from gatepost.net.peer import ConnectionCaps
from gatepost.net.tls_listener import TlsListener
from gatepost.observe import maillog
from gatepost.settings import Settings

_DRAIN_S = 30
_HANDSHAKE_S = 10.0


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

    tls: tuple[socket.socket, ssl.SSLContext] | None = None
    """Where to listen with TLS besides."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; uvicorn itself would encrypt all sockets or none."""
        await super().startup(sockets)
        if self.tls is not None:
            sock, context = self.tls
            config = self.config
            make = encrypted(config.http_protocol_class)
            protocol = functools.partial(make, config=config, server_state=self.server_state, app_state=self.lifespan.state)
            limits, proxies = make.gate.settings, make.gate.proxies
            caps = ConnectionCaps(limits.max_connections, limits.max_connections_per_peer)
            sock.listen(config.backlog)
            listener = TlsListener(sock, protocol, context, caps, _HANDSHAKE_S, is_exempt=proxies.includes)
            self.servers.append(cast("asyncio.Server", listener))


class HttpDoor:
    """The HTTP door of a process."""

    def __init__(
        self,
        app: Any,
        settings: Settings,
        sock: socket.socket | None = None,
        tls: tuple[socket.socket, ssl.SSLContext] | None = None,
        admission: AdmissionControl | None = None,
    ) -> None:
        """
        Args:
            sock: A bound socket to listen on, instead of `http.listen`.
            tls: A bound socket to listen on with TLS, and its context.
            admission: Shared with the process's other doors; None shares nothing.
        """
        self._app = app
        self._settings = settings
        self._sock = sock
        self._task: asyncio.Task[None] | None = None
        admission = admission or AdmissionControl(settings.admission, SystemClock())
        self._server = _Server(_config(app, settings, Gate(settings.http, admission)))
        self._server.tls = tls

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
        sockets = [self._sock] if self._sock is not None else [_bind(self._settings.http.listen)] if self._settings.http.listen else []
        self._task = asyncio.create_task(self._server.serve(sockets=sockets), name="http-door")
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


def _config(app: Any, settings: Settings, gate: Gate) -> uvicorn.Config:
    _adopt_log()
    return uvicorn.Config(
        app,
        http=type("Protocol", (Connection,), {"gate": gate}),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=settings.http.header_timeout_s,
        timeout_graceful_shutdown=_DRAIN_S,
        backlog=2048,
    )


def _bind(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # see app.listening: connections inherit it
    try:
        sock.bind((host, int(port)))
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock

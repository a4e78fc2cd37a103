r"""
An SMTP server on loopback that does as a script says, and records every byte.

Arrives: a table of replies, per command, per recipient, and per occurrence. Leaves: a port, and what was received, raw.
It is not polite: it can cut connections, keep silent, answer nonsense, and answer late, at any command.

    async with ScriptedPeer({"RCPT": ["451 4.7.1 later", "250 ok"], ".": DROP}) as peer:
        ...
        assert peer.messages[0].content == b"..."

Keys are `GREETING`, a verb (`EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP QUIT`), `.` for the end of the content,
or `RCPT:ann@peer.test` for one recipient. A value is a reply, an action, or a list of them for the first, second, … time
(the last one repeats). Several lines are written with `\n`.
"""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from gatepost.domain.route import DEFAULT_SOURCE, Source
from gatepost.net.dial import SocketDialer

DEFAULT_EXTENSIONS = ("PIPELINING", "SIZE 33554432", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING")


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connection, after saying `reply` if there is one."""

    reply: str = ""
    is_reset: bool = False


@dataclass(frozen=True, slots=True)
class Silence:
    """Never answer, and keep the connection."""


@dataclass(frozen=True, slots=True)
class Late:
    """Answer after a while."""

    seconds: float
    reply: str


@dataclass(frozen=True, slots=True)
class Raw:
    """Write exactly these bytes."""

    data: bytes


Action = str | Drop | Silence | Late | Raw
Replies = Mapping[str, Action | Sequence[Action]]

DROP = Drop()
RESET = Drop(is_reset=True)
SILENCE = Silence()

_DEFAULTS: dict[str, str] = {
    "STARTTLS": "220 2.0.0 go ahead",
    "AUTH": "235 2.7.0 ok",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go ahead",
    ".": "250 2.0.0 ok: queued as 1",
    "BDAT": "250 2.0.0 ok: queued as 1",
    "RSET": "250 2.0.0 ok",
    "NOOP": "250 2.0.0 ok",
    "QUIT": "221 2.0.0 bye",
}


@dataclass(slots=True)
class ReceivedMessage:
    """One message whose end arrived; `raw` is the content as on the wire, `content` has the dots unstuffed."""

    mail: str
    recipients: list[str]
    raw: bytes

    @property
    def content(self) -> bytes:
        """The content without dot-stuffing."""
        body = self.raw.replace(b"\r\n..", b"\r\n.")
        return body[1:] if body.startswith(b"..") else body


@dataclass(slots=True)
class PeerConnection:
    """One connection: what was said on it by the client."""

    raw: bytearray = field(default_factory=bytearray)
    commands: list[str] = field(default_factory=list)
    is_encrypted: bool = False
    reads: list[bytes] = field(default_factory=list)


class _EndError(Exception):
    """The script ends the connection."""


class ScriptedPeer:
    """
    The server.

    Attributes:
        connections: Every connection, oldest first.
        messages: Every message whose end was received, whatever was answered.
        port: Where it listens, once started.
    """

    def __init__(
        self,
        replies: Replies | None = None,
        *,
        extensions: Sequence[str] = DEFAULT_EXTENSIONS,
        tls: ssl.SSLContext | None = None,
        is_implicit_tls: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """
        Set the script.

        Args:
            tls: Server context; STARTTLS is offered when it is given.
        """
        self.replies: dict[str, Action | Sequence[Action]] = dict(replies or {})
        self.extensions = [*extensions, *(["STARTTLS"] if tls and not is_implicit_tls else [])]
        self.connections: list[PeerConnection] = []
        self.messages: list[ReceivedMessage] = []
        self.host = host
        self.port = port
        self._tls = tls
        self._is_implicit_tls = is_implicit_tls
        self._server: asyncio.Server | None = None
        self._times: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def commands(self) -> list[str]:
        """Every command on every connection, without content."""
        return [command for connection in self.connections for command in connection.commands]

    async def start(self) -> None:
        """
        Listen.

        Raises:
            OSError: The port is taken.
        """
        tls = self._tls if self._is_implicit_tls else None
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=tls, limit=2**26)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and cut what is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        connection = PeerConnection(is_encrypted=self._is_implicit_tls)
        self.connections.append(connection)
        with contextlib.suppress(_EndError, OSError, asyncio.IncompleteReadError, asyncio.CancelledError, asyncio.LimitOverrunError):
            await self._converse(connection, reader, writer)
        with contextlib.suppress(OSError):
            writer.close()

    async def _converse(self, connection: PeerConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mail, recipients = "", list[str]()
        await self._say("GREETING", "220 peer.test ESMTP", writer)
        while True:
            line = await self._line(connection, reader)
            verb, _, rest = line.partition(" ")
            verb = verb.upper()
            connection.commands.append(line)
            if verb in {"EHLO", "HELO"}:
                await self._say(verb, self._hello(verb, connection), writer)
            elif verb == "STARTTLS":
                if await self._say(verb, _DEFAULTS[verb], writer) == 220 and self._tls is not None:
                    await writer.start_tls(self._tls)
                    connection.is_encrypted = True
            elif verb == "AUTH":
                await self._authenticate(connection, reader, writer)
            elif verb == "MAIL":
                mail, recipients = line, []
                await self._say(verb, _DEFAULTS[verb], writer)
            elif verb == "RCPT":
                address = rest[rest.find("<") + 1 : rest.rfind(">")]
                if await self._say(f"RCPT:{address}" if f"RCPT:{address}" in self.replies else verb, _DEFAULTS["RCPT"], writer) < 300:
                    recipients.append(address)
            elif verb == "DATA":
                if await self._say(verb, _DEFAULTS[verb], writer) == 354:
                    raw = await self._content(connection, reader)
                    self.messages.append(ReceivedMessage(mail, recipients, raw))
                    await self._say(".", _DEFAULTS["."], writer)
            elif verb == "BDAT":
                raw = await reader.readexactly(int(rest.split()[0]))
                connection.raw += raw
                self.messages.append(ReceivedMessage(mail, recipients, raw))
                await self._say(verb, _DEFAULTS[verb], writer)
            else:
                await self._say(verb, _DEFAULTS.get(verb, "502 5.5.1 unknown command"), writer)
                if verb == "QUIT":
                    return

    def _hello(self, verb: str, connection: PeerConnection) -> str:
        if verb == "HELO":
            return "250 peer.test"
        offered = [extension for extension in self.extensions if not (extension == "STARTTLS" and connection.is_encrypted)]
        lines = ["peer.test", *offered]
        return "\n".join(f"250{' ' if i == len(lines) - 1 else '-'}{line}" for i, line in enumerate(lines))

    async def _authenticate(self, connection: PeerConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if connection.commands[-1].upper() == "AUTH LOGIN":
            for prompt in ("334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"):
                writer.write(prompt.encode() + b"\r\n")
                connection.commands.append(await self._line(connection, reader))
        await self._say("AUTH", _DEFAULTS["AUTH"], writer)

    @staticmethod
    async def _line(connection: PeerConnection, reader: asyncio.StreamReader) -> str:
        line = await reader.readuntil(b"\r\n")
        connection.raw += line
        return line[:-2].decode("utf-8", "surrogateescape")

    @staticmethod
    async def _content(connection: PeerConnection, reader: asyncio.StreamReader) -> bytes:
        first = await reader.readexactly(3)
        raw = first if first == b".\r\n" else first + await reader.readuntil(b"\r\n.\r\n")
        connection.raw += raw
        return raw[:-3]

    async def _say(self, key: str, default: str, writer: asyncio.StreamWriter) -> int:
        """Do what the script has for a command; return the reply's code."""
        action = self._action(key, default)
        match action:
            case Silence():
                await asyncio.Event().wait()
            case Raw(data=data):
                writer.write(data)
                return int(data[:3]) if data[:3].isdigit() else 0
            case Late(seconds=seconds, reply=reply):
                await asyncio.sleep(seconds)
                action = reply
            case Drop(reply=reply, is_reset=is_reset):
                if reply:
                    writer.write(_encoded(reply))
                    await writer.drain()
                if is_reset:
                    writer.transport.abort()
                raise _EndError
        if not isinstance(action, str):
            raise TypeError(f"{action!r} is no action")
        writer.write(_encoded(action))
        return int(action[:3])

    def _action(self, key: str, default: str) -> Action:
        scripted = self.replies.get(key, default)
        if isinstance(scripted, str | Drop | Silence | Late | Raw):
            return scripted
        nth = self._times[key]
        self._times[key] += 1
        return scripted[min(nth, len(scripted) - 1)]


def _encoded(reply: str) -> bytes:
    return reply.replace("\n", "\r\n").encode() + b"\r\n"


class MappedDialer:
    """
    A dialer for tests: connections to addresses of the documentation ranges end at peers on loopback.

    Attributes:
        routes: Address, or `address:port`, to the port on 127.0.0.1. What is not in it is refused.
        dialled: Every address that was asked for, in order.
        sources: The name of the source of each.
    """

    def __init__(self, routes: Mapping[str, int]) -> None:
        """Set the map."""
        self.routes = dict(routes)
        self.dialled: list[str] = []
        self.sources: list[str] = []

    async def connect(
        self,
        factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        *,
        timeout_s: float,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        source: Source = DEFAULT_SOURCE,
    ) -> None:
        """
        Connect to the peer that stands for an address.

        Raises:
            OSError: There is none.
        """
        self.dialled.append(host)
        self.sources.append(source.name)
        local = self.routes.get(f"{host}:{port}", self.routes.get(host))
        if local is None:
            raise ConnectionRefusedError(111, "Connection refused")
        async with asyncio.timeout(timeout_s):
            loop = asyncio.get_running_loop()
            await loop.create_connection(factory, "127.0.0.1", local, ssl=tls, server_hostname=server_hostname if tls else None)

    async def start_tls(
        self, protocol: asyncio.Protocol, transport: asyncio.Transport, tls: ssl.SSLContext, *, server_hostname: str, timeout_s: float
    ) -> asyncio.Transport:
        """
        Encrypt as the real dialer does.

        Raises:
            OSError: The handshake failed.
        """
        return await SocketDialer().start_tls(protocol, transport, tls, server_hostname=server_hostname, timeout_s=timeout_s)

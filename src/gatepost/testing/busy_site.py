"""
A mail system that takes so much and no more: what is above is answered with 421, and counted.

Arrives: how many connections at once, messages a second and messages per connection it takes. Leaves: a port on loopback, and what came.
It is strict: a connection counts until its end was seen, and no second, wherever it begins, may hold too many messages.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from types import TracebackType
from typing import Self, cast


class BusySite:
    """
    The server.

    Attributes:
        accepted: When each message that was taken came, by `time`.
        too_many_connections: Connections above the limit.
        too_fast: Messages above the rate.
        too_long: Messages above the number that one connection may bring.
        most_connections: Open at once at most, those that were refused included.
        hellos: EHLO names, with how often each came.
        peers: Addresses that connections came from, likewise.
        most_recipients: Of one transaction.
    """

    def __init__(
        self,
        *,
        connections: int = 1_000_000,
        per_second: float = 1e9,
        per_connection: int = 1_000_000,
        latency_s: float = 0.0,
        host: str = "127.0.0.1",
        time: Callable[[], float] | None = None,
    ) -> None:
        """
        Set the limits; they may be changed later.

        Args:
            latency_s: How long the answer to a message takes.
            time: In seconds; None is the event loop's.
        """
        self.connections = connections
        self.per_second = per_second
        self.per_connection = per_connection
        self.latency_s = latency_s
        self.host = host
        self.port = 0
        self.accepted: list[float] = []
        self.too_many_connections = self.too_fast = self.too_long = 0
        self.open = self.most_connections = self.opened = self.most_recipients = 0
        self.hellos: Counter[str] = Counter()
        self.peers: Counter[str] = Counter()
        self._time = time
        self._lately: deque[float] = deque()
        self._server: asyncio.Server | None = None
        self.transports: set[asyncio.Transport] = set()

    @property
    def refused(self) -> int:
        """How often there was too much."""
        return self.too_many_connections + self.too_fast + self.too_long

    def now(self) -> float:
        """Return the time in seconds."""
        return self._time() if self._time is not None else asyncio.get_running_loop().time()

    def may_pass(self) -> bool:
        """Count a message, unless the second that ends now is full."""
        now = self.now()
        while self._lately and self._lately[0] <= now - 1:
            self._lately.popleft()
        if len(self._lately) + 1 > self.per_second:
            return False
        self._lately.append(now)
        return True

    def rate(self, since: float, until: float) -> float:
        """Return how many messages a second were taken between two times."""
        return sum(since <= at < until for at in self.accepted) / (until - since)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._server is not None:
            self._server.close()
        for transport in list(self.transports):
            transport.abort()
        await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    def __init__(self, site: BusySite) -> None:
        self.site = site
        self.buffer = b""
        self.is_data = self.is_over = False
        self.messages = self.recipients = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        site = self.site
        self.transport = found = cast("asyncio.Transport", transport)
        site.transports.add(found)
        site.open += 1
        site.opened += 1
        site.most_connections = max(site.most_connections, site.open)
        site.peers[transport.get_extra_info("peername")[0]] += 1
        if site.open > site.connections:
            site.too_many_connections += 1
            self.end("421 4.7.0 too many connections from your address")
        else:
            self.say("220 busy.test ESMTP")

    def connection_lost(self, exc: Exception | None) -> None:
        self.site.open -= 1
        if self.transport is not None:
            self.site.transports.discard(self.transport)

    def say(self, *lines: str) -> None:
        if self.transport is not None and not self.is_over:
            self.transport.write("".join(f"{line}\r\n" for line in lines).encode())

    def end(self, line: str) -> None:
        self.say(line)
        self.is_over = True
        if self.transport is not None:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while not self.is_over:
            mark = b"\r\n.\r\n" if self.is_data else b"\r\n"
            head, found, rest = self.buffer.partition(mark)
            if not found:
                return
            self.buffer = rest
            if self.is_data:
                self.is_data = False
                self.finish()
            else:
                self.obey(head.decode("latin-1"))

    def obey(self, line: str) -> None:
        site, verb = self.site, line[:4].upper()
        match verb:
            case "EHLO":
                site.hellos[line[5:]] += 1
                self.say("250-busy.test", "250-PIPELINING", "250-8BITMIME", "250-ENHANCEDSTATUSCODES", "250 SMTPUTF8")
            case "MAIL":
                self.mail()
            case "RCPT":
                self.recipients += 1
                site.most_recipients = max(site.most_recipients, self.recipients)
                self.say("250 2.1.5 ok")
            case "DATA":
                self.is_data = True
                self.say("354 go ahead")
            case "QUIT":
                self.end("221 2.0.0 bye")
            case _:
                self.say("250 2.0.0 ok")

    def mail(self) -> None:
        site = self.site
        self.recipients = 0
        self.messages += 1
        if self.messages > site.per_connection:
            site.too_long += 1
            self.end("421 4.7.0 too many messages in this connection")
        elif not site.may_pass():
            site.too_fast += 1
            self.end("421 4.7.0 too many messages, slow down")
        else:
            self.say("250 2.1.0 ok")

    def finish(self) -> None:
        site = self.site
        if site.latency_s:
            asyncio.get_running_loop().call_later(site.latency_s, self.take)
        else:
            self.take()

    def take(self) -> None:
        if not self.is_over:
            self.site.accepted.append(self.site.now())
            self.say("250 2.0.0 ok")

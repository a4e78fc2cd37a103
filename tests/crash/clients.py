"""
Clients that hand mail to a gateway that dies under them.

Each keeps what it was told: a message is accepted when its 202 or 250 arrived. One in two is sent with an idempotency key
and repeated until it is answered; the others are given up when the answer does not come, and may or may not arrive.
"""

import asyncio
import base64
import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from tests.crash.processes import SENDER_DOMAIN, Gateway

_ANSWER_S = 45.0
_LINE = "The quick brown fox jumps over the lazy dog, and again. 0123456789\n"
_NOT_NOW = frozenset({"409", "429", "503"})


class Cut(Exception):  # noqa: N818
    """The connection ended before the answer."""


class Refusal(Exception):  # noqa: N818
    """The answer was no: for now, or for good."""

    def __init__(self, code: str, text: str, *, is_temporary: bool) -> None:
        super().__init__(f"{code} {text}")
        self.code, self.is_temporary = code, is_temporary


@dataclass(slots=True)
class Mail:
    """One message, as its sender sees it."""

    tag: str
    recipients: tuple[str, ...]
    size: int
    key: str | None
    tries: int = 0
    ids: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Ledger:
    """What all clients together did and were told."""

    accepted: dict[str, Mail] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    given_up: int = 0
    cut: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    busy: int = 0
    issued: int = 0
    allowed: int = 0
    is_over: bool = False

    def wait_for(self, more: int, seconds: float) -> float:
        """Wait until so many more messages are accepted; return how long it took."""
        goal, started = len(self.accepted) + more, time.monotonic()
        while len(self.accepted) < goal:
            assert time.monotonic() - started < seconds, f"not {more} more messages were accepted within {seconds} s: {dict(self.answers)}"
            time.sleep(0.005)
        return time.monotonic() - started

    async def take(self) -> int | None:
        """Wait for the right to send one more message; None at the end."""
        while self.issued >= self.allowed:
            if self.is_over:
                return None
            await asyncio.sleep(0.005)
        self.issued += 1
        return self.issued

    def accept(self, mail: Mail, message_id: str) -> None:
        """Note that a message was accepted under an id."""
        mail.ids.add(message_id)
        self.accepted[mail.tag] = mail
        if len(mail.ids) > 1:
            self.wrong.append(f"{mail.tag}: repeated with its key it got another id")


class Client:
    """One sender with one connection at a time."""

    door = ""

    def __init__(self, gateway: Gateway, ledger: Ledger, chance: random.Random, number: int, with_large: bool = True) -> None:
        self.gateway, self.ledger, self.chance, self.number, self.with_large = gateway, ledger, chance, number, with_large
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Send until there is no more to send."""
        while (number := await self.ledger.take()) is not None:
            await self._deliver(self._make(number))
        self._close()

    def _make(self, number: int) -> Mail:
        tag = f"{self.door}-{self.number}-{number}"
        size = 300_000 if self.with_large and self.chance.random() < 1 / 150 else self.chance.randint(200, 6_000)
        recipients = tuple(f"r{n}.{tag}@sink.example" for n in range(self.chance.choice((1, 1, 1, 2, 3))))
        return Mail(tag, recipients, size, f"key-{tag}" if self.chance.random() < 0.5 else None)

    async def _deliver(self, mail: Mail) -> None:
        """Send a message until it is accepted, or an answer fails to come to one without a key."""
        while True:
            mail.tries += 1
            self.ledger.busy += 1
            sending = [False]
            try:
                async with asyncio.timeout(_ANSWER_S):
                    message_id = await self._send(mail, sending)
            except Refusal as refusal:
                self.ledger.answers[refusal.code] += 1
                if not refusal.is_temporary:
                    self.ledger.wrong.append(f"{mail.tag}: {refusal}")
                    return
                if mail.key is None:
                    self.ledger.refused.add(mail.tag)
                    await asyncio.sleep(self.chance.uniform(0.01, 0.1))
                    return
            except (OSError, Cut, asyncio.IncompleteReadError, TimeoutError) as error:
                self._close()
                if isinstance(error, TimeoutError):
                    self.ledger.wrong.append(f"{mail.tag}: no answer within {_ANSWER_S} s")
                if sending[0]:
                    self.ledger.cut += 1
                    if mail.key is None:
                        self.ledger.given_up += 1
                        return
            else:
                self.ledger.answers[self._yes] += 1
                self.ledger.accept(mail, message_id)
                if mail.key is None or self.chance.random() > 0.1:
                    return
                await self._repeat(mail)
                return
            finally:
                self.ledger.busy -= 1
            await asyncio.sleep(self.chance.uniform(0.01, 0.1))

    async def _repeat(self, mail: Mail) -> None:
        """Repeat an accepted message with its key: it has to get the same id."""
        with contextlib.suppress(OSError, Cut, asyncio.IncompleteReadError, Refusal, TimeoutError):
            async with asyncio.timeout(_ANSWER_S):
                self.ledger.accept(mail, await self._send(mail, [False]))
            return
        self._close()

    _yes = "202"

    async def _send(self, mail: Mail, sending: list[bool]) -> str:
        raise NotImplementedError

    async def _connect(self, port: int) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None


def text_of(mail: Mail) -> str:
    """Make a message's text; a large one does not compress, so that it becomes a file."""
    if mail.size > 100_000:
        noise = base64.encodebytes(random.Random(mail.tag).randbytes(mail.size)).decode()
        return f"{mail.tag}\n{noise}"
    return (_LINE * (mail.size // len(_LINE) + 1))[: mail.size] + "\n"


class HttpClient(Client):
    """Sends over HTTP."""

    door = "http"
    _yes = "202"

    async def _send(self, mail: Mail, sending: list[bool]) -> str:
        if self._writer is None:
            await self._connect(self.gateway.http_port)
        reader, writer = self._reader, self._writer
        assert reader is not None and writer is not None
        body = {"from": f"App <app@{SENDER_DOMAIN}>", "to": list(mail.recipients), "subject": f"Crash {mail.tag}", "text": text_of(mail)}
        content = json.dumps(body).encode()
        head = (
            f"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.gateway.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        )
        head += f"Idempotency-Key: {mail.key}\r\n" if mail.key else ""
        sending[0] = True
        writer.write(head.encode() + b"\r\n" + content)
        await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        status = answer.split(b" ", 2)[1].decode()
        length = int(answer.lower().partition(b"content-length:")[2].partition(b"\r")[0] or 0)
        text = await reader.readexactly(length)
        if b"connection: close" in answer.lower():
            self._close()
        if status != "202":
            raise Refusal(status, text.decode("utf-8", "replace")[:300], is_temporary=status in _NOT_NOW)
        return str(json.loads(text)["id"])


class SmtpClient(Client):
    """Sends over SMTP, many messages in one connection."""

    door = "smtp"
    _yes = "250"

    async def _send(self, mail: Mail, sending: list[bool]) -> str:
        if self._writer is None:
            await self._greet()
        await self._say(f"MAIL FROM:<app@{SENDER_DOMAIN}>", "250")
        for recipient in mail.recipients:
            await self._say(f"RCPT TO:<{recipient}>", "250")
        await self._say("DATA", "354")
        sending[0] = True
        reply = await self._say(self._content(mail) + ".", "250")
        return reply.rpartition("queued as ")[2].strip()

    async def _greet(self) -> None:
        await self._connect(self.gateway.smtp_port)
        await self._read("220")
        await self._say("EHLO client.acme.example", "250")
        secret = base64.b64encode(b"\0apikey\0" + self.gateway.key.encode()).decode()
        await self._say(f"AUTH PLAIN {secret}", "235")

    def _content(self, mail: Mail) -> str:
        lines = [
            f"From: App <app@{SENDER_DOMAIN}>",
            f"To: {', '.join(mail.recipients)}",
            f"Subject: Crash {mail.tag}",
            "Date: Mon, 23 Nov 2026 10:00:00 +0000",
        ]
        lines += [f"Message-ID: <{mail.tag}@{SENDER_DOMAIN}>"] if mail.size % 2 else []
        lines += [f"X-Gatepost-Idempotency-Key: {mail.key}"] if mail.key else []
        return "\r\n".join([*lines, "", *text_of(mail).splitlines()]) + "\r\n"

    async def _say(self, line: str, wanted: str) -> str:
        assert self._writer is not None
        self._writer.write(line.encode() + b"\r\n")
        await self._writer.drain()
        return await self._read(wanted)

    async def _read(self, wanted: str) -> str:
        assert self._reader is not None
        while True:
            line = (await self._reader.readline()).decode("utf-8", "replace")
            if not line.endswith("\n"):
                raise Cut
            if line[3:4] != "-":
                break
        if line[:3] == wanted:
            return line
        if line[:3] not in {"421", "535"} and self._writer is not None:
            # the transaction is over in any case
            self._writer.write(b"RSET\r\n")
            await self._reader.readline()
        else:
            self._close()
        raise Refusal(line[:3], line.strip(), is_temporary=line.startswith("4"))


class Load:
    """A crowd of clients that sends in the background while a test does something else."""

    def __init__(self, gateway: Gateway, seed: int, http: int, smtp: int, *, with_large: bool = True) -> None:
        self.ledger = Ledger()
        self._crowd = crowd(gateway, self.ledger, seed, http, smtp, with_large=with_large)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()), daemon=True)
        self._errors: list[BaseException] = []

    async def _send(self) -> None:
        try:
            await asyncio.gather(*[client.run() for client in self._crowd])
        except BaseException as error:
            self._errors.append(error)

    def __enter__(self) -> Ledger:
        """Start sending, as much as the ledger allows."""
        self.ledger.allowed = 1_000_000
        self._thread.start()
        return self.ledger

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let every client finish the message that it is at."""
        self.ledger.allowed, self.ledger.is_over = 0, True
        if error is None:
            self._thread.join(_ANSWER_S + 15)
            assert not self._thread.is_alive(), "the clients did not come to an end"
            assert not self._errors, self._errors


def crowd(gateway: Gateway, ledger: Ledger, seed: int, http: int, smtp: int, *, with_large: bool = True) -> Sequence[Client]:
    """Make clients, each with its own chance drawn from the seed."""
    kinds: list[type[Client]] = [HttpClient] * http + [SmtpClient] * smtp
    return [kind(gateway, ledger, random.Random(seed * 1000 + n), n, with_large) for n, kind in enumerate(kinds)]

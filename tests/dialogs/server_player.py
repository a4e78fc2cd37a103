"""
Plays a transcript against the SMTP server machine.

A transcript is a text file: `#` comments (the first cites the RFC), an optional `peer:` line with words out of
`trusted`, `remote`, `starttls`, `tls`, then what is said in turn:

C: a line of the client; CRLF is added        C~ the same without CRLF; both know \\r \\n \\0 \\t \\xHH
S: a line of the server, exactly              TLS the handshake is done here
E: an event: `auth MECHANISM USER SECRET`, `message FROM -> RECIPIENTS | CONTENT`, `starttls`, `closed REASON`

The key `good` is right; content with `refuse` in it is refused.
"""

import re
from dataclasses import dataclass, field

from gatepost.domain.message import EnvelopeRecipient
from gatepost.wire.smtp_server import SmtpServer
from gatepost.wire.smtp_server_dialogue import Phase
from gatepost.wire.smtp_server_events import Authenticate, Closed, MessageReceived, ServerEvent, ServerOptions, StartTls

OPTIONS = ServerOptions(hostname="mx.example", max_message_bytes=1_000, max_recipients=3)


def machine(*words: str, options: ServerOptions = OPTIONS) -> SmtpServer:
    """Make a machine for a peer described in words."""
    return SmtpServer(
        options,
        offers_starttls="starttls" in words,
        is_tls="tls" in words,
        is_authenticated="trusted" in words,
        requires_tls="remote" in words,
    )


@dataclass
class Played:
    """What a dialogue came to."""

    events: list[ServerEvent] = field(default_factory=list)
    output: bytes = b""

    @property
    def messages(self) -> list[MessageReceived]:
        return [event for event in self.events if isinstance(event, MessageReceived)]

    @property
    def replies(self) -> list[str]:
        return self.output.decode("ascii").split("\r\n")[:-1]

    @property
    def codes(self) -> list[int]:
        return [int(line[:3]) for line in self.replies if line[3:4] == " "]


def run(server: SmtpServer, played: Played, *, answers_tls: bool = True) -> None:
    """Let the machine go on, answering every event at once."""
    while True:
        event = server.next_event()
        if event is None:
            break
        played.events.append(event)
        answer(server, event, len(played.messages), answers_tls)
    played.output += server.take_output()


def answer(server: SmtpServer, event: ServerEvent, number: int, answers_tls: bool) -> None:
    match event:
        case Authenticate(secret="good"):
            server.accept_authentication()
        case Authenticate():
            server.refuse(535, "5.7.8", "No")
        case MessageReceived() if b"refuse" in event.content:
            server.refuse(554, "5.6.0", "Not this")
        case MessageReceived():
            server.accept_message(f"msg_{number}")
        case StartTls() if answers_tls:
            server.tls_started()
        case _:
            pass


def play(*chunks: bytes, peer: str = "trusted", options: ServerOptions = OPTIONS) -> Played:
    """Feed chunks to a new machine."""
    server, played = machine(*peer.split(), options=options), Played()
    for chunk in chunks:
        server.feed(chunk)
        run(server, played)
    return played


def replay(text: str) -> tuple[list[str], list[str]]:
    """Play a transcript; give the `S:` and `E:` lines that it has and those that happened."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    words = lines.pop(0)[5:].split() if lines[0].startswith("peer:") else []
    server, expected, happened = machine(*words), [], []
    _go_on(server, happened)
    for line in lines:
        if line.startswith(("C: ", "C~ ")):
            server.feed(_unescape(line[3:]) + (b"\r\n" if line[1] == ":" else b""))
            _go_on(server, happened)
        elif line == "TLS":
            server.tls_started()
            _go_on(server, happened)
        else:
            expected.append(line)
    return expected, happened


def _go_on(server: SmtpServer, happened: list[str]) -> None:
    number = sum(line.startswith("E: message") for line in happened)
    while True:
        event = server.next_event()
        happened += [f"S: {line}" for line in server.take_output().decode("ascii").split("\r\n")[:-1]]
        if event is None:
            break
        happened.append(f"E: {_written(event)}")
        number += isinstance(event, MessageReceived)
        answer(server, event, number, answers_tls=False)
    assert server.phase is not Phase.ANSWER


def _written(event: ServerEvent) -> str:
    match event:
        case Authenticate():
            return f"auth {event.mechanism} {event.authcid} {event.secret}"
        case MessageReceived():
            recipients = ", ".join(_recipient(recipient) for recipient in event.recipients)
            options = f" RET={event.ret}" * bool(event.ret) + f" ENVID={event.envid}" * bool(event.envid)
            return f"message {event.envelope_from or '<>'}{options} -> {recipients} | {ascii(event.content.decode('latin-1'))[1:-1]}"
        case StartTls():
            return "starttls"
        case Closed():
            return f"closed {event.reason.value}"


def _recipient(recipient: EnvelopeRecipient) -> str:
    return f"{recipient.address}" + f" {recipient.notify}" * bool(recipient.notify) + f" {recipient.orcpt}" * bool(recipient.orcpt)


def _unescape(text: str) -> bytes:
    escapes = {"r": b"\r", "n": b"\n", "0": b"\0", "t": b"\t", "\\": b"\\"}

    def one(match: re.Match[bytes]) -> bytes:
        what = match[1].decode()
        return bytes([int(what[1:], 16)]) if what[0] == "x" else escapes[what]

    return re.sub(rb"\\(x[0-9A-Fa-f]{2}|[rn0t\\])", one, text.encode("utf-8"))

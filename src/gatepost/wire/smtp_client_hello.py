"""
The beginning of an SMTP session from the client's side: greeting, EHLO, STARTTLS, AUTH.

Arrives: the server's replies. Leaves: commands, and a session that is ready for mail, or the verdict why there is none.
Standards: RFC 5321 §3.1, §3.2, RFC 3207 (STARTTLS), RFC 4954 (AUTH), RFC 4616 (PLAIN); XOAUTH2 as
Google and Microsoft describe it.
Not here: transactions (smtp_client, which is built on this).
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from functools import lru_cache

from gatepost.wire.smtp_client_verdict import Fault, Stage, Verdict
from gatepost.wire.smtp_reply import ReplyParser, WireReply
from gatepost.wire.smtp_transcript import Transcript

_HOSTNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,253}[A-Za-z0-9])?|\[[0-9A-Fa-f.:IPv]{2,60}\]")
_SIZE = re.compile(r"[0-9]{1,20}")


class TlsLevel(StrEnum):
    """How much encryption a route asks for: `may` takes what is offered, `must` verifies or does not deliver."""

    NEVER = "never"
    MAY = "may"
    MUST = "must"


class Phase(Enum):
    """What the holder of the socket may do next."""

    NEGOTIATING = "negotiating"
    """Keep reading."""
    HANDSHAKE = "handshake"
    """Do the TLS handshake, then call `encrypted`."""
    READY = "ready"
    """Call `send` or `quit`."""
    BUSY = "busy"
    """Keep reading; verdicts come."""
    CLOSED = "closed"
    """Close the connection."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    User and password for AUTH.

    Attributes:
        is_token: The password is an access token, which XOAUTH2 takes and PLAIN does not.
    """

    user: str
    password: str = field(repr=False)
    is_token: bool = False

    def __post_init__(self) -> None:
        if "\0" in self.user + self.password:
            raise ValueError("a user or password cannot hold NUL (RFC 4616 §2)")
        if self.is_token and "\1" in self.user + self.password:
            raise ValueError("a user or token cannot hold the octet that ends a field of XOAUTH2")


class Negotiation:
    """The part of a session before the first mail; `SmtpClient` is the whole."""

    def __init__(self, *, hostname: str, tls: TlsLevel, credentials: Credentials | None, is_encrypted: bool) -> None:
        """
        Wait for the greeting.

        Raises:
            ValueError: The host name is none; nothing but names may reach the wire there.
        """
        if not _HOSTNAME.fullmatch(hostname):
            raise ValueError(f"{hostname!r} cannot be an EHLO name")
        self.phase = Phase.NEGOTIATING
        self.stage = Stage.GREETING
        self.refusal: Verdict | None = None
        self.extensions: Mapping[str, str] = {}
        self.verdicts: list[Verdict | None] = []
        self.transcript = Transcript()
        self.is_encrypted = is_encrypted
        self._hostname = hostname
        self._tls = tls
        self._credentials = credentials
        self._parser = ReplyParser()
        self._handler: Callable[[WireReply], None] = self._on_greeting
        self._out = b""

    def encrypted(self) -> bytes:
        """Note that the TLS handshake is done; all that was learned before it is forgotten (RFC 3207 §4.2)."""
        self.is_encrypted = True
        self._parser = ReplyParser()
        self.extensions = {}
        self.phase = Phase.NEGOTIATING
        self.transcript.note("TLS started")
        self._say_ehlo()
        out, self._out = self._out, b""
        return out

    def lost(self, detail: str, *, is_all_sent: bool = True, fault: Fault = Fault.LOST) -> None:
        """
        Note that the connection ended, timed out or cannot be trusted any more.

        Args:
            is_all_sent: False when bytes were still waiting in a buffer of ours: the final dot was not sent.
            fault: What to say of recipients without a verdict; after the final dot it is always UNSURE.
        """
        self._handler = _ignore  # a method of its own in it would keep it in memory until the garbage collector comes
        if self.phase is Phase.CLOSED:
            return
        self.transcript.note(detail)
        if self.phase is Phase.BUSY:
            is_unsure = self.stage is Stage.CONTENT and is_all_sent
            self._settle(Verdict(stage=self.stage, fault=Fault.UNSURE if is_unsure else fault, detail=detail))
        elif self.refusal is None:
            self.refusal = Verdict(stage=self.stage, fault=fault, detail=detail)
        self.phase = Phase.CLOSED

    def _take(self, reply: WireReply) -> None:
        self.transcript.reply(reply.code, reply.lines)
        if self.phase is Phase.CLOSED:
            return
        if self.phase is Phase.HANDSHAKE:
            self._injected()
        elif reply.code == 421:
            self._refuse(Verdict(stage=self.stage, reply=reply.reply))
        else:
            self._handler(reply)

    def _say(self, line: str, shown: str = "") -> None:
        self.transcript.command(shown or line)
        self._out += line.encode() + b"\r\n"

    def _refuse(self, verdict: Verdict) -> None:
        """Give up the connection: everyone without a verdict gets this one."""
        if self.phase is Phase.BUSY:
            self._settle(verdict)
        else:
            self.refusal = verdict
        self.phase = Phase.CLOSED

    def _on_greeting(self, reply: WireReply) -> None:
        if reply.code // 100 != 2:
            self._refuse(Verdict(stage=Stage.GREETING, reply=reply.reply))
            return
        self._say_ehlo()

    def _say_ehlo(self) -> None:
        self.stage = Stage.EHLO
        self._handler = self._on_ehlo
        self._say(f"EHLO {self._hostname}")

    def _on_ehlo(self, reply: WireReply) -> None:
        if reply.code // 100 == 2:
            self.extensions = _extensions(reply.lines[1:])
            self._after_ehlo()
        elif reply.code // 100 == 5:  # a server from before RFC 1869
            self._handler = self._on_helo
            self._say(f"HELO {self._hostname}")
        else:
            self._refuse(Verdict(stage=Stage.EHLO, reply=reply.reply))

    def _on_helo(self, reply: WireReply) -> None:
        if reply.code // 100 == 2:
            self._after_ehlo()
        else:
            self._refuse(Verdict(stage=Stage.EHLO, reply=reply.reply))

    def _after_ehlo(self) -> None:
        if self.is_encrypted or self._tls is TlsLevel.NEVER:
            self._authenticate()
        elif "STARTTLS" in self.extensions:
            self.stage = Stage.TLS
            self._handler = self._on_starttls
            self._say("STARTTLS")
        else:
            self._without_tls(None)

    def _on_starttls(self, reply: WireReply) -> None:
        if reply.code // 100 != 2:
            self._without_tls(reply)
        elif not self._parser.is_empty:
            self._injected()
        else:
            self.phase = Phase.HANDSHAKE

    def _injected(self) -> None:
        """Drop a connection on which plain bytes followed the 220: an attacker's words, or nobody's (USENIX Security 21)."""
        self.transcript.note("plain text after the answer to STARTTLS")
        detail = "the server sent plain text after its answer to STARTTLS; somebody may be tampering with the connection"
        self._refuse(Verdict(stage=Stage.TLS, fault=Fault.INJECTION, detail=detail))

    def _without_tls(self, reply: WireReply | None) -> None:
        if self._tls is TlsLevel.MUST or self._credentials is not None:
            detail = "the server does not offer TLS" if reply is None else f"the server refuses TLS: {reply.reply}"
            what = "it is required" if self._tls is TlsLevel.MUST else "the password is not sent unencrypted"
            self._refuse(Verdict(stage=Stage.TLS, fault=Fault.NO_TLS, detail=f"{detail}, and {what}"))
        else:
            self._authenticate()

    def _authenticate(self) -> None:
        if self._credentials is None:
            self._ready()
            return
        self.stage = Stage.AUTH
        offered = self.extensions.get("AUTH", "").split()
        if self._credentials.is_token:
            self._authenticate_by_token(self._credentials, offered)
        elif "PLAIN" in offered:
            self._handler = self._on_auth_end
            token = _base64(f"\0{self._credentials.user}\0{self._credentials.password}")
            self._say(f"AUTH PLAIN {token}", "AUTH PLAIN <secret>")
        elif "LOGIN" in offered:
            self._handler = self._on_login_user
            self._say("AUTH LOGIN")
        else:
            detail = "the server offers neither AUTH PLAIN nor AUTH LOGIN"
            self._refuse(Verdict(stage=Stage.AUTH, fault=Fault.NO_AUTH, detail=detail))

    def _authenticate_by_token(self, credentials: Credentials, offered: Sequence[str]) -> None:
        """Say XOAUTH2, https://developers.google.com/workspace/gmail/imap/xoauth2-protocol; a refusal comes as a challenge first."""
        if "XOAUTH2" in offered:
            self._handler = self._on_token_end
            token = _base64(f"user={credentials.user}\1auth=Bearer {credentials.password}\1\1")
            self._say(f"AUTH XOAUTH2 {token}", "AUTH XOAUTH2 <secret>")
        else:
            detail = "the server does not offer AUTH XOAUTH2, and an access token is all there is"
            self._refuse(Verdict(stage=Stage.AUTH, fault=Fault.NO_AUTH, detail=detail))

    def _on_token_end(self, reply: WireReply) -> None:
        if reply.code == 334:  # the error as JSON, which nobody needs: its end comes with the reply to an empty line
            self._handler = self._on_auth_end
            self._say("", "<empty>")
        else:
            self._on_auth_end(reply)

    def _on_login_user(self, reply: WireReply) -> None:
        self._login_step(reply, "user", self._on_login_password)

    def _on_login_password(self, reply: WireReply) -> None:
        self._login_step(reply, "password", self._on_auth_end)

    def _login_step(self, reply: WireReply, what: str, then: Callable[[WireReply], None]) -> None:
        if reply.code != 334:
            self._on_auth_end(reply)
            return
        self._handler = then
        self._say(_base64(getattr(self._credentials, what)), "<secret>")

    def _on_auth_end(self, reply: WireReply) -> None:
        if reply.code // 100 == 2:
            self._ready()
        else:
            self._refuse(Verdict(stage=Stage.AUTH, reply=reply.reply))

    def _ready(self) -> None:
        self.phase = Phase.READY
        self.stage = Stage.IDLE
        self._handler = self._on_unasked

    def _on_unasked(self, reply: WireReply) -> None:
        self.lost(f"the server said {reply.code} without being asked")

    def _settle(self, verdict: Verdict) -> None:
        self.verdicts = [verdict if known is None else known for known in self.verdicts]


def _ignore(_: WireReply) -> None:
    """Nothing is said on a closed connection."""


@lru_cache(maxsize=200)
def _extensions(lines: tuple[str, ...]) -> Mapping[str, str]:
    """Read what a server offers; servers of one kind offer the same."""
    offered: dict[str, str] = {}
    for line in lines:
        keyword, _, parameters = line.strip().upper().replace("AUTH=", "AUTH ", 1).partition(" ")
        if keyword == "AUTH" and "AUTH" in offered:
            parameters = f"{offered['AUTH']} {parameters}"
        if keyword == "SIZE" and not _SIZE.fullmatch(parameters.strip()):
            parameters = ""
        if keyword:
            offered[keyword] = parameters.strip()
    return offered


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")

"""
The client's side of an SMTP session, without a socket: bytes from the server in, bytes for the server out.

Arrives: what the server sent (`receive`), and mail to send (`send`).
Leaves: bytes to write, a `phase` for whoever holds the socket, and one `Verdict` per recipient.
Standards: RFC 5321, 3207 (STARTTLS), 4954 (AUTH), 2920 (PIPELINING), 1870 (SIZE), 6152 (8BITMIME), 6531 (SMTPUTF8),
3030 (CHUNKING), 3461 (DSN), 2034 (enhanced codes), 8689 (REQUIRETLS).
Content that a server without 8BITMIME cannot announce is sent as it is, as Exim does: nearly every server takes it, and
converting would break its signature. The transcript says so.
Not here: sockets, TLS and time (egress.smtp.session), what a verdict means for the recipient (egress.smtp.outcomes).
Bugs: no BINARYMIME; CHUNKING is used only on request, because it saves nothing where PIPELINING is offered.
"""

from gatepost.wire.smtp_client_hello import Credentials, Negotiation, Phase, TlsLevel
from gatepost.wire.smtp_client_mail import NOTHING, Mail, MailRecipient, is_mailbox, parameters, stuffed, wire_lines
from gatepost.wire.smtp_client_verdict import Fault, Stage, Verdict
from gatepost.wire.smtp_reply import ProtocolError, WireReply
from gatepost.wire.smtp_transcript import Transcript

__all__ = ["Credentials", "Phase", "SmtpClient", "TlsLevel"]


class SmtpClient(Negotiation):
    """
    One session, from greeting to QUIT.

    Attributes:
        phase: What may be done next.
        stage: The command whose reply is awaited; it chooses the timeout (RFC 5321 §4.5.3.2).
        refusal: Why there is no session, once `phase` is CLOSED during negotiation.
        extensions: What the last EHLO offered, keyword → parameters, both in upper case.
        verdicts: One per recipient of the last `send`, complete when `phase` leaves BUSY.
        transcript: The dialogue since the last `send`, or since the start for the first.
    """

    def __init__(
        self,
        *,
        hostname: str,
        tls: TlsLevel = TlsLevel.MAY,
        credentials: Credentials | None = None,
        is_encrypted: bool = False,
        use_chunking: bool = False,
    ) -> None:
        """
        Start a session that waits for the greeting.

        Args:
            hostname: Our name in EHLO.
            is_encrypted: TLS from the first byte (RFC 8314).
            use_chunking: BDAT instead of DATA where CHUNKING is offered.

        Raises:
            ValueError: The host name is none; nothing but names may reach the wire there.
        """
        super().__init__(hostname=hostname, tls=tls, credentials=credentials, is_encrypted=is_encrypted)
        self._use_chunking = use_chunking
        self._known: tuple[bytes, list[WireReply]] = (b"", [])
        self._needs_reset = False
        self._sends = 0
        self._mail: Mail = NOTHING
        self._wired: list[int] = []  # numbers of the recipients that were not refused here
        self._lines: list[str] = []
        self._first = 0  # index of MAIL in the lines: 1 after RSET
        self._cursor = 0
        self._accepted = 0
        self._has_utf8 = False
        self._is_chunked = False
        self._is_pipelined = False
        self._is_refused = False

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the server; return bytes to write, often none. Look at `phase` afterwards."""
        if self.phase is Phase.HANDSHAKE:
            self._injected()
            return b""
        try:
            replies = self._replies(data)
        except ProtocolError as error:
            self.lost(f"the server's answer is not SMTP: {error}")
            return b""
        for reply in replies:
            self._take(reply)
        out, self._out = self._out, b""
        return out if self.phase is not Phase.CLOSED else b""

    def quit(self) -> bytes:
        """End the session politely; close when anything arrives, or soon."""
        self.phase = Phase.CLOSED
        self.stage = Stage.QUIT
        return b"QUIT\r\n"

    def send(self, mail: Mail) -> bytes:
        """
        Start a transaction; return the bytes to write.

        With PIPELINING the whole envelope is one write. `phase` is READY at once when every recipient was refused here.

        Raises:
            RuntimeError: Called in another phase than READY.
        """
        if self.phase is not Phase.READY:
            raise RuntimeError("the session is not ready for mail")
        if self._sends:
            self.transcript = Transcript()
            self.transcript.note("connection used again")
        self._sends += 1
        self.verdicts = [None] * len(mail.recipients)
        self._check(mail)
        self._mail = mail
        self._wired = [i for i, verdict in enumerate(self.verdicts) if verdict is None]
        return self._start_envelope(mail) if self._wired else b""

    def _replies(self, data: bytes) -> list[WireReply]:
        """Parse what was read; the answers to an envelope are mostly the same as last time, byte for byte."""
        if not self._parser.is_empty or self.phase is not Phase.BUSY or self.stage is Stage.CONTENT:
            return self._parser.feed(data)
        if data != self._known[0]:
            replies = self._parser.feed(data)
            if not self._parser.is_empty:
                return replies
            self._known = (data, replies)
        return self._known[1]

    def _check(self, mail: Mail) -> None:
        """Refuse here what the server cannot take: addresses that are none, SMTPUTF8 not offered, size over its limit."""
        if mail.envelope_from and not is_mailbox(mail.envelope_from):
            self._settle(_local(Fault.BAD_ADDRESS, "the envelope sender cannot be written in SMTP"))
        for i, recipient in enumerate(mail.recipients):
            if not is_mailbox(recipient.address):
                self.verdicts[i] = _local(Fault.BAD_ADDRESS, "the address cannot be written in SMTP")
        self._has_utf8 = mail.is_smtputf8 or not (mail.envelope_from.isascii() and all(r.address.isascii() for r in mail.recipients))
        if self._has_utf8 and "SMTPUTF8" not in self.extensions:
            self._check_utf8(mail)
        limit = self.extensions.get("SIZE", "")
        if limit and len(mail.content) > int(limit) > 0:
            self._settle(_local(Fault.TOO_LARGE, f"the message has {len(mail.content)} bytes, the server takes {limit}"))

    def _check_utf8(self, mail: Mail) -> None:
        verdict = _local(Fault.NEEDS_SMTPUTF8, "5.6.7 the server does not offer SMTPUTF8, which the address or the headers need")
        if not mail.envelope_from.isascii() or not mail.content.partition(b"\r\n\r\n")[0].isascii():
            self._settle(verdict)
        for i, recipient in enumerate(mail.recipients):
            if self.verdicts[i] is None and not recipient.address.isascii():
                self.verdicts[i] = verdict

    def _start_envelope(self, mail: Mail) -> bytes:
        self._lines = [self._mail_line(mail), *[self._recipient_line(mail.recipients[i]) for i in self._wired]]
        self._is_chunked = self._use_chunking and "CHUNKING" in self.extensions
        if not self._is_chunked:
            self._lines.append("DATA")
        self._cursor = 0
        self._is_refused = False
        self._accepted = 0
        self.phase = Phase.BUSY
        self.stage = Stage.MAIL
        self._handler = self._on_envelope
        self._first = 0
        if self._needs_reset:
            self._lines.insert(0, "RSET")
            self._first, self._cursor, self._needs_reset = 1, -1, False
            self.stage = Stage.RSET
        self._is_pipelined = "PIPELINING" in self.extensions
        lines = self._lines if self._is_pipelined else self._lines[:1]
        self.transcript.commands(lines)
        return ("\r\n".join(lines) + "\r\n").encode()

    def _mail_line(self, mail: Mail) -> str:
        offered = self.extensions
        line = f"MAIL FROM:<{mail.envelope_from}>"
        if "SIZE" in offered:
            line += f" SIZE={len(mail.content)}"
        if mail.is_8bit:
            if "8BITMIME" in offered:
                line += " BODY=8BITMIME"
            else:
                self.transcript.note("no 8BITMIME here; 8-bit content is sent as it is")
        if self._has_utf8 and "SMTPUTF8" in offered:
            line += " SMTPUTF8"
        if mail.requires_tls and self.is_encrypted and "REQUIRETLS" in offered:
            line += " REQUIRETLS"
        return line + parameters(RET=mail.ret, ENVID=mail.envid) if "DSN" in offered else line

    def _recipient_line(self, recipient: MailRecipient) -> str:
        line = f"RCPT TO:<{recipient.address}>"
        if (recipient.notify or recipient.orcpt) and "DSN" in self.extensions:
            line += parameters(NOTIFY=recipient.notify, ORCPT=recipient.orcpt)
        return line

    def _on_envelope(self, reply: WireReply) -> None:
        """Take the reply to the command under the cursor: -1 RSET, 0 MAIL, then the recipients, then DATA."""
        at = self._cursor
        self._cursor = at + 1
        if at > len(self._wired):
            self._on_data(reply)
            return
        kind = reply.code // 100
        if kind not in {2, 4, 5} or (at < 0 and kind != 2):
            self.lost(f"the server said {reply.code} to {self.stage.upper()}")
            return
        if at > 0:
            self._on_recipient(reply, self._wired[at - 1])
        elif at == 0 and kind != 2:
            self._is_refused = True
            self._settle(Verdict(stage=Stage.MAIL, reply=reply.reply))
        self._advance()

    def _on_recipient(self, reply: WireReply, i: int) -> None:
        if reply.code // 100 == 2:
            self._accepted += 1
        elif self.verdicts[i] is None:
            self.verdicts[i] = Verdict(stage=Stage.RCPT, reply=reply.reply)

    def _advance(self) -> None:
        """Go to the next command; without PIPELINING this is where it is sent."""
        at, last = self._cursor, len(self._wired)
        is_hopeless = self._is_refused or not self._accepted
        if at <= last:
            self.stage = Stage.RCPT if at else Stage.MAIL
            if not self._is_pipelined and self._is_refused:
                self._finish()
            elif not self._is_pipelined:
                self._say(self._lines[at + self._first])
            return
        self.stage = Stage.DATA
        if self._is_chunked or not self._is_pipelined:
            if is_hopeless:
                self._needs_reset = True
                self._finish()
            elif self._is_chunked:
                self._send_chunk()
            else:
                self._say("DATA")

    def _on_data(self, reply: WireReply) -> None:
        is_hopeless = self._is_refused or not self._accepted
        kind = reply.code // 100
        if kind == 3:
            self._send_content(is_hopeless=is_hopeless)
        elif kind in {4, 5}:
            self._settle(Verdict(stage=Stage.DATA, reply=reply.reply))
            self._needs_reset = True
            self._finish()
        else:
            self.lost(f"the server said {reply.code} to DATA")

    def _send_content(self, *, is_hopeless: bool) -> None:
        self._handler = self._on_content
        if is_hopeless:  # RFC 2920 §3.1: every recipient was refused, the server waits for content all the same
            self._say(".")
            return
        self.stage = Stage.CONTENT
        self.transcript.command(f"<{len(self._mail.content)} bytes of content>")
        self._out += stuffed(self._mail.content)

    def _send_chunk(self) -> None:
        content = wire_lines(self._mail.content)
        self.stage = Stage.CONTENT
        self._handler = self._on_content
        self._say(f"BDAT {len(content)} LAST")
        self.transcript.command(f"<{len(content)} bytes of content>")
        self._out += content

    def _on_content(self, reply: WireReply) -> None:
        if reply.code // 100 not in {2, 4, 5}:
            self.lost(f"the server said {reply.code} to the end of the content")
            return
        verdict = Verdict(stage=Stage.CONTENT, reply=reply.reply)
        if not self._out:
            self._settle(verdict)
            self._finish()
        elif reply.code // 100 == 2:  # it stood in the same read as the 354: nobody has seen the content yet
            self.lost("the server took the content before it was sent", is_all_sent=False)
        else:
            self._refuse(verdict)

    def _finish(self) -> None:
        self._ready()
        self._mail = NOTHING


def _local(fault: Fault, detail: str) -> Verdict:
    return Verdict(stage=Stage.MAIL, fault=fault, detail=detail)

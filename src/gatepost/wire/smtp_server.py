"""
The server's side of an SMTP submission dialogue, without any I/O.

Arrives: bytes from the client (`feed`), and the door's answers to events.
Leaves: events (`next_event`) and bytes to send (`take_output`).
Standards: RFC 5321, 2034 (enhanced codes), 2920 (PIPELINING), 3207 (STARTTLS), 4954 (AUTH), 1870 (SIZE), 6152 (8BITMIME),
6531 (SMTPUTF8), 3030 (CHUNKING, without BINARYMIME), 3461 (DSN), 6409 (submission),
8689 (REQUIRETLS).

An event that needs an answer stops the dialogue: what the client pipelined behind it waits in the buffer until the
answer is given, so replies keep the order of commands. The same bytes give the same events however they are cut.

Not here: sockets, timeouts and keys (smtpd), the rules of acceptance (accept), the shape of messages (mime).
Bugs: none known.
"""

from collections.abc import Callable
from typing import ClassVar, Final

from gatepost.domain.address import Address
from gatepost.domain.message import EnvelopeRecipient
from gatepost.wire.smtp_reply import format_reply
from gatepost.wire.smtp_server_content import OUT_OF_ORDER, ChunkCollector, ContentFault, DataCollector
from gatepost.wire.smtp_server_dialogue import Pause, Phase, Step
from gatepost.wire.smtp_server_events import CloseReason, MessageReceived, ServerEvent, ServerOptions
from gatepost.wire.smtp_server_params import MailCommand, SyntaxRefused, parse_bdat, parse_mail, parse_recipient
from gatepost.wire.smtp_server_session import Session

_HTTP_VERBS: Final = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH"})


class SmtpServer(Session):
    """
    One connection's dialogue.

    Attributes:
        why_not_now: Asked with a message's declared size, or 0, before it begins; returns why it cannot be taken for now. The
            door sets it.
        why_not_to: Asked with a recipient's address; returns why there is no such one here. The door sets it.

    Args:
        offers_starttls: A certificate is there and TLS is not yet on.
        is_tls: TLS is on from the first byte.
        is_authenticated: The peer is trusted and needs no AUTH.
        requires_tls: AUTH is refused without TLS: everywhere but on loopback.
    """

    def __init__(self, options: ServerOptions, *, offers_starttls: bool, is_tls: bool, is_authenticated: bool, requires_tls: bool) -> None:
        super().__init__(
            options, offers_starttls=offers_starttls, is_tls=is_tls, is_authenticated=is_authenticated, requires_tls=requires_tls
        )
        self._reset_transaction()
        self.why_not_now: Callable[[int], str | None] = lambda _: None
        self.why_not_to: Callable[[Address], str | None] = lambda _: None

    @property
    def is_in_transaction(self) -> bool:
        """True from MAIL until the answer to the message."""
        return self._mail is not None or self._phase is Phase.ANSWER

    @property
    def is_receiving(self) -> bool:
        """True while a message's content arrives, between its chunks too."""
        return self._data is not None or self._chunks is not None

    @property
    def held_bytes(self) -> int:
        """How much of the client's input is in memory, chunks that wait for more of them too."""
        return len(self._buffer) + (self._chunks.held_bytes if self._chunks is not None else 0)

    def next_event(self) -> ServerEvent | None:
        """Go on with the dialogue; None when more input, or an answer, is needed first."""
        while True:
            step = self._STEPS.get(self._phase)
            if step is None:
                return self._take_end()
            outcome = step(self)
            if outcome is Pause.NEEDS_INPUT:
                return None
            if outcome is not None:
                return outcome

    def accept_message(self, message_id: str) -> None:
        """Answer `MessageReceived`: the message is safely stored."""
        self._resume()
        self._output.append(format_reply(250, "2.0.0", f"Ok: queued as {message_id}"))
        self._errors = self._idle_commands = 0
        self._reset_transaction()

    def refuse(self, code: int, enhanced: str, text: str) -> None:
        """Answer `Authenticate` or `MessageReceived` with a refusal (RFC 4954 §6 for 535 and 454)."""
        if self._auth is not None:
            self._refuse_authentication(code, enhanced, text)
            return
        self._answered(code, enhanced, text)
        self._reset_transaction()

    def _reset_transaction(self) -> None:
        self._mail: MailCommand | None = None
        self._has_failed_mail = False
        self._recipients: list[EnvelopeRecipient] = []
        self._data: DataCollector | None = None
        self._chunks: ChunkCollector | None = None
        self._is_last_chunk = False
        self._is_chunk_dropped = False

    def _step_command(self) -> Step:
        line = self._next_line()
        if not isinstance(line, str):
            return line
        if self._chunks is None:
            self.progress += 1
        verb, _, argument = line.partition(" ")
        command = self._COMMANDS.get(verb) or self._COMMANDS.get(verb.upper() if verb.isascii() else "")
        if command is None:
            self._unknown(verb.upper())
            return None
        try:
            return command(self, argument)
        except SyntaxRefused as refused:
            # An address that does not please is the mail's fault, not the client's.
            answer = self._idle if refused.code == 553 else self._error
            answer(refused.code, refused.enhanced, refused.text)
            return None

    def _step_data(self) -> Step:
        assert self._data is not None
        content = self._data.take(self._buffer)
        return Pause.NEEDS_INPUT if content is None else self._received(content)

    def _step_chunk(self) -> Step:
        assert self._chunks is not None
        if not self._chunks.take(self._buffer):
            return Pause.NEEDS_INPUT
        return self._end_chunk(self._chunks)

    def _received(self, content: bytes | ContentFault) -> MessageReceived | None:
        mail = self._mail
        assert mail is not None
        if isinstance(content, ContentFault):
            self._answered(content.code, content.enhanced, content.text)
            self._reset_transaction()
            return None
        self._data = self._chunks = None
        self._wait()
        return MessageReceived(
            envelope_from=mail.sender,
            recipients=tuple(self._recipients),
            content=content,
            ret=mail.ret,
            envid=mail.envid,
            body=mail.body,
            is_smtputf8=mail.is_smtputf8,
            requires_tls=mail.requires_tls,
        )

    def _unknown(self, verb: str) -> None:
        """A browser can be made to send our port an HTTP request whose body is SMTP: such a dialogue ends at once."""
        if verb in _HTTP_VERBS:
            self._close(CloseReason.NOT_SMTP, 421, "4.7.0", "This is an SMTP server")
        else:
            self._error(500, "5.5.1", "Unknown command")

    def _mail_command(self, argument: str) -> None:
        if argument[:5].upper() != "FROM:":
            raise SyntaxRefused(501, "5.5.4", "Syntax: MAIL FROM:<address>")
        self._has_failed_mail = True
        if not self._may_begin():
            return
        mail = parse_mail(argument[5:])
        if mail.requires_tls and not self.is_tls:
            raise SyntaxRefused(555, "5.5.4", "Parameter REQUIRETLS is for connections with TLS")
        if mail.size is not None and mail.size > self._options.max_message_bytes:
            self._idle(552, "5.3.4", f"The message is larger than {self._options.max_message_bytes} octets")
            return
        reason = self.why_not_now(mail.size or 0)
        if reason is not None:
            self._idle(451, "4.3.2", reason)
            return
        self._mail = mail
        self._has_failed_mail = False
        self._reply(250, "2.1.0", "Ok")

    def _may_begin(self) -> bool:
        if not self.is_authenticated:
            must_encrypt = not self._may_authenticate
            self._error(530, "5.7.0", "Must issue a STARTTLS command first" if must_encrypt else "Authentication required")
        elif not self.helo_name:
            self._error(503, "5.5.1", "Send EHLO first")
        elif self._mail is not None:
            self._error(503, "5.5.1", "A message is already begun")
        else:
            return True
        return False

    def _recipient(self, argument: str) -> None:
        if argument[:3].upper() != "TO:":
            raise SyntaxRefused(501, "5.5.4", "Syntax: RCPT TO:<address>")
        if self._mail is None:
            self._misplaced("MAIL")
        elif self._chunks is not None:
            self._error(503, "5.5.1", "Recipients come before the content")
        elif len(self._recipients) >= self._options.max_recipients:
            self._idle(452, "4.5.3", f"Too many recipients; at most {self._options.max_recipients}")
        else:
            recipient = parse_recipient(argument[3:], is_smtputf8=self._mail.is_smtputf8)
            reason = self.why_not_to(recipient.address)
            if reason is not None:  # whoever tries addresses out makes errors, and is sent away
                self._error(550, "5.1.1", reason)
                return
            self._recipients.append(recipient)
            self._reply(250, "2.1.5", "Ok")

    def _misplaced(self, missing: str) -> None:
        """Refuse a command out of order; no fault where the client pipelined it behind one that failed (RFC 2920 §3.1)."""
        if not self.is_authenticated:
            self._error(530, "5.7.0", "Authentication required")
            return
        answer = self._idle if self._has_failed_mail or self._mail is not None else self._error
        answer(503, "5.5.1", f"Send {missing} first")

    def _data_command(self, argument: str) -> None:
        if argument:
            self._error(501, "5.5.4", "DATA takes no argument")
        elif self._mail is None:
            self._misplaced("MAIL")
        elif self._chunks is not None:
            self._error(503, "5.5.1", "DATA and BDAT do not mix")
        elif not self._recipients:
            self._idle(554, "5.5.1", "No valid recipients")
        else:
            self._reply(354, None, "End data with <CR><LF>.<CR><LF>")
            self._phase = Phase.DATA
            self._data = DataCollector(self._options.max_message_bytes)
            self._buffer[0:0] = b"\r\n"  # the command's own CRLF, see DataCollector

    def _bdat(self, argument: str) -> None:
        """Take a chunk even where it is not welcome: its octets follow in any case (RFC 3030 §2)."""
        try:
            command = parse_bdat(argument)
        except SyntaxRefused as refused:
            self._close(CloseReason.BROKEN_CHUNK, refused.code, refused.enhanced, refused.text)
            return
        self._is_chunk_dropped = self._mail is None or not self._recipients
        if self._chunks is None:
            self._chunks = ChunkCollector(self._options.max_message_bytes, self._options.max_chunks)
        self._is_last_chunk = command.is_last
        if self._is_chunk_dropped:
            self._chunks.fail(OUT_OF_ORDER)
        self._chunks.begin(command.size_bytes)
        self._phase = Phase.CHUNK

    def _end_chunk(self, chunks: ChunkCollector) -> MessageReceived | None:
        self._phase = Phase.COMMAND
        if self._is_chunk_dropped:
            self._chunks = None
            self._misplaced("MAIL" if self._mail is None else "RCPT")
        elif self._is_last_chunk:
            return self._received(chunks.finish())
        elif chunks.fault is not None:
            self._idle(chunks.fault.code, chunks.fault.enhanced, chunks.fault.text)
        else:
            self._reply(250, "2.0.0", "Ok")
        return None

    def _rset(self, argument: str) -> None:
        if argument:
            self._error(501, "5.5.4", "RSET takes no argument")
            return
        self._reset_transaction()
        self._idle(250, "2.0.0", "Ok")

    _STEPS: ClassVar[dict[Phase, Callable[["SmtpServer"], Step]]] = {
        **Session.STEPS,
        Phase.COMMAND: _step_command,
        Phase.DATA: _step_data,
        Phase.CHUNK: _step_chunk,
    }

    _COMMANDS: ClassVar[dict[str, Callable[["SmtpServer", str], ServerEvent | None]]] = {
        **Session.COMMANDS,
        "MAIL": _mail_command,
        "RCPT": _recipient,
        "DATA": _data_command,
        "BDAT": _bdat,
        "RSET": _rset,
    }

"""
What every SMTP server dialogue has, whatever its commands: input and output buffers, strict lines, fault counters, an end.

Arrives: bytes from the client.
Leaves: lines of text; bytes to send.
Standards: RFC 5321 §2.3.8 (lines end in CRLF), §4.5.3.1 (lengths), §3.8 and §4.2.1 (421).
Not here: commands (wire.smtp_server).
Bugs: none known.
"""

from enum import Enum, IntEnum, auto
from functools import lru_cache
from typing import Final

from gatepost.wire.smtp_reply import format_reply
from gatepost.wire.smtp_server_events import Closed, CloseReason, ServerEvent, ServerOptions

MAX_COMMAND_BYTES: Final = 2_048
"""A command line with its CRLF: RFC 5321 §4.5.3.1.4 asks for 512, and MAIL with DSN and SMTPUTF8 needs more."""

MAX_AUTH_BYTES: Final = 12_288
"""RFC 4954 §4: a line of an AUTH exchange."""


fixed_reply = lru_cache(maxsize=256)(format_reply)
"""`format_reply` for words that are said again and again."""


class Phase(IntEnum):
    """What the machine waits for. Integers, because an Enum's hash is computed in Python, several times a message."""

    COMMAND = auto()
    AUTH = auto()
    DATA = auto()
    CHUNK = auto()
    ANSWER = auto()
    HANDSHAKE = auto()
    CLOSED = auto()


class Pause(Enum):
    """A step's way to say that it cannot go on."""

    NEEDS_INPUT = auto()


Step = ServerEvent | Pause | None
"""What a step of the dialogue comes to: an event, a pause, or nothing in particular: go on."""


class Dialogue:
    """
    Buffers, lines and counters of one connection.

    Attributes:
        progress: Counts what the client got done; the door's timeouts start anew when it changes, so that dripping
            single bytes, or one chunk after the other, wins no time.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._buffer = bytearray()
        self._output: list[bytes] = []
        self._phase = Phase.COMMAND
        self._closed: Closed | None = None
        self._is_skipping_line = False
        self._errors = 0
        self._idle_commands = 0
        self.progress = 0

    @property
    def phase(self) -> Phase:
        """What the machine waits for."""
        return self._phase

    @property
    def buffered_bytes(self) -> int:
        """How much of the client's input waits to be looked at."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes from the client. After STARTTLS and after the end they are thrown away (RFC 3207 §4.2)."""
        if self._phase is not Phase.HANDSHAKE and self._phase is not Phase.CLOSED:
            self._buffer += data

    def take_output(self) -> bytes:
        """Give the bytes to send since the last call."""
        output = self._output[0] if len(self._output) == 1 else b"".join(self._output)
        self._output.clear()
        return output

    def shut_down(self) -> None:
        """End the dialogue because the server stops (RFC 5321 §3.8)."""
        self._close(CloseReason.SHUTDOWN, 421, "4.3.2", "Service is shutting down")

    def time_out(self) -> None:
        """End the dialogue because the client took too long."""
        self._close(CloseReason.TIMEOUT, 421, "4.4.2", "Timeout; closing")

    def give_up(self, text: str) -> None:
        """End the dialogue because there is no room for it (RFC 3463 X.3.2)."""
        self._close(CloseReason.OVERLOADED, 421, "4.3.2", text)

    def throttle(self, text: str) -> None:
        """End the dialogue because the client sends more than it may, however often it is told (RFC 3463 X.7.0)."""
        self._close(CloseReason.OVER_LIMIT, 421, "4.7.0", text)

    def _reply(self, code: int, enhanced: str | None, text: str) -> None:
        self._output.append(fixed_reply(code, enhanced, text))

    def _close(self, reason: CloseReason, code: int, enhanced: str, text: str) -> None:
        if self._phase is Phase.CLOSED:
            return
        self._reply(code, enhanced, text)
        self._phase = Phase.CLOSED
        self._closed = Closed(reason)
        self._buffer.clear()

    def _take_end(self) -> Closed | None:
        """Tell the end, once."""
        closed, self._closed = self._closed, None
        return closed

    def _error(self, code: int, enhanced: str, text: str) -> None:
        """Refuse a faulty command; after too many the client is broken or a bot."""
        self._errors += 1
        if self._errors >= self._options.max_errors:
            self._close(CloseReason.TOO_MANY_ERRORS, 421, "4.7.0", "Too many errors")
        else:
            self._reply(code, enhanced, text)

    def _idle(self, code: int, enhanced: str | None, text: str) -> None:
        """Answer a command that brings no message nearer."""
        if self._counts_as_idle():
            self._reply(code, enhanced, text)

    def _counts_as_idle(self) -> bool:
        """Count an idle command; False after too many: a flood of them ends like a flood of errors."""
        self._idle_commands += 1
        if self._idle_commands <= 100 + 2 * self._options.max_recipients:
            return True
        self._close(CloseReason.TOO_MANY_ERRORS, 421, "4.7.0", "Too many commands without a message")
        return False

    def _next_line(self) -> str | Pause | None:
        """Take one line; None when it was faulty and has been answered."""
        if self._is_skipping_line and not self._skip_line():
            return Pause.NEEDS_INPUT
        if not self._buffer:
            return Pause.NEEDS_INPUT
        end = self._buffer.find(b"\n", 0, MAX_COMMAND_BYTES)
        if end < 0 and self._is_auth_line():
            end = self._buffer.find(b"\n", 0, MAX_AUTH_BYTES)
        if end < 0:
            if len(self._buffer) < (MAX_AUTH_BYTES if self._is_auth_line() else MAX_COMMAND_BYTES):
                return Pause.NEEDS_INPUT
            self._refuse_line("5.5.6", "Line too long")
            return None
        line = bytes(self._buffer[: end + 1])
        if end == 0 or line.find(b"\r") != end - 1:
            self._refuse_line("5.5.2", "Lines end in CRLF; a bare CR or LF is not allowed")
            return None
        del self._buffer[: end + 1]
        return self._read_line(line[:-2])

    def _is_auth_line(self) -> bool:
        return self._phase is Phase.AUTH or self._buffer[:5].upper() == b"AUTH "

    def _read_line(self, line: bytes) -> str | None:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            text = "\0"
        if text.isprintable():
            return text
        self._line_failed()
        self._error(500, "5.5.2", "The line has bytes that are not printable text")
        return None

    def _refuse_line(self, enhanced: str, text: str) -> None:
        """Answer at once, and ignore everything to the next CRLF: what follows a bare LF is never a command."""
        self._is_skipping_line = True
        self._line_failed()
        self._error(500, enhanced, text)

    def _skip_line(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            del self._buffer[: len(self._buffer) - self._buffer.endswith(b"\r")]
            return False
        del self._buffer[: end + 2]
        self._is_skipping_line = False
        return True

    def _line_failed(self) -> None:
        """Leave whatever the line was meant for."""
        raise NotImplementedError

"""
The connection under an IMAP session: every read ends in time, and none takes more than it may.

Arrives: a host, a TLS context. Leaves: lines and literals, for `imaplib`, which this is a connection for; `OverBound` where a server
says too much, `OSError` where it says nothing. Blocking: a session runs in a thread of its own (net.imap).
Why: imaplib reads a literal of any size that a server announces, and answers without end.
Standards: RFC 3501 §2.2 (lines, literals), §6.2.1 (STARTTLS: what came before it in plain text is thrown away), RFC 8314 §3,
RFC 2177 (IDLE).
Not here: what is asked (net.imap). Bugs: none known.
"""

import contextlib
import imaplib
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

_CHUNK: Final = 65_536
_LINE: Final = 1_000_000
_TINY: Final = 0.001
_NEWS: Final = re.compile(rb"\* [0-9]{1,10} EXISTS\b", re.IGNORECASE)


class OverBound(imaplib.IMAP4.abort):
    """A server says more than was asked for, or takes longer than it may."""


class Bounds:
    """
    What a session may still take.

    Attributes:
        bytes_left: Of the answer that is being read.
        ends_at: On the monotonic clock; then the session is over.
    """

    def __init__(self, monotonic: Callable[[], float], *, timeout_s: float, session_s: float) -> None:
        """
        Args:
            timeout_s: Time for one read.
            session_s: Time for the session from now on.
        """
        self._monotonic = monotonic
        self._timeout_s = timeout_s
        self._sock: socket.socket | None = None
        self._is_over = False
        self.ends_at = monotonic() + session_s
        self.bytes_left = _CHUNK

    def allow(self, count: int) -> None:
        """Say how large the next answer may be."""
        self.bytes_left = count

    def taken(self, count: int) -> None:
        """
        Count what came.

        Raises:
            OverBound: It is too much.
        """
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise OverBound("the server's answer is larger than it may be")

    def seconds_left(self) -> float:
        """
        Return the time for the next read.

        Raises:
            OverBound: The session is over.
        """
        left = self.ends_at - self._monotonic()
        if left <= 0 or self._is_over:
            raise OverBound("the session takes longer than it may")
        return max(min(self._timeout_s, left), _TINY)

    def extend(self, session_s: float) -> None:
        """Give the session so much time from now on: waiting for news is no slowness of the server."""
        self.ends_at = self._monotonic() + session_s

    def left_until(self, at: float) -> float:
        """Return the time until an instant of the monotonic clock."""
        return at - self._monotonic()

    def in_seconds(self, seconds: float) -> float:
        """Return the instant of the monotonic clock that is so far away."""
        return self._monotonic() + seconds

    def watch(self, sock: socket.socket) -> None:
        """Know the socket, so that another thread can end the session."""
        self._sock = sock
        self.seconds_left()

    def end(self) -> None:
        """End the session now, from any thread: whoever reads hears of it at once."""
        self._is_over = True
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)


class BoundedImap(imaplib.IMAP4):
    """imaplib's protocol over a bounded connection."""

    def __init__(self, host: str, port: int, bounds: Bounds, tls: ssl.SSLContext | None) -> None:
        """
        Connect and read the greeting.

        Args:
            tls: For TLS from the first byte.

        Raises:
            OSError: No connection, or no TLS.
            error: The greeting is none.
        """
        self._bounds = bounds
        self._tls = tls
        self._received = bytearray()
        super().__init__(host, port)

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        """Connect; imaplib calls it."""
        self.host, self.port = host, port
        self._received.clear()
        sock = socket.create_connection((host, port), self._bounds.seconds_left())
        self._bounds.watch(sock)
        self.sock = self._encrypted(sock, self._tls) if self._tls is not None else sock

    def _encrypted(self, sock: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        sock.settimeout(self._bounds.seconds_left())
        encrypted = tls.wrap_socket(sock, server_hostname=self.host, do_handshake_on_connect=False)
        self._bounds.watch(encrypted)
        try:
            encrypted.do_handshake()
        except BaseException:
            encrypted.close()
            raise
        return encrypted

    def starttls(self, ssl_context: ssl.SSLContext | None = None) -> Any:
        """
        Encrypt; what the server said in plain text beyond its answer is not believed.

        Raises:
            error: The server does not.
            OSError: The handshake failed.
        """
        assert ssl_context is not None
        kind, answer = self._simple_command("STARTTLS")
        if kind != "OK":
            raise self.error("the server does not begin TLS")
        self._received.clear()
        self.untagged_responses: dict[str, Any] = {}
        self.sock = self._encrypted(self.sock, ssl_context)
        self._tls_established = True
        self._get_capabilities()
        return kind, answer

    def read(self, size: int) -> bytes:
        """
        Read a literal.

        Raises:
            OverBound: It is larger than it may be, or too slow.
        """
        if size > self._bounds.bytes_left:
            raise OverBound(f"the server announces {size} bytes, which are too many")
        while len(self._received) < size:
            if not self._more():
                break
        return self._take(size)

    def readline(self) -> bytes:
        """
        Read a line.

        Raises:
            OverBound: It is longer than it may be, or too slow.
        """
        seen = 0
        while (end := self._received.find(b"\n", seen)) < 0:
            seen = len(self._received)
            if seen > min(_LINE, max(self._bounds.bytes_left, 0)):
                raise OverBound("the server's line is longer than it may be")
            if not self._more():
                return self._take(seen)
        return self._take(end + 1)

    def idle(self, seconds: float) -> bool:
        """
        Wait until the server tells that mail came, or a time is over (RFC 2177); tell whether it did.

        Raises:
            OverBound: It says more than it may.
            abort: It ended the session.
            error: It does not let us wait.
            OSError: The connection broke.
        """
        tag = self._new_tag()
        try:
            self.send(tag + b" IDLE\r\n")
            has_news = False
            while not (line := self._told(tag)).startswith(b"+"):
                has_news |= bool(_NEWS.match(line))
            has_news = has_news or self._news_within(seconds)
            self.send(b"DONE\r\n")
            while not (line := self.readline()).startswith(tag + b" "):
                if not line:
                    raise self.abort("the server ended the session")
                has_news |= bool(_NEWS.match(line))
            if not line[len(tag) + 1 :].upper().startswith(b"OK"):
                raise self.error("the server does not let us wait")
            return has_news
        finally:
            self.tagged_commands.pop(tag, None)

    def _news_within(self, seconds: float) -> bool:
        ends_at = self._bounds.in_seconds(seconds)
        while True:
            while b"\n" in self._received:
                if _NEWS.match(self._told(b"")):
                    return True
            if len(self._received) > _LINE:
                raise OverBound("the server's line is longer than it may be")
            self._bounds.seconds_left()  # raises when another thread has ended the session
            self.sock.settimeout(max(self._bounds.left_until(ends_at), _TINY))
            try:
                data = self.sock.recv(_CHUNK)
            except TimeoutError:
                return False
            self._received += data
            if not data:
                raise self.abort("the server ended the session")

    def _told(self, tag: bytes) -> bytes:
        """Read a line; refuse one that ends the command, or the session."""
        line = self.readline()
        if not line:
            raise self.abort("the server ended the session")
        if tag and line.startswith(tag + b" "):
            raise self.error("the server does not let us wait")
        return line

    def send(self, data: Any) -> None:
        """
        Send.

        Raises:
            OSError: The connection broke, or takes nothing.
        """
        self.sock.settimeout(self._bounds.seconds_left())
        self.sock.sendall(data)

    def shutdown(self) -> None:
        """Close the connection."""
        self._bounds.end()
        self.sock.close()

    def _more(self) -> bool:
        self.sock.settimeout(self._bounds.seconds_left())
        data = self.sock.recv(_CHUNK)
        self._received += data
        return bool(data)

    def _take(self, count: int) -> bytes:
        found = bytes(self._received[:count])
        del self._received[:count]
        self._bounds.taken(len(found))
        return found

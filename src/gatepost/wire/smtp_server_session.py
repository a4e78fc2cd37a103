"""
The commands that are about the session rather than about a message: EHLO, STARTTLS, AUTH, and those that do nothing.

Standards: RFC 5321 §4.1.1, RFC 3207 (STARTTLS), RFC 4954 (AUTH).
Not here: one AUTH exchange (wire.smtp_server_auth), messages (wire.smtp_server).
Bugs: none known.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import ClassVar

from gatepost.wire.smtp_reply import format_lines
from gatepost.wire.smtp_server_auth import MECHANISMS, AuthExchange
from gatepost.wire.smtp_server_dialogue import Dialogue, Phase, Step, fixed_reply
from gatepost.wire.smtp_server_events import Authenticate, CloseReason, ServerEvent, ServerOptions, StartTls
from gatepost.wire.smtp_server_params import SyntaxRefused, parse_helo_name


@lru_cache(maxsize=64)
def _greeting(hostname: str, max_message_bytes: int, offers_starttls: bool, offers_auth: bool, is_tls: bool) -> bytes:  # noqa: FBT001
    """Write the reply to EHLO (RFC 3207 §4: no STARTTLS inside TLS; RFC 4954 §3: AUTH only where it would work; RFC 8689 §2)."""
    lines = [hostname, "PIPELINING", f"SIZE {max_message_bytes}"]
    lines += ["STARTTLS"] if offers_starttls else []
    lines += [f"AUTH {' '.join(MECHANISMS)}"] if offers_auth else []
    lines += ["REQUIRETLS"] if is_tls else []
    return format_lines(250, [*lines, "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING"])


class Session(Dialogue):
    """
    Who the client is, and how private the connection.

    Attributes:
        helo_name: The name the client gave with EHLO or HELO; empty before.
        is_tls: TLS is on.
    """

    def __init__(self, options: ServerOptions, *, offers_starttls: bool, is_tls: bool, is_authenticated: bool, requires_tls: bool) -> None:
        super().__init__(options)
        self._offers_starttls = offers_starttls
        self.is_tls = is_tls
        self._is_trusted = is_authenticated
        self._requires_tls = requires_tls
        self._auth_failures = 0
        self._auth: AuthExchange | None = None
        self._refusal: tuple[int, str, str] | None = None
        self._output.append(fixed_reply(220, None, f"{options.hostname} ESMTP Gatepost"))
        self._reset_session()

    @property
    def is_in_transaction(self) -> bool:
        """True from MAIL until the answer to the message."""
        raise NotImplementedError

    def _reset_transaction(self) -> None:
        """Forget the message that was begun."""
        raise NotImplementedError

    @property
    def is_authenticated(self) -> bool:
        """True when the client may send mail."""
        return self._is_trusted or self._has_authenticated

    def accept_authentication(self) -> None:
        """Answer `Authenticate`: the credentials are good."""
        self._answered(235, "2.7.0", "Authentication successful")
        self._has_authenticated = True

    def _refuse_authentication(self, code: int, enhanced: str, text: str) -> None:
        assert self._auth is not None
        challenge = self._auth.challenge_after_refusal()
        if challenge is not None and code == 535 and self._refusal is None:
            self._refusal = (code, enhanced, text)  # said once the client answered the challenge (RFC 7628 §3.2.3)
            self._phase = Phase.AUTH
            self.progress += 1
            self._reply(334, None, challenge)
            return
        self._auth_failures += 1
        self._resume()
        if self._auth_failures >= self._options.max_auth_failures:
            self._close(CloseReason.AUTH_FAILURES, 421, "4.7.0", "Too many failed authentications")
        else:
            self._reply(code, enhanced, text)

    def tls_started(self) -> None:
        """Answer `StartTls`: the handshake is done. Everything known about the client is forgotten (RFC 3207 §4.2)."""
        self._phase = Phase.COMMAND
        self.is_tls = True
        self._offers_starttls = False
        self._buffer.clear()
        self.progress += 1
        self._reset_session()
        self._reset_transaction()

    def _reset_session(self) -> None:
        self.helo_name = ""
        self._is_extended = False
        self._has_authenticated = False
        self._auth = None
        self._refusal = None

    def _resume(self) -> None:
        self._phase = Phase.COMMAND
        self._auth = None
        self._refusal = None
        self.progress += 1

    def _answered(self, code: int, enhanced: str, text: str) -> None:
        self._resume()
        self._reply(code, enhanced, text)

    def _wait(self) -> None:
        self._phase = Phase.ANSWER
        self.progress += 1

    def _line_failed(self) -> None:
        if self._phase is Phase.AUTH:
            self._phase = Phase.COMMAND
            self._auth = None
            self._refusal = None

    def _step_auth(self) -> Step:
        line = self._next_line()
        if not isinstance(line, str):
            return line
        return self._respond(line)

    def _ehlo(self, argument: str) -> None:
        self.helo_name = parse_helo_name(argument.strip(" "))
        self._is_extended = True
        self._reset_transaction()
        if self._counts_as_idle():
            options = self._options
            offers = (self._offers_starttls, self._may_authenticate, self.is_tls)
            self._output.append(_greeting(options.hostname, options.max_message_bytes, *offers))

    def _helo(self, argument: str) -> None:
        self.helo_name = parse_helo_name(argument.strip(" "))
        self._is_extended = False
        self._reset_transaction()
        self._idle(250, None, self._options.hostname)

    @property
    def _may_authenticate(self) -> bool:
        return self._options.offers_auth and (self.is_tls or not self._requires_tls)

    def _starttls(self, argument: str) -> StartTls | None:
        if self.is_tls:
            self._error(503, "5.5.1", "TLS is already on")
        elif not self._offers_starttls:
            self._error(502, "5.5.1", "STARTTLS is not offered")
        elif argument:
            self._error(501, "5.5.4", "STARTTLS takes no argument")
        else:
            self._reply(220, "2.0.0", "Ready to start TLS")
            self._phase = Phase.HANDSHAKE
            self._buffer.clear()
            self.progress += 1
            return StartTls()
        return None

    def _auth_command(self, argument: str) -> Authenticate | None:
        if not self._options.offers_auth:
            self._error(502, "5.5.1", "AUTH is not offered")
            return None
        if not self._is_extended or self._has_authenticated or self.is_in_transaction:
            self._error(503, "5.5.1", "AUTH is not possible now")
            return None
        if not self._may_authenticate:
            self._error(538, "5.7.11", "Encryption is required for AUTH")
            return None
        mechanism, _, initial = argument.partition(" ")
        exchange = self._auth = AuthExchange(mechanism)
        self._phase = Phase.AUTH
        if not initial:
            self._reply(334, None, exchange.challenge())
            return None
        return self._respond("" if initial == "=" else initial)  # RFC 4954 §4: "=" is an empty initial response

    def _respond(self, line: str) -> Authenticate | None:
        assert self._auth is not None
        if self._refusal is not None:
            self._refuse_authentication(*self._refusal)
            return None
        try:
            credentials = self._auth.respond(line)
        except SyntaxRefused as refused:
            self._line_failed()
            self._error(refused.code, refused.enhanced, refused.text)
            return None
        if credentials is None:
            self._reply(334, None, self._auth.challenge())
            return None
        self._wait()
        return credentials

    def _noop(self, _argument: str) -> None:
        self._idle(250, "2.0.0", "Ok")

    def _vrfy(self, _argument: str) -> None:
        self._idle(252, "2.5.0", "Send the message and see (RFC 5321 section 3.5.3)")

    def _help(self, _argument: str) -> None:
        self._idle(214, "2.0.0", "EHLO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY QUIT")

    def _expn(self, _argument: str) -> None:
        self._idle(502, "5.5.1", "EXPN is not offered")

    def _quit(self, argument: str) -> None:
        if argument:
            self._error(501, "5.5.4", "QUIT takes no argument")
        else:
            self._close(CloseReason.QUIT, 221, "2.0.0", "Bye")

    STEPS: ClassVar[dict[Phase, Callable[["Session"], Step]]] = {Phase.AUTH: _step_auth}

    COMMANDS: ClassVar[dict[str, Callable[["Session", str], ServerEvent | None]]] = {
        "EHLO": _ehlo,
        "HELO": _helo,
        "STARTTLS": _starttls,
        "AUTH": _auth_command,
        "NOOP": _noop,
        "VRFY": _vrfy,
        "HELP": _help,
        "EXPN": _expn,
        "QUIT": _quit,
    }

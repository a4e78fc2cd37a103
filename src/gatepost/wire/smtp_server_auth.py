"""
One SASL exchange on the server's side: PLAIN and LOGIN.

Arrives: the client's base64 lines.
Leaves: a challenge to send, credentials, or `SyntaxRefused` with the reply to give.
Standards: RFC 4954 §4 (AUTH), RFC 4616 (PLAIN), draft-murchison-sasl-login (LOGIN).
Not here: whether the credentials are any good.
Bugs: the authorization identity of PLAIN is ignored; a key acts as itself only.
"""

import base64
import binascii
from typing import Final

from gatepost.wire.smtp_server_events import Authenticate
from gatepost.wire.smtp_server_params import SyntaxRefused

MECHANISMS: Final = ("PLAIN", "LOGIN")

_ASK_USERNAME: Final = base64.b64encode(b"Username:").decode()
_ASK_PASSWORD: Final = base64.b64encode(b"Password:").decode()
_NOT_BASE64: Final = "The response is not base64 of UTF-8 text"


class AuthExchange:
    """
    Lead one exchange to its credentials.

    Raises:
        SyntaxRefused: The mechanism is not known (RFC 4954 §4).
    """

    def __init__(self, mechanism: str) -> None:
        self._mechanism = mechanism.upper()
        if self._mechanism not in MECHANISMS:
            raise SyntaxRefused(504, "5.5.4", "Use AUTH PLAIN or AUTH LOGIN")
        self._username: str | None = None

    def challenge(self) -> str:
        """Give the challenge, in base64, for the response that is missing."""
        if self._mechanism == "PLAIN":
            return ""
        return _ASK_USERNAME if self._username is None else _ASK_PASSWORD

    def respond(self, line: str) -> Authenticate | None:
        """
        Take the client's response; None when another one is needed.

        Raises:
            SyntaxRefused: The client cancelled, or the line is no valid response.
        """
        if line == "*":
            raise SyntaxRefused(501, "5.7.0", "Authentication cancelled")
        if self._mechanism == "PLAIN":
            return _plain(_decode(line))
        text = _decode(line)
        if self._username is None:
            self._username = text
            return None
        return Authenticate(mechanism="LOGIN", authcid=self._username, secret=text)


def _decode(line: str) -> str:
    try:
        return base64.b64decode(line.encode("ascii"), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise SyntaxRefused(501, "5.5.2", _NOT_BASE64) from None


def _plain(text: str) -> Authenticate:
    parts = text.split("\0")
    if len(parts) != 3 or not parts[1]:  # authzid NUL authcid NUL passwd
        raise SyntaxRefused(501, "5.5.2", "PLAIN needs a username and a password")
    return Authenticate(mechanism="PLAIN", authcid=parts[1], secret=parts[2])

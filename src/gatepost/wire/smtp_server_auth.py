"""
One SASL exchange on the server's side: PLAIN, LOGIN, OAUTHBEARER and XOAUTH2.

Arrives: the client's base64 lines; and the door's no.
Leaves: a challenge to send, credentials, or `SyntaxRefused` with the reply to give.
A refused token is told by a challenge with a JSON object; only after the client's answer to that comes the 535.
Standards: RFC 4954 §4 (AUTH), RFC 4616 (PLAIN), draft-murchison-sasl-login (LOGIN), RFC 7628 (OAUTHBEARER), RFC 5801 §4
(its GS2 header); XOAUTH2 as Google published it.
Not here: whether the credentials are any good.
Bugs: the authorization identity is ignored; a key or token acts as itself only.
"""

import base64
import binascii
import re
from typing import Final

from gatepost.wire.smtp_server_events import Authenticate
from gatepost.wire.smtp_server_params import SyntaxRefused

MECHANISMS: Final = ("PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2")

_ASK_USERNAME: Final = base64.b64encode(b"Username:").decode()
_ASK_PASSWORD: Final = base64.b64encode(b"Password:").decode()
_NOT_BASE64: Final = "The response is not base64 of UTF-8 text"
_REFUSED: Final = {
    "OAUTHBEARER": base64.b64encode(b'{"status":"invalid_token","schemes":"bearer","scope":"messages:send"}').decode(),
    "XOAUTH2": base64.b64encode(b'{"status":"401","schemes":"Bearer","scope":"messages:send"}').decode(),
}
"""RFC 7628 §3.2.2: why the token was refused."""
_GS2: Final = re.compile(r"[ny],(?:a=([^,]*))?,")
_BEARER: Final = re.compile(r"bearer +([\x21-\x7e]+)", re.IGNORECASE)


class AuthExchange:
    """
    Lead one exchange to its credentials.

    Raises:
        SyntaxRefused: The mechanism is not known (RFC 4954 §4).
    """

    def __init__(self, mechanism: str) -> None:
        self._mechanism = mechanism.upper()
        if self._mechanism not in MECHANISMS:
            raise SyntaxRefused(504, "5.5.4", "Use AUTH PLAIN, LOGIN, OAUTHBEARER or XOAUTH2")
        self._username: str | None = None

    def challenge(self) -> str:
        """Give the challenge, in base64, for the response that is missing."""
        if self._mechanism != "LOGIN":
            return ""
        return _ASK_USERNAME if self._username is None else _ASK_PASSWORD

    def challenge_after_refusal(self) -> str | None:
        """Give the challenge that says why a token was refused; None where the mechanism has none."""
        return _REFUSED.get(self._mechanism)

    def respond(self, line: str) -> Authenticate | None:
        """
        Take the client's response; None when another one is needed.

        Raises:
            SyntaxRefused: The client cancelled, or the line is no valid response.
        """
        if line == "*":
            raise SyntaxRefused(501, "5.7.0", "Authentication cancelled")
        match self._mechanism:
            case "PLAIN":
                return _plain(_decode(line))
            case "OAUTHBEARER":
                return _oauthbearer(_decode(line))
            case "XOAUTH2":
                return _xoauth2(_decode(line))
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


def _oauthbearer(text: str) -> Authenticate:
    """Read `n,a=user,^Aauth=Bearer token^A^A` (RFC 7628 §3.1)."""
    header = _GS2.match(text)
    if header is None:
        raise SyntaxRefused(501, "5.5.2", "OAUTHBEARER begins with a GS2 header such as n,,")
    name = (header[1] or "").replace("=2C", ",").replace("=3D", "=")
    fields = text[header.end() :]
    if not fields.startswith("\1"):
        raise SyntaxRefused(501, "5.5.2", "OAUTHBEARER needs auth=Bearer and a token")
    return Authenticate(mechanism="OAUTHBEARER", authcid=name, secret=_token(fields[1:], "OAUTHBEARER"))


def _xoauth2(text: str) -> Authenticate:
    """Read `user=name^Aauth=Bearer token^A^A`."""
    user, _, rest = text.partition("\1")
    if not user.startswith("user="):
        raise SyntaxRefused(501, "5.5.2", "XOAUTH2 begins with user=")
    return Authenticate(mechanism="XOAUTH2", authcid=user.removeprefix("user="), secret=_token(rest, "XOAUTH2"))


def _token(fields: str, mechanism: str) -> str:
    """Find the token among `name=value^A` pairs, which end in one more ^A."""
    if not fields.endswith("\1\1"):
        raise SyntaxRefused(501, "5.5.2", f"{mechanism} ends in two bytes 0x01")
    values = [pair.removeprefix("auth=") for pair in fields[:-2].split("\1") if pair.startswith("auth=")]
    found = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
    if found is None:
        raise SyntaxRefused(501, "5.5.2", f"{mechanism} needs auth=Bearer and a token")
    return found[1]

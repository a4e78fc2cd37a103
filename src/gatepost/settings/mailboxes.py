"""
Options of mailboxes that are read over IMAP: abuse mailboxes, and seeds that tell where our mail lands.

Not here: secrets and tokens made ready for use (app.imap), what no type can say of them (checks).
"""

import ipaddress
from dataclasses import dataclass
from typing import Annotated, Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from msgspec import Meta

from gatepost.settings.delivery import RelayOAuth
from gatepost.settings.section import Section

_PORTS: Final = {"imaps": 993, "imap": 143}
_URL: Final = (
    "imaps://user@host[:port]/folder for TLS from the first byte, imap:// for STARTTLS; the user may hold an @;"
    " imap://…?tls=never only on this machine"
)


class Mailbox(Section, frozen=True):
    """A mailbox that complaints come to, such as abuse@ at your provider. What it says is believed as mail at our own door is."""

    url: Annotated[str, Meta(description=f"{_URL}. Without a folder it is INBOX")]
    secret: Annotated[str, Meta(description="password; may be sealed, or come from a …_FILE")] = ""
    secret_file: Annotated[str, Meta(description="or a file that holds it, read at the start")] = ""
    oauth: RelayOAuth = RelayOAuth()
    ca_file: Annotated[str, Meta(description="PEM file of authorities that are trusted instead of the system's")] = ""
    when_read: Annotated[
        Literal["flag", "move", "delete"],
        Meta(description="what becomes of mail that is stored here: flag (keyword GatepostRead), move (to move_to) or delete"),
    ] = "flag"
    move_to: Annotated[str, Meta(max_length=255, description="folder for `move`; it is made where it is missing")] = ""
    every_s: Annotated[int, Meta(ge=5, le=86_400, description="how often it is looked into; after failures ever less, at most hourly")] = 60
    idle: Annotated[
        bool,
        Meta(
            description="stay connected where the server tells of new mail (RFC 2177), so that it is read at once; every_s is for servers"
            " that do not, and for what goes wrong"
        ),
    ] = True
    timeout_s: Annotated[float, Meta(gt=0, le=300, description="time for one answer of the server")] = 30.0


class Seed(Section, frozen=True):
    """A mailbox of yours at a provider: placement tests are sent there, and it is looked where they land."""

    address: Annotated[str, Meta(min_length=3, max_length=254, description="its address")]
    url: Annotated[str, Meta(description=f"{_URL}. It names no folder")]
    secret: Annotated[str, Meta(description="password; may be sealed, or come from a …_FILE")] = ""
    secret_file: Annotated[str, Meta(description="or a file that holds it, read at the start")] = ""
    oauth: RelayOAuth = RelayOAuth()
    ca_file: Annotated[str, Meta(description="PEM file of authorities that are trusted instead of the system's")] = ""
    provider: Annotated[
        str, Meta(max_length=60, description="whose mailbox it is, for summaries, such as gmail; empty is the address's domain")
    ] = ""
    inbox: Annotated[str, Meta(min_length=1, max_length=255, description="folder of wanted mail")] = "INBOX"
    spam: Annotated[
        list[str],
        Meta(description="folders of spam; empty finds them: by the attribute \\Junk (RFC 6154), else by usual names"),
    ] = msgspec.field(default_factory=list)
    authserv_id: Annotated[
        str, Meta(description="name by which its provider signs Authentication-Results; empty believes the topmost field")
    ] = ""
    remove: Annotated[bool, Meta(description="delete test mail once it is found")] = False
    timeout_s: Annotated[float, Meta(gt=0, le=300, description="time for one answer of the server")] = 30.0


class Placement(Section, frozen=True):
    """Tests of where mail lands: inbox, spam or nowhere. They need [seeds.NAME]."""

    deadline_s: Annotated[int, Meta(ge=1, le=86_400, description="mail that is in no folder after so long is missing")] = 900
    every_s: Annotated[float, Meta(ge=0.2, le=3600, description="how often seeds are looked into while a test runs")] = 15.0
    per_day: Annotated[int, Meta(ge=1, le=1000, description="tests of one tenant in 24 hours")] = 24
    daily: Annotated[
        list[str],
        Meta(description='senders of a test each day, such as ["Acme <news@acme.example>"]: its domain tells the tenant'),
    ] = msgspec.field(default_factory=list)
    daily_hour: Annotated[int, Meta(ge=0, le=23, description="hour (UTC) from which these are sent")] = 6
    keep_days: Annotated[int, Meta(ge=1, le=3650, description="how long results are kept")] = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class ImapUrl:
    """
    Where a mailbox is.

    Attributes:
        folder: Empty where the URL names none.
        tls: `implicit`, `starttls`, or `never` (on this machine only).
    """

    host: str
    port: int
    user: str
    folder: str
    tls: Literal["implicit", "starttls", "never"]


def parse_imap_url(text: str) -> ImapUrl:
    """
    Read the URL of a mailbox (RFC 5092, without its sections and with whole folders only).

    Raises:
        ValueError: It is none; the text holds nothing of it.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("it is no URL") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("give imaps://user@host/folder, or imap:// for STARTTLS")
    if parts.password is not None:
        raise ValueError("a password does not stand in the URL: give it as secret, or secret_file")
    user, folder = unquote(parts.username or ""), unquote(parts.path.lstrip("/"))
    if not user:
        raise ValueError("it names no user: imaps://user@host/folder")
    if not (user + folder).isprintable() or parts.fragment:
        raise ValueError("user and folder hold characters that no name has")
    tls = _tls(parts.scheme, parts.query, parts.hostname)
    return ImapUrl(host=parts.hostname, port=port or _PORTS[parts.scheme], user=user, folder=folder, tls=tls)


def _tls(scheme: str, query: str, host: str) -> Literal["implicit", "starttls", "never"]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if set(options) - {"tls"} or options.get("tls", "must") not in {"must", "never"}:
        raise ValueError("the only option is ?tls=never")
    if options.get("tls") != "never":
        return "implicit" if scheme == "imaps" else "starttls"
    if scheme == "imaps" or not _is_here(host):
        raise ValueError("?tls=never is for imap:// on this machine only")
    return "never"


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

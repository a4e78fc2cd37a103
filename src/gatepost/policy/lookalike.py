"""
Hosts that look like others, and links that hide where they lead.

Arrives: hosts and URLs as text, from links and from variables. Leaves: what is wrong with one, as a code and a sentence.
Standards: UTS 39 §4 (confusables), §5 (mixed scripts); RFC 3986 §3.2.1 (userinfo), §7.6 (semantic attacks); RFC 5891.
Not here: finding links in HTML (links), names in variables (values).
Bugs: only the letters of Cyrillic and Greek that look Latin are known as look-alikes, not all of UTS 39's table.
"""

import re
import unicodedata
from functools import lru_cache

import idna

from gatepost.domain.address import mixes_scripts

_LOOK_LATIN = frozenset("асԁеһіјӏорԛѕԝхуъҽпгѵѡьвкмнт" + "αινορτυωκχηε")
_SCHEME = re.compile(r"[\x00-\x20]*(javascript|vbscript|data)\s*:", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:[a-z][a-z0-9+.-]{0,20}:)?[/\\]{2,}([^/\\?#\s\"'<>]*)", re.IGNORECASE)
_IGNORED = str.maketrans("", "", "\t\r\n")  # browsers leave these out of a URL (WHATWG URL §4.4)
_DOTS = re.compile("[.\u3002\uff0e\uff61]")
_INVISIBLE = frozenset({"Cf", "Cc", "Zl", "Zp"})

Trouble = tuple[str, str]
"""A code and the end of a sentence that begins with what it is about."""


def trouble_of_url(url: str) -> Trouble | None:
    """Say what is wrong with where a URL leads; None where nothing is."""
    url = url[:2_000].translate(_IGNORED).strip()
    scheme = _SCHEME.match(url)
    if scheme is not None and not url[:11].lower().startswith("data:image/"):
        return "unsafe_link", f"runs something instead of leading somewhere ({scheme[1].lower()}:)"
    found = _AUTHORITY.match(url)
    return trouble_of_authority(found[1]) if found else None


def trouble_of_authority(authority: str) -> Trouble | None:
    """Say what is wrong with the part of a URL between `//` and the path."""
    user, at, host = authority.rpartition("@")
    if at and ("." in user or ":" in user):
        return "deceptive_link", "has a name before its host that hides the host"
    return ("lookalike_link", "has a host that looks like another") if is_lookalike(_without_port(host)) else None


@lru_cache(maxsize=4096)
def is_lookalike(host: str) -> bool:
    """
    Tell whether a host is written so that it looks like another one.

    That is: letters of different scripts in a label; a label all of whose letters look Latin and are not, under an ASCII
    ending; or characters that nobody sees.
    """
    if host.isascii() and "xn--" not in host.lower():
        return False
    labels = [_shown(label) for label in _DOTS.split(host) if label]
    if any(label is None for label in labels):
        return True
    texts = [label for label in labels if label is not None]
    if any(unicodedata.category(c) in _INVISIBLE for label in texts for c in label):
        return True
    ends_ascii = bool(texts) and texts[-1].isascii()
    return any(not label.isascii() and (mixes_scripts(label) or (ends_ascii and _looks_latin(label))) for label in texts)


def host_of(url: str) -> str:
    """Return a URL's host in lower-case A-labels where it has any; empty without host."""
    found = _AUTHORITY.match(url[:2_000].translate(_IGNORED).strip())
    return a_labels(_without_port(found[1].rpartition("@")[2])) if found else ""


def a_labels(host: str) -> str:
    """Bring a host into the one form in which hosts are compared."""
    host = ".".join(_DOTS.split(host.strip().rstrip("."))).lower()
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        return host


def _without_port(host: str) -> str:
    return host if host.endswith("]") else re.sub(r":[0-9]*$", "", host)


def _shown(label: str) -> str | None:
    """Return a label as browsers show it; None where it is no valid one."""
    if not label.lower().startswith("xn--"):
        return unicodedata.normalize("NFKC", label).lower()
    try:
        return idna.ulabel(label.lower())
    except (idna.IDNAError, UnicodeError):
        return None


def _looks_latin(label: str) -> bool:
    letters = [c for c in label if c.isalpha()]
    return bool(letters) and all(c in _LOOK_LATIN for c in letters)

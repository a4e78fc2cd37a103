"""
SPF records, read: a text becomes terms, or the reason why it is none.

Arrives: the text of one TXT record. Leaves: a `Record`. Syntax is checked whole before anything is evaluated, as RFC 7208 §4.6 asks.
Standards: RFC 7208 §4.5, §4.6, §5, §6, §7.1 (grammar of records, mechanisms, modifiers and macros).
Not here: evaluating (spf), expanding macros (spf_macro).
Bugs: none known.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gatepost.wire.spf_macro import parse_macros

_VERSION = re.compile(r"v=spf1(?: |\Z)", re.IGNORECASE)
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9._-]*)=(.*)", re.DOTALL)
_DIRECTIVE = re.compile(r"([-+?~]?)([A-Za-z][A-Za-z0-9]*)(.*)", re.DOTALL)
_CIDR = re.compile(r"(.*?)(?:/(\d+))?(?://(\d+))?", re.DOTALL)
_TAIL = re.compile(r"\.(?:[0-9A-Za-z]*[A-Za-z][0-9A-Za-z]*|[0-9A-Za-z]+-[0-9A-Za-z-]*[0-9A-Za-z])\.?\Z")
_QUALIFIERS = {"": "pass", "+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_WITH_DOMAIN = frozenset({"include", "exists"})
_MAYBE_DOMAIN = frozenset({"a", "mx", "ptr"})


class Malformed(ValueError):  # noqa: N818
    """A record breaks the grammar; the message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """
    One mechanism of a record.

    Attributes:
        qualifier: The result when it matches: `pass`, `fail`, `softfail` or `neutral`.
        domain: Its domain-spec with macros; empty is the current domain.
        network: Of `ip4` and `ip6`.
    """

    text: str
    name: str
    qualifier: str
    domain: str = ""
    cidr4: int = 32
    cidr6: int = 128
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record; `redirect` is empty where there is none."""

    text: str
    terms: tuple[Term, ...]
    redirect: str = ""


def select(texts: Sequence[str]) -> list[str]:
    """Pick the SPF records out of a name's TXT records (RFC 7208 §4.5)."""
    return [text for text in texts if _VERSION.match(text)]


def parse(text: str) -> Record:
    """
    Read one record.

    Raises:
        Malformed: It breaks the grammar anywhere; nothing of it counts then.
    """
    if not text.isascii():
        raise Malformed("it has characters outside of ASCII")
    terms: list[Term] = []
    modifiers: dict[str, str] = {}
    for word in text[len("v=spf1") :].split(" "):
        if not word:
            continue
        if found := _MODIFIER.fullmatch(word):
            _add_modifier(modifiers, found[1].lower(), found[2])
        else:
            terms.append(_directive(word))
    return Record(text=text, terms=tuple(terms), redirect=modifiers.get("redirect", ""))


def _add_modifier(modifiers: dict[str, str], name: str, value: str) -> None:
    if name in {"redirect", "exp"}:
        if name in modifiers:
            raise Malformed(f"{name}= stands in it twice")
        _check_domain(f"{name}={value}", value)
        modifiers[name] = value
    else:
        _macros(f"{name}={value}", value)


def _directive(word: str) -> Term:
    found = _DIRECTIVE.fullmatch(word)
    if found is None:
        raise Malformed(f"{_shown(word)} is no term")
    qualifier, name, rest = _QUALIFIERS[found[1]], found[2].lower(), found[3]
    if name == "all" and not rest:
        return Term(text=word, name=name, qualifier=qualifier)
    if name in _WITH_DOMAIN and rest.startswith(":"):
        _check_domain(word, rest[1:])
        return Term(text=word, name=name, qualifier=qualifier, domain=rest[1:])
    if name in _MAYBE_DOMAIN:
        return _addressed(word, name, qualifier, rest)
    if name in {"ip4", "ip6"} and rest.startswith(":"):
        return Term(text=word, name=name, qualifier=qualifier, network=_network(word, name, rest[1:]))
    raise Malformed(f"{_shown(word)} is no mechanism")


def _addressed(word: str, name: str, qualifier: str, rest: str) -> Term:
    """Read `a`, `mx` and `ptr`: an optional domain, and prefix lengths but for `ptr`."""
    found = _CIDR.fullmatch(rest)
    assert found is not None  # the pattern matches everything
    domain, cidr4, cidr6 = found.groups()
    if domain:
        if not domain.startswith(":"):
            raise Malformed(f"{_shown(word)} is no mechanism")
        _check_domain(word, domain[1:])
    if name == "ptr" and (cidr4 or cidr6):
        raise Malformed(f"{_shown(word)}: ptr takes no prefix length")
    return Term(
        text=word, name=name, qualifier=qualifier, domain=domain[1:], cidr4=_length(word, cidr4, 32), cidr6=_length(word, cidr6, 128)
    )  # fmt: skip


def _length(word: str, text: str | None, most: int) -> int:
    if text is None:
        return most
    if not text.isdecimal() or (text.startswith("0") and text != "0") or len(text) > 3 or int(text) > most:
        raise Malformed(f"{_shown(word)}: {_shown(text)} is no prefix length")
    return int(text)


def _network(word: str, name: str, text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    address, slash, length = text.partition("/")
    try:
        if name == "ip4":
            first: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv4Address(address)
        else:
            first = ipaddress.IPv6Address(address)
    except ValueError:
        raise Malformed(f"{_shown(word)}: {_shown(address)} is no address") from None
    prefix = _length(word, length if slash else None, first.max_prefixlen)
    return ipaddress.ip_network((first, prefix), strict=False)


def _check_domain(word: str, text: str) -> None:
    """Check a domain-spec: it ends with a macro, or with a dot and a name that is not all digits (RFC 7208 §7.1)."""
    parts = _macros(word, text)
    if not parts or (isinstance(parts[-1], str) and not _TAIL.search(parts[-1])):
        raise Malformed(f"{_shown(word)} names no domain")


def _macros(word: str, text: str) -> Sequence[object]:
    try:
        return parse_macros(text)
    except ValueError as error:
        raise Malformed(f"{_shown(word)}: {error}") from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")

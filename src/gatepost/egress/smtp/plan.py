"""
Where a batch goes: from a relay's URL or a domain's DNS answers to an ordered list of hosts.

Arrives: settings and answers. Leaves: a `RelayTarget` or a `Plan`. No I/O; randomness is an argument.
Standards: RFC 5321 §5.1 (preference, equal ones in random order, implicit MX), RFC 7505 (null MX).
Not here: resolving (net.dns), connecting (session, courier); recognising ourselves among the MX hosts (not built yet).
"""

import urllib.parse
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass
from typing import Any, assert_never

from gatepost.domain.outcome import Category
from gatepost.net.dns import MxAnswer, MxHosts, NoDomain, NoMx, NullMx, ResolverFailed
from gatepost.settings import InvalidSettings
from gatepost.wire.smtp_client import Credentials, TlsLevel

MAX_HOSTS = 5
"""Hosts tried in one attempt."""

MAX_ADDRESSES = 4
"""Addresses tried of one host."""

Shuffle = Callable[[MutableSequence[Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayTarget:
    """
    A smarthost as its URL describes it.

    Attributes:
        is_implicit_tls: TLS from the first byte (`smtps://`).
        credentials: For AUTH; never sent unencrypted unless `tls` is `never`.
    """

    host: str
    port: int
    tls: TlsLevel
    is_implicit_tls: bool
    credentials: Credentials | None


@dataclass(frozen=True, slots=True)
class Hosts:
    """Hosts in the order in which to try them."""

    names: tuple[str, ...]
    is_implicit: bool = False


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """The domain takes no mail: a failure for good."""

    category: Category
    detail: str


@dataclass(frozen=True, slots=True)
class Unresolved:
    """DNS could not be asked: our trouble, it costs no attempt."""

    detail: str


Plan = Hosts | Undeliverable | Unresolved


def plan_mx(domain: str, answer: MxAnswer, shuffle: Shuffle) -> Plan:
    """
    Order a domain's mail hosts.

    Args:
        shuffle: Reorders a list in place, such as `random.shuffle`.
    """
    match answer:
        case MxHosts(hosts=hosts):
            return Hosts(_ordered(hosts, shuffle))
        case NoMx():
            return Hosts((domain,), is_implicit=True)
        case NullMx():
            return Undeliverable(Category.INVALID_DOMAIN, f"5.1.10 {domain} takes no mail (null MX)")
        case NoDomain():
            return Undeliverable(Category.INVALID_DOMAIN, f"5.1.2 there is no domain {domain}")
        case ResolverFailed(detail=detail):
            return Unresolved(detail)
        case _:
            assert_never(answer)


def _ordered(hosts: tuple[tuple[int, str], ...], shuffle: Shuffle) -> tuple[str, ...]:
    shuffled = list(hosts)
    shuffle(shuffled)
    shuffled.sort(key=lambda host: host[0])
    return tuple(dict.fromkeys(name for _, name in shuffled))[:MAX_HOSTS]


def parse_relay(name: str, url: str, secret: str = "") -> RelayTarget:
    """
    Read a relay's URL: `smtp://[user:password@]host[:port][?tls=never|may|must]` or `smtps://…`.

    Without `tls=`, a relay with a password must encrypt and prove its name, another may encrypt.

    Args:
        secret: The password, where it does not stand in the URL.

    Raises:
        InvalidSettings: Not such a URL; the text never repeats the password.
    """
    option = f"relays.{name}.url"
    try:
        parts = urllib.parse.urlsplit(url)
        host, port, query = parts.hostname, parts.port, urllib.parse.parse_qs(parts.query, strict_parsing=bool(parts.query))
        credentials = _credentials(parts)
    except ValueError as error:
        raise InvalidSettings(f"{option}: not a URL with host and port") from error
    if parts.scheme not in {"smtp", "smtps"} or not host or parts.path not in {"", "/"} or set(query) - {"tls"}:
        raise InvalidSettings(f"{option}: expected smtp://[user:password@]host:port[?tls=never|may|must] or smtps://…")
    if secret:
        if credentials is None or not credentials.user or credentials.password:
            raise InvalidSettings(f"{option}: with a secret of its own it names the user, and no password: smtp://user@host")
        credentials = Credentials(credentials.user, secret)
    is_implicit = parts.scheme == "smtps"
    default = TlsLevel.MUST if credentials or is_implicit else TlsLevel.MAY
    levels = query.get("tls", [default.value])
    if levels[0] not in {"never", "may", "must"} or (is_implicit and levels[0] == "never"):
        raise InvalidSettings(f"{option}: tls is never, may or must, and smtps:// is always encrypted")
    usual = 465 if is_implicit else 587 if credentials else 25
    return RelayTarget(host=host, port=port or usual, tls=TlsLevel(levels[0]), is_implicit_tls=is_implicit, credentials=credentials)


def _credentials(parts: urllib.parse.SplitResult) -> Credentials | None:
    if parts.username is None:
        return None
    return Credentials(urllib.parse.unquote(parts.username, errors="strict"), urllib.parse.unquote(parts.password or "", errors="strict"))

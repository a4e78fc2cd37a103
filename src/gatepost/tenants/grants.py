"""
What somebody may give to a key or an OAuth client that they make.

Arrives: what is asked for, and who asks. Leaves: what the new key has; or `Refused`.
Nobody gives more than they have: scopes, domains, streams, networks, limits, time, or live mail where they only test.
What is left open is taken over from the maker. The scope `operator` exists in the default tenant only.
Not here: what the scopes allow (the doors, accept).
"""

import dataclasses
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gatepost.clock import Instant
from gatepost.domain.access import KeyMode, Network, Principal, PrincipalKind, Restrictions, Scope, parse_limit, widened
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.message import STREAMS
from gatepost.domain.stream import NAME

T = TypeVar("T")

_MOST = 100
"""Domains, networks or limits of one key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    What is asked for, as texts; None and empty leave it open.

    Attributes:
        networks: CIDR, host bits may be set.
        limits: As `messages=10/minute`.
    """

    scopes: Sequence[str] | None = None
    domains: Sequence[str] = ()
    streams: Sequence[str] = ()
    networks: Sequence[str] = ()
    limits: Sequence[str] = ()
    expires_at: Instant | None = None


def read(asked: Asked, now: Instant, default_scopes: frozenset[Scope] = frozenset({Scope.ADMIN})) -> Restrictions:
    """
    Read what is asked for.

    Raises:
        Refused: validation_failed, with the place of each fault.
    """
    faults: list[Fault] = []
    scopes = default_scopes if asked.scopes is None else frozenset(_each("/scopes", "unknown_scope", asked.scopes, _scope, faults))
    if asked.scopes is not None and not asked.scopes:
        faults.append(Fault("/scopes", "required", "a key without any scope could do nothing"))
    found = Restrictions(
        scopes=scopes,
        domains=frozenset(_each("/domains", "invalid_domain", asked.domains, _domain, faults)),
        streams=frozenset(_each("/streams", "unknown_stream", asked.streams, _stream, faults)),
        networks=tuple(dict.fromkeys(_each("/cidrs", "invalid_network", asked.networks, _network, faults))),
        limits=tuple(_each("/limits", "invalid_limit", asked.limits, parse_limit, faults)),
        expires_at=asked.expires_at,
    )
    if len({(limit.resource, limit.per) for limit in found.limits}) != len(found.limits):
        faults.append(Fault("/limits", "duplicate_limit", "the same resource has two limits per the same time"))
    if asked.expires_at is not None and asked.expires_at <= now:
        faults.append(Fault("/expires_at", "in_the_past", "it would have ended already"))
    if faults:
        raise invalid(*faults)
    return found


def scopes_of(maker: Principal) -> frozenset[Scope]:
    """Return the scopes that a key gets when none are named: all that its maker has in the tenant."""
    return frozenset({Scope.ADMIN}) if maker.may(Scope.ADMIN) else maker.scopes - {Scope.OPERATOR}


def inherit(maker: Principal, wanted: Restrictions) -> Restrictions:
    """Fill in from the maker what is left open."""
    same = {(limit.resource, limit.per) for limit in wanted.limits}
    return dataclasses.replace(
        wanted,
        domains=wanted.domains or maker.domains,
        streams=wanted.streams or maker.streams,
        networks=wanted.networks or maker.networks,
        limits=(*wanted.limits, *[limit for limit in maker.limits if (limit.resource, limit.per) not in same]),
        expires_at=wanted.expires_at if wanted.expires_at is not None else _end_of(maker),
    )


def check(maker: Principal, wanted: Restrictions, mode: KeyMode) -> None:
    """
    Refuse what goes beyond the maker.

    Raises:
        Refused: permission_denied, with the places.
    """
    faults = [*_faults(maker, wanted)]
    if maker.mode is KeyMode.TEST and mode is KeyMode.LIVE:
        faults.append(Fault("/mode", "more_than_maker", "a test key cannot make live keys: its mail would leave the sandbox"))
    if faults:
        raise Refused("permission_denied", faults[0].detail, tuple(faults))


def check_operator(scopes: frozenset[Scope], tenant_id: str, default_tenant_id: str) -> None:
    """
    Refuse the scope `operator` outside the default tenant.

    Raises:
        Refused: permission_denied.
    """
    if Scope.OPERATOR in scopes and tenant_id != default_tenant_id:
        detail = "only keys of the default tenant may have the scope operator"
        raise Refused("permission_denied", detail, (Fault("/scopes", "operator_elsewhere", detail),))


def _faults(maker: Principal, wanted: Restrictions) -> Iterable[Fault]:
    if beyond := widened(wanted.scopes) - maker.scopes:
        yield _more("/scopes", f"you do not have {', '.join(sorted(beyond))}")
    for place, asked, own in (("/domains", wanted.domains, maker.domains), ("/streams", wanted.streams, maker.streams)):
        if own and not (asked and asked <= own):
            yield _more(place, f"you may use only {', '.join(sorted(own))}")
    if maker.networks and not (wanted.networks and all(_is_inside(one, maker.networks) for one in wanted.networks)):
        yield _more("/cidrs", f"you may come only from {', '.join(map(str, maker.networks))}")
    amounts = {(limit.resource, limit.per): limit.amount for limit in wanted.limits}
    for limit in maker.limits:
        if amounts.get((limit.resource, limit.per), limit.amount + 1) > limit.amount:
            yield _more("/limits", f"your own limit is {limit}")
    end = _end_of(maker)
    if end is not None and (wanted.expires_at is None or wanted.expires_at > end):
        yield _more("/expires_at", "it would outlive you")


def _more(place: str, detail: str) -> Fault:
    return Fault(place, "more_than_maker", f"nobody gives more than they have: {detail}")


def _end_of(maker: Principal) -> Instant | None:
    """Return when a maker ends; a person's or a local visitor's session says nothing about what they make."""
    return maker.expires_at if maker.kind in {PrincipalKind.KEY, PrincipalKind.CLIENT} else None


def _is_inside(network: Network, wider: Iterable[Network]) -> bool:
    return any(network.version == one.version and network.subnet_of(one) for one in wider)  # type: ignore[arg-type]


def _each(place: str, code: str, texts: Sequence[str], read_one: Callable[[str], T], faults: list[Fault]) -> list[T]:
    found = []
    for n, text in enumerate(texts[:_MOST]):
        try:
            found.append(read_one(text))
        except ValueError as error:
            faults.append(Fault(f"{place}/{n}", code, str(error)))
    if len(texts) > _MOST:
        faults.append(Fault(place, "too_many", f"at most {_MOST} are taken"))
    return found


def _scope(text: str) -> Scope:
    try:
        return Scope(text)
    except ValueError:
        raise ValueError(f"{text[:80]!r} is none of {', '.join(Scope)}") from None


def _domain(text: str) -> str:
    try:
        return parse_address(f"postmaster@{text.strip().rstrip('.')}").domain
    except InvalidAddress:
        raise ValueError(f"{text[:80]!r} is not a domain name") from None


def _stream(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is no stream's name, such as {', '.join(STREAMS)}")
    return text


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(f"{text[:80]!r} is not a network such as 10.0.0.0/8") from None

"""
SPF, evaluated: may this address send for that domain, and what does finding out cost?

Arrives: an address and a domain, and the answers to the questions that are asked on the way. Leaves: a `Verdict`, or a `Survey` of
a record that nobody sends by.
Pure: `check_host` and `survey` are generators that yield a `Question` and are sent its `Reply`; who drives them asks DNS.
Bounded by the limits of RFC 7208 §4.6.4: ten terms that ask, two that find nothing, ten hosts of an MX, ten names of an address.
Standards: RFC 7208.
Not here: the grammar (spf_record), macros (spf_macro), the `exp=` explanation, which only who refuses mail has a use for.
Bugs: none known.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gatepost.wire import spf_macro
from gatepost.wire.questions import Question, Reply, Walk
from gatepost.wire.spf_record import Malformed, Record, Term, parse, select

LOOKUPS: Final = 10
VOID_LOOKUPS: Final = 2
_MX_HOSTS: Final = 10
_PTR_NAMES: Final = 10
_SURVEYED: Final = 60
_QUESTIONS: Final = 150
"""More than any record within the limits leads to; a survey, which goes past them, ends there."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class SpfResult(StrEnum):
    """The results of RFC 7208 §2.6."""

    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"  # noqa: S105 - a result, not a password
    FAIL = "fail"
    SOFTFAIL = "softfail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    What an evaluation came to.

    Attributes:
        term: The term that decided; empty where none did.
        lookups: Terms that asked DNS.
        voids: Questions that had no answer.
        problem: Why it is an error.
    """

    result: SpfResult
    term: str = ""
    lookups: int = 0
    voids: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """
    A domain's record as a whole.

    Attributes:
        result: `pass` when it can be read to its end, `none`, `permerror` or `temperror` else; limits do not count here.
        record: The domain's own record.
        lookups: Terms that ask DNS when nothing matches before the end; at most 60 are followed.
        voids: Questions without an answer among them.
        ending: Qualifier of the `all` that ends it: `fail`, `softfail`, `neutral` or `pass`; empty without.
        includes: Domains whose records it brings in, by `include:` and `redirect=`.
    """

    result: SpfResult
    record: str = ""
    lookups: int = 0
    voids: int = 0
    ending: str = ""
    includes: tuple[str, ...] = ()
    problem: str = ""


class _Over(Exception):  # noqa: N818
    """The evaluation ends with an error."""

    def __init__(self, result: SpfResult, problem: str) -> None:
        super().__init__(problem)
        self.result = result
        self.problem = problem


@dataclass(slots=True)
class _State:
    """One evaluation; `address` is None in a survey, where nothing matches."""

    address: Address | None
    local: str
    sender_domain: str
    helo: str
    most_lookups: int = LOOKUPS
    most_voids: int = VOID_LOOKUPS
    lookups: int = 0
    voids: int = 0
    names: list[str] | None = None
    ending: str = ""
    record: str = ""
    term: str = ""
    asked: list[str] = field(default_factory=list)
    questions: int = 0


def check_host(address: str, domain: str, *, sender: str = "", helo: str = "") -> Walk[Verdict]:
    """
    Evaluate a domain's policy for an address (RFC 7208 §4).

    Args:
        address: An IP address; an IPv4 address mapped into IPv6 counts as IPv4.
        domain: The domain to ask; the sender's, or the EHLO name for the null sender.
        sender: The reverse-path; empty is postmaster at the EHLO name.

    Raises:
        ValueError: `address` is no IP address.
    """
    local, _, sender_domain = sender.rpartition("@")
    state = _State(_unmapped(address), local or "postmaster", sender_domain or helo or domain, helo)
    try:
        result = yield from _check(state, domain.rstrip("."))
    except _Over as over:
        return Verdict(result=over.result, lookups=state.lookups, voids=state.voids, problem=over.problem)
    return Verdict(result=result, term=state.term, lookups=state.lookups, voids=state.voids)


def survey(domain: str) -> Walk[Survey]:
    """Walk through a domain's record to its end, as an address does that it does not know."""
    state = _State(None, "postmaster", domain, domain, most_lookups=_SURVEYED, most_voids=_SURVEYED)
    result, problem = SpfResult.PASS, ""
    try:
        if (yield from _check(state, domain.rstrip("."))) is SpfResult.NONE:
            result = SpfResult.NONE
    except _Over as over:
        result, problem = over.result, over.problem
    return Survey(
        result=result, record=state.record, lookups=state.lookups, voids=state.voids, ending=state.ending, problem=problem,
        includes=tuple(dict.fromkeys(state.asked[1:])),
    )  # fmt: skip


def _unmapped(address: str) -> Address:
    found = ipaddress.ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return found if mapped is None else mapped


def _check(state: _State, domain: str) -> Walk[SpfResult]:
    if not _is_name(domain) or "." not in domain:
        return SpfResult.NONE
    state.asked.append(domain.lower())
    texts = yield Question(domain, "TXT")
    if texts is None:
        raise _Over(SpfResult.TEMPERROR, f"DNS does not answer about {domain}")
    found = select(texts)
    if not found:
        return SpfResult.NONE
    state.record = state.record or found[0]
    if len(found) > 1:
        raise _Over(SpfResult.PERMERROR, f"{domain} has {len(found)} SPF records; there may be one")
    try:
        record = parse(found[0])
    except Malformed as error:
        raise _Over(SpfResult.PERMERROR, f"the record of {domain} is malformed: {error}") from None
    return (yield from _evaluate(state, record, domain))


def _evaluate(state: _State, record: Record, domain: str) -> Walk[SpfResult]:
    for term in record.terms:
        if (yield from _matches(state, term, domain)):
            state.term = term.text
            return SpfResult(term.qualifier)
        if term.name == "all":  # in a survey, which follows nothing behind it
            state.ending = term.qualifier
            return SpfResult.NEUTRAL
    if record.redirect:
        return (yield from _redirect(state, record.redirect, domain))
    return SpfResult.NEUTRAL


def _redirect(state: _State, target: str, domain: str) -> Walk[SpfResult]:
    _count(state)
    if state.address is None and spf_macro.has_macros(target):
        return SpfResult.NEUTRAL
    name = yield from _expand(state, target, domain)
    result = yield from _check(state, name)
    if result is SpfResult.NONE:
        raise _Over(SpfResult.PERMERROR, f"redirect={name} leads to no SPF record")
    return result


def _matches(state: _State, term: Term, domain: str) -> Walk[bool]:
    if term.network is not None:
        return state.address is not None and state.address in term.network
    if term.name == "all":
        return state.address is not None
    _count(state)
    if state.address is None and term.domain and spf_macro.has_macros(term.domain):
        return False  # it depends on who sends: it is counted, and cannot be followed
    name = (yield from _expand(state, term.domain, domain)) if term.domain else domain
    match term.name:
        case "include":
            return (yield from _include(state, name))
        case "exists":
            return bool((yield from _ask(state, name, "A"))) and state.address is not None
        case "ptr":
            return (yield from _ptr(state, name))
        case "mx":
            return (yield from _mx(state, term, name))
        case _:
            return (yield from _has_address(state, term, name))


def _count(state: _State) -> None:
    state.lookups += 1
    if state.lookups > state.most_lookups:
        raise _Over(SpfResult.PERMERROR, f"more than {state.most_lookups} terms ask DNS")


def _include(state: _State, name: str) -> Walk[bool]:
    ending = state.ending
    result = yield from _check(state, name)
    state.ending = ending  # how an included record ends decides nothing here
    if result is SpfResult.NONE:
        raise _Over(SpfResult.PERMERROR, f"include:{name} leads to no SPF record")
    return result is SpfResult.PASS and state.address is not None


def _mx(state: _State, term: Term, name: str) -> Walk[bool]:
    hosts = yield from _ask(state, name, "MX")
    if len(hosts) > _MX_HOSTS:
        raise _Over(SpfResult.PERMERROR, f"mx: {name} has more than {_MX_HOSTS} hosts")
    for host in hosts:
        exchange = host.split()[-1].rstrip(".")
        if exchange and (yield from _has_address(state, term, exchange)):
            return True
    return False


def _has_address(state: _State, term: Term, name: str) -> Walk[bool]:
    if state.address is None:
        yield from _ask(state, name, "A")
        return False
    is_v6 = state.address.version == 6
    prefix = term.cidr6 if is_v6 else term.cidr4
    for text in (yield from _ask(state, name, "AAAA" if is_v6 else "A")):
        if state.address in ipaddress.ip_network((text, prefix), strict=False):
            return True
    return False


def _ptr(state: _State, name: str) -> Walk[bool]:
    names = yield from _validated_names(state)
    wanted = name.lower()
    return any(one == wanted or one.endswith("." + wanted) for one in names)


def _validated_names(state: _State) -> Walk[list[str]]:
    """Find the names of the address that lead back to it (RFC 7208 §5.5); trouble with them is no trouble of the record."""
    if state.address is None:
        return []
    if state.names is None:
        state.names = []
        told = yield Question(state.address.reverse_pointer, "PTR")
        for text in (told or ())[:_PTR_NAMES]:
            name = text.rstrip(".").lower()
            addresses = (yield Question(name, "AAAA" if state.address.version == 6 else "A")) if _is_name(name) else ()
            if any(ipaddress.ip_address(one) == state.address for one in addresses or ()):
                state.names.append(name)
    return state.names


def _ask(state: _State, name: str, kind: str) -> Walk[Sequence[str]]:
    reply: Reply = ()
    state.questions += 1
    if state.questions > _QUESTIONS:
        raise _Over(SpfResult.PERMERROR, f"it leads to more than {_QUESTIONS} questions")
    if _is_name(name):
        reply = yield Question(name, kind)
    if reply is None:
        raise _Over(SpfResult.TEMPERROR, f"DNS does not answer about {name}")
    if not reply:
        state.voids += 1
        if state.voids > state.most_voids:
            raise _Over(SpfResult.PERMERROR, f"more than {state.most_voids} questions have no answer")
    return reply


def _expand(state: _State, text: str, domain: str) -> Walk[str]:
    address = state.address
    values = {
        "s": f"{state.local}@{state.sender_domain}", "l": state.local, "o": state.sender_domain, "d": domain, "h": state.helo,
        "i": spf_macro.dotted(address) if address is not None else "", "p": "unknown",
        "v": "ip6" if address is not None and address.version == 6 else "in-addr",
    }  # fmt: skip
    if spf_macro.wants_name(text):
        names = yield from _validated_names(state)
        values["p"] = _best_name(names, domain)
    return spf_macro.expand(text, values)


def _best_name(names: Sequence[str], domain: str) -> str:
    """Choose the name of `%{p}`: the domain itself, one below it, any; `unknown` where there is none (RFC 7208 §7.3)."""
    if domain in names:
        return domain
    return next((name for name in names if name.endswith("." + domain)), names[0] if names else "unknown")


def _is_name(name: str) -> bool:
    """Tell whether a name can be asked for."""
    return bool(name) and len(name) <= 253 and name.isascii() and all(0 < len(label) <= 63 for label in name.split("."))

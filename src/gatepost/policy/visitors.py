"""
Who asks for a pixel or a link: a person, a proxy, a prefetch or a scanner.

Arrives: how a request looked, how long ago the mail was delivered, what else was just followed. Leaves: a class, and the
rule that gave it. Rules are data (visitors.toml) with ids, and an operator's own come first.
Why timing: scanners that hide behind a browser's name still follow a link before anybody could have read it, or all links of
a mail at once.
Not here: counting and events (engaged), what a request is (http).
Bugs: of a scanner that follows all links at once, the first one looks like a person's when it comes late enough.
"""

import ipaddress
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from gatepost.domain.engagement import Visitor
from gatepost.domain.statement import Said

_KINDS: Final = {"opened": Said.OPENED, "clicked": Said.CLICKED}
_CLASSES: Final = {one.value: one for one in Visitor}
_KEYS: Final = {"id", "class", "kind", "agents", "agents_exact", "networks", "source"}
_MAX_AGENT: Final = 1_000
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class InvalidRules(ValueError):  # noqa: N818
    """A file of rules cannot be read; the text says which rule and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """
    How a request looked.

    Attributes:
        peer: The address that it came from.
        purpose: What it says that it is for (`Sec-Purpose`, `Purpose`, `X-Moz`, `X-Purpose`); empty most of the time.
        is_head: It asked for no content.
    """

    said: Said
    agent: str = field(default="", repr=False)
    peer: str = field(default="", repr=False)
    purpose: str = ""
    is_head: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule; what it does not name does not matter."""

    id: str
    visitor: Visitor
    kind: Said | None = None
    agents: tuple[str, ...] = ()
    agents_exact: frozenset[str] = frozenset()
    networks: tuple[_Network, ...] = ()

    def holds(self, visit: Visit, agent: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
        """Tell whether a request is what the rule describes; `agent` is in small letters."""
        if self.kind is not None and self.kind is not visit.said:
            return False
        if (self.agents or self.agents_exact) and visit.agent not in self.agents_exact and not any(one in agent for one in self.agents):
            return False
        return not self.networks or (address is not None and any(address in network for network in self.networks))


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitorRules:
    """
    What is known of visitors.

    Attributes:
        soon_ms: What comes so shortly after the delivery is no person.
        burst_ms: In this time nobody follows more than `burst_links` links of one mail.
    """

    rules: tuple[Rule, ...] = ()
    soon_ms: int = 2_000
    burst_ms: int = 2_000
    burst_links: int = 2

    def known(self, visit: Visit) -> tuple[Visitor, str] | None:
        """Return class and rule by how the request looks; None where it looks like a person's."""
        if visit.is_head:
            return Visitor.BOT, "head_request"
        if any(word in visit.purpose.lower() for word in ("prefetch", "preview", "prerender")):
            return Visitor.PREFETCH, "purpose"
        agent, address = visit.agent[:_MAX_AGENT].lower(), _address(visit.peer)
        if not agent.strip():
            return Visitor.BOT, "no_agent"
        return next(((rule.visitor, rule.id) for rule in self.rules if rule.holds(visit, agent, address)), None)

    def classify(self, visit: Visit, since_delivery_ms: int | None, links_just_now: int = 0) -> tuple[Visitor, str]:
        """
        Name the class of a visit, and the rule that says so; a person has no rule.

        Args:
            since_delivery_ms: None while the mail is not delivered, as far as anybody has written down.
            links_just_now: Other links of the mail that were followed within `burst_ms`.
        """
        found = self.known(visit)
        if found is not None:
            return found
        if self.soon_ms and (since_delivery_ms is None or since_delivery_ms < self.soon_ms):
            return Visitor.BOT, "too_soon"
        if visit.said is Said.CLICKED and links_just_now >= self.burst_links:
            return Visitor.BOT, "burst"
        return Visitor.HUMAN, ""


def load_rules(own: Path | None = None, soon_ms: int = 2_000) -> VisitorRules:
    """
    Read the rules.

    Args:
        own: The operator's file, asked first.

    Raises:
        InvalidRules: It cannot be read, or a rule is none.
    """
    ours = _shipped()
    if own is None:
        return VisitorRules(rules=ours, soon_ms=soon_ms)
    try:
        text = own.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRules(f"{own}: {error}") from error
    return VisitorRules(rules=(*_read(text), *ours), soon_ms=soon_ms)


@lru_cache(1)
def _shipped() -> tuple[Rule, ...]:
    return _read((files(__package__) / "visitors.toml").read_text())


def _read(text: str) -> tuple[Rule, ...]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRules(str(error)) from error
    listed = document.get("rule")
    if set(document) - {"rule"} or not isinstance(listed, list):
        raise InvalidRules("a file of rules has [[rule]] tables and nothing else")
    return tuple(_rule(one, n) for n, one in enumerate(listed, 1))


def _rule(one: Any, n: int) -> Rule:
    name = one.get("id") if isinstance(one, dict) else None
    if not isinstance(name, str) or not name:
        raise InvalidRules(f"rule {n}: it needs an id")
    if strange := set(one) - _KEYS:
        raise InvalidRules(f"rule {name}: {', '.join(sorted(strange))} is none of {', '.join(sorted(_KEYS))}")
    if one.get("class") not in _CLASSES:
        raise InvalidRules(f"rule {name}: its class is one of {', '.join(_CLASSES)}")
    if one.get("kind", "opened") not in _KINDS:
        raise InvalidRules(f"rule {name}: its kind is opened or clicked")
    agents, exact = _texts(one, name, "agents"), _texts(one, name, "agents_exact")
    try:
        networks = tuple(ipaddress.ip_network(text) for text in _texts(one, name, "networks"))
    except ValueError as error:
        raise InvalidRules(f"rule {name}: {error}") from error
    if not (agents or exact or networks):
        raise InvalidRules(f"rule {name}: it names neither agents nor networks, so it would hold for everybody")
    return Rule(
        id=name, visitor=_CLASSES[one["class"]], kind=_KINDS.get(one.get("kind", "")), agents=tuple(text.lower() for text in agents),
        agents_exact=frozenset(exact), networks=networks,
    )  # fmt: skip


def _texts(one: dict[str, Any], name: str, key: str) -> Sequence[str]:
    found = one.get(key, [])
    if not isinstance(found, list) or not all(isinstance(text, str) and text.strip() for text in found):
        raise InvalidRules(f"rule {name}: {key} is a list of texts")
    return found


@lru_cache(maxsize=4_096)
def _address(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None) or address

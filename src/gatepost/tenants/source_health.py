"""
What others see of the addresses that mail leaves from: asked, and written down.

Arrives: the settings, DNS. Leaves: checks for each address, in the store.
Blocklists are asked seldom: an answer is kept while its TTL runs.
Not here: what the answers mean (policy.source_checks), when to ask (watch).
Bugs: behind NAT the public address must be told (watch.addresses); nobody here can find it out without asking a stranger.
"""

import asyncio
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gatepost.clock import Clock, Instant
from gatepost.domain.health import Check, CheckStatus
from gatepost.net.lookup import Found, Looked, Lookup
from gatepost.policy.source_checks import SourceFacts, examine, list_name, may_be_listed
from gatepost.settings import Settings
from gatepost.store import health
from gatepost.store.engine import Engine
from gatepost.wire.questions import Reply

_NAMES: Final = 5


@dataclass(frozen=True, slots=True)
class Sender:
    """An address that mail leaves from, with the EHLO name that it uses."""

    address: str
    hostname: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """What was found at an address."""

    address: str
    checked_at: Instant
    checks: list[Check]


def senders_of(settings: Settings) -> list[Sender]:
    """
    List the addresses that mail to MX hosts leaves from, as far as they are known.

    `watch.addresses` counts for sources that name no address of their own, and for those whose address is a private one.

    Args:
        settings: With host names filled in.

    Raises:
        ValueError: One of them is no IP address.
    """
    egress = settings.egress
    named = [(one.address, one.hostname or egress.hostname) for one in settings.sources.values()]
    named = named or [(egress.source_address, egress.hostname)]
    told = [(address, named[0][1]) for address in settings.watch.addresses]
    public = [(address, hostname) for address, hostname in named if address and may_be_listed(address)]
    found = [*public, *told] or [(address, hostname) for address, hostname in named if address]
    return list({str(ipaddress.ip_address(address)): Sender(str(ipaddress.ip_address(address)), name) for address, name in found}.values())


class SourceHealth:
    """The addresses of this gateway."""

    def __init__(self, engine: Engine, clock: Clock, lookup: Lookup, senders: Sequence[Sender], blocklists: Sequence[str]) -> None:
        self._engine = engine
        self._clock = clock
        self._lookup = lookup
        self._blocklists = blocklists
        self.senders = senders

    async def look(self) -> list[SourceReport]:
        """
        Look at every address, and write down what was found.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()
        found = [SourceReport(address=one.address, checked_at=now, checks=await self.examine(one)) for one in self.senders]
        for report in found:
            plain = {"checks": msgspec.to_builtins(report.checks)}
            await self._engine.write(lambda conn, report=report, plain=plain: health.put_source(conn, report.address, now, plain))  # type: ignore[misc]
        await self._engine.write(lambda conn: health.forget_sources(conn, [one.address for one in self.senders]))
        return found

    async def known(self) -> list[SourceReport]:
        """
        Return what was found when somebody last looked; an address that nobody looked at yet has no checks.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        rows = await self._engine.read(health.sources)
        kept = [(one.address, *rows[one.address]) for one in self.senders if one.address in rows]
        return [
            SourceReport(address=address, checked_at=checked_at, checks=msgspec.convert(report["checks"], list[Check]))
            for address, checked_at, report in kept
        ]

    async def examine(self, sender: Sender) -> list[Check]:
        """Ask about one address. Total: what DNS does not answer is unknown."""
        try:
            facts = await self._ask(sender)
        except TimeoutError:
            return [Check(id="source_ptr", status=CheckStatus.UNKNOWN, detail=f"DNS answers too slowly about {sender.address}")]
        return examine(facts)

    async def _ask(self, sender: Sender) -> SourceFacts:
        address = ipaddress.ip_address(sender.address)
        kind = "AAAA" if address.version == 6 else "A"
        async with asyncio.timeout(_PATIENCE_S):
            names = reply_of(await self._lookup.records(address.reverse_pointer, "PTR"))
            wanted = dict.fromkeys([*(names or ())[:_NAMES], *([sender.hostname] if "." in sender.hostname else [])])
            forward = {name: reply_of(await self._lookup.records(name, kind)) for name in wanted}
            zones = self._blocklists if may_be_listed(sender.address) else ()
            asked = [self._lookup.records(list_name(sender.address, zone), "A", may_be_kept=True) for zone in zones]
            listings = dict(zip(zones, map(reply_of, await asyncio.gather(*asked)), strict=True))
        return SourceFacts(address=str(address), hostname=sender.hostname, names=names, forward=forward, listings=listings)


_PATIENCE_S: Final = 60.0


def reply_of(looked: Looked) -> Reply:
    """Turn an answer into what code without a network reads."""
    return looked.values if isinstance(looked, Found) else None

"""
What looks after domains, addresses and relays, made from the settings.

Not here: the looking (tenants.domain_health, watch), who calls it how often (door, dispatch).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gatepost.app.parts import create_resolver
from gatepost.clock import Clock
from gatepost.net.dns import Resolver
from gatepost.net.http_client import HttpClient
from gatepost.net.lookup import DnsLookup
from gatepost.net.mta_sts_fetch import PolicyFetcher
from gatepost.settings import InvalidSettings, Settings, TlsPolicy
from gatepost.store.engine import Engine
from gatepost.tenants.directory import Directory
from gatepost.tenants.domain_health import DomainHealth
from gatepost.tenants.domains import Domains
from gatepost.tenants.source_health import SourceHealth, senders_of
from gatepost.watch.domains import DomainWatch
from gatepost.watch.relays import Probed, RelayWatch
from gatepost.wire.mta_sts import Policy

_PAGE_S = 10.0
_PAGE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Senders' domains with their health, and the addresses that mail leaves from."""

    register: Domains
    domains: DomainHealth
    sources: SourceHealth

    def watch(self, engine: Engine, clock: Clock, settings: Settings, owner: str) -> DomainWatch:
        """Make the loop that looks at them."""
        return DomainWatch(engine, clock, self.domains, self.sources, settings.watch, owner)


@dataclass(frozen=True, slots=True)
class _Policies:
    """Fetches MTA-STS policies, now and then; no connection is kept."""

    resolver: Resolver
    options: TlsPolicy

    async def fetch(self, domain: str) -> Policy:
        """Fetch one; see `PolicyFetcher.fetch`."""
        options = self.options
        fetcher = PolicyFetcher(
            resolver=self.resolver, timeout_s=options.fetch_timeout_s, ca_file=options.ca_file, port=options.https_port
        )  # fmt: skip
        try:
            return await fetcher.fetch(domain)
        finally:
            await fetcher.close()


def create_lookup(settings: Settings, clock: Clock) -> DnsLookup:
    """
    Make the resolver of looks.

    Raises:
        InvalidSettings: `dns.server` is not an address with a port.
    """
    try:
        return DnsLookup(server=settings.dns.server, timeout_s=settings.dns.timeout_s, clock=clock)
    except ValueError as error:
        raise InvalidSettings(f"dns.server: {error}") from error


def create_watched(settings: Settings, engine: Engine, clock: Clock, directory: Directory | None = None) -> Watched:
    """
    Make the register of senders' domains, and what looks after it.

    Args:
        settings: With host names filled in.

    Raises:
        InvalidSettings: `dns.server` is not an address with a port.
    """
    lookup = create_lookup(settings, clock)
    resolver = create_resolver(settings, clock)
    register = Domains(
        engine, clock, resolver, directory, hostname=settings.egress.hostname, algorithms=settings.dkim.algorithms
    )  # fmt: skip
    sources = SourceHealth(engine, clock, lookup, senders_of(settings), settings.watch.blocklists)
    policies = _Policies(resolver, settings.tls_policy)
    domains = DomainHealth(engine, clock, lookup, register, sources, settings, policies=policies)
    return Watched(register=register, domains=domains, sources=sources)


def create_relay_watch(settings: Settings, engine: Engine, clock: Clock, couriers: Mapping[str, Probed], owner: str) -> RelayWatch:
    """
    Make the loop that looks after relays.

    Args:
        couriers: By name; those that are no relays are left alone.
        owner: Name of this process.

    Raises:
        InvalidSettings: `dns.server` is not an address with a port.
    """
    has_pages = any(relay.status_url for relay in settings.relays.values())
    pages = HttpClient(timeout_s=_PAGE_S, max_bytes=_PAGE_BYTES, resolver=create_resolver(settings, clock)) if has_pages else None
    return RelayWatch(engine, clock, couriers, settings, pages, owner)

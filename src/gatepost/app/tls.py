"""
TLS on the way out, put together: policies that are kept and followed, results that are counted.

Not here: what a policy means (egress.smtp.tls_policy), keeping and fetching (upkeep), sending reports (tls_reports).
"""

from dataclasses import dataclass

from gatepost.app.base import Base
from gatepost.clock import HOUR, Clock
from gatepost.egress.smtp.mta_sts import MtaSts
from gatepost.egress.smtp.tls_policy import TlsPolicies
from gatepost.egress.smtp.tls_results import TlsResults
from gatepost.net.dns import DnsResolver
from gatepost.net.mta_sts_fetch import PolicyFetcher
from gatepost.net.tls import ClientTls
from gatepost.settings import Settings
from gatepost.store.engine import Engine
from gatepost.upkeep.policy_shelf import FOLLOW_S, REFRESH_S, PolicyShelf
from gatepost.upkeep.tls_counts import write_results


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingTls:
    """What deliveries of one process share."""

    shelf: PolicyShelf
    fetcher: PolicyFetcher
    sts: MtaSts
    results: TlsResults
    policies: TlsPolicies
    contexts: ClientTls

    async def close(self, engine: Engine) -> None:
        """
        Write down what was counted, and close connections.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        await self.fetcher.close()
        await write_results(engine, self.results)


def create_outgoing_tls(settings: Settings, engine: Engine, clock: Clock, resolver: DnsResolver) -> OutgoingTls:
    """Make what deliveries share; nothing is asked or read yet."""
    options = settings.tls_policy
    shelf = PolicyShelf(engine, clock, options.refresh_s)
    fetcher = PolicyFetcher(
        resolver=resolver, timeout_s=options.fetch_timeout_s, ca_file=options.ca_file, port=options.https_port
    )  # fmt: skip
    sts = MtaSts(resolver=resolver, fetcher=fetcher, store=shelf, clock=clock)
    results = TlsResults(clock, is_on=bool(settings.tls_reports.sender))
    policies = TlsPolicies(
        resolver=resolver, clock=clock, port=settings.egress.mx_port, sts=sts if options.mta_sts else None, results=results,
        uses_dane=options.dane,
    )  # fmt: skip
    return OutgoingTls(
        shelf=shelf, fetcher=fetcher, sts=sts, results=results, policies=policies, contexts=ClientTls(options.ca_file)
    )  # fmt: skip


async def keep_outgoing_tls(base: Base, tls: OutgoingTls) -> None:
    """
    Load the policies that are kept, and go on following them; call it before the first delivery.

    Raises:
        StorageUnavailable: The database cannot be used now.
    """
    await tls.shelf.follow()
    base.repeat("tls policies", FOLLOW_S, tls.shelf.follow)
    base.repeat("tls policy refresh", REFRESH_S, lambda: tls.shelf.refresh(tls.sts))
    base.repeat("tls policies of long ago", HOUR / 1000, tls.shelf.forget)
    if tls.results.is_on:
        base.repeat("tls results", base.settings.tls_reports.flush_s, lambda: write_results(base.engine, tls.results))

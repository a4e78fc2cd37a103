"""A gateway's parts around scores, unusual changes and reports, on one of the databases; numbers are noted as settle would note them."""

import asyncio
import datetime as dt
import email
import email.policy
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

import sqlalchemy as sa

from gatepost.accept import Acceptor
from gatepost.accept.answers import Idempotency
from gatepost.domain.access import GATEWAY
from gatepost.domain.errors import Refused
from gatepost.domain.message import Submission
from gatepost.domain.tenant import Caller
from gatepost.settings import Dashboard, Settings
from gatepost.settings import Reports as Options
from gatepost.store import facts, messages
from gatepost.store.blobs import LocalBlobs
from gatepost.store.counting import Deltas, Labels
from gatepost.store.opening import open_store
from gatepost.store.schema import event, message
from gatepost.tenants.deliverability import Deliverability
from gatepost.tenants.directory import Directory
from gatepost.tenants.domain_health import DomainHealth
from gatepost.tenants.domains import Domains
from gatepost.tenants.source_health import SourceHealth
from gatepost.tenants.team_reports import TeamReports
from gatepost.testing.fake_clock import FakeClock
from gatepost.testing.fake_dns import FakeResolver
from gatepost.testing.fake_lookup import DictLookup
from gatepost.upkeep.team_reports import TeamReportSending, key_hash

BEGIN = int(dt.datetime(2026, 11, 24, 2, tzinfo=dt.UTC).timestamp()) * 1000
"""A Tuesday."""
OPTIONS = Options(sender="reports@acme.example", sender_name="Gatepost of Acme")
PAGES = "https://gate.acme.example"


@dataclass
class House:
    """What the tests work with; several processes are several engines over one database."""

    engines: list[Any]
    clock: FakeClock
    tenant_id: str
    domain_id: str
    directory: Directory
    settings: Settings
    acceptor: Acceptor
    blobs: LocalBlobs
    domains: Domains
    health: DomainHealth
    submitted: list[str] = field(default_factory=list)
    refuse: Refused | None = None

    @property
    def engine(self) -> Any:
        return self.engines[0]

    @property
    def measuring(self) -> Deliverability:
        return Deliverability(self.engine, self.clock, self.health, self.settings)

    @property
    def register(self) -> TeamReports:
        return TeamReports(self.engine, self.clock, self.settings)

    def sending(self, n: int = 0, pages: str = PAGES) -> TeamReportSending:
        """Another process that sends reports."""

        async def submit(caller: Caller, submission: Submission, key: str) -> str:
            if self.refuse is not None:
                raise self.refuse
            self.submitted.append(key)
            accepted = await self.acceptor.submit(caller, submission, Idempotency(key=key, request_hash=key_hash(key)))
            return accepted.results[0].id

        return TeamReportSending(
            engine=self.engines[n % len(self.engines)],
            clock=self.clock,
            options=self.settings.reports,
            directory=self.directory,
            submit=submit,
            owner=f"process {n} of {id(self)}",
            pages=pages,
        )

    async def note(
        self,
        at: int,
        *,
        domain: str = "acme.example",
        stream: str = "bulk",
        road: str = "mx",
        tenant: str = "",
        site: str = "far.example",
        **counts: int,
    ) -> None:
        """Count what happened; `bounced_x` counts as `bounced`, too."""
        deltas = Deltas()
        for name, n in counts.items():
            names = [name, "bounced"] if name.startswith("bounced_") else [name]
            deltas.add(tenant or self.tenant_id, Labels(domain, stream, "", "", at), road, "", site, at, names, n)
        await self.engine.write(deltas.write)

    async def mails(self) -> list[tuple[str, EmailMessage]]:
        """Every stored message with its recipient, as MIME."""

        def read(conn):
            found = conn.execute(sa.select(message.c.id).order_by(message.c.id)).scalars().all()
            material = messages.materials(conn, found, 10**9)
            return [(messages.addresses(conn, [one])[one, 0].address, material[one]) for one in found]

        rows = await self.engine.read(read)
        return [
            (address, email.message_from_bytes(self.blobs.get(one.encoding, one.data), policy=email.policy.default))
            for address, one in rows
        ]

    async def events(self, kind: str) -> list[dict]:
        """The data of every event of a type."""
        rows = await self.engine.read(
            lambda conn: facts.opened_events(conn, sa.select(event).where(event.c.type == kind).order_by(event.c.id))
        )
        return [row.data for row in rows]


@asynccontextmanager
async def opened(make_engine, tmp_path, **sections):
    """Open a house with a trusted domain."""
    engines, clock = [make_engine(), make_engine()], FakeClock(BEGIN)
    tenant_id = await open_store(engines[0], clock)
    directory = Directory(engines[0], clock)
    domains = Domains(engines[0], clock, FakeResolver(), directory, hostname="gw.acme.example")
    view = await domains.add(tenant_id, "acme.example", by=GATEWAY, is_trusted=True)
    await directory.refresh()
    settings = Settings(**{"reports": OPTIONS, "dashboard": Dashboard(url=PAGES), **sections})
    blobs, lookup = LocalBlobs(tmp_path / "blobs"), DictLookup({})
    acceptor = Acceptor(engine=engines[0], blobs=blobs, directory=directory, settings=settings, clock=clock, hostname="gw.acme.example")
    health = DomainHealth(engines[0], clock, lookup, domains, SourceHealth(engines[0], clock, lookup, [], []), settings)
    house = House(engines, clock, tenant_id, view.domain.id, directory, settings, acceptor, blobs, domains, health)
    try:
        yield house
    finally:
        for engine in engines:
            await engine.close()


def in_house(make_engine, tmp_path, work, **sections) -> None:
    """Run a test's work in a house."""

    async def main() -> None:
        async with opened(make_engine, tmp_path, **sections) as house:
            await work(house)

    asyncio.run(main())

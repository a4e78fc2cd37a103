"""Verification of a domain against a real DNS server on loopback."""

import asyncio
from pathlib import Path

from gatepost.clock import SystemClock
from gatepost.domain.access import GATEWAY
from gatepost.net.dns import DnsResolver, NoDomain, NoTexts, ResolverFailed, Texts
from gatepost.store.opening import create_engine, open_store
from gatepost.tenants.domains import Domains
from gatepost.testing.fake_dns import SERVFAIL, DnsServer, Zone


def test_txt_answers_are_told_apart() -> None:
    """Strings of one record are joined, records are not; no record, no name and a failing resolver are three things."""
    zone: Zone = {
        "two.test": {"TXT": ['"v=spf1 " "-all"', '"other"']},
        "none.test": {"A": ["192.0.2.1"]},
        "broken.test": SERVFAIL,
    }

    async def main() -> None:
        async with DnsServer(zone) as server:
            resolver = DnsResolver(server=server.address, timeout_s=2, clock=SystemClock())
            found = await resolver.txt("two.test")
            assert isinstance(found, Texts)
            assert set(found.texts) == {"v=spf1 -all", "other"}
            assert isinstance(await resolver.txt("none.test"), NoTexts)
            assert isinstance(await resolver.txt("missing.test"), NoDomain)
            assert isinstance(await resolver.txt("broken.test"), ResolverFailed)

    asyncio.run(main())


def quoted(text: str) -> str:
    """Cut a record into strings, as a zone file must."""
    return " ".join(f'"{text[at : at + 200]}"' for at in range(0, len(text), 200))


def test_a_domain_is_verified_through_real_dns(tmp_path: Path) -> None:
    """The records that we print are the ones that we find again when they are published, long keys included."""

    async def main() -> None:
        engine, clock = create_engine("", tmp_path), SystemClock()
        tenant_id = await open_store(engine, clock)
        resolver = DnsResolver(server="127.0.0.1:9", timeout_s=0.1, clock=clock)
        view = await Domains(engine, clock, resolver).add(tenant_id, "acme.test", by=GATEWAY)
        zone: Zone = {record.name: {"TXT": [quoted(record.value)]} for record in view.records}
        async with DnsServer(zone) as server:
            resolver = DnsResolver(server=server.address, timeout_s=2, clock=clock)
            checked = await Domains(engine, clock, resolver).verify(tenant_id, "acme.test", by=GATEWAY)
        assert checked.domain.status == "verified"
        assert {record.status for record in checked.records} == {"published"}
        await engine.close()

    asyncio.run(main())

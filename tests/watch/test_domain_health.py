"""The health of domains: what is looked at, what is told, on both databases."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from gatepost.clock import DAY, HOUR, MINUTE
from gatepost.domain.access import GATEWAY
from gatepost.domain.errors import Refused
from gatepost.domain.stats import Labels
from gatepost.settings import Egress, Settings, Watch
from gatepost.store import counting, health, schema, sealing
from gatepost.store.engine import Engine
from gatepost.store.opening import create_engine, open_store
from gatepost.tenants.domain_health import DomainHealth, Health
from gatepost.tenants.domains import Domains, DomainView
from gatepost.tenants.source_health import SourceHealth, senders_of
from gatepost.testing.fake_clock import FakeClock
from gatepost.testing.fake_lookup import DictLookup, FakeTexts
from tests.watch.zones import ADDRESS, HOSTNAME, dkim_names, good_zone

SETTINGS = Settings(
    egress=Egress(default_route="mx", hostname=HOSTNAME), watch=Watch(addresses=[ADDRESS], blocklists=["bl.test", "other.test"])
)


@dataclass
class House:
    """One gateway with one domain."""

    engine: Engine
    clock: FakeClock
    lookup: DictLookup
    domains: Domains
    health: DomainHealth
    sources: SourceHealth
    tenant_id: str
    view: DomainView

    async def look(self) -> Health:
        """Look now, as the loop does."""
        self.clock.advance(3600)
        await self.health.look(self.tenant_id, self.view.domain.id)
        await self.sources.look()
        return await self.health.get(self.tenant_id, "acme.test")

    async def events(self) -> list[tuple[str, list[str] | None]]:
        """All events with the checks that they name."""
        ids = await self.engine.read(lambda conn: conn.execute(sa.select(schema.event.c.id).order_by(schema.event.c.id)).scalars().all())
        found = await self.engine.read(lambda conn: [facts_of(conn, one) for one in ids])
        return [(kind, data.get("checks")) for kind, data in found]


def facts_of(conn: Any, event_id: str) -> tuple[str, dict[str, Any]]:
    row = conn.execute(sa.select(schema.event).where(schema.event.c.id == event_id)).one()
    data = sealing.unseal(conn, row.data, tenant_id=row.tenant_id, place=f"event/{row.id}")
    return row.type, msgspec.msgpack.decode(data)


Check = Callable[[House], Awaitable[None]]


@pytest.fixture
def run(make_engine: Callable[[], Engine]) -> Callable[..., None]:
    """Run a check on each database engine."""

    def run_one(check: Check, *, is_trusted: bool = False, settings: Settings = SETTINGS) -> None:
        async def main() -> None:
            engine, clock, lookup = make_engine(), FakeClock(), DictLookup({})
            tenant_id = await open_store(engine, clock)
            domains = Domains(engine, clock, FakeTexts(lookup))
            view = await domains.add(tenant_id, "acme.test", by=GATEWAY, is_trusted=is_trusted)
            lookup.zone.update(good_zone(view))
            sources = SourceHealth(engine, clock, lookup, senders_of(settings), settings.watch.blocklists)
            looking = DomainHealth(engine, clock, lookup, domains, sources, settings, chance=lambda: 0.0)
            await check(House(engine, clock, lookup, domains, looking, sources, tenant_id, view))
            await engine.close()

        asyncio.run(main())

    return run_one


def statuses(found: Health) -> dict[str, str]:
    return {check.id: check.status.value for check in found.checks}


def test_a_domain_that_waits_is_verified_and_found_well(run) -> None:
    """Nobody needs to press a button: the look finds the records, and every check has its evidence."""

    async def check(house: House) -> None:
        found = await house.look()
        assert (found.domain.status, found.state, found.failing_since) == ("verified", "ok", None)
        assert statuses(found) == {
            "dkim": "ok", "spf": "ok", "spf_lookups": "ok", "spf_senders": "ok", "dmarc": "ok", "dmarc_policy": "ok", "dmarc_reports": "ok",
            "dmarc_alignment": "ok", "mx": "ok", "mta_sts": "not_applicable", "tls_rpt": "not_applicable",
        }  # fmt: skip
        assert [one.status.value for one in found.sources[0].checks] == ["ok", "ok", "ok"]
        assert all(one.detail for one in found.checks)
        assert found.compliance.score == 100
        assert found.compliance.next_step == ""
        assert await house.events() == [("domain.verified", None)]

    run(check)


def test_records_that_break_and_come_back_are_told_once(run) -> None:
    """`domain.failing` names the checks; it is not repeated each hour, and `domain.verified` says that all is well again."""

    async def check(house: House) -> None:
        await house.look()
        kept = {name: house.lookup.zone.pop(name) for name in dkim_names(house.view)}
        first = await house.look()
        assert (first.state, first.domain.status) == ("broken", "verified")
        assert first.compliance.next_step.startswith("publish our keys as TXT records at gp")
        since = first.failing_since
        second = await house.look()
        assert second.failing_since == since
        house.lookup.zone.update(kept)
        assert (await house.look()).state == "ok"
        told = await house.events()
        assert told == [("domain.verified", None), ("domain.failing", ["dkim"]), ("domain.verified", [])]

    run(check)


def test_a_resolver_that_fails_is_no_trouble_of_the_domain(run) -> None:
    """What DNS does not answer is unknown, and nothing is told."""

    async def check(house: House) -> None:
        await house.look()
        good = dict(house.lookup.zone)
        house.lookup.zone.update(dict.fromkeys(good))
        found = await house.look()
        assert found.state == "unknown"
        assert {one for name, one in statuses(found).items() if name not in {"mta_sts", "tls_rpt"}} == {"unknown"}
        assert found.compliance.score is not None
        house.lookup.zone.update(good)
        await house.look()
        assert await house.events() == [("domain.verified", None)]

    run(check)


def test_after_the_grace_a_domain_without_records_may_not_send(run) -> None:
    """Three days of missing DKIM records end the verification; an hour does not."""

    async def check(house: House) -> None:
        await house.look()
        for name in dkim_names(house.view):
            house.lookup.zone.pop(name)
        assert (await house.look()).domain.status == "verified"
        house.clock.advance(2 * DAY / 1000)
        assert (await house.look()).domain.status == "verified"
        house.clock.advance(DAY / 1000)
        assert (await house.look()).domain.status == "pending"
        assert [kind for kind, _ in await house.events()] == ["domain.verified", "domain.failing", "domain.failing"]

    run(check)


def test_a_trusted_domain_that_was_never_set_up_is_no_news(run) -> None:
    """The operator answers for it; when its records were there and go, it is news."""

    async def check(house: House) -> None:
        names = dkim_names(house.view)
        kept = {name: house.lookup.zone.pop(name) for name in names}
        found = await house.look()
        assert (found.state, found.failing_since) == ("broken", None)
        house.lookup.zone.update(kept)
        await house.look()
        for name in names:
            house.lookup.zone.pop(name)
        assert (await house.look()).failing_since is not None
        house.clock.advance(10 * DAY / 1000)
        assert (await house.look()).domain.status == "verified"
        assert [kind for kind, _ in await house.events()] == ["domain.verified", "domain.failing"]

    run(check, is_trusted=True)


@pytest.mark.parametrize(
    ("name", "records", "failed"),
    [
        ("acme.test", {"TXT": ["v=spf1 ip4:203.0.113.9 -all"], "MX": ["10 mx.acme.test"]}, {"spf_senders": "failed"}),
        ("acme.test", {"TXT": ["v=spf1 -all", "v=spf1 +all"], "MX": ["0 ."]}, {"spf": "failed", "mx": "failed"}),
        ("acme.test", {"TXT": ["v=spf1 +all"]}, {"spf": "failed", "mx": "failed"}),
        ("acme.test", {"TXT": ["other"], "A": ["192.0.2.80"]}, {"spf": "failed", "mx": "warning"}),
        (
            "acme.test",
            {"TXT": ["v=spf1 a:a.x a:b.x a:c.x ip4:192.0.2.10 ~all"], "MX": ["10 mx.acme.test"]},
            {"spf_lookups": "failed", "spf_senders": "failed"},
        ),
        ("_dmarc.acme.test", {"TXT": ["v=DMARC1; p=none"]}, {"dmarc_policy": "warning", "dmarc_reports": "warning"}),
        ("_dmarc.acme.test", {"TXT": ["v=DMARC1; p=monitor"]}, {"dmarc": "failed"}),
        ("_dmarc.acme.test", {}, {"dmarc": "failed"}),
        ("_dmarc.acme.test", {"TXT": ["v=DMARC1; p=reject; rua=mailto:x@reports.test"]}, {"dmarc_reports": "warning"}),
        ("_mta-sts.acme.test", {"TXT": ["v=STSv1; id="]}, {"mta_sts": "warning"}),
        ("_mta-sts.acme.test", {"TXT": ["v=STSv1; id=20261124"]}, {"mta_sts": "ok"}),
        ("_smtp._tls.acme.test", {"TXT": ["v=TLSRPTv1; rua=mailto:tls@acme.test"]}, {"tls_rpt": "ok"}),
        ("_smtp._tls.acme.test", {"TXT": ["v=TLSRPTv1;"]}, {"tls_rpt": "warning"}),
    ],
)
def test_each_fault_shows_in_its_own_check(name: str, records: dict[str, list[str]], failed: dict[str, str]) -> None:
    """One wrong record makes one check fail, with a sentence about what to do."""

    async def main(tmp: Path) -> None:
        engine, clock, lookup = create_engine("", tmp), FakeClock(), DictLookup({})
        tenant_id = await open_store(engine, clock)
        domains = Domains(engine, clock, FakeTexts(lookup))
        view = await domains.add(tenant_id, "acme.test", by=GATEWAY)
        lookup.zone.update({**good_zone(view), name: records})
        sources = SourceHealth(engine, clock, lookup, senders_of(SETTINGS), [])
        found = await DomainHealth(engine, clock, lookup, domains, sources, SETTINGS).get(tenant_id, "acme.test")
        assert {check.id: check.status.value for check in found.checks if check.id in failed} == failed
        assert {check.id for check in found.checks if check.status == "failed"} <= set(failed)
        assert all(check.advice for check in found.checks if check.status == "failed")
        await engine.close()

    with tempfile.TemporaryDirectory() as tmp:
        asyncio.run(main(Path(tmp)))


def test_one_of_two_keys_is_enough_when_it_is_the_rsa_key(run) -> None:
    """Large receivers do not verify Ed25519: without the RSA record a domain fails, without the other it is only a warning."""

    async def check(house: House) -> None:
        await house.look()
        rsa, ed25519 = dkim_names(house.view)
        kept = house.lookup.zone.pop(ed25519)
        assert statuses(await house.look())["dkim"] == "warning"
        house.lookup.zone[ed25519] = kept
        house.lookup.zone[rsa] = {"TXT": ["v=DKIM1; k=rsa; p=c3RyYW5nZXI="]}
        assert statuses(await house.look())["dkim"] == "failed"

    run(check)


def test_mail_that_nothing_vouches_for_is_seen_before_it_is_sent(run) -> None:
    """Neither DKIM nor an aligned SPF under p=quarantine: the check says what receivers will do (THREATS 51)."""

    async def check(house: House) -> None:
        await house.look()
        for name in dkim_names(house.view):
            house.lookup.zone.pop(name)
        assert statuses(await house.look())["dmarc_alignment"] == "warning"
        house.lookup.zone["acme.test"] = {"TXT": ["v=spf1 -all"], "MX": ["10 mx.acme.test"]}
        found = await house.look()
        told = next(one for one in found.checks if one.id == "dmarc_alignment")
        assert told.status == "failed"
        assert "receivers will quarantine this mail" in told.detail

    run(check)


@pytest.mark.parametrize(
    ("answers", "status", "word"),
    [
        ({"bl.test": ["127.0.0.2"]}, "failed", "bl.test (127.0.0.2)"),
        ({"bl.test": ["127.255.255.254"]}, "ok", "bl.test did not answer"),
        ({"bl.test": ["127.0.0.1"], "other.test": ["203.0.113.7"]}, "unknown", "no list answers"),
        ({"bl.test": None, "other.test": None}, "unknown", "no list answers"),
        ({}, "ok", "is not on bl.test, other.test"),
    ],
)
def test_a_blocklist_counts_only_when_it_answers_as_one(run, answers: dict[str, Any], status: str, word: str) -> None:
    """Answers outside 127.0.0.0/8 and refusals of the question are no listing."""

    async def check(house: House) -> None:
        for zone, reply in answers.items():
            house.lookup.zone[f"10.2.0.192.{zone}"] = None if reply is None else {"A": reply}
        found = next(one for one in (await house.look()).sources[0].checks if one.id == "source_listing")
        assert found.status == status
        assert word in found.detail

    run(check)


def test_an_address_without_a_name_fails_the_rule_of_two_providers(run) -> None:
    """No PTR record, and one that does not lead back, both count; the next step says what to ask for."""

    async def check(house: House) -> None:
        house.lookup.zone.pop("10.2.0.192.in-addr.arpa")
        found = await house.look()
        failed = {one.rule.id for one in found.compliance.results if one.status == "failed"}
        assert failed == {"gmail_ptr", "yahoo_ptr"}
        assert "PTR" in found.compliance.next_step
        house.lookup.zone["10.2.0.192.in-addr.arpa"] = {"PTR": ["elsewhere.test"]}
        house.lookup.zone["elsewhere.test"] = {"A": ["192.0.2.11"]}
        told = (await house.look()).sources[0].checks[0]
        assert (told.id, told.status) == ("source_ptr", "failed")
        assert "does not lead back" in told.detail

    run(check)


def test_complaints_of_the_domains_mail_count_once_there_is_enough(run) -> None:
    """What recipients reported, out of the numbers: of this domain's mail that left, not of the sandbox's, nor of another domain's."""

    def counted(domain: str, road: str, reached: int, complained: int, at: int) -> Callable[[Any], None]:
        def write(conn: Any) -> None:
            deltas = counting.Deltas()
            labels = Labels(domain, "bulk", "", "", at)
            deltas.add(tenant_id, labels, road, "", "google", at, ("delivered",), reached)
            deltas.add(tenant_id, labels, road, "", "google", at, ("complained",), complained)
            deltas.write(conn)

        return write

    def of(found: Health) -> tuple[str, str]:
        one = next(one for one in found.compliance.results if one.rule.id == "gmail_complaints")
        return one.status.value, one.evidence

    tenant_id = ""

    async def check(house: House) -> None:
        nonlocal tenant_id
        tenant_id, now = house.tenant_id, house.clock.now()
        assert of(await house.look())[0] == "unknown"
        await house.engine.write(counted("acme.test", "mx", 999, 5, now))
        await house.engine.write(counted("acme.test", "sandbox", 5_000, 0, now))
        await house.engine.write(counted("other.test", "mx", 5_000, 4_000, now))
        assert of(await house.look()) == ("unknown", "999 recipients in 30 days are too few to tell; 1,000 are enough")
        await house.engine.write(counted("acme.test", "mx", 1, 0, now))
        found = await house.look()
        assert of(found)[0] == "failed"
        assert "0.50% of 1,000 recipients in 7 days" in of(found)[1]
        assert found.compliance.score is not None
        assert found.compliance.score < 100
        assert [one.score for one in await house.health.overview(tenant_id)] == [found.compliance.score]
        hidden = await house.health.get(tenant_id, "acme.test", has_complaints=False)
        assert of(hidden) == ("unknown", "it is not told how many complain")
        house.clock.advance(8 * 86_400)
        await house.engine.write(counted("acme.test", "mx", 9_000, 0, house.clock.now()))
        assert of(await house.look()) == ("passed", "0.050% of 10,000 recipients in 30 days reported it as spam, as far as providers tell")
        house.clock.advance(31 * 86_400)
        assert of(await house.look())[0] == "unknown", "mail of long ago counts no more"

    run(check)


def test_asking_twice_looks_once(run) -> None:
    """What is known is given; a fresh look is made at most every half minute, so nobody can make us ask DNS at will."""

    async def check(house: House) -> None:
        await house.health.get(house.tenant_id, "acme.test")
        count = len(house.lookup.asked)
        await house.health.get(house.tenant_id, "acme.test", is_fresh=True)
        assert len(house.lookup.asked) == count
        house.clock.advance(MINUTE / 1000)
        await house.health.get(house.tenant_id, "acme.test", is_fresh=True)
        assert len(house.lookup.asked) > count
        with pytest.raises(Refused, match="not_found"):
            await house.health.get("ten_other", "acme.test")
        row = await house.engine.read(lambda conn: health.domain_row(conn, house.view.domain.id))
        assert row is not None
        assert row.due_at == house.clock.now() + HOUR

    run(check)

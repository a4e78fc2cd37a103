"""Senders' domains: names, keys, records, verification and rotation, over a real database and a scripted resolver."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import sqlalchemy as sa

from gatepost.clock import DAY
from gatepost.domain.access import GATEWAY
from gatepost.domain.errors import Refused
from gatepost.net.dns import NoDomain, NoTexts, ResolverFailed, TextAnswer, Texts
from gatepost.store import schema
from gatepost.store.engine import Engine
from gatepost.store.opening import open_store
from gatepost.tenants.directory import Directory
from gatepost.tenants.domains import Domains, DomainView, canonical_name
from gatepost.wire.dkim import Signer

NOW = 1_795_000_000_000  # 2026-11-18


class Clock:
    """A clock that stands still."""

    at = NOW

    def now(self) -> int:
        return self.at

    def monotonic(self) -> float:
        return self.at / 1000

    async def sleep(self, seconds: float) -> None:
        self.at += int(seconds * 1000)


class Zone(dict[str, TextAnswer]):
    """A resolver that is a dict."""

    async def txt(self, name: str) -> TextAnswer:
        return self.get(name, NoDomain())

    def publish(self, view: DomainView, algorithm: str = "") -> None:
        """Publish the signing keys of a domain, all or those of an algorithm."""
        for record in view.records:
            if record.purpose == "dkim" and f"k={algorithm}" in record.value:
                self[record.name] = Texts((record.value,))


Check = Callable[[Domains, str, Zone, Engine], Awaitable[None]]


@pytest.fixture
def run(make_engine: Callable[[], Engine]) -> Callable[[Check], None]:
    """Run a check on each database engine."""

    def run_one(check: Check) -> None:
        async def main() -> None:
            engine, clock, zone = make_engine(), Clock(), Zone()
            tenant_id = await open_store(engine, clock)
            await check(Domains(engine, clock, zone, hostname="mail.acme.example"), tenant_id, zone, engine)
            await engine.close()

        asyncio.run(main())

    return run_one


async def events(engine: Engine) -> list[str]:
    """The types of all events, in order."""
    return await engine.read(lambda conn: list(conn.execute(sa.select(schema.event.c.type).order_by(schema.event.c.id)).scalars()))


async def statuses(engine: Engine) -> dict[str, str]:
    """Status of every signing key by selector."""
    columns = schema.dkim_key.c
    rows = await engine.read(lambda conn: conn.execute(sa.select(columns.selector, columns.status)).all())
    return {row.selector: row.status for row in rows}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Acme.Example", "acme.example"),
        ("acme.example.", "acme.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        (" acme.example ", "acme.example"),
    ],
)
def test_a_name_has_one_canonical_form(given: str, expected: str) -> None:
    """However it is typed, a domain is kept in lower-case A-labels, since that is what a From header is compared with."""
    assert canonical_name(given) == expected


@pytest.mark.parametrize(
    "name",
    [
        "",
        "acme",
        "acme..example",
        "a b.example",
        "ann@acme.example",
        "-acme.example",
        "127.0.0.1",
        "x" * 70 + ".example",
        "acme.example\r\nx",
    ],
)
def test_what_is_no_domain_name_is_refused_with_a_reason(name: str) -> None:
    """The refusal points at the name and says what is wrong with it."""
    with pytest.raises(Refused) as refused:
        canonical_name(name)
    assert refused.value.code == "validation_failed"
    assert refused.value.faults[0].pointer == "/name"
    assert "is not a domain name: " in refused.value.faults[0].detail


def test_an_added_domain_waits_for_dns_and_says_what_to_publish(run: Any) -> None:
    """A new domain is pending; its records are one RSA key, one Ed25519 key, SPF and DMARC."""

    async def check(domains: Domains, tenant_id: str, _zone: Zone, engine: Engine) -> None:
        view = await domains.add(tenant_id, "Acme.example", by=GATEWAY)
        assert (view.domain.name, view.domain.status, view.domain.verified_at) == ("acme.example", "pending", None)
        assert [(record.name, record.purpose, record.status) for record in view.records] == [
            ("gp202611a._domainkey.acme.example", "dkim", "unchecked"),
            ("gp202611e._domainkey.acme.example", "dkim", "unchecked"),
            ("acme.example", "spf", "unchecked"),
            ("_dmarc.acme.example", "dmarc", "unchecked"),
        ]
        assert set((await statuses(engine)).values()) == {"pending"}
        assert await events(engine) == []

    run(check)


def test_a_trusted_domain_signs_at_once(run: Any) -> None:
    """The operator vouches: verified without DNS, keys active and loadable."""

    async def check(domains: Domains, tenant_id: str, _zone: Zone, engine: Engine) -> None:
        view = await domains.add(tenant_id, "acme.example", is_trusted=True, by=GATEWAY)
        assert (view.domain.status, view.domain.is_trusted, view.domain.verified_at) == ("verified", True, NOW)
        directory = Directory(engine, Clock())
        await directory.refresh()
        signing = directory.signing_keys(tenant_id, "acme.example")
        assert [key.algorithm for key in signing] == ["rsa-sha256", "ed25519-sha256"]
        for key in signing:
            Signer.from_pem("acme.example", key.selector, key.algorithm, key.private_pem)
        assert await events(engine) == ["domain.verified"]

    run(check)


def test_the_same_domain_twice_is_a_conflict(run: Any) -> None:
    """One tenant has a name once, however it is spelled."""

    async def check(domains: Domains, tenant_id: str, _zone: Zone, _engine: Engine) -> None:
        await domains.add(tenant_id, "acme.example", by=GATEWAY)
        with pytest.raises(Refused) as refused:
            await domains.add(tenant_id, "ACME.example.", by=GATEWAY)
        assert refused.value.code == "conflict"

    run(check)


def test_a_domain_is_verified_once_a_signing_key_is_published(run: Any) -> None:
    """A published record lets that key sign and no other; the domain is verified, with one event."""

    async def check(domains: Domains, tenant_id: str, zone: Zone, engine: Engine) -> None:
        view = await domains.add(tenant_id, "acme.example", by=GATEWAY)
        assert (await domains.verify(tenant_id, "acme.example", by=GATEWAY)).domain.status == "pending"
        zone.publish(view, "rsa")
        zone["acme.example"] = Texts(("unrelated", "v=spf1 -all"))
        verified = await domains.verify(tenant_id, view.domain.id, by=GATEWAY)
        assert verified.domain.status == "verified"
        assert [record.status for record in verified.records] == ["published", "missing", "published", "missing"]
        assert await statuses(engine) == {"gp202611a": "active", "gp202611e": "pending"}
        await domains.verify(tenant_id, "acme.example", by=GATEWAY)
        assert await events(engine) == ["domain.verified"]

    run(check)


def test_a_record_with_another_key_does_not_verify(run: Any) -> None:
    """Somebody else's key under our selector is shown as different."""

    async def check(domains: Domains, tenant_id: str, zone: Zone, _engine: Engine) -> None:
        view = await domains.add(tenant_id, "acme.example", by=GATEWAY)
        zone[view.records[0].name] = Texts(("v=DKIM1; k=rsa; p=AAAA",))
        checked = await domains.verify(tenant_id, "acme.example", by=GATEWAY)
        assert checked.domain.status == "pending"
        assert checked.records[0].status == "different"

    run(check)


def test_a_record_cut_and_spaced_by_a_dns_provider_still_counts(run: Any) -> None:
    """RFC 6376 §3.6.1: white space in p= and the order of tags do not matter."""

    async def check(domains: Domains, tenant_id: str, zone: Zone, _engine: Engine) -> None:
        view = await domains.add(tenant_id, "acme.example", by=GATEWAY)
        public = view.records[0].value.partition("p=")[2]
        zone[view.records[0].name] = Texts((f"p={public[:60]} {public[60:]};v=DKIM1;",))
        assert (await domains.verify(tenant_id, "acme.example", by=GATEWAY)).domain.status == "verified"

    run(check)


def test_a_vanished_record_makes_the_domain_fail(run: Any) -> None:
    """When the records are gone the domain is pending again, and an event says so."""

    async def check(domains: Domains, tenant_id: str, zone: Zone, engine: Engine) -> None:
        zone.publish(await domains.add(tenant_id, "acme.example", by=GATEWAY))
        await domains.verify(tenant_id, "acme.example", by=GATEWAY)
        zone.clear()
        assert (await domains.verify(tenant_id, "acme.example", by=GATEWAY)).domain.status == "pending"
        assert await events(engine) == ["domain.verified", "domain.failing"]

    run(check)


def test_a_failing_resolver_changes_nothing(run: Any) -> None:
    """SERVFAIL is our trouble: a verified domain stays verified, its records are unknown."""

    async def check(domains: Domains, tenant_id: str, zone: Zone, engine: Engine) -> None:
        view = await domains.add(tenant_id, "acme.example", by=GATEWAY)
        zone.publish(view)
        await domains.verify(tenant_id, "acme.example", by=GATEWAY)
        zone.update({record.name: ResolverFailed("timeout") for record in view.records})
        checked = await domains.verify(tenant_id, "acme.example", by=GATEWAY)
        assert checked.domain.status == "verified"
        assert {record.status for record in checked.records} == {"unknown"}
        assert await events(engine) == ["domain.verified"]

    run(check)


def test_a_trusted_domain_stays_verified_whatever_dns_says(run: Any) -> None:
    """The operator's word stands above DNS; the records still show what DNS says."""

    async def check(domains: Domains, tenant_id: str, zone: Zone, _engine: Engine) -> None:
        await domains.add(tenant_id, "acme.example", is_trusted=True, by=GATEWAY)
        zone["acme.example"] = NoTexts()
        checked = await domains.verify(tenant_id, "acme.example", by=GATEWAY)
        assert checked.domain.status == "verified"
        assert {record.status for record in checked.records} == {"missing"}

    run(check)


def test_rotated_keys_sign_only_after_their_record_is_published(run: Any) -> None:
    """Between rotation and publication the old keys go on signing, so no mail carries a signature nobody can check."""

    async def check(domains: Domains, tenant_id: str, zone: Zone, engine: Engine) -> None:
        zone.publish(await domains.add(tenant_id, "acme.example", by=GATEWAY))
        await domains.verify(tenant_id, "acme.example", by=GATEWAY)
        rotated = await domains.rotate_dkim(tenant_id, "acme.example", by=GATEWAY)
        await domains.verify(tenant_id, "acme.example", by=GATEWAY)
        assert await statuses(engine) == {"gp202611a": "active", "gp202611e": "active", "gp202611a2": "pending", "gp202611e2": "pending"}
        zone.publish(rotated)
        await domains.verify(tenant_id, "acme.example", by=GATEWAY)
        assert await statuses(engine) == {"gp202611a": "retired", "gp202611e": "retired", "gp202611a2": "active", "gp202611e2": "active"}

    run(check)


def test_a_trusted_domains_rotated_keys_sign_at_once(run: Any) -> None:
    """Nobody asks DNS for a trusted domain: its new keys replace the old ones in one step."""

    async def check(domains: Domains, tenant_id: str, _zone: Zone, engine: Engine) -> None:
        await domains.add(tenant_id, "acme.example", is_trusted=True, by=GATEWAY)
        await domains.rotate_dkim(tenant_id, "acme.example", by=GATEWAY)
        assert await statuses(engine) == {"gp202611a": "retired", "gp202611e": "retired", "gp202611a2": "active", "gp202611e2": "active"}

    run(check)


def test_trusting_a_domain_later_verifies_it_and_lets_its_keys_sign(run: Any) -> None:
    """The operator can vouch for a domain that somebody added without trust."""

    async def check(domains: Domains, tenant_id: str, _zone: Zone, engine: Engine) -> None:
        await domains.add(tenant_id, "acme.example", by=GATEWAY)
        assert (await domains.trust(tenant_id, "acme.example", by=GATEWAY)).domain.status == "verified"
        assert set((await statuses(engine)).values()) == {"active"}
        assert await events(engine) == ["domain.verified"]

    run(check)


def test_a_removed_domain_is_gone_with_its_keys(run: Any) -> None:
    """Afterwards the name is free again, and no private key stays behind."""

    async def check(domains: Domains, tenant_id: str, _zone: Zone, engine: Engine) -> None:
        await domains.add(tenant_id, "acme.example", by=GATEWAY)
        await domains.remove(tenant_id, "acme.example", by=GATEWAY)
        with pytest.raises(Refused) as refused:
            await domains.get(tenant_id, "acme.example")
        assert refused.value.code == "not_found"
        assert await statuses(engine) == {}
        await domains.add(tenant_id, "acme.example", by=GATEWAY)

    run(check)


def test_another_tenants_domain_is_not_there(run: Any) -> None:
    """By id or by name, a domain is only found by its own tenant; two tenants may have the same name."""

    async def check(domains: Domains, tenant_id: str, _zone: Zone, engine: Engine) -> None:
        view = await domains.add(tenant_id, "acme.example", by=GATEWAY)
        other = "ten_00000000000000000000000000"
        for wanted in (view.domain.id, "acme.example"):
            with pytest.raises(Refused) as refused:
                await domains.get(other, wanted)
            assert refused.value.code == "not_found"
        await domains.add(other, "acme.example", by=GATEWAY)
        assert [one.domain.tenant_id for one in await domains.list(tenant_id)] == [tenant_id]

    run(check)


OTHER = "ten_00000000000000000000000000"


def test_a_domain_belongs_to_the_tenant_that_verified_it(run: Any) -> None:
    """A second tenant may add it, and publish its own records, but is refused when it verifies; nothing of it signs."""

    async def check(domains: Domains, tenant_id: str, zone: Zone, engine: Engine) -> None:
        zone.publish(await domains.add(tenant_id, "acme.example", by=GATEWAY))
        assert (await domains.verify(tenant_id, "acme.example", by=GATEWAY)).domain.status == "verified"
        zone.publish(await domains.add(OTHER, "acme.example", by=GATEWAY))
        with pytest.raises(Refused) as refused:
            await domains.verify(OTHER, "acme.example", by=GATEWAY)
        assert refused.value.code == "conflict"
        view = await domains.get(OTHER, "acme.example")
        assert view.domain.status == "pending"
        directory = Directory(engine, Clock())
        await directory.refresh()
        assert directory.signing_keys(OTHER, "acme.example") == ()
        assert (await domains.verify(tenant_id, "acme.example", by=GATEWAY)).domain.status == "verified"

    run(check)


def test_a_domain_that_changed_hands_goes_to_who_publishes_now(run: Any) -> None:
    """The first tenant's records are gone: the second one's verification finds that out, and succeeds."""

    async def check(domains: Domains, tenant_id: str, zone: Zone, engine: Engine) -> None:
        zone.publish(await domains.add(tenant_id, "acme.example", by=GATEWAY))
        await domains.verify(tenant_id, "acme.example", by=GATEWAY)
        zone.clear()
        zone.publish(await domains.add(OTHER, "acme.example", by=GATEWAY))
        assert (await domains.verify(OTHER, "acme.example", by=GATEWAY)).domain.status == "verified"
        assert (await domains.get(tenant_id, "acme.example")).domain.status == "pending"

    run(check)


def test_the_operator_may_trust_a_domain_for_two_tenants(run: Any) -> None:
    """Their signing keys never share a selector: each can be published beside the other (THREATS 50)."""

    async def check(domains: Domains, tenant_id: str, _zone: Zone, engine: Engine) -> None:
        views = [await domains.add(one, "acme.example", by=GATEWAY, is_trusted=True) for one in (tenant_id, OTHER)]
        assert [view.domain.status for view in views] == ["verified", "verified"]
        views.append(await domains.rotate_dkim(OTHER, "acme.example", by=GATEWAY))
        names = [record.name for view in (views[0], views[2]) for record in view.records if record.purpose == "dkim"]
        assert len(names) == len(set(names)) == 6

    run(check)


def test_two_tenants_that_verify_at_once_are_not_both_verified(run: Any) -> None:
    """Whoever commits first has it."""

    async def check(domains: Domains, tenant_id: str, zone: Zone, _engine: Engine) -> None:
        for one in (tenant_id, OTHER):
            zone.publish(await domains.add(one, "acme.example", by=GATEWAY))
        done = await asyncio.gather(
            *[domains.verify(one, "acme.example", by=GATEWAY) for one in (tenant_id, OTHER)], return_exceptions=True
        )
        assert sorted(type(one).__name__ for one in done) == ["DomainView", "Refused"]

    run(check)


def test_every_change_reaches_the_directory_at_once(make_engine: Callable[[], Engine]) -> None:
    """The process that changes a domain knows it with its next message."""

    async def main() -> None:
        engine, clock = make_engine(), Clock()
        tenant_id = await open_store(engine, clock)
        directory = Directory(engine, clock)
        domains = Domains(engine, clock, Zone(), directory)
        await domains.add(tenant_id, "acme.example", is_trusted=True, by=GATEWAY)
        assert directory.signing_keys(tenant_id, "acme.example")
        await domains.remove(tenant_id, "acme.example", by=GATEWAY)
        assert not directory.signing_keys(tenant_id, "acme.example")
        await engine.close()

    asyncio.run(main())


def test_selectors_follow_the_month() -> None:
    """A later month's key has its own name, without a number."""
    from gatepost.tenants.domains import _selector

    assert _selector("rsa-sha256", ["gp202611a"], NOW + 30 * DAY) == "gp202612a"
    assert _selector("rsa-sha256", ["gp202611a", "gp202611a2"], NOW) == "gp202611a3"


def test_several_spf_records_are_an_error(run: Any) -> None:
    """RFC 7208 §4.5: two SPF records count as none; the view says that something is different from what it should be."""

    async def check(domains: Domains, tenant_id: str, zone: Zone, _engine: Engine) -> None:
        await domains.add(tenant_id, "acme.example", by=GATEWAY)
        zone["acme.example"] = Texts(("v=spf1 -all", "v=spf1 mx -all"))
        checked = await domains.verify(tenant_id, "acme.example", by=GATEWAY)
        assert [record.status for record in checked.records if record.purpose == "spf"] == ["different"]

    run(check)

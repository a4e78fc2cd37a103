"""Mail that nothing speaks for is seen before it is sent (THREATS 51): by fields and as MIME, warned of or refused."""

import asyncio
from typing import Any

import pytest

from gatepost.domain.access import GATEWAY, KeyMode, Principal, PrincipalKind
from gatepost.domain.errors import Refused
from gatepost.domain.tenant import Caller
from gatepost.policy.alignment import Standing, trouble
from gatepost.screening.screener import Screener
from gatepost.settings import Egress, Screening, Settings, Watch
from gatepost.store.opening import open_store
from gatepost.tenants.alignments import Alignments
from gatepost.tenants.domain_health import DomainHealth
from gatepost.tenants.domains import Domains
from gatepost.tenants.source_health import SourceHealth, senders_of
from gatepost.testing.fake_clock import FakeClock
from gatepost.testing.fake_dns import FakeResolver
from gatepost.testing.fake_lookup import DictLookup, FakeTexts
from tests.screening import mail
from tests.watch.zones import ADDRESS, HOSTNAME, dkim_names, good_zone


def standing(**changed: Any) -> Standing:
    fields = {
        "domain": "mail.acme.test", "signs": False, "passes_spf": False, "policy": "reject", "organization": "acme.test",
        "is_spf_strict": False,
    }  # fmt: skip
    return Standing(**{**fields, **changed})


@pytest.mark.parametrize(
    ("changed", "envelope", "words"),
    [
        ({"signs": True}, "provider.test", ""),
        ({"passes_spf": True}, "mail.acme.test", ""),
        ({"passes_spf": True}, "bounces.acme.test", ""),
        ({"passes_spf": True}, "acme.test", ""),
        ({"passes_spf": True, "is_spf_strict": True}, "bounces.acme.test", "bounces.acme.test is another's"),
        ({"passes_spf": True}, "provider.test", "provider.test is another's"),
        ({"passes_spf": True}, "notacme.test", "notacme.test is another's"),
        ({"passes_spf": True}, "", "(none) is another's"),
        ({}, "mail.acme.test", "SPF does not pass"),
        ({}, "mail.acme.test", "receivers will reject it (DMARC p=reject)"),
    ],
)
def test_one_aligned_proof_is_enough(changed: dict[str, Any], envelope: str, words: str) -> None:
    """A verifiable signature, or an SPF pass of an envelope of the same organization."""
    found = trouble(standing(**changed), envelope)
    assert words in found if words else found == ""


def test_what_receivers_do_not_do_is_not_said() -> None:
    """Under p=none, or without a record, nobody rejects."""
    assert "receivers will" not in trouble(standing(policy="none"), "x.test")
    assert "receivers will" not in trouble(standing(policy=""), "x.test")


class Own:
    """Tenants without a policy of their own."""

    def policy(self, tenant_id: str) -> dict[str, str]:
        return {}


def settings(route: str = "mx", strictness: str = "warn") -> Settings:
    return Settings(
        egress=Egress(default_route=route, hostname=HOSTNAME), screening=Screening(alignment=strictness),  # type: ignore[arg-type]
        watch=Watch(addresses=[ADDRESS], blocklists=[]),
    )  # fmt: skip


def test_a_domain_whose_keys_are_gone_is_told_at_accept(make_engine) -> None:
    """From DNS to the sender's warning, on both databases: no warning while something speaks for it, none in the sandbox, none for test keys."""

    async def main() -> None:
        engine, clock, lookup, options = make_engine(), FakeClock(), DictLookup({}), settings()
        tenant_id = await open_store(engine, clock)
        domains = Domains(engine, clock, FakeTexts(lookup))
        view = await domains.add(tenant_id, "acme.example", by=GATEWAY)
        lookup.zone.update(good_zone(view, "acme.example"))
        sources = SourceHealth(engine, clock, lookup, senders_of(options), [])
        looking = DomainHealth(engine, clock, lookup, domains, sources, options)
        alignments = Alignments(engine)

        async def warnings(*, route: str = "mx", strictness: str = "warn", mode: KeyMode = KeyMode.LIVE) -> list[tuple[str, str]]:
            await alignments.refresh()
            screener = Screener(
                settings=settings(route, strictness), policies=Own(), resolver=FakeResolver(), clock=clock, standings=alignments
            )
            principal = Principal(id="key_1", kind=PrincipalKind.KEY, tenant_id=tenant_id, name="test", mode=mode)
            caller = Caller(principal=principal, peer="192.0.2.1", request_id="req_1")
            found = await mail.check_fields(screener, mail.submission(), caller)
            found = [*found, *await mail.check_mime(screener, mail.mime(), who=caller)]
            return [(fault.pointer, fault.code) for fault in found]

        await looking.look(tenant_id, view.domain.id)
        assert await warnings() == []
        for name in dkim_names(view):
            lookup.zone.pop(name)
        await looking.look(tenant_id, view.domain.id)
        assert await warnings() == []  # SPF passes and the envelope is the domain's own
        lookup.zone["acme.example"] = {"TXT": ["v=spf1 -all"], "MX": ["10 mx.acme.example"]}
        await looking.look(tenant_id, view.domain.id)
        assert await warnings() == [("/from", "dmarc_unaligned"), ("From", "dmarc_unaligned")]
        assert await warnings(strictness="off") == []
        assert await warnings(route="sandbox") == []
        assert await warnings(mode=KeyMode.TEST) == []
        with pytest.raises(Refused, match="receivers will quarantine it") as refusal:
            await warnings(strictness="refuse")
        assert refusal.value.code == "content_refused"
        await engine.close()

    asyncio.run(main())

"""The policy behind a domain's MTA-STS record is fetched and judged; of verified domains only."""

import asyncio
from pathlib import Path

import pytest

from gatepost.domain.access import GATEWAY
from gatepost.net.mta_sts_fetch import PolicyUnavailable, Trouble
from gatepost.store.opening import create_engine, open_store
from gatepost.tenants.domain_health import DomainHealth
from gatepost.tenants.domains import Domains
from gatepost.tenants.source_health import SourceHealth, senders_of
from gatepost.testing.fake_clock import FakeClock
from gatepost.wire.mta_sts import Mode, Policy
from tests.watch.test_domain_health import SETTINGS, DictLookup, FakeTexts
from tests.watch.zones import good_zone


class Policies:
    def __init__(self, found):
        self.found, self.asked = found, []

    async def fetch(self, domain):
        self.asked.append(domain)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def policy(*hosts, mode=Mode.ENFORCE):
    return Policy(mode=mode, hosts=hosts, max_age_s=86_400)


async def look(tmp_path, policies, *, is_published=True):
    engine, clock, lookup = create_engine("", tmp_path), FakeClock(), DictLookup({})
    tenant_id = await open_store(engine, clock)
    domains = Domains(engine, clock, FakeTexts(lookup))
    view = await domains.add(tenant_id, "acme.test", by=GATEWAY)
    zone = {**good_zone(view), "_mta-sts.acme.test": {"TXT": ["v=STSv1; id=1"]}}
    lookup.zone.update(zone if is_published else {"_mta-sts.acme.test": zone["_mta-sts.acme.test"]})
    sources = SourceHealth(engine, clock, lookup, senders_of(SETTINGS), [])
    found = await DomainHealth(engine, clock, lookup, domains, sources, SETTINGS, policies=policies).get(tenant_id, "acme.test")
    await engine.close()
    return next(one for one in found.checks if one.id == "mta_sts")


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (policy("mx.acme.test"), "ok", "mode: enforce"),
        (policy("*.acme.test", mode=Mode.TESTING), "ok", "mode: testing"),
        (policy("mx.other.test"), "warning", "does not name mx.acme.test, which gets no mail"),
        (policy("mx.other.test", mode=Mode.TESTING), "warning", "would get none"),
        (policy(mode=Mode.NONE), "ok", "asks nothing"),
        (PolicyUnavailable(Trouble.CERTIFICATE, "its certificate has ended"), "warning", "its certificate has ended"),
    ],
)
def test_a_policy_is_judged_by_what_it_does_to_mail(tmp_path: Path, found, status, words):
    """One that nobody can fetch protects nothing; one that names other hosts stops mail: both with what to do."""
    policies = Policies(found)
    check = asyncio.run(look(tmp_path, policies))
    assert policies.asked == ["acme.test"]
    assert check.status.value == status
    assert words in check.detail
    assert bool(check.advice) == (status == "warning")


def test_no_host_is_asked_on_the_word_of_an_unverified_domain(tmp_path: Path):
    """Whoever adds a domain that is not theirs makes the gateway connect nowhere."""
    policies = Policies(policy("mx.acme.test"))
    check = asyncio.run(look(tmp_path, policies, is_published=False))
    assert policies.asked == []
    assert check.status.value == "ok"

"""A provider's hook says later that others block it: the relay rests, its operator is told, and nobody is suppressed; on both engines."""

import pytest
from sqlalchemy import select

from gatepost.domain.outcome import Category
from gatepost.domain.statement import About, Said
from gatepost.domain.tenant import DEFAULT_TENANT
from gatepost.store import shaping, tenants
from gatepost.store.schema import event
from tests.returns.test_reported import run

SITE = "relay:main"


async def blocked(house, names, category=Category.REPUTATION_BLOCK):
    for n, domain in enumerate(names):
        house.count = getattr(house, "count", 0) + 1
        provider_id = f"p{house.count}"
        domains = (*(f"x{i}.example" for i in range(n)), domain)
        await house.delivered(final=False, provider_id=provider_id, route="main", source=None, domains=domains)
        about = About(provider_ids=(provider_id,), relay="main", address=f"user{n}@{domain}")
        await house.say(Said.BOUNCED, about, by="main", category=category)


async def rule(house):
    return await house.engine.read(lambda conn: shaping.rule(conn, "", SITE))


async def alerts(house):
    def read(conn):
        operator = tenants.by_name(conn, DEFAULT_TENANT)
        return conn.execute(select(event.c.type).where(event.c.tenant_id == operator, event.c.type == "sending.blocked")).all()

    return await house.engine.read(read)


def test_after_blocks_by_several_domains_the_relay_rests_and_its_operator_hears_it(make_engine):
    """Five addresses of two domains within the hour: the relay takes nothing for a quarter of an hour, so mail goes on by other roads."""

    async def work(house):
        await blocked(house, ["a.example", "a.example", "b.example", "b.example"])
        assert (await rule(house)).suspended_until is None
        await blocked(house, ["a.example", "b.example", "a.example", "b.example", "b.example"])
        found = await rule(house)
        assert found.suspended_until == house.clock.now() + 15 * 60_000
        assert "2 domains" in found.note
        assert len(await alerts(house)) == 1
        assert await house.suppressed() == []

    run(make_engine, work)


@pytest.mark.parametrize(
    ("domains", "category"),
    [(["a.example"] * 9, Category.REPUTATION_BLOCK), (["a.example", "b.example"] * 5, Category.CONTENT_REJECTED)],
)
def test_one_domains_block_or_a_message_of_ours_does_not_stop_a_whole_relay(make_engine, domains, category):
    """One system blocks the provider, or many refuse what a mail says: that is told, and the others' mail goes on."""

    async def work(house):
        await blocked(house, domains, category)
        assert (await rule(house)).suspended_until is None
        assert await alerts(house) == []

    run(make_engine, work)

"""What is known of the things that are looked after, on both databases."""

import asyncio

import pytest
import sqlalchemy as sa

from gatepost.clock import SystemClock
from gatepost.domain.tenant import Domain, DomainStatus
from gatepost.store import health, schema, tenants
from gatepost.store.health import DomainRow, Minute, RelayRow
from gatepost.store.opening import open_store

NOW = 1_795_000_000_000


@pytest.fixture
def run(make_engine):
    """Run a check on each database engine."""

    def run_one(check) -> None:
        async def main() -> None:
            engine = make_engine()
            await check(engine, await open_store(engine, SystemClock()))
            await engine.close()

        asyncio.run(main())

    return run_one


def row(domain_id: str, tenant_id: str, *, due_at: int = NOW, state: str = "ok", since: int | None = None) -> DomainRow:
    return DomainRow(
        domain_id=domain_id, tenant_id=tenant_id, checked_at=NOW, due_at=due_at, state=state, failing_since=since, report={"score": 1}
    )


def test_a_task_has_one_owner(run) -> None:
    """Another process gets it when its owner was silent for too long, or gave it back."""

    async def check(engine, _tenant_id) -> None:
        async def hold(owner: str, now: int) -> bool:
            return await engine.write(lambda conn: health.hold(conn, "domains", owner, now, now + 1000))

        assert await hold("a", NOW)
        assert not await hold("b", NOW + 999)
        assert await hold("a", NOW + 999)
        assert await hold("b", NOW + 2000)
        await engine.write(lambda conn: health.let_go(conn, "b"))
        assert await hold("a", NOW + 2001)

    run(check)


def test_due_domains_are_the_new_ones_and_the_oldest(run) -> None:
    """A domain that nobody looked at comes first; a removed one takes its health with it, and it does not come back."""

    async def check(engine, tenant_id) -> None:
        names = {f"dom_{n}": f"d{n}.test" for n in range(4)}
        for domain_id, name in names.items():
            made = Domain(id=domain_id, tenant_id=tenant_id, name=name, status=DomainStatus.VERIFIED, is_trusted=False, created_at=NOW)
            await engine.write(lambda conn, made=made: tenants.insert_domain(conn, made))
        for domain_id, due_at in (("dom_1", NOW - 5), ("dom_2", NOW - 9), ("dom_3", NOW + 9)):
            await engine.write(
                lambda conn, domain_id=domain_id, due_at=due_at: health.put_domain(conn, row(domain_id, tenant_id, due_at=due_at))
            )
        due = await engine.read(lambda conn: health.due_domains(conn, NOW, 10))
        assert due == [(tenant_id, "dom_0"), (tenant_id, "dom_2"), (tenant_id, "dom_1")]
        assert await engine.read(lambda conn: health.due_domains(conn, NOW, 1)) == [(tenant_id, "dom_0")]
        await engine.write(lambda conn: health.put_domain(conn, row("dom_1", tenant_id, state="broken", since=NOW)))
        found = await engine.read(lambda conn: health.domain_row(conn, "dom_1"))
        assert found == row("dom_1", tenant_id, state="broken", since=NOW)
        await engine.write(lambda conn: tenants.remove_domain(conn, "dom_1"))
        await engine.write(lambda conn: health.put_domain(conn, row("dom_1", tenant_id)))
        assert set(await engine.read(lambda conn: health.tenant_rows(conn, tenant_id))) == {"dom_2", "dom_3"}

    run(check)


def test_minutes_of_all_nodes_add_up(run) -> None:
    """Each node writes rows of its own; what is read is their sum, and old minutes go."""

    async def check(engine, _tenant_id) -> None:
        one = Minute(relay="main", minute=100, attempts=5, failed=1, slow=0)
        for node in ("a", "a", "b"):
            await engine.write(lambda conn, node=node: health.count_minutes(conn, node, [one]))
        await engine.write(lambda conn: health.count_minutes(conn, "a", []))
        await engine.write(lambda conn: health.count_minutes(conn, "a", [Minute(relay="other", minute=90, attempts=1, failed=0, slow=1)]))
        assert await engine.read(lambda conn: health.minutes(conn, 91)) == [Minute(relay="main", minute=100, attempts=15, failed=3, slow=0)]
        assert len(await engine.read(lambda conn: health.minutes(conn, 0, "other"))) == 1
        await engine.write(lambda conn: health.purge_minutes(conn, 100))
        assert len(await engine.read(lambda conn: conn.execute(sa.select(schema.relay_minute)).all())) == 2

    run(check)


def test_what_is_gone_is_forgotten(run) -> None:
    """Relays and addresses that were taken out of the settings leave the store."""

    async def check(engine, _tenant_id) -> None:
        for relay in ("main", "old"):
            made = RelayRow(relay=relay, checked_at=NOW, is_ok=False, failing_since=NOW, report={})
            await engine.write(lambda conn, made=made: health.put_relay(conn, made))
            await engine.write(lambda conn, made=made: health.put_relay(conn, made))
        await engine.write(lambda conn: health.put_source(conn, "192.0.2.1", NOW, {"checks": []}))
        await engine.write(lambda conn: health.forget_relays(conn, ["main"]))
        await engine.write(lambda conn: health.forget_sources(conn, []))
        assert set(await engine.read(health.relays)) == {"main"}
        assert await engine.read(health.sources) == {}

    run(check)

"""The audit log on both engines: nothing of it can be changed or removed without being found out."""

import asyncio

import pytest
import sqlalchemy as sa

from gatepost.clock import DAY
from gatepost.domain.access import GATEWAY, Actor, PrincipalKind
from gatepost.store import audit
from gatepost.store.audit import Change, Wanted
from gatepost.store.opening import open_store
from gatepost.store.schema import audit as table
from gatepost.store.schema import audit_head
from gatepost.testing.fake_clock import FakeClock
from tests.store.rows import NOW

ANN = Actor(kind=PrincipalKind.KEY, id="key_ann", name="Ann's key", peer="192.0.2.1", request_id="req_1")


def run(make_engine, work):
    async def main():
        engine = make_engine()
        try:
            await open_store(engine, FakeClock(NOW))
            await work(engine)
        finally:
            await engine.close()

    asyncio.run(main())


def put(conn, count=5, tenant_id="ten_a", actor=ANN, action="key.created"):
    for n in range(count):
        change = Change(
            action=action, object_id=f"key_{n}", tenant_id=tenant_id, before={"n": n, "name": "é"}, after={"list": [1, None, "x"]}
        )
        audit.append(conn, actor, change, NOW + n)


def test_an_untouched_log_is_whole(make_engine):
    """The first entry is the default tenant's; the head that is printed proves itself later."""

    async def work(engine):
        before = await engine.read(audit.verify)
        assert (before.entries, before.problem) == (1, None)
        await engine.write(put)
        after = await engine.read(audit.verify)
        assert (after.entries, after.bad_seq, after.problem) == (6, None, None)
        for one in (before, after):
            assert (await engine.read(lambda conn, one=one: audit.verify(conn, (one.entries, one.head)))).problem is None

    run(make_engine, work)


@pytest.mark.parametrize("column", [column.name for column in table.c if column.name not in {"seq", "hash"}])
def test_no_field_of_an_entry_can_be_altered(make_engine, column):
    """Who, when, from where, what, before and after: each is covered by the chain."""
    value = {"at": NOW - DAY, "before": {"n": 99}, "after": None, "tenant_id": None}.get(column, "forged")

    async def work(engine):
        await engine.write(put)
        await engine.write(lambda conn: conn.execute(sa.update(table).where(table.c.seq == 3).values({column: value})))
        found = await engine.read(audit.verify)
        assert (found.entries, found.bad_seq) == (2, 3)
        assert "altered" in found.problem

    run(make_engine, work)


def _swap(conn):
    conn.execute(sa.update(table).where(table.c.seq == 3).values(seq=1000))
    conn.execute(sa.update(table).where(table.c.seq == 4).values(seq=3))
    conn.execute(sa.update(table).where(table.c.seq == 1000).values(seq=4))


def _cut(conn, *, with_head):
    conn.execute(sa.delete(table).where(table.c.seq > 4))
    if with_head:  # what somebody with the database alone can write: the last entry's own hash
        last = conn.execute(sa.select(table.c.hash).where(table.c.seq == 4)).scalar_one()
        conn.execute(sa.update(audit_head).values(seq=4, hash=last))


def _empty(conn):
    conn.execute(sa.delete(table))
    conn.execute(sa.update(audit_head).values(seq=0, hash=bytes(32)))


def _forge(conn):
    row = dict(conn.execute(sa.select(table).where(table.c.seq == 6)).mappings().one())
    conn.execute(sa.insert(table), [{**row, "seq": 7, "id": "aud_forged"}])


DAMAGES = {
    "an entry in the middle is removed": (lambda conn: conn.execute(sa.delete(table).where(table.c.seq == 3)), 3, "removed"),
    "the first entry is removed": (lambda conn: conn.execute(sa.delete(table).where(table.c.seq == 1)), 1, "removed"),
    "two entries change places": (_swap, 3, "altered"),
    "the tail is cut": (lambda conn: _cut(conn, with_head=False), 5, "removed at the end"),
    "the tail is cut and the head follows": (lambda conn: _cut(conn, with_head=True), 5, "head was altered"),
    "everything is removed": (_empty, 1, "every entry was removed"),
    "the head is removed": (lambda conn: conn.execute(sa.delete(audit_head)), 7, "head was removed"),
    "the head counts less": (lambda conn: conn.execute(sa.update(audit_head).values(seq=5)), 7, "head was altered"),
    "the head's hash is altered": (lambda conn: conn.execute(sa.update(audit_head).values(hash=bytes(32))), 7, "head was altered"),
    "an entry is added": (_forge, 7, "altered"),
    "an entry's hash is altered": (
        lambda conn: conn.execute(sa.update(table).where(table.c.seq == 2).values(hash=bytes(32))),
        2,
        "altered",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_is_done_to_the_log_is_found(make_engine, damage):
    """With the number of the first entry that is not what it was, and what is wrong."""
    act, bad_seq, problem = DAMAGES[damage]

    async def work(engine):
        await engine.write(put)
        await engine.write(act)
        found = await engine.read(audit.verify)
        assert found.bad_seq == bad_seq
        assert problem in found.problem

    run(make_engine, work)


def test_a_log_that_was_put_back_is_found_by_the_head_that_was_noted(make_engine):
    """Old entries with their old head are whole in themselves; only what was noted elsewhere tells."""

    async def work(engine):
        await engine.write(lambda conn: put(conn, 2))
        old = await engine.read(lambda conn: conn.execute(sa.select(audit_head)).one())
        await engine.write(lambda conn: put(conn, 3))
        noted = await engine.read(audit.verify)

        def put_back(conn):
            conn.execute(sa.delete(table).where(table.c.seq > old.seq))
            conn.execute(sa.update(audit_head).values(seq=old.seq, hash=old.hash))

        await engine.write(put_back)
        assert (await engine.read(audit.verify)).problem is None
        found = await engine.read(lambda conn: audit.verify(conn, (noted.entries, noted.head)))
        assert "cut or put back" in found.problem

    run(make_engine, work)


def test_changes_of_several_processes_at_once_make_one_chain(make_engine):
    """Twenty transactions over two engines: no number twice, no gap, all hashes right."""

    async def work(engine):
        other = make_engine()
        await asyncio.gather(*[one.write(lambda conn: put(conn, 2)) for _ in range(10) for one in (engine, other)])
        await other.close()
        found = await engine.read(audit.verify)
        assert (found.entries, found.problem) == (41, None)

    run(make_engine, work)


def test_a_change_that_fails_leaves_no_entry(make_engine):
    """The entry is in the change's transaction."""

    async def work(engine):
        def fail(conn):
            put(conn)
            raise RuntimeError("after the entry")

        with pytest.raises(RuntimeError):
            await engine.write(fail)
        assert (await engine.read(audit.verify)).entries == 1

    run(make_engine, work)


def test_entries_are_listed_newest_first_by_page_and_by_filter(make_engine):
    """By tenant, kind of action, actor, object and time; a page before and a page after one."""

    async def work(engine):
        await engine.write(lambda conn: put(conn, 5))
        await engine.write(lambda conn: put(conn, 2, tenant_id="ten_b", actor=GATEWAY, action="domain.added"))
        await engine.write(lambda conn: put(conn, 1, tenant_id=None, action="site.paused"))

        async def listed(limit=100, after=None, before=None, **wanted):
            rows = await engine.read(lambda conn: audit.page(conn, Wanted(**wanted), limit, after, before))
            return [row.object_id for row in rows]

        assert await listed(tenant_id="ten_a") == ["key_4", "key_3", "key_2", "key_1", "key_0"]
        assert await listed(is_gateway=True) == ["key_0"]
        assert await listed(action="domain.") == ["key_1", "key_0"]
        assert await listed(action="domain") == []
        assert await listed(action="%.") == []
        assert await listed(tenant_id="ten_b", actor_id="local", object_id="key_1") == ["key_1"]
        assert await listed(tenant_id="ten_a", since=NOW + 1, until=NOW + 3) == ["key_2", "key_1"]
        rows = await engine.read(lambda conn: audit.page(conn, Wanted(tenant_id="ten_a"), 2))
        assert await listed(2, after=rows[-1].id, tenant_id="ten_a") == ["key_2", "key_1"]
        oldest = (await engine.read(lambda conn: audit.page(conn, Wanted(tenant_id="ten_a"), 9)))[-1]
        assert await listed(2, before=oldest.id, tenant_id="ten_a") == ["key_2", "key_1"]

    run(make_engine, work)


def test_secrets_are_masked_whoever_forgot_to(make_engine):
    """Neither the row nor the database's bytes hold them."""

    async def work(engine):
        change = Change(
            action="key.created", object_id="key_1", tenant_id="ten_a", after={"secret": "topsecret-1", "note": "gp_live_abcdefghijklmnop"}
        )
        who = Actor(kind=PrincipalKind.PERSON, id="per_1", name="ann@example.net")
        await engine.write(lambda conn: audit.append(conn, who, change, NOW))
        row = (await engine.read(lambda conn: audit.page(conn, Wanted(tenant_id="ten_a"), 1)))[0]
        assert row.after == {"secret": "***", "note": "gp_live_***"}
        assert row.actor_name == "a***@example.net"
        assert (await engine.read(audit.verify)).problem is None

    run(make_engine, work)


def test_a_long_log_is_checked_in_pieces(make_engine):
    """More entries than are read at once."""

    async def work(engine):
        await engine.write(lambda conn: put(conn, 2_100))
        assert (await engine.read(audit.verify)).entries == 2_101
        await engine.write(lambda conn: conn.execute(sa.delete(table).where(table.c.seq == 1_500)))
        assert (await engine.read(audit.verify)).bad_seq == 1_500

    run(make_engine, work)

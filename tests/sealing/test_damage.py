"""Damage on disk: what was altered or swapped is noticed, told, and takes nothing else down."""

import asyncio

import pytest
import sqlalchemy as sa

from gatepost.domain.outcome import Category
from gatepost.store import facts, idempotency, messages, queue, suppressions
from gatepost.store.blobs import LocalBlobs
from gatepost.store.errors import KeyLost, SealBroken
from gatepost.store.schema import attempt, body, data_key, event, message, recipient, suppression
from gatepost.store.sealing import UNREADABLE
from tests.flow.test_dispatcher import House
from tests.store.rows import NOW, put_message


def run(make_engine, tmp_path, work):
    async def main():
        async with House(make_engine, tmp_path) as house:
            await work(house)

    asyncio.run(main())


def flip(conn, column, condition):
    """Alter one byte of a sealed value."""
    sealed = bytearray(conn.execute(sa.select(column).where(condition)).scalar_one())
    sealed[-20] ^= 1
    conn.execute(sa.update(column.table).where(condition).values({column.name: bytes(sealed)}))


def swap(conn, column, one, two):
    """Put two rows' sealed values in each other's place."""
    values = [conn.execute(sa.select(column).where(condition)).scalar_one() for condition in (one, two)]
    for condition, value in zip((two, one), values, strict=True):
        conn.execute(sa.update(column.table).where(condition).values({column.name: value}))


async def mail(house, count=1, **more):
    """Put messages into the queue; return their ids."""
    return [(await house.engine.write(lambda conn: put_message(conn, **more)))[0].message_id for _ in range(count)]


@pytest.mark.parametrize("column", [body.c.data, message.c.sealed])
def test_one_damaged_message_fails_and_all_others_are_delivered(make_engine, tmp_path, column):
    """The queue does not stand still: the damaged one ends as bounced with an event that says why."""

    async def work(house):
        bad, *good = await mail(house, 5)
        await house.engine.write(lambda conn: flip(conn, column, next(iter(column.table.primary_key)) == bad))
        await house.run_until_idle()
        assert {batch.message_id for batch in house.courier.batches} == set(good)
        assert await house.statuses() == {"delivered": 4, "bounced": 1}
        (told,) = await house.engine.read(lambda conn: facts.events_of(conn, bad))
        assert told.type == "recipient.bounced"
        assert "cannot be opened" in told.data["detail"]
        assert told.data["category"] == Category.UNDETERMINED.value
        assert (await house.engine.read(lambda conn: queue.depth(conn, NOW)))[0] == 0

    run(make_engine, tmp_path, work)


def test_a_body_that_is_called_something_else_fails_at_once(make_engine, tmp_path):
    """What says how to read a value is sealed with it: nothing is decompressed, or looked up, as what it is not."""

    async def work(house):
        (one,) = await mail(house)
        await house.engine.write(lambda conn: conn.execute(sa.update(body).values(encoding="blob")))
        await house.run_until_idle()
        assert house.courier.batches == []
        assert await house.statuses() == {"bounced": 1}
        with pytest.raises(SealBroken):
            await house.engine.read(lambda conn: messages.body_of(conn, one))

    run(make_engine, tmp_path, work)


def test_swapped_bodies_and_addresses_are_never_sent(make_engine, tmp_path):
    """Another message's body, another recipient's address, also of the same message: none of them is opened there."""

    async def work(house):
        one, two, three, four = await mail(house, 4, domains=("a.example", "b.example"))
        at = recipient.c

        def mix_up(conn):
            swap(conn, body.c.data, body.c.message_id == one, body.c.message_id == two)
            swap(conn, at.sealed, sa.and_(at.message_id == three, at.n == 0), sa.and_(at.message_id == three, at.n == 1))

        await house.engine.write(mix_up)
        await house.run_until_idle()
        assert {batch.message_id for batch in house.courier.batches} == {four}
        assert await house.statuses() == {"delivered": 2, "bounced": 6}

    run(make_engine, tmp_path, work)


def test_one_damaged_address_fails_and_the_messages_other_recipients_get_it(make_engine, tmp_path):
    """Damage has the size of a row."""

    async def work(house):
        (one,) = await mail(house, domains=("a.example", "a.example", "a.example"))
        await house.engine.write(lambda conn: flip(conn, recipient.c.sealed, sa.and_(recipient.c.message_id == one, recipient.c.n == 1)))
        await house.run_until_idle()
        assert [[to.n for to in batch.recipients] for batch in house.courier.batches] == [[0, 2]]
        rows = (await house.engine.read(lambda conn: messages.recipients_of(conn, [one])))[one]
        assert [(row.status, row.address) for row in rows] == [
            ("delivered", "user0@a.example"), ("bounced", UNREADABLE), ("delivered", "user2@a.example"),
        ]  # fmt: skip

    run(make_engine, tmp_path, work)


def test_mail_whose_data_key_is_gone_waits_for_it(make_engine, tmp_path):
    """A lost key is no reason to give mail up: with the key back in its table it is delivered."""

    async def work(house):
        await mail(house, 3)
        other = House(make_engine, tmp_path)
        kept = await house.engine.read(
            lambda conn: conn.execute(sa.select(data_key).where(data_key.c.tenant_id == "ten_a")).mappings().all()
        )
        await house.engine.write(lambda conn: conn.execute(sa.delete(data_key).where(data_key.c.tenant_id == "ten_a")))
        async with other:  # a process that never saw the key
            await other.run_until_idle()
            assert other.courier.batches == []
            assert await other.statuses() == {"deferred": 3}
            await other.engine.write(lambda conn: conn.execute(sa.delete(data_key).where(data_key.c.tenant_id == "ten_a")))
            await other.engine.write(lambda conn: conn.execute(sa.insert(data_key), [dict(row) for row in kept]))
            other.clock.advance(120)
        async with House(make_engine, tmp_path) as third:
            third.clock.advance(240)
            await third.run_until_idle(third.dispatch("node_c"))
            assert await third.statuses() == {"delivered": 3}

    run(make_engine, tmp_path, work)


def test_lists_show_damage_and_stay_lists(make_engine, tmp_path):
    """A page with a damaged row still shows the others; content that is asked for by itself is refused."""

    async def work(house):
        one, two = await mail(house, 2, subject="Whole")
        await house.run_until_idle()

        def damage(conn):
            flip(conn, message.c.sealed, message.c.id == one)
            flip(conn, recipient.c.reply_sealed, recipient.c.message_id == one)
            flip(conn, attempt.c.sealed, attempt.c.message_id == one)
            flip(conn, event.c.data, event.c.message_id == one)
            flip(conn, body.c.data, body.c.message_id == one)

        await house.engine.write(damage)

        def look(conn):
            assert [row.subject for row in messages.page(conn, "ten_a", messages.Filter(), 10)] == ["Whole", UNREADABLE]
            assert messages.recipients_of(conn, [one])[one][0].address == UNREADABLE
            assert facts.attempts_of(conn, one)[0].detail == UNREADABLE
            assert facts.events_of(conn, one)[0].data == {"detail": UNREADABLE}
            assert messages.body_of(conn, two) is not None
            with pytest.raises(SealBroken):
                messages.body_of(conn, one)

        await house.engine.read(look)

    run(make_engine, tmp_path, work)


def test_a_damaged_suppression_still_suppresses(make_engine, tmp_path):
    """Its hash is enough to find it, whatever became of the text."""

    async def work(house):
        row = {
            "tenant_id": "ten_a",
            "address": "a@b.example",
            "stream": "",
            "id": "sup_1",
            "reason": "manual",
            "note": "",
            "created_at": NOW,
            "expires_at": None,
        }
        await house.engine.write(lambda conn: suppressions.put(conn, row))
        await house.engine.write(lambda conn: flip(conn, suppression.c.sealed, suppression.c.id == "sup_1"))
        found = await house.engine.read(lambda conn: suppressions.matching(conn, [("ten_a", "a@b.example")], NOW))
        assert found == {("ten_a", "a@b.example"): [("", "manual")]}
        assert [row.address for row in await house.engine.read(lambda conn: suppressions.page(conn, "ten_a", 5))] == [UNREADABLE]

    run(make_engine, tmp_path, work)


def test_another_tenants_values_do_not_open(make_engine, tmp_path):
    """A tenant that could write into the database still could not read another's mail through its own rows."""

    async def work(house):
        (mine,), (theirs,) = await mail(house), await mail(house, tenant_id="ten_b", subject="Theirs")

        def steal(conn):
            sealed = conn.execute(sa.select(message.c.sealed).where(message.c.id == theirs)).scalar_one()
            conn.execute(sa.update(message).where(message.c.id == mine).values(sealed=sealed))
            assert messages.get(conn, "ten_a", mine).subject == UNREADABLE
            conn.execute(sa.update(message).where(message.c.id == theirs).values(tenant_id="ten_a"))
            assert messages.get(conn, "ten_a", theirs).subject == UNREADABLE

        await house.engine.write(steal)

    run(make_engine, tmp_path, work)


def test_an_idempotency_key_stands_nowhere_and_its_answer_cannot_be_swapped(make_engine, tmp_path):
    """Neither the hash of the key nor the hash of the request is in the row."""

    async def work(house):
        rows = [
            {"tenant_id": "t", "key_hash": key * 32, "request_hash": b"q" * 32, "response": "{}", "expires_at": NOW + 10}
            for key in (b"k", b"l")
        ]
        await house.engine.write(lambda conn: idempotency.insert(conn, rows, NOW))

        def look(conn):
            table = idempotency.idempotency
            stored = conn.execute(sa.select(table)).all()
            assert all(
                part not in bytes(value) for row in stored for value in row if isinstance(value, bytes) for part in (b"kkkk", b"qqqq")
            )
            swap(conn, table.c.sealed, *(table.c.key_hash == row.key_hash for row in stored))
            with pytest.raises(SealBroken):
                idempotency.find(conn, [("t", b"k" * 32)], NOW)

        await house.engine.write(look)

    run(make_engine, tmp_path, work)


def test_a_blob_is_a_sealed_file_under_a_name_that_tells_nothing(tmp_path):
    """Equal contents have different names, a flipped byte is noticed, another blob's file is not taken for it."""
    blobs = LocalBlobs(tmp_path)
    content = bytes(range(256)) * 2 + __import__("random").Random(1).randbytes(400_000)
    one, two = blobs.put(content), blobs.put(content)
    assert one[0] == two[0] == "blob"
    assert one[1] != two[1]
    assert blobs.get(*one) == content
    files = {path.parent.name + path.name: path for path in tmp_path.rglob("*") if path.is_file()}
    first, second = (files[stored[1][:32].decode()] for stored in (one, two))
    assert first.read_bytes()[:64] != second.read_bytes()[:64]
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    with pytest.raises(SealBroken):
        blobs.get(*one)
    first.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(SealBroken):
        blobs.get(*one)


assert issubclass(KeyLost, SealBroken)

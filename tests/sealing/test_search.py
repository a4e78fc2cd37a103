"""Searching what is sealed: addresses by their hash, texts by opening the newest messages."""

import asyncio

from gatepost.clock import SystemClock
from gatepost.store import messages
from gatepost.store.opening import open_store
from tests.store.rows import put_message


def run(make_engine, work):
    async def main():
        engine = make_engine()
        try:
            await open_store(engine, SystemClock())
            await work(engine)
        finally:
            await engine.close()

    asyncio.run(main())


def test_a_text_is_found_in_the_newest_messages_and_a_whole_address_in_all(make_engine):
    """Behind the depth of the search only an exact address leads to older mail; pages meet in both directions."""

    async def work(engine):
        def fill(conn):
            return [put_message(conn, domains=(f"d{n % 3}.example",), subject=f"Number {n} of {n % 4}")[0].message_id for n in range(40)]

        ids = (await engine.write(fill))[::-1]  # the newest first
        await engine.write(lambda conn: put_message(conn, tenant_id="ten_b", domains=("d1.example",), subject="Number 1 of 1"))

        async def page(limit=50, after=None, before=None, depth=20, **wanted):
            found = await engine.read(
                lambda conn: messages.page(conn, "ten_a", messages.Filter(depth=depth, **wanted), limit, after, before)
            )
            return [row.id for row in found]

        of_3 = [one for n, one in zip(range(39, -1, -1), ids, strict=True) if n % 4 == 3]
        to_d1 = [one for n, one in zip(range(39, -1, -1), ids, strict=True) if n % 3 == 1]
        assert await page(text="of 3", depth=100) == of_3
        assert await page(text="OF 3") == of_3[:5]
        assert await page(subject="of 3", sender="acme", limit=2) == of_3[:2]
        assert await page(text="of 3", after=of_3[1], limit=2) == of_3[2:4]
        assert await page(text="of 3", before=of_3[4], limit=2) == of_3[2:4]
        assert await page(text="@d1.exa") == [one for one in to_d1 if one in ids[:20]]
        assert await page(text="User0@D1.example") == to_d1
        assert await page(text="user0@d1.example", limit=4, after=to_d1[4]) == to_d1[5:9]
        assert await page(text="user0@d1.example", limit=4, before=to_d1[9]) == to_d1[5:9]
        assert await page(address_key="user0@d1.example", depth=1) == to_d1
        assert await page(address_key="user0@d1.example", text="of 3", depth=100) == [one for one in of_3 if one in to_d1]
        assert await page(text="nothing at all") == []

    run(make_engine, work)

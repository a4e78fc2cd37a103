"""A look at the queue that overlaps with the end of a delivery."""

import asyncio
from collections import Counter

from tests.flow.test_dispatcher import run
from tests.store.rows import NOW, put_message


def test_what_is_settled_while_the_queue_is_read_is_not_delivered_again(make_engine, tmp_path):
    """The look reads a row that is on its way; before the look is evaluated the row is delivered, settled and forgotten."""

    async def work(house):
        await house.engine.write(lambda conn: put_message(conn))
        house.courier.gate.clear()
        while not house.courier.batches:
            await house.dispatcher.step()
            await asyncio.sleep(0.01)
        read = house.engine.read

        async def slow_read(work):
            house.engine.read = read
            found = await read(work)
            house.courier.gate.set()
            while house.dispatcher._memory.in_flight:
                await asyncio.sleep(0.01)
            return found

        house.engine.read = slow_read
        await house.dispatcher.step()
        await house.run_until_idle()
        for _ in range(5):
            house.clock.advance(2)
            await house.run_until_idle()
        handed = Counter((batch.message_id, one.n) for batch in house.courier.batches for one in batch.recipients)
        assert list(handed.values()) == [1]
        assert await house.statuses() == {"delivered": 1}
        assert house.clock.now() > NOW

    run(make_engine, tmp_path, work)

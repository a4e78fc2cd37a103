"""Many messages at once leave the event loop free for others in between."""

import asyncio

from gatepost.accept.turns import Turns


def test_a_crowd_takes_turns_and_others_get_a_word_in() -> None:
    """A hundred take their turns in order, ten in a round, and whoever comes meanwhile runs between the rounds."""

    async def run() -> None:
        turns, order = Turns(10), []

        async def compose(n: int) -> None:
            await turns.take()
            order.append(n)

        async def meanwhile() -> None:
            for _ in range(8):
                await asyncio.sleep(0)
                order.append(-1)

        await asyncio.gather(*[compose(n) for n in range(100)], meanwhile())
        assert [n for n in order if n >= 0] == list(range(100))
        places = [place for place, n in enumerate(order) if n < 0]
        assert all(10 <= later - earlier <= 21 for earlier, later in zip(places, places[1:], strict=False))

    asyncio.run(run())


def test_who_gives_up_does_not_use_a_turn() -> None:
    """A request that was cancelled while it waited holds nobody up."""

    async def run() -> None:
        turns = Turns(1)
        await turns.take()
        tasks = [asyncio.create_task(turns.take()) for _ in range(5)]
        await asyncio.sleep(0)
        for task in tasks[:4]:
            task.cancel()
        await asyncio.wait_for(tasks[4], 1)

    asyncio.run(run())

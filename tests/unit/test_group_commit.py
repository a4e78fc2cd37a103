"""Which of those who wait are committed next, and how long commits are allowed to become."""

import asyncio
from collections.abc import Callable
from typing import Any

from gatepost.store.engine import GroupCommit


class SlowEngine:
    """A database whose commits end when they are told to."""

    dialect = "sqlite"

    def __init__(self) -> None:
        self.running: list[asyncio.Event] = []

    async def write(self, work: Callable[[Any], Any]) -> Any:
        ended = asyncio.Event()
        self.running.append(ended)
        await ended.wait()
        return work(None)

    async def end(self) -> None:
        """End the commit that runs."""
        while not self.running:
            await asyncio.sleep(0)
        self.running.pop().set()


def _commits(engine: SlowEngine, groups: list[list[str]], max_weight: int = 4) -> GroupCommit[str, None]:
    def run(_conn: object, items: Any) -> list[None]:
        groups.append(list(items))
        return [None] * len(items)

    return GroupCommit(engine, run, max_weight=max_weight, urgency=lambda item: "ctb".index(item[0]), urgencies=3)


def test_codes_wait_for_nothing_but_the_commit_that_runs() -> None:
    """However much bulk waits, a code is in the next commit, ahead of it; within a lane the order is kept, and nobody is forgotten."""

    async def run() -> None:
        engine, groups = SlowEngine(), []
        commits = _commits(engine, groups)
        waiting = [commits.submit(f"b{n}") for n in range(10)]
        await asyncio.sleep(0)
        waiting += [commits.submit(name) for name in ("t1", "c1", "t2", "c2")]
        assert len(commits) == 10
        for _ in range(4):
            await engine.end()
        await asyncio.gather(*waiting)
        assert groups == [["b0", "b1", "b2", "b3"], ["c1", "c2", "t1", "t2"], ["b4", "b5", "b6", "b7"], ["b8", "b9"]]

    asyncio.run(run())


def test_what_waits_is_measured_by_urgency() -> None:
    """Each lane's longest wait, and a commit that does not end counts while it runs."""

    async def run() -> None:
        engine, groups = SlowEngine(), []
        commits = _commits(engine, groups)
        assert (commits.commit_s, commits.oldest_s(0)) == (0.0, 0.0)
        first = commits.submit("b1")
        await asyncio.sleep(0.01)
        later = commits.submit("t1")
        await asyncio.sleep(0.02)
        assert commits.commit_s >= 0.02
        assert commits.oldest_s(1) >= 0.02
        assert commits.oldest_s(0) == commits.oldest_s(2) == 0.0
        await engine.end()
        await first
        await engine.end()
        await later
        assert commits.commit_s < 0.02

    asyncio.run(run())


def test_commits_that_take_too_long_become_smaller_and_grow_again() -> None:
    """Who is urgent waits for the commit that runs: a slow database gets smaller groups, never none."""

    async def run() -> None:
        engine, groups = SlowEngine(), []
        commits = _commits(engine, groups, max_weight=100)
        for _ in range(20):
            commits._learn(1.0)
        waiting = [commits.submit(f"b{n}") for n in range(30)]
        for _ in range(3):
            await engine.end()
        await asyncio.gather(*waiting)
        assert [len(group) for group in groups][:2] == [10, 16]
        for _ in range(20):
            commits._learn(0.001)
        groups.clear()
        waiting = [commits.submit(f"b{n}") for n in range(100)]
        await engine.end()
        await asyncio.gather(*waiting)
        assert [len(group) for group in groups] == [100]

    asyncio.run(run())

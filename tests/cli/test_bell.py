"""The bell between processes: heard soon, never in the way."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flow.serving import environment

from gatepost.net.bell import Bell


@pytest.fixture(params=["short", "long"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A data directory, once with a path that no socket could have; tmp_path itself may be too long for one."""
    if request.param == "short":
        with tempfile.TemporaryDirectory(prefix="gp-", dir="/tmp") as short:
            yield Path(short)
        return
    folder = tmp_path / ("d" * 120)
    stand_in = Bell(folder)._folder
    shutil.rmtree(stand_in, ignore_errors=True)  # an earlier run may have had the same path
    yield folder
    shutil.rmtree(stand_in, ignore_errors=True)


def test_a_ring_in_another_process_is_heard(folder: Path) -> None:
    """A commit in the door process wakes the dispatch process."""

    async def main() -> None:
        heard = asyncio.Event()
        bell = Bell(folder)
        bell.listen(asyncio.get_running_loop(), heard.set)
        code = "import sys, pathlib; from gatepost.net.bell import Bell; Bell(pathlib.Path(sys.argv[1])).ring()"
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code, str(folder)], env=environment(), check=True)
        async with asyncio.timeout(30):
            await heard.wait()
        bell.close()

    asyncio.run(main())


def test_many_rings_are_few_calls_and_the_last_one_counts(folder: Path) -> None:
    """A thousand commits in a moment wake the listener a few times, once after the last of them."""

    async def main() -> None:
        calls: list[float] = []
        listener, ringer = Bell(folder), Bell(folder)
        listener.listen(asyncio.get_running_loop(), lambda: calls.append(time.monotonic()))
        for n in range(1000):
            ringer.ring()
            if n % 100 == 0:
                await asyncio.sleep(0)
        last = time.monotonic()
        async with asyncio.timeout(30):
            while not calls or calls[-1] < last:
                await asyncio.sleep(0.005)
        assert 1 <= len(calls) < 500
        listener.close()
        ringer.close()

    asyncio.run(main())


def test_ringing_never_fails(folder: Path) -> None:
    """Without a listener, without a loop, with a full or a dead socket: a ring is only a hint."""
    bell = Bell(folder)
    bell.ring()

    async def main() -> None:
        listener = Bell(folder)
        loop = asyncio.get_running_loop()
        listener.listen(loop, lambda: None)
        ringer = Bell(folder)
        loop.remove_reader(listener._own[0].fileno())
        for _ in range(500):  # nobody reads: the socket's buffer fills up
            ringer._rung_at = float("-inf")
            ringer.ring()
        listener._own[0].close()
        ringer._rung_at = float("-inf")
        ringer.ring()
        assert ringer._listeners == {}
        listener._own = None
        ringer.close()

    asyncio.run(main())
    bell.close()


def test_what_is_handed_over_reaches_the_owner_of_its_shard_and_nobody_else(folder: Path) -> None:
    """Two listeners own a part each; who owns nothing here is named as nobody, and a ring is still a ring."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        heard: dict[str, list[bytes]] = {"one": [], "two": []}
        rings: list[str] = []
        one, two, door = Bell(folder), Bell(folder), Bell(folder)
        one.listen(loop, lambda: rings.append("one"), heard["one"].append)
        one.own([0, 5, 63])
        with unittest.mock.patch("os.getpid", lambda: 1):
            two.listen(loop, lambda: rings.append("two"), heard["two"].append)
            two.own([1, 2])
        first, second = door.owner(0), door.owner(1)
        assert first and second and first != second
        assert [door.owner(shard) for shard in (5, 63, 2, 3)] == [first, first, second, None]
        largest = bytes(200_000)
        assert door.hand(first, b"for one") and door.hand(second, b"for two") and door.hand(second, largest)
        door.ring()
        async with asyncio.timeout(30):
            while len(rings) < 2:
                await asyncio.sleep(0.005)
        assert heard == {"one": [b"for one"], "two": [b"for two", largest]}
        assert sorted(rings) == ["one", "two"]
        two.own([3])  # its name is another one now: what is sent to the old one fails, and the door looks again
        assert not door.hand(second, b"late")
        assert door.owner(3) is not None and door.owner(1) is None
        for bell in (one, two, door):
            bell.close()

    asyncio.run(main())


def test_handing_over_to_a_listener_that_does_not_read_fails_at_once_and_rings_later(folder: Path) -> None:
    """A full socket keeps no door waiting; the bell rings as soon as there is room again."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        rung = asyncio.Event()
        handed: list[bytes] = []
        listener, door = Bell(folder), Bell(folder)
        listener.listen(loop, rung.set, handed.append)
        listener.own([7])
        owner = door.owner(7)
        assert owner is not None
        sent = 0
        while door.hand(owner, b"x" * 50_000):  # nothing is read between
            sent += 1
            assert sent < 10_000
        door.ring()
        async with asyncio.timeout(30):
            await rung.wait()
        assert len(handed) == sent
        listener.close()
        door.close()

    asyncio.run(main())


def test_a_dead_listeners_socket_is_cleared_away(folder: Path) -> None:
    """A listener that starts removes what a killed process left; its own goes when it stops."""

    async def main() -> None:
        bell = Bell(folder)
        bell._folder.mkdir(parents=True, mode=0o700)
        stale = bell._folder / "dispatch-4194303-00000000000000ff.sock"
        stale.touch()
        bell.listen(asyncio.get_running_loop(), lambda: None)
        assert [path.name for path in bell._folder.glob("*.sock")] == [f"dispatch-{os.getpid()}-0000000000000000.sock"]
        bell.close()
        assert not list(bell._folder.glob("*.sock"))

    asyncio.run(main())


def test_a_folder_that_somebody_else_prepared_is_refused() -> None:
    """In the shared temporary directory a symbolic link could lead our socket elsewhere."""

    async def main() -> None:
        bell = Bell(short / "data")
        (short / "elsewhere").mkdir()
        (short / "data").mkdir()
        (short / "data" / "run").symlink_to(short / "elsewhere")
        with pytest.raises(PermissionError):
            bell.listen(asyncio.get_running_loop(), lambda: None)

    # a long path would lead the socket to another folder
    with tempfile.TemporaryDirectory(prefix="gp-") as name:
        short = Path(name)
        asyncio.run(main())

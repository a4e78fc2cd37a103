"""
The nursery, as the supervisor knows it: a process that makes children by fork.

Arrives: which child to make, and the pipe and lock that it inherits.
Leaves: children that start in a fraction of the time and share the memory of their libraries; how each one ended.
Not here: the nursery's own process (forking), what a child does (child), when one is started again (supervisor).
Bugs: only Linux tells a process that its parent died, so elsewhere there is no nursery, and the supervisor runs programs.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from gatepost.serve.forking import LONGEST, Born, Ended, Signal, Start, end_after, tend

_KILLED = -int(signal.SIGKILL)


class Running(Protocol):
    """A child process, however it was made."""

    @property
    def pid(self) -> int:
        """Its number."""

    async def wait(self) -> int:
        """Wait for its end; return its exit code, negative for a signal."""

    def send_signal(self, number: int, /) -> None:
        """Signal it, if it still runs."""


class NurseryGone(OSError):  # noqa: N818
    """The nursery ended; children have to be started in another way."""


@dataclass(slots=True)
class _Child:
    pid: int
    nursery: "Nursery"
    ended: asyncio.Future[int]

    async def wait(self) -> int:
        return await asyncio.shield(self.ended)

    def send_signal(self, number: int, /) -> None:
        if not self.ended.done():
            self.nursery.tell(Signal(pid=self.pid, number=number))


@dataclass(slots=True)
class Nursery:
    """The supervisor's side."""

    pid: int
    _channel: socket.socket
    _waiting: deque[asyncio.Future[_Child]] = field(default_factory=deque)
    _children: dict[int, _Child] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None
    is_gone: bool = False

    async def start(self, start: Start, handles: Sequence[int]) -> Running:
        """
        Make a child.

        Args:
            handles: The pipe for the child's report, and what else it keeps open.

        Raises:
            NurseryGone: The nursery ended.
            OSError: There is no room for one more process.
        """
        if self.is_gone:
            raise NurseryGone("the nursery ended")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._channel.setblocking(False)
            self._loop.add_reader(self._channel, self._hear)
        born: asyncio.Future[_Child] = self._loop.create_future()
        self._waiting.append(born)
        self.tell(start, handles)
        return await born

    def tell(self, message: Start | Signal, handles: Sequence[int] = ()) -> None:
        """Send one message; one that cannot be sent means that the nursery is gone, and its children with it."""
        try:
            socket.send_fds(self._channel, [msgspec.json.encode(message)], handles)
        except OSError:
            self._lose()

    def close(self) -> None:
        """End the nursery, and what it still has of children."""
        if self.is_gone:  # its number may be somebody else's by now
            return
        self.is_gone = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._channel)
        self._channel.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def _hear(self) -> None:
        while not self.is_gone:
            try:
                data = self._channel.recv(LONGEST)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._lose()
                return
            self._heed(msgspec.json.decode(data, type=Born | Ended))

    def _heed(self, message: Born | Ended) -> None:
        assert self._loop is not None
        if isinstance(message, Ended):
            child = self._children.pop(message.pid)
            child.ended.set_result(message.code)
            return
        born = self._waiting.popleft()
        if not message.pid:
            born.set_exception(BlockingIOError("there is no room for one more process"))
            return
        child = self._children[message.pid] = _Child(message.pid, self, self._loop.create_future())
        if born.cancelled():
            child.send_signal(signal.SIGKILL)
        else:
            born.set_result(child)

    def _lose(self) -> None:
        """Take the end of the nursery as the end of its children, for the kernel sees to that."""
        if self.is_gone:
            return
        self.close()
        for born in self._waiting:
            if not born.done():
                born.set_exception(NurseryGone("the nursery ended"))
        for child in self._children.values():
            child.ended.set_result(_KILLED)
        self._waiting.clear()
        self._children.clear()


def open_nursery(data_dir: Path, flags: dict[str, Any]) -> Nursery | None:
    """
    Make the nursery, before this process has a loop or a thread; None where there cannot be one.

    Args:
        flags: The `--set` options of the children.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    supervisor = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        ours.close()
        end_after(lambda: tend(theirs, supervisor, data_dir, flags))
    theirs.close()
    return Nursery(pid, ours)

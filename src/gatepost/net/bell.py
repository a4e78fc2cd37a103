"""
A hint across processes: something may be due.

Arrives: `ring()` after a commit, in any process of the data directory.
Leaves: a call in every process that listens there, a moment later.
One byte over a Unix datagram socket, at most one a millisecond for each ringing process. It never blocks and never
fails: a lost ring costs only the time until the next look at the queue, which does not wait for rings.
Not here: what is due (store.queue), who looks (dispatch.loop).
Bugs: listeners on other machines are not reached; they look on their own.
"""

import asyncio
import contextlib
import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_PATH_BYTES: Final = 100
"""Bytes that a socket's path may have: 108 on Linux and 104 on BSD, with a terminating zero."""

_QUIET_S: Final = 0.001
_LOOK_AGAIN_S: Final = 0.25


class Bell:
    """The bell of one data directory: rung by doors, heard by dispatch processes."""

    def __init__(self, directory: Path) -> None:
        """Set up without a file or a socket."""
        self._folder = _short_enough(directory.absolute() / "run")
        self._sender: socket.socket | None = None
        self._listeners: list[str] = []
        self._looked_at = float("-inf")
        self._rung_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own: tuple[socket.socket, Path] | None = None

    def listen(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        """
        Call back whenever the bell was rung.

        Raises:
            OSError: The socket cannot be made; without it the queue is still looked at now and then.
        """
        _make_private(self._folder)
        _sweep(self._folder)
        path = self._folder / f"dispatch-{os.getpid()}.sock"
        path.unlink(missing_ok=True)
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.setblocking(False)
        receiver.bind(str(path))
        self._own = (receiver, path)
        self._loop = loop
        loop.add_reader(receiver.fileno(), _hear, receiver, callback)

    def ring(self) -> None:
        """Tell every listener; a second ring within a millisecond waits for that millisecond's end."""
        now = time.monotonic()
        if now - self._rung_at >= _QUIET_S:
            self._ring(now)
        elif self._timer is None:
            with contextlib.suppress(RuntimeError):  # no loop is running: nobody would ring later
                self._timer = asyncio.get_running_loop().call_later(_QUIET_S, self._ring_late)

    def close(self) -> None:
        """Stop listening and ringing."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sender is not None:
            self._sender.close()
            self._sender = None
        if self._own is not None:
            receiver, path = self._own
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(receiver.fileno())
            receiver.close()
            path.unlink(missing_ok=True)
            self._own = None

    def _ring_late(self) -> None:
        self._timer = None
        self._ring(time.monotonic())

    def _ring(self, now: float) -> None:
        self._rung_at = now
        with contextlib.suppress(OSError):
            if self._sender is None:
                self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._sender.setblocking(False)
            for path in self._heard_by(now):
                self._send(self._sender, path)

    def _heard_by(self, now: float) -> list[str]:
        if now - self._looked_at >= _LOOK_AGAIN_S:
            self._looked_at = now
            self._listeners = [str(path) for path in self._folder.glob("dispatch-*.sock")]
        return list(self._listeners)

    def _send(self, sender: socket.socket, path: str) -> None:
        try:
            sender.sendto(b"!", path)
        except BlockingIOError:
            pass  # it has unheard rings already
        except OSError:
            self._listeners.remove(path)


def _hear(receiver: socket.socket, callback: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        while receiver.recv(16):
            pass
    callback()


def _short_enough(folder: Path) -> Path:
    """Return the folder, or one in the temporary directory that stands for it when a socket's path would be too long."""
    longest = folder / "dispatch-4194304.sock"
    if len(os.fsencode(longest)) <= _PATH_BYTES:
        return folder
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    base = Path(tempfile.gettempdir())
    if len(os.fsencode(base)) > 50:
        base = Path("/tmp")  # noqa: S108 - the folder below is made private, and its owner is checked
    return base / f"gatepost-{os.getuid()}" / name


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for made in (folder, folder.parent):
        if made.name == "run" or made.name.startswith("gatepost-"):
            facts = made.lstat()
            if facts.st_uid != os.getuid() or made.is_symlink():
                raise PermissionError(f"{made} belongs to somebody else")


def _sweep(folder: Path) -> None:
    """Remove the sockets of processes that ended without doing so."""
    for path in folder.glob("dispatch-*.sock"):
        number = path.stem.removeprefix("dispatch-")
        if number.isdigit() and not _is_alive(int(number)):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

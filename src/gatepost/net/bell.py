"""
A hint across processes: something may be due, or here it is.

Arrives: `ring()` after a commit, in any process of the data directory; `hand()` of what was committed.
Leaves: a call in every process that listens there, or in the one that owns a shard, a moment later.
Datagrams over Unix sockets whose names say which shards their process owns. A ring is one byte, at most one a millisecond for
each ringing process. It never blocks and never fails: a lost ring costs only the time until the next look at the queue, which does
not wait for rings.
Not here: what is due (store.queue), what is handed over (store.handover), who looks (dispatch.loop).
Bugs: listeners on other machines are not reached; they look on their own.
"""

import asyncio
import contextlib
import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

_PATH_BYTES: Final = 100
"""Bytes that a socket's path may have: 108 on Linux and 104 on BSD, with a terminating zero."""

_LARGEST: Final = 256 * 1024
_RING: Final = b"!"
_QUIET_S: Final = 0.001
_FULL_S: Final = 0.01
"""When to ring again where a listener has not read what was sent before: it may be frozen."""
_LOOK_AGAIN_S: Final = 0.25


class Bell:
    """The bell of one data directory: rung by doors, heard by dispatch processes."""

    def __init__(self, directory: Path) -> None:
        """Set up without a file or a socket."""
        self._folder = _short_enough(directory.absolute() / "run")
        self._sender: socket.socket | None = None
        self._listeners: dict[str, int] = {}
        self._looked_at = float("-inf")
        self._rung_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own: tuple[socket.socket, Path] | None = None

    def listen(
        self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None], on_handed: Callable[[bytes], None] | None = None
    ) -> None:
        """
        Call back whenever the bell was rung.

        Args:
            on_handed: Called with what is handed to this process, once it said what it owns; None takes nothing.

        Raises:
            OSError: The socket cannot be made; without it the queue is still looked at now and then.
        """
        _make_private(self._folder)
        _sweep(self._folder)
        path = self._folder / _name(0)
        path.unlink(missing_ok=True)
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.setblocking(False)
        receiver.bind(str(path))
        self._own = (receiver, path)
        self._loop = loop
        loop.add_reader(receiver.fileno(), _hear, receiver, callback, on_handed, memoryview(bytearray(_LARGEST)))

    def own(self, shards: Collection[int]) -> bool:
        """Say which shards this process owns: from now on it is handed what lies in them. Return whether it could be said."""
        if self._own is not None:
            receiver, path = self._own
            try:
                self._own = receiver, path.rename(path.with_name(_name(sum(1 << shard for shard in shards))))
            except OSError:  # such as a full disk: what it is handed meanwhile, and does not own, it leaves
                return False
        return True

    def owner(self, shard: int) -> str | None:
        """Name the process of this machine that owns a shard; None when nobody here does."""
        heard = self._heard_by(time.monotonic())
        return next((path for path, owned in heard.items() if owned >> shard & 1), None)

    def hand(self, owner: str, data: bytes) -> bool:
        """Send something to the process that owns its shard; return whether it has it. It never blocks."""
        try:
            self._socket().sendto(data, owner)
        except BlockingIOError:  # it has much to read as it is
            return False
        except OSError:
            self._forget(owner)
            return False
        return True

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
            sender = self._socket()
            for path in list(self._heard_by(now)):
                self._send(sender, path)

    def _socket(self) -> socket.socket:
        if self._sender is None:
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sender.setblocking(False)
        return self._sender

    def _heard_by(self, now: float) -> dict[str, int]:
        if now - self._looked_at >= _LOOK_AGAIN_S:
            self._looked_at = now
            self._listeners = {str(path): _shards(path) for path in self._folder.glob("dispatch-*.sock")}
        return self._listeners

    def _send(self, sender: socket.socket, path: str) -> None:
        try:
            sender.sendto(_RING, path)
        except BlockingIOError:
            if self._timer is None:  # what it has not heard yet may be no ring
                with contextlib.suppress(RuntimeError):
                    self._timer = asyncio.get_running_loop().call_later(_FULL_S, self._ring_late)
        except OSError:
            self._forget(path)

    def _forget(self, path: str) -> None:
        """A listener is gone, or has another name: look again at once."""
        self._listeners.pop(path, None)
        self._looked_at = float("-inf")


def _hear(receiver: socket.socket, callback: Callable[[], None], on_handed: Callable[[bytes], None] | None, room: memoryview) -> None:
    is_rung = False
    with contextlib.suppress(OSError):
        while size := receiver.recv_into(room):
            if on_handed is None or size == len(_RING):
                is_rung = True
            else:
                on_handed(bytes(room[:size]))
    if is_rung:
        callback()


def _name(owned: int) -> str:
    """Name this process's socket; its shards stand in it as the bits of a number."""
    return f"dispatch-{os.getpid()}-{owned:016x}.sock"


def _shards(path: Path) -> int:
    """Read from a socket's name which shards its process owns; none where it does not say."""
    try:
        return int(path.stem.rpartition("-")[2], 16)
    except ValueError:
        return 0


def _short_enough(folder: Path) -> Path:
    """Return the folder, or one in the temporary directory that stands for it when a socket's path would be too long."""
    longest = folder / "dispatch-4194304-ffffffffffffffff.sock"
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
        number = path.stem.split("-")[1]
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

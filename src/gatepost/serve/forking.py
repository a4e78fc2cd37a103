"""
The process that the children of `serve` are forked from, after it has loaded what all of them need.

Arrives: over a socket from the supervisor, which child to make and the handles that it inherits; signals to pass on.
Leaves: children; over the socket, the number of each and how it ended.
Forking is safe only without threads, loops and open databases. The supervisor has all three, so this process leaves it
before, and never has any. It dies with the supervisor, and its children die with it.
Not here: the supervisor's side (nursery), what a child does (child).
"""

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from gatepost.serve.child import Order, die_with, run

SHARED: Final = (
    "uvloop", "cryptography.x509", "selectolax.lexbor", "dns.asyncresolver",
    "gatepost.net.lookup", "gatepost.net.dns", "gatepost.net.http_client", "gatepost.feedback.reading", "gatepost.mime.adopt",
    "gatepost.mime.compose", "gatepost.mime.tracked", "gatepost.policy.classify", "gatepost.policy.compliance", "gatepost.policy.shaping",
    "gatepost.policy.sites", "gatepost.policy.visitors", "gatepost.returns.aside", "gatepost.store.flows", "gatepost.store.inbound",
    "gatepost.store.rollups", "gatepost.store.webhooks", "gatepost.tenants.directory", "gatepost.tenants.domain_health",
    "gatepost.tenants.domains", "gatepost.tenants.source_health", "gatepost.webhooks.payload", "gatepost.wire.dkim",
    "gatepost.wire.smtp_server", "gatepost.wire.spf",
)  # fmt: skip
"""
What every child needs. Never `gatepost.observe.metrics` or what loads it: prometheus_client looks at the process that it
is loaded in, and that one must be the child.
"""

LONGEST: Final = 65_536
"""Bytes that a message between supervisor and nursery may have."""

_MOST_HANDLES = 8


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start"):
    """To the nursery: make a child."""

    role: str
    node_id: str
    metrics_dir: str
    core: int | None


class Signal(msgspec.Struct, frozen=True, kw_only=True, tag="signal"):
    """To the nursery: pass a signal on."""

    pid: int
    number: int


class Born(msgspec.Struct, frozen=True, kw_only=True, tag="born"):
    """
    From the nursery: the answer to `Start`.

    Attributes:
        pid: 0 when the system has no room for one more process.
    """

    pid: int


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """From the nursery: a child ended."""

    pid: int
    code: int


def tend(channel: socket.socket, supervisor: int, data_dir: Path, flags: dict[str, Any]) -> int:
    """Be the nursery until the supervisor closes the channel; return the exit code."""
    die_with(supervisor)
    os.setpgid(0, 0)  # Ctrl-C is for the supervisor, which then stops the children in order
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _rename(["gatepost", "nursery"])
    for name in SHARED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child would write into every page, and share none
    _Forking(channel, data_dir, flags).work()
    return 0


def end_after(work: Callable[[], int]) -> NoReturn:
    """Work, and end this process, whatever comes of it: what stands further up the stack belongs to its parent."""
    code = 1
    try:
        code = work()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - nobody else would tell
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)


@dataclass(slots=True)
class _Forking:
    """The loop of the nursery: without asyncio, since its children begin one of their own."""

    channel: socket.socket
    data_dir: Path
    flags: dict[str, Any]
    living: set[int] = field(default_factory=set)

    def work(self) -> None:
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        while True:
            ready = select.select([self.channel.fileno(), woken], [], [])[0]
            if woken in ready:
                os.read(woken, 4096)
                self._reap()
            if self.channel.fileno() in ready:
                try:
                    data, handles, _, _ = socket.recv_fds(self.channel, LONGEST, _MOST_HANDLES)
                except OSError:  # a supervisor that was killed resets the channel when something was left unread in it
                    return
                if not data:
                    return
                self._heed(msgspec.json.decode(data, type=Start | Signal), handles, (woken, wake))

    def _reap(self) -> None:
        for pid in list(self.living):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self.living.discard(pid)
                self._tell(Ended(pid=pid, code=os.waitstatus_to_exitcode(status)))

    def _heed(self, message: Start | Signal, handles: Sequence[int], own: Sequence[int]) -> None:
        if isinstance(message, Signal):
            if message.pid in self.living:
                os.kill(message.pid, message.number)
            return
        nursery = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            pid = 0
        else:
            if not pid:
                end_after(lambda: self._be(message, handles, own, nursery))
            self.living.add(pid)
        for handle in handles:
            os.close(handle)
        self._tell(Born(pid=pid))

    def _tell(self, message: Born | Ended) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone, and so are we, soon
            self.channel.send(msgspec.json.encode(message))

    def _be(self, start: Start, handles: Sequence[int], own: Sequence[int], nursery: int) -> int:
        """Become a child, as if it had been started as a program of its own."""
        signal.set_wakeup_fd(-1)
        for number, handler in (
            (signal.SIGCHLD, signal.SIG_DFL),
            (signal.SIGTERM, signal.SIG_DFL),
            (signal.SIGINT, signal.default_int_handler),
        ):
            signal.signal(number, handler)
        os.setpgid(0, 0)
        self.channel.close()
        for handle in own:
            os.close(handle)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        _rename(["gatepost", "_child", start.role, *([start.node_id] if start.node_id else [])])
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = start.metrics_dir
        return run(Order(
            role=start.role, node_id=start.node_id, core=start.core, data_dir=self.data_dir, flags=self.flags,
            report_fd=handles[0], parent_pid=nursery,
        ))  # fmt: skip


def _rename(words: Sequence[str]) -> None:
    """Show in `ps` what this process is: proc(5) reads its words where the kernel put those of the supervisor."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        begin, end = int(fields[45]), int(fields[46])  # arg_start and arg_end
        if 0 < begin < end:
            text = "\0".join(words).encode()[: end - begin - 1]
            ctypes.memmove(begin, text.ljust(end - begin, b"\0"), end - begin)

"""
A child process of `gatepost serve`, from its first line to its last.

Arrives: a role, the data directory, and a pipe to the supervisor.
Leaves: one line through the pipe: where it listens once it is ready, or why it never will be. It dies with its
supervisor, because a new supervisor must be able to rely on being alone.
Not here: what a role does (app), restarts (supervisor).
"""

import asyncio
import contextlib
import ctypes
import gc
import os
import resource
import signal
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gatepost import settings
from gatepost.app.listening import CannotListen
from gatepost.observe import maillog
from gatepost.serve.cores import keep_to
from gatepost.settings import InvalidSettings, Loaded
from gatepost.store.errors import MasterKeyRefused, UnsafeDurability
from gatepost.store.sqlite import LibraryTooOld
from gatepost.store.threads import roam

_PR_SET_PDEATHSIG = 1
_FATAL = (InvalidSettings, LibraryTooOld, UnsafeDurability, CannotListen, MasterKeyRefused)
"""What no restart would cure."""

EXIT_FATAL = 3


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a child tells its supervisor.

    Attributes:
        listening: Address by door, once the child is ready.
        fatal: One sentence for the operator when it cannot run.
    """

    listening: dict[str, str] = msgspec.field(default_factory=dict)
    fatal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    What a child is started with.

    Attributes:
        node_id: Name under which a dispatch process owns shards.
        report_fd: The pipe to the supervisor.
        parent_pid: The supervisor.
        core: The one that it keeps to; None: any.
    """

    role: str
    data_dir: Path
    flags: dict[str, Any]
    node_id: str
    report_fd: int
    parent_pid: int
    core: int | None = None


_SWITCH_INTERVAL_S = 0.001
_THREADS = 8
"""For what is computed beside the loop, such as the hash of a password."""
_M_ARENA_MAX = -8
"""As glibc's malloc.h has it."""


def run(order: Order) -> int:
    """Run a child until it is told to stop; return its exit code."""
    die_with(order.parent_pid)
    keep_to(order.core)
    _allow_many_files()
    _share_memory_among_threads()
    try:
        loaded = settings.load(order.data_dir, flags=order.flags)
        maillog.configure(level=loaded.settings.log.level, mask_addresses=loaded.settings.log.mask_addresses, process=order.role)
        _run_loop(_main(order, loaded))
    except _FATAL as error:
        _report(order.report_fd, Report(fatal=str(error)))
        return EXIT_FATAL
    return 0


def die_with(parent_pid: int, number: int = signal.SIGKILL) -> None:
    """
    Let the kernel signal this process when its parent ends, however that ends.

    Raises:
        SystemExit: The parent is gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent_pid:
        raise SystemExit(0)


def _allow_many_files() -> None:
    """Raise the limit of open files to what the system allows: every connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _share_memory_among_threads() -> None:
    """Let glibc's threads allocate from one or two places: each of eight keeps what it once had, and only one thread computes at a time."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _run_loop(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop  # noqa: PLC0415 - does not exist on every platform
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


async def _main(order: Order, loaded: Loaded) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="beside", initializer=roam))
    watch = asyncio.create_task(_watch_parent(order.parent_pid))

    def on_ready(listening: dict[str, str]) -> None:
        _settle_down()
        _report(order.report_fd, Report(listening=listening))
        maillog.lifecycle("started", pid=os.getpid(), node=order.node_id or None, **listening)

    try:
        if order.role == "door":
            from gatepost.app.door import run_door  # noqa: PLC0415 - the other role does not need it

            await run_door(loaded, stopping, on_ready)
        else:
            from gatepost.app.dispatch import run_dispatch  # noqa: PLC0415 - the other role does not need it

            await run_dispatch(loaded, stopping, on_ready, node_id=order.node_id)
    finally:
        watch.cancel()
    maillog.lifecycle("stopped", pid=os.getpid())


async def _watch_parent(parent_pid: int) -> None:
    """End with the supervisor where the kernel does not see to it."""
    while os.getppid() == parent_pid:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(1)
    os._exit(1)


def _settle_down() -> None:
    """What lives now lives on: keep the garbage collector from walking over it again and again."""
    gc.collect()
    # a loop that waits 5 ms for the interpreter after each system call, while the database thread computes, starves
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _report(handle: int, report: Report) -> None:
    with contextlib.suppress(OSError):  # the supervisor may be gone; then so are we, soon
        os.write(handle, msgspec.json.encode(report) + b"\n")
        os.close(handle)

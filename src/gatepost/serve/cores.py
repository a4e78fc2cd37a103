"""
Which core each process of `serve` keeps to.

A loop that is moved from core to core finds its caches empty each time, and a message costs up to a tenth more
(docs/performance.md). Where there are as many processes as cores, the loop of each therefore keeps to one; the threads beside it go
where there is room (store.threads). With fewer processes, or more, the kernel does better.
"""

import contextlib
import os
from collections.abc import Sequence

from gatepost.settings.sections import Workers


def usable() -> list[int]:
    """Return the numbers of the cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def dispatch_count(workers: Workers, cores: int) -> int:
    """Return how many dispatch processes to run: one per core beyond the first, at least one, unless told otherwise."""
    return workers.dispatch or max(1, cores - 1)


def shares(workers: Workers, cores: Sequence[int]) -> list[int | None]:
    """Return a core for the door and each dispatch process, in this order; None: any."""
    processes = 1 + dispatch_count(workers, len(cores))
    if not workers.keep_cores or processes != len(cores):
        return [None] * processes
    return list(cores)


def keep_to(core: int | None) -> None:
    """Run this thread, and each that it starts from now on unless that roams, on one core; where the system refuses, on any."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # a core that was taken away since
            os.sched_setaffinity(0, {core})

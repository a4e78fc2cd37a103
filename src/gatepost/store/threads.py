"""
Threads beside the loop go where there is room, also in a process whose loop keeps to one core (serve.cores).

A thread starts where the thread that starts it may run; so each says for itself that it may run anywhere.
"""

import contextlib
import os

_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
"""What this process might use when it was loaded, before it kept to anything."""


def roam() -> None:
    """Let the calling thread run on any core."""
    if _CORES is not None:
        with contextlib.suppress(OSError):  # a core that was taken away since
            os.sched_setaffinity(0, _CORES)

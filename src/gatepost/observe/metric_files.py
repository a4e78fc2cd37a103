"""
Room on the disk for this process's metrics, taken before they are kept in files.

prometheus_client maps sparse files: on a full disk the first write to a fresh page would end the process with SIGBUS, and
a full disk is a reason to refuse mail for now, not to die. So each file gets its blocks first; where there are none left,
the process counts in its own memory, and `/metrics` shows only what the door counts.
"""

import os
from pathlib import Path

_KINDS = ("counter", "gauge_livemin", "gauge_livesum", "gauge_mostrecent", "histogram")
_BYTES = 1 << 18
"""Thousands of label combinations; ours are bounded to some hundred."""


def reserve() -> None:
    """Take room for every kind of metric; call it before prometheus_client is imported, which looks at the environment."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not folder or not hasattr(os, "posix_fallocate"):
        return
    try:
        for kind in _KINDS:
            _allocate(Path(folder) / f"{kind}_{os.getpid()}.db")
    except OSError:
        del os.environ["PROMETHEUS_MULTIPROC_DIR"]


def forget_process(pid: int) -> None:
    """Drop the gauges of a process that ended; its counters stay."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for path in Path(folder).glob(f"gauge_live*_{pid}.db") if folder else ():
        path.unlink(missing_ok=True)


def _allocate(path: Path) -> None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(handle, 0, _BYTES)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(handle)

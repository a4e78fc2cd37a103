"""One `serve` for each data directory: a lock that the supervisor and all its children hold."""

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_PATIENCE_S = 2.0
"""Children of a killed supervisor are gone within milliseconds; a start waits so long for that."""


class AlreadyServed(Exception):  # noqa: N818
    """Another `serve` has the data directory."""


class DataLock:
    """The lock on a data directory; it ends with the last process that inherited it."""

    def __init__(self, data_dir: Path) -> None:
        """Name the lock; nothing is taken yet."""
        self._path = data_dir / "serve.lock"
        self.handle = -1

    def __enter__(self) -> Self:
        """
        Take the lock.

        Raises:
            AlreadyServed: Somebody else has it.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise AlreadyServed(self._refusal()) from None
                time.sleep(0.05)
            else:
                break
        os.ftruncate(self.handle, 0)
        os.pwrite(self.handle, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let go of it."""
        os.close(self.handle)

    def _refusal(self) -> str:
        pid = os.pread(self.handle, 32, 0).decode("ascii", "replace").strip()
        os.close(self.handle)
        return f"another gatepost serve{f' (process {pid})' if pid else ''} has {self._path.parent}: stop it first, or use another --data"

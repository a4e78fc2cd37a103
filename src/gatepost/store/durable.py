"""
Files that are there as a whole or not at all, for their owner only, and on the disk when a function returns.

Not here: the database's own files (sqlite), what stands in the files (blobs, key_file, certificates.shelf).
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def write(path: Path, content: bytes, *, is_new: bool = False) -> None:
    """
    Put a file in its place.

    Args:
        is_new: One that is there already stays: another process was first.

    Raises:
        OSError: It cannot be written; what was there before stays.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(temporary)
        else:
            Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    _fsync(path.parent)


def make_folder(path: Path) -> None:
    """
    Make a folder, and those above it, unless it is there.

    Raises:
        OSError: It cannot be made.
    """
    if not path.exists():
        make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        _fsync(path.parent)


def _fsync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """
    Hold a lock, which ends with the process at the latest.

    Raises:
        BlockingIOError: Another process holds it.
        OSError: The file of the lock cannot be made.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)

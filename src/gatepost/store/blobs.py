"""
Content at rest: zstd in the row up to 256 KiB, above that a file named by its SHA-256.

A blob's file and its directory are fsync'd before the row that names it is committed: a row never points to nothing.
"""

import hashlib
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from gatepost.store.errors import StorageUnavailable

INLINE_BYTES = 256 * 1024
_LEVEL = 1  # bodies are small and many: level 1 costs a third of level 3 and saves nearly as much

Stored = tuple[str, bytes]
"""Encoding and data as they stand in a row: `("zstd", compressed)` or `("blob", name)`."""


class Blobs(Protocol):
    """Where large contents are kept."""

    def put(self, content: bytes) -> Stored:
        """
        Keep a content durably.

        Raises:
            StorageUnavailable: It could not be written.
        """
        ...

    def get(self, encoding: str, data: bytes) -> bytes:
        """
        Return a kept content.

        Raises:
            StorageUnavailable: It cannot be read now.
        """
        ...


class LocalBlobs:
    """A folder of this machine; shared by its processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._local = threading.local()

    def put(self, content: bytes) -> Stored:
        """Compress a content; write it to a file when it is large."""
        packed = self._compress(content)
        if len(packed) <= INLINE_BYTES:
            return "zstd", packed
        name = hashlib.sha256(content).hexdigest()
        try:
            self._write(name, packed)
        except OSError as error:
            raise StorageUnavailable(f"blob store: {error.strerror}") from error
        return "blob", name.encode()

    def get(self, encoding: str, data: bytes) -> bytes:
        """Read a content back."""
        if encoding == "zstd":
            return zstd.ZstdDecompressor().decompress(data)
        try:
            return zstd.decompress(self._path(data.decode()).read_bytes())
        except OSError as error:
            raise StorageUnavailable(f"blob store: {error.strerror}") from error

    def _compress(self, content: bytes) -> bytes:
        # a compressor costs as much to make as a small body to compress: one for each thread
        compressor: zstd.ZstdCompressor | None = getattr(self._local, "compressor", None)
        if compressor is None:
            compressor = self._local.compressor = zstd.ZstdCompressor(level=_LEVEL)
        return compressor.compress(content, zstd.ZstdCompressor.FLUSH_FRAME)

    def _path(self, name: str) -> Path:
        return self._directory / name[:2] / name[2:]

    def _write(self, name: str, packed: bytes) -> None:
        path = self._path(name)
        if path.exists():
            return
        for made in (self._directory, path.parent):
            if not made.exists():
                made.mkdir(mode=0o700, parents=True, exist_ok=True)
                _fsync_directory(made.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(packed)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).rename(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _fsync_directory(path.parent)


def _fsync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

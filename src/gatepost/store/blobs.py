"""
Content at rest: zstd in the row up to 256 KiB, above that a file under a random name.

A file is sealed (AES-256-GCM) under a key of its own, which stands beside its name in the row; the row is sealed itself, so
that neither a blob store nor its copy can be read without database and master key. Equal contents are two files: a name that
told them apart would tell who has a content too.
A blob's file and its directory are fsync'd before the row that names it is committed: a row never points to nothing.
Bugs: a file whose row is not committed after all stays behind.
"""

import secrets
import threading
from pathlib import Path
from typing import Protocol

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gatepost.store import durable
from gatepost.store.errors import SealBroken, StorageUnavailable

INLINE_BYTES = 256 * 1024
_LEVEL = 1  # bodies are small and many: level 1 costs a third of level 3 and saves nearly as much

Stored = tuple[str, bytes]
"""Encoding and data as they go into a row, to be sealed there: `("zstd", compressed)` or `("blob", name and key)`."""

_NAME_BYTES = 32
_NONCE = bytes(12)  # each key seals one file


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
            SealBroken: It was altered.
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
        name, key = secrets.token_hex(_NAME_BYTES // 2), AESGCM.generate_key(256)
        try:
            self._write(name, AESGCM(key).encrypt(_NONCE, packed, name.encode()))
        except OSError as error:
            raise StorageUnavailable(f"blob store: {error.strerror}") from error
        return "blob", name.encode() + key

    def get(self, encoding: str, data: bytes) -> bytes:
        """Read a content back."""
        if encoding == "zstd":
            return self._decompress(data)
        name, key = data[:_NAME_BYTES], data[_NAME_BYTES:]
        try:
            sealed = self._path(name.decode()).read_bytes()
        except OSError as error:
            raise StorageUnavailable(f"blob store: {error.strerror}") from error
        try:
            return self._decompress(AESGCM(key).decrypt(_NONCE, sealed, name))
        except InvalidTag:
            raise SealBroken(f"the blob {name.decode()} was altered") from None

    # A context costs more to make than a small body to pack or unpack: on a virtual machine it asks the processor for its features,
    # which leaves the machine each time. One for each thread, since two cannot use one at once.

    def _compress(self, content: bytes) -> bytes:
        compressor: zstandard.ZstdCompressor | None = getattr(self._local, "compressor", None)
        if compressor is None:
            compressor = self._local.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        return compressor.compress(content)

    def _decompress(self, packed: bytes) -> bytes:
        decompressor: zstandard.ZstdDecompressor | None = getattr(self._local, "decompressor", None)
        if decompressor is None:
            decompressor = self._local.decompressor = zstandard.ZstdDecompressor()
        return decompressor.decompress(packed)

    def _path(self, name: str) -> Path:
        return self._directory / name[:2] / name[2:]

    def _write(self, name: str, sealed: bytes) -> None:
        path = self._path(name)
        durable.make_folder(path.parent)
        durable.write(path, sealed)

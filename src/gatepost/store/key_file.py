"""
A file of master keys: read again when it changed, made at the first start, exchanged as a whole by a rotation.

Arrives: a path. Leaves: the keys in it.
Not here: what a master key does, and how its text is read (master_key).
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gatepost.store import durable
from gatepost.store.errors import MasterKeyRefused
from gatepost.store.master_key import LocalMasterKey, generate, parse

FILE_NAME = "master.key"


class KeyFile:
    """Master keys in a file; read again when it changed, so that a rotation needs no restart."""

    def __init__(self, path: Path, *, may_make: bool = False) -> None:
        """
        Args:
            may_make: A file that does not exist is made, with a new key, where nothing was ever sealed.
        """
        self.path = path
        self.where = str(path)
        self._may_make = may_make
        self._stamp: tuple[int, int, int] | None = None
        self._keys: tuple[LocalMasterKey, ...] = ()

    @property
    def all(self) -> Sequence[LocalMasterKey]:
        """
        All keys in the file, the newest first.

        Raises:
            MasterKeyRefused: The file cannot be read, or holds something else.
        """
        try:
            facts = self.path.stat()
            stamp = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
            if stamp != self._stamp:
                self._keys = parse(self.path.read_text("ascii"), self.where)
                self._stamp = stamp
        except FileNotFoundError:
            self._stamp = None  # what was read before goes on to be used: a running gateway needs no file
        except (OSError, UnicodeDecodeError) as error:
            raise MasterKeyRefused(f"the master key cannot be read: {self.path}: {getattr(error, 'strerror', None) or error}") from error
        return self._keys

    def newest(self) -> LocalMasterKey | None:
        """Return the first one in the file; None when there is no file."""
        found = self.all
        return found[0] if found else None

    def find(self, master_id: str) -> LocalMasterKey | None:
        """Return one by its name; the file is read again when it is not among those read before."""
        known = next((key for key in self._keys if key.id == master_id), None)
        return known or next((key for key in self.all if key.id == master_id), None)

    def make(self) -> LocalMasterKey:
        """
        Make the file with a new key in it, unless another process just did.

        Raises:
            MasterKeyRefused: The file must be given, or cannot be written.
        """
        if not self._may_make:
            raise MasterKeyRefused(f"there is no master key: {self.path} does not exist; openssl rand -base64 32 makes one")
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write([generate()], is_new=True)
        made = self.newest()
        assert made is not None
        return made

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """
        Keep other rotations away.

        Raises:
            MasterKeyRefused: One is running.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(durable.locked(self.path.with_name(f".{self.path.name}.lock")))
            except BlockingIOError:
                raise MasterKeyRefused(f"{self.path}: another rotation is running") from None
            except OSError as error:
                raise self._unwritable(error) from error
            yield

    def replace(self, keys: Iterable[LocalMasterKey]) -> None:
        """
        Write other keys into the file, whole or not at all.

        Raises:
            MasterKeyRefused: The file cannot be written.
        """
        self._write(keys, is_new=False)

    def _write(self, keys: Iterable[LocalMasterKey], *, is_new: bool) -> None:
        try:
            durable.write(self.path, "".join(f"{key.text}\n" for key in keys).encode(), is_new=is_new)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> MasterKeyRefused:
        return MasterKeyRefused(f"the master key cannot be written: {self.path}: {error.strerror}")

"""
The folder DIR/acme: the account, certificates with their keys, and answers to challenges that are under way.

Arrives: what an order got. Leaves: files that only their owner can read, each exchanged as a whole and on the disk before
anybody relies on it. A certificate and its key are one file: no reader ever meets a pair that does not match.
Answers to challenges are files too, so that a command may order while another process serves the doors.
Standards: RFC 8555 §8.3 (http-01), RFC 8737 §3 (tls-alpn-01).
Not here: the conversation with the authority (order).
Bugs: each machine has its own folder. Where several serve one name, the authority's question must reach the one that asked.
"""

import contextlib
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec

from gatepost.store import durable

TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")
_HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")


class Busy(Exception):  # noqa: N818
    """Another process is ordering certificates now."""


class Shelf:
    """The folder of one data directory; nothing is made before something is put there."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "acme"

    def certificate(self, name: str) -> Path:
        """Return where a name's certificate and key are, or will be."""
        return self.folder / "certificates" / f"{name}.pem"

    def account(self, directory_url: str) -> Path:
        """Return where the account's key with an authority is, or will be."""
        return self.folder / f"account-{sha256(directory_url.encode()).hexdigest()[:12]}.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """
        Be the only one that orders.

        Raises:
            Busy: Somebody else does.
        """
        durable.make_folder(self.folder)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(durable.locked(self.folder / "lock"))
            except BlockingIOError:
                raise Busy from None
            yield

    def write_json(self, path: Path, value: Any) -> None:
        """Put a value into a file."""
        write_private(path, msgspec.json.encode(value))

    # Challenges

    def put_answer(self, token: str, key_authorization: str) -> Path:
        """Answer an authority that asks for a token over HTTP (RFC 8555 §8.3)."""
        path = self._challenges / token
        write_private(path, key_authorization.encode())
        return path

    def find_answer(self, token: str) -> bytes | None:
        """Return the answer for a token, while its challenge is under way."""
        if TOKEN.fullmatch(token) is None:
            return None
        try:
            return (self._challenges / token).read_bytes()
        except OSError:
            return None

    def put_certificate(self, name: str, pem: bytes) -> Path:
        """Answer an authority that asks for a name by `acme-tls/1` (RFC 8737 §3)."""
        path = self._challenges / f"{name}.pem"
        write_private(path, pem)
        return path

    def find_certificate(self, name: str) -> Path | None:
        """Return the file that answers for a name, while its challenge is under way."""
        if _HOST.fullmatch(name) is None:
            return None
        path = self._challenges / f"{name}.pem"
        return path if path.exists() else None

    def forget_answers(self) -> None:
        """Drop what a process that was killed left behind; call it with the lock."""
        with contextlib.suppress(OSError):
            for path in self._challenges.iterdir():
                path.unlink(missing_ok=True)

    @property
    def _challenges(self) -> Path:
        return self.folder / "challenges"


def write_private(path: Path, data: bytes) -> None:
    """Write a file as a whole, for its owner only, and see that it is on the disk."""
    durable.make_folder(path.parent)
    durable.write(path, data)

"""
The content of one message, as far as it may be shown.

Arrives: a message's row. Leaves: its bytes, or the reason why they stay hidden: only what the sandbox keeps is shown,
unless the operator allows more (`http.show_content`).
"""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row

from gatepost.store import facts, messages
from gatepost.store.blobs import Blobs
from gatepost.store.errors import SealBroken

SHOWN_SOURCE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """
    Where a message's bytes are.

    Attributes:
        is_exact: They are what the sandbox took, signed and rendered; otherwise what was accepted.
        is_real: They are of mail that leaves: who looks is written to the audit log.
    """

    encoding: str
    data: bytes = field(repr=False)
    is_exact: bool
    is_real: bool
    tenant_id: str

    def read(self, blobs: Blobs) -> bytes:
        """
        Return the bytes.

        Raises:
            StorageUnavailable: They cannot be read now.
        """
        return blobs.get(self.encoding, self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """Why a content is not shown: one sentence for a person."""

    reason: str


def find_content(conn: Connection, message: Row[Any], *, show_content: bool) -> Found | Hidden:
    """Find a message's bytes, or say why they are not shown."""
    if not message.is_sandbox and not show_content:
        reason = f"This message really leaves (route {message.route}), and this gateway does not show the content of real mail."
        return Hidden(reason=reason)
    try:
        captured = facts.captured(conn, message.id) if message.is_sandbox else None
        if captured is not None:
            return Found(encoding=captured.encoding, data=bytes(captured.data), is_exact=True, is_real=False, tenant_id=message.tenant_id)
        stored = messages.body_of(conn, message.id)
    except SealBroken:
        return Hidden(reason="The content of this message cannot be opened: it was altered on disk, or its key is gone.")
    if stored is None:
        return Hidden(reason="The content of this message is not stored any more.")
    return Found(encoding=stored[0], data=stored[1], is_exact=False, is_real=not message.is_sandbox, tenant_id=message.tenant_id)

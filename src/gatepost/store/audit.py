"""
The audit log: who changed what, append-only, each entry's hash covering the one before.

An entry is written in the transaction of the change that it tells of, so that neither exists without the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from gatepost.clock import Instant
from gatepost.domain.access import Actor


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    One change, as it is told.

    Attributes:
        action: What was done, `noun.verb` in the past: `key.created`, `domain.removed`, `messages.exported`.
        object_id: What it was done to.
        tenant_id: Whose it is; None for what belongs to the gateway itself.
        before: What it was, as far as it changed; secrets masked. None for what is new.
        after: What it is now. None for what is gone.
    """

    action: str
    object_id: str
    tenant_id: str | None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


def append(conn: Connection, actor: Actor, change: Change, now: Instant) -> None:
    """Add an entry to the log, in the transaction of the change itself."""

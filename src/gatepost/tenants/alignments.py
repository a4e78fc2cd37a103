"""
Domains whose mail nothing speaks for, at hand for every message.

Arrives: the reports of domains that are broken. Leaves: each one's standing, in memory, some seconds old at most.
Not here: what follows for a message (policy.alignment, screening).
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from sqlalchemy import Connection

from gatepost.policy.alignment import Standing
from gatepost.store import health
from gatepost.store.engine import Engine

EVERY_S: Final = 5.0


class Alignments:
    """What was found at broken domains; `refresh` is called every `EVERY_S` seconds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: Mapping[tuple[str, str], Standing] = {}

    def find(self, tenant_id: str, domain: str) -> Standing | None:
        """Return the standing of a domain whose signatures cannot be verified; None for every other."""
        return self._known.get((tenant_id, domain))

    async def refresh(self) -> None:
        """
        Read what was found.

        Raises:
            StorageUnavailable: The database cannot be used now; what was known stays.
        """
        self._known = await self._engine.read(_load)


def _load(conn: Connection) -> dict[tuple[str, str], Standing]:
    found = {}
    for row in health.broken_domains(conn):
        told = row.report.get("standing")
        if told is not None and not told["signs"]:
            standing = msgspec.convert(told, Standing)
            found[row.tenant_id, standing.domain] = standing
    return found

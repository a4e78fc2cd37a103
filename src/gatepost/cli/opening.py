"""
The store, opened for one command.

On SQLite the schema is brought up to date on the way, so that `key create` works before the first `serve`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gatepost.app import parts
from gatepost.cli.options import load
from gatepost.clock import Clock, SystemClock
from gatepost.observe import maillog
from gatepost.settings import Loaded, Settings
from gatepost.store.engine import Engine
from gatepost.store.opening import open_store

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a command works with."""

    loaded: Loaded
    engine: Engine
    clock: Clock
    tenant_id: str

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.loaded.settings


@asynccontextmanager
async def opened(data: Path, flags: dict[str, Any]) -> AsyncIterator[Opened]:
    """
    Open the store of a data directory.

    Raises:
        InvalidSettings: An option is unknown or has no valid value.
        SchemaOutdated: PostgreSQL needs `gatepost migrate`.
        StorageUnavailable: The database cannot be used now.
    """
    loaded = load(data, flags)
    maillog.configure(level="error", mask_addresses=loaded.settings.log.mask_addresses, process="cli")
    clock = SystemClock()
    engine = parts.create_engine(loaded)
    try:
        yield Opened(loaded=loaded, engine=engine, clock=clock, tenant_id=await open_store(engine, clock))
    finally:
        await engine.close()


def run_with_store(data: Path, flags: dict[str, Any], work: Callable[[Opened], Awaitable[T]]) -> T:
    """
    Run one piece of work over an opened store.

    Raises:
        InvalidSettings: See `opened`.
        SchemaOutdated: See `opened`.
        StorageUnavailable: See `opened`.
    """

    async def run() -> T:
        async with opened(data, flags) as store:
            return await work(store)

    return asyncio.run(run())

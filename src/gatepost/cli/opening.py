"""
The store, opened for one command.

On SQLite the schema is brought up to date on the way, so that `key create` works before the first `serve`.
"""

import asyncio
import getpass
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gatepost.app.database import create_engine
from gatepost.app.secrets import unsealed
from gatepost.cli.options import load
from gatepost.clock import Clock, SystemClock
from gatepost.domain.access import Actor, PrincipalKind
from gatepost.observe import maillog
from gatepost.settings import Loaded, Settings
from gatepost.store import tenants
from gatepost.store.engine import Engine
from gatepost.store.opening import open_store

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """
    What a command works with.

    Attributes:
        tenant_id: The tenant that the command names, else the default one.
        is_tenant_named: The command was called with `--tenant`.
        actor: Who stands in the audit log for what the command changes.
    """

    loaded: Loaded
    engine: Engine
    clock: Clock
    tenant_id: str
    is_tenant_named: bool = False
    actor: Actor

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.loaded.settings


def local_actor() -> Actor:
    """Return who sits at the command line, as the audit log names them."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        name = "?"
    return Actor(kind=PrincipalKind.LOCAL, id="local", name=name)


@asynccontextmanager
async def opened(data: Path, flags: dict[str, Any], tenant: str | None = None) -> AsyncIterator[Opened]:
    """
    Open the store of a data directory.

    Args:
        tenant: Id or name of the tenant that the command is about.

    Raises:
        Refused: not_found: there is no such tenant.
        InvalidSettings: An option is unknown or has no valid value.
        MasterKeyRefused: The master key is missing, or another one's.
        SchemaOutdated: PostgreSQL needs `gatepost migrate`.
        StorageUnavailable: The database cannot be used now.
    """
    loaded = load(data, flags)
    maillog.configure(level="error", mask_addresses=loaded.settings.log.mask_addresses, process="cli")
    clock = SystemClock()
    loaded = unsealed(loaded)
    engine = create_engine(loaded)
    try:
        tenant_id = await open_store(engine, clock)
        if tenant is not None:
            tenant_id = (await engine.read(lambda conn: tenants.named(conn, tenant))).id
        yield Opened(
            loaded=loaded, engine=engine, clock=clock, tenant_id=tenant_id, is_tenant_named=tenant is not None, actor=local_actor()
        )  # fmt: skip
    finally:
        await engine.close()


def run_with_store(data: Path, flags: dict[str, Any], work: Callable[[Opened], Awaitable[T]], tenant: str | None = None) -> T:
    """
    Run one piece of work over an opened store.

    Raises:
        Refused: See `opened`.
        InvalidSettings: See `opened`.
        SchemaOutdated: See `opened`.
        StorageUnavailable: See `opened`.
    """

    async def run() -> T:
        async with opened(data, flags, tenant) as store:
            return await work(store)

    return asyncio.run(run())

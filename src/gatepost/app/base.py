"""
What both kinds of process stand on: clock, database, directory, bell, and what is done now and then.

A database that is away delays the start instead of ending it.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gatepost.app.database import create_engine
from gatepost.app.parts import create_blobs, with_hostnames
from gatepost.app.secrets import unsealed
from gatepost.clock import Clock, SystemClock
from gatepost.net.bell import Bell
from gatepost.observe import maillog
from gatepost.policy.classify import use_rules
from gatepost.policy.classify_rules import InvalidRules, load_rules
from gatepost.settings import InvalidSettings, Loaded, Settings
from gatepost.store import opening
from gatepost.store.blobs import Blobs
from gatepost.store.engine import Engine
from gatepost.store.errors import SchemaOutdated, StorageUnavailable
from gatepost.tenants.directory import Directory

DRAIN_S = 30.0
"""Time that a process has to finish what it began."""

REFRESH_S = 1.0
"""How often a process looks whether keys or domains changed."""

OnReady = Callable[[dict[str, str]], None]
"""Called once a process is ready, with the address of each door."""


@dataclass(slots=True)
class Base:
    """What both kinds of process stand on."""

    loaded: Loaded
    settings: Settings
    clock: Clock
    engine: Engine
    blobs: Blobs
    directory: Directory
    bell: Bell
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def repeat(self, name: str, every_s: float, work: Callable[[], Awaitable[object]]) -> None:
        """Do something now and then; its failures are told and do not end it."""
        self.tasks.append(asyncio.create_task(_repeat(self.clock, name, every_s, work), name=name))

    async def close(self) -> None:
        """Stop what repeats and close the database."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.bell.close()
        await self.engine.close()


def create_base(loaded: Loaded) -> Base:
    """
    Make what a process stands on.

    Raises:
        InvalidSettings: `database.url` has no valid value, a sealed option cannot be opened, or `feedback.rules_file` holds no rules.
        MasterKeyRefused: The master key is missing or none.
        LibraryTooOld: The SQLite library is not safe.
    """
    clock = SystemClock()
    loaded = unsealed(loaded)
    _use_own_rules(loaded)
    engine = create_engine(loaded)
    return Base(
        loaded=loaded,
        settings=with_hostnames(loaded.settings),
        clock=clock,
        engine=engine,
        blobs=create_blobs(loaded),
        directory=Directory(engine, clock),
        bell=Bell(loaded.data_dir),
    )


def _use_own_rules(loaded: Loaded) -> None:
    """Let the operator's rules say why mail is refused, from the start of the process."""
    path = loaded.settings.feedback.rules_file
    try:
        use_rules(load_rules(loaded.data_dir / path) if path else None)
    except InvalidRules as error:
        raise InvalidSettings(f"feedback.rules_file: {error}") from error


async def _repeat(clock: Clock, name: str, every_s: float, work: Callable[[], Awaitable[object]]) -> None:
    while True:
        await clock.sleep(every_s)
        try:
            await work()
        except StorageUnavailable as error:
            maillog.trouble(f"{name} is waiting for the database", error=str(error))
        except Exception as error:  # noqa: BLE001 - housekeeping must not take a door down
            maillog.crashed(name, error)


async def open_patiently(base: Base, stopping: asyncio.Event) -> str | None:
    """Open the store, however long it is away; return the default tenant's id, or None when told to stop meanwhile."""
    wait_s = 0.25
    while not stopping.is_set():
        try:
            tenant_id = await opening.open_store(base.engine, base.clock)
            await base.directory.refresh()
        except (StorageUnavailable, SchemaOutdated) as error:
            maillog.trouble("waiting for the database", error=str(error))
            await _wait(stopping, wait_s)
            wait_s = min(wait_s * 2, 5.0)
        else:
            return tenant_id
    return None


async def _wait(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()

"""
The engine for more than one machine: PostgreSQL 15–18 through asyncpg.

READ COMMITTED, few connections, prepared statements. `synchronous_commit` is checked on every new connection: a server
that answers a commit before it is on disk is refused, since accepted must mean durable.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gatepost.store import sealing
from gatepost.store.errors import StorageUnavailable, UnsafeDurability, is_unavailable
from gatepost.store.keyring import Keyring

T = TypeVar("T")

_SERVER_SETTINGS = {
    "application_name": "gatepost",
    "statement_timeout": "30000",
    "idle_in_transaction_session_timeout": "30000",
    "lock_timeout": "10000",
    "jit": "off",
}


class PostgresEngine:
    """A PostgreSQL database as an `Engine`."""

    dialect = "postgresql"

    def __init__(self, url: str, keyring: Keyring, pool_size: int = 8) -> None:
        """
        Prepare connections; none is opened yet.

        Args:
            url: `postgresql://user:password@host:port/name`; several hosts as asyncpg understands them.
        """
        self.keyring = keyring
        self._engine = _create_engine(url, keyring, pool_size)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction."""
        return await self._run(work, is_write=True)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, then roll back."""
        return await self._run(work, is_write=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    async def _run(self, work: Callable[[Connection], T], *, is_write: bool) -> T:
        try:
            async with self._engine.connect() as conn:
                result = await conn.run_sync(work)
                if is_write:
                    await conn.commit()
                return result
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if is_unavailable(error):
                raise StorageUnavailable(str(getattr(error, "orig", error))) from error
            raise


def _create_engine(url: str, keyring: Keyring, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        async_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_recycle=3600,
        execution_options={sealing.OPTION: keyring},
        hide_parameters=True,  # in the text of errors, which is logged
        connect_args={"server_settings": _SERVER_SETTINGS, "timeout": 5, "command_timeout": 60},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        keyring.forget()  # after a failover the newest commits may be missing, and keys with them
        cursor = connection.cursor()
        cursor.execute("SELECT current_setting('synchronous_commit'), current_setting('fsync')")
        synchronous, fsync = cursor.fetchone()
        cursor.close()
        connection.rollback()
        if synchronous == "off" or fsync == "off":
            raise UnsafeDurability(
                f"PostgreSQL has synchronous_commit={synchronous}, fsync={fsync}: accepted mail could be lost; set both to on"
            )

    return engine


def async_url(url: str) -> sa.URL:
    """
    Turn a plain PostgreSQL URL into SQLAlchemy's with the asyncpg driver.

    Raises:
        sqlalchemy.exc.ArgumentError: Not a URL.
    """
    parsed = sa.make_url(url)
    return parsed.set(drivername="postgresql+asyncpg")

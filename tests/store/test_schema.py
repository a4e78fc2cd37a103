"""The schema: what the migrations make is what the code expects, on both engines."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from gatepost.clock import DAY, SystemClock
from gatepost.store import opening, partitions
from gatepost.store.errors import SchemaOutdated
from gatepost.store.opening import create_engine, migrate, open_store
from gatepost.store.schema import PARTITIONED, REVISION, metadata
from tests.store.rows import NOW, put_message


def differences(conn):
    partition_names = (
        {name for (name,) in conn.execute(sa.text("SELECT relname FROM pg_class WHERE relispartition"))}
        if conn.dialect.name == "postgresql"
        else set()
    )

    def include(_object, name, kind, _reflected, _compare_to):
        return not (kind == "table" and (name == "alembic_version" or name in partition_names))

    context = MigrationContext.configure(conn, opts={"include_object": include, "compare_type": True})
    return compare_metadata(context, metadata)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_migrations_make_exactly_the_schema_of_the_code(kind, tmp_path: Path, request):
    """A fresh database equals one that went through every migration."""
    url = "" if kind == "sqlite" else request.getfixturevalue("empty_postgres_url")

    async def main():
        engine = create_engine(url, tmp_path)
        assert await engine.write(migrate) == (None, REVISION)
        assert await engine.write(migrate) == (REVISION, REVISION)
        assert await engine.read(differences) == []
        assert ScriptDirectory(str(Path(opening.__file__).parent / "migrations")).get_current_head() == REVISION
        await engine.close()

    asyncio.run(main())


def test_postgresql_is_not_migrated_behind_the_operators_back(empty_postgres_url, tmp_path):
    """Opening an empty PostgreSQL says what to run, and changes nothing."""

    async def main():
        engine = create_engine(empty_postgres_url, tmp_path)
        with pytest.raises(SchemaOutdated, match="gatepost migrate"):
            await open_store(engine, SystemClock())
        await engine.close()

    asyncio.run(main())


def test_facts_go_to_the_partition_of_their_day(postgres_url, tmp_path):
    """A message written today lies in today's partition, and making partitions twice makes none twice."""

    async def main():
        engine = create_engine(postgres_url, tmp_path)
        now = SystemClock().now()
        made = await engine.write(lambda conn: partitions.create_ahead(conn, now))
        assert len(made) == len(PARTITIONED) * (partitions.DAYS_AHEAD + 1)
        assert await engine.write(lambda conn: partitions.create_ahead(conn, now)) == []
        assert len(await engine.write(lambda conn: partitions.create_ahead(conn, now + DAY))) == len(PARTITIONED)
        await engine.write(lambda conn: put_message(conn))
        tables = await engine.read(
            lambda conn: [
                str(name)
                for (name,) in conn.execute(sa.text("SELECT tableoid::regclass FROM message UNION SELECT tableoid::regclass FROM body"))
            ]
        )
        assert sorted(tables) == sorted(name for name in made if name.startswith(("message_", "body_")))[0::8]
        await engine.close()

    asyncio.run(main())
    assert NOW


def test_a_server_that_forgets_commits_is_refused(postgres_url, tmp_path):
    """With synchronous_commit off an accepted message could be lost: nothing is written there."""
    import asyncpg

    from gatepost.store.errors import UnsafeDurability

    async def main():
        connection = await asyncpg.connect(postgres_url)
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        await connection.close()
        engine = create_engine(postgres_url, tmp_path)
        with pytest.raises(UnsafeDurability, match="synchronous_commit=off"):
            await engine.write(put_message)
        await engine.close()

    asyncio.run(main())

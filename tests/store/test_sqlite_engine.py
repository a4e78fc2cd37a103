"""The embedded engine: what it holds open, and lets go of."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from gatepost.store.opening import create_engine, migrate


def _open_files(folder: Path) -> list[str]:
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(descriptor.readlink()))
        except OSError:  # the listing's own
            continue
    return [path for path in found if path.startswith(str(folder))]


def test_a_closed_engine_holds_no_file_open(tmp_path):
    """Connections of readers are closed as the writer's is: a process that opens many engines keeps its files."""

    async def main():
        engine = create_engine("", tmp_path)
        await engine.write(migrate)
        await asyncio.gather(*[engine.read(lambda conn: conn.execute(sa.text("SELECT 1")).scalar_one()) for _ in range(30)])
        with pytest.raises(sa.exc.OperationalError) as kept:  # its traceback knows the connection
            await engine.read(lambda conn: conn.execute(sa.text("SELECT * FROM nowhere")))
        assert _open_files(tmp_path)
        await engine.close()
        assert _open_files(tmp_path) == [], kept.value

    asyncio.run(main())

"""`gatepost stats`: what scripts rely on."""

import asyncio
from pathlib import Path

import pytest
from tests.cli.test_commands import run, run_json

from gatepost import settings
from gatepost.app.database import create_engine
from gatepost.clock import SystemClock
from gatepost.domain.stats import Labels
from gatepost.store.counting import Deltas
from gatepost.store.opening import open_store


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def test_numbers_are_told_as_json_as_a_table_and_as_csv(data: Path):
    """Everybody's without a tenant; divided, filtered, with a step; a fault names its option."""

    async def prepare():
        engine, clock = create_engine(settings.load(data, environ={})), SystemClock()
        tenant_id = await open_store(engine, clock)

        def count(conn):
            for stream, n in (("bulk", 3), ("codes", 2)):
                deltas = Deltas()
                labels = Labels("acme.example", stream, '["=x"]', "", 0)
                deltas.add(tenant_id, labels, "mx", "ip1", "google", clock.now(), ("attempted", "delivered"), n)
                deltas.write(conn)

        await engine.write(count)
        await engine.close()

    run(data, "tenant", "list")
    asyncio.run(prepare())
    found = run_json(data, "stats", "--group-by", "stream", "--metrics", "delivered,delivery_rate")
    assert [(row["group"]["stream"], row["metrics"]) for row in found["data"]] == [
        ("bulk", {"delivered": 3, "delivery_rate": 1.0}), ("codes", {"delivered": 2, "delivery_rate": 1.0}),
    ]  # fmt: skip
    assert found["total"]["delivered"] == 5
    assert run_json(data, "stats", "--where", "stream=codes")["total"]["delivered"] == 2
    assert run_json(data, "stats", "--mode", "sandbox")["total"]["delivered"] == 0
    assert len(run_json(data, "stats", "--step", "day")["data"]) == 1
    assert "100.00%" in run(data, "stats", "--group-by", "tenant").output
    assert "'=x" in run(data, "stats", "--group-by", "tag", "--csv").output
    assert "--group-by" in run(data, "stats", "--group-by", "colour", code=1).output

"""`gatepost stream` and `gatepost queue hold|release|reroute|cancel`: what scripts rely on."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_commands import run, run_json
from tests.store.rows import put_message

from gatepost import settings
from gatepost.app.database import create_engine
from gatepost.clock import SystemClock
from gatepost.store.opening import open_store


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def test_a_stream_is_made_changed_listed_and_deleted(data: Path):
    """Every command answers with JSON, and a fault fails it."""
    made = run_json(
        data, "stream", "create", "newsletter", "--lane", "bulk", "--ttl", "7200", "--window", '{"from": "08:00", "until": "20:00"}'
    )
    assert (made["lane"], made["ttl_s"], made["window"]["zone"]) == ("bulk", 7200, "UTC")
    changed = run_json(data, "stream", "change", "newsletter", "--ttl", "default", "--window", "default")
    assert (changed["ttl_s"], changed["window"]) == (None, None)
    assert [one["name"] for one in run_json(data, "stream", "list")["streams"]] == ["codes", "transactional", "bulk", "newsletter"]
    assert "newsletter" in run(data, "stream", "list").output
    assert run_json(data, "stream", "delete", "newsletter") == {"stream": "newsletter", "deleted": True}
    run(data, "stream", "change", "newsletter", "--ttl", "5", code=1)


def test_a_stream_is_told_what_to_track(data: Path):
    """On, changed, and off again; nothing else is taken."""
    made = run_json(data, "stream", "create", "letters", "--lane", "bulk", "--tracking", "opens,clicks", "--unsubscribe", "yes")
    assert (made["tracking"], made["unsubscribe"]) == ({"opens": True, "clicks": True, "text": False}, True)
    assert "opens clicks unsubscribe" in run(data, "stream", "list").output
    changed = run_json(data, "stream", "change", "letters", "--tracking", "default", "--unsubscribe", "no")
    assert (changed["tracking"]["opens"], changed["unsubscribe"]) == (False, False)
    run(data, "stream", "change", "letters", "--tracking", "everything", code=1)
    run(data, "stream", "change", "codes", "--tracking", "opens", code=1)


def test_an_action_is_counted_and_waits_for_a_dispatcher(data: Path):
    """Nothing runs: the action stands there for whoever starts; without a filter it must be meant."""

    async def prepare() -> Any:
        loaded, clock = settings.load(data, environ={}), SystemClock()
        engine = create_engine(loaded)
        await open_store(engine, clock)
        await engine.write(lambda conn: [put_message(conn) for _ in range(3)])
        await engine.close()

    asyncio.run(prepare())
    assert run_json(data, "queue", "hold", "--site", "example.net", "--dry-run") == {"count": 3, "is_exact": True}
    held = run_json(data, "queue", "hold", "--site", "example.net", "--note", "too much")
    assert (held["action"], held["filter"], held["changed"], held["finished_at"]) == ("hold", {"site": "example.net"}, 0, None)
    run(data, "queue", "cancel", code=1)
    run(data, "queue", "reroute", "--to", "nowhere", "--site", "example.net", code=1)
    assert run_json(data, "queue", "cancel", "--all", "--dry-run")["count"] == 3

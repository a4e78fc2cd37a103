"""`gatepost returned`: what scripts rely on."""

import asyncio
from pathlib import Path

import pytest
from tests.cli.test_commands import run, run_json

from gatepost import settings
from gatepost.app.database import create_engine
from gatepost.clock import SystemClock
from gatepost.store import inbound
from gatepost.store.inbound import Arrived
from gatepost.store.opening import open_store

MAIL = b"From: a@far.example\r\nSubject: Hello there\r\n\r\nwords\r\n"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def test_what_came_back_is_listed_shown_retried_and_forgotten(data: Path):
    """As JSON and as a table; the source as it came; a second wish finds nothing."""
    made: list[str] = []

    async def prepare():
        engine, clock = create_engine(settings.load(data, environ={})), SystemClock()
        await open_store(engine, clock)

        def write(conn):
            for state in ("unread", "unmatched"):
                made.append(inbound.put(conn, Arrived(kind="mail", details={"recipients": ["x@bounces.example"]}, body=MAIL), clock.now()))
                inbound.set_aside(conn, made[-1], state, "this is why")

        await engine.write(write)
        await engine.close()

    assert run_json(data, "returned") == []
    assert "Nothing was put aside" in run(data, "returned").output
    asyncio.run(prepare())
    found = run_json(data, "returned")
    assert [(one["id"], one["status"], one["subject"]) for one in found] == [
        (made[1], "unmatched", "Hello there"), (made[0], "unread", "Hello there"),
    ]  # fmt: skip
    assert [one["id"] for one in run_json(data, "returned", "--status", "unread")] == [made[0]]
    assert "this is why" in run(data, "returned").output
    assert run_json(data, "returned", "show", made[0])["from"] == "a@far.example"
    assert run(data, "returned", "show", made[0], "--raw").output_bytes == MAIL
    assert run_json(data, "returned", "retry", made[0]) == {"id": made[0], "status": "retried"}
    assert run_json(data, "returned", "forget", made[1]) == {"id": made[1], "status": "forgotten"}
    assert run_json(data, "returned") == []
    assert "not_found" in run(data, "returned", "forget", made[1], code=1).output

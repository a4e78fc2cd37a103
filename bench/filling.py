"""Rows in the queue as accept writes them, without the doors: a million of them in a minute or two."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gatepost import ids
from gatepost.domain import route as routes
from gatepost.store import messages, queue, tenants
from gatepost.store.blobs import LocalBlobs
from gatepost.store.opening import create_engine

CONTENT = (
    b"From: sender@bench.example\r\nTo: rcpt@sink.example\r\nSubject: queued\r\nMessage-ID: <x@bench.example>\r\n\r\n" + b"x" * 70 + b"\r\n"
)
_CHUNK = 2_000
_STREAMS = ("codes", "transactional", "bulk")


class Row(NamedTuple):
    """One message with one recipient."""

    route: str
    domain: str
    lane: int
    due_at: int
    tenant_id: str


def fill(data: Path, database_url: str, count: int, row_of: Callable[[int, int, str], Row], *, is_filed: bool = True) -> None:
    """
    Write messages that wait.

    Args:
        row_of: Makes the row of a number, the time and the default tenant's id.
        is_filed: Each domain is known to be its own mail system; else nobody knows yet.
    """

    async def main() -> None:
        engine = create_engine(database_url, data)
        tenant_id = await engine.read(lambda conn: tenants.by_name(conn, "default"))
        stored = LocalBlobs(data / "blobs").put(CONTENT)
        now = int(time.time() * 1000)
        for start in range(0, count, _CHUNK):
            rows = [row_of(n, now, tenant_id) for n in range(start, min(start + _CHUNK, count))]
            await engine.write(lambda conn, rows=rows: _insert(conn, stored, now, rows, is_filed=is_filed))
        await engine.close()

    asyncio.run(main())
    os.sync()  # what is measured afterwards shall not wait for this to reach the disk


def _insert(conn, stored, now: int, rows: list[Row], *, is_filed: bool) -> None:
    made = [
        (ids.new_message_id(), row, routes.roads_of(row.route)[0].site_of(row.domain, row.domain if is_filed else None)) for row in rows
    ]
    expires_at = now + 3 * 86_400_000
    messages.insert(
        conn,
        [
            {
                "id": mid, "tenant_id": row.tenant_id, "created_at": now, "stream": _STREAMS[row.lane], "lane": row.lane, "source": "http", "key_id": "key_x",
                "envelope_from": "sender@bench.example", "from_": "sender@bench.example", "from_domain": "bench.example", "subject": "queued",
                "message_id_header": "x", "size_bytes": len(CONTENT), "is_8bit": False, "is_smtputf8": False, "is_sandbox": False, "route": row.route,
                "tags": [], "metadata": {}, "scheduled_at": None, "expires_at": expires_at, "options": {},
            }
            for mid, row, _ in made
        ],
        [{"message_id": mid, "encoding": stored[0], "data": stored[1]} for mid, _, _ in made],
        [
            {
                "message_id": mid, "n": 0, "tenant_id": row.tenant_id, "address": f"rcpt@{row.domain}", "address_key": f"rcpt@{row.domain}", "kind": "to",
                "site": site, "status": "queued", "reason": None, "attempts": 0, "last_reply": None, "last_host": None, "updated_at": now, "final_at": None,
                "notify": None, "orcpt": None, "route": None,
            }
            for mid, row, site in made
        ],
    )  # fmt: skip
    queue.insert(
        conn,
        [
            {
                "shard": routes.shard_of("default", site), "lane": row.lane, "due_at": row.due_at, "message_id": mid, "n": 0, "tenant_id": row.tenant_id,
                "pool": "default", "site": site, "attempt": 1, "retries": 0, "expires_at": expires_at, "tried": 0,
            }
            for mid, row, site in made
        ],
    )  # fmt: skip

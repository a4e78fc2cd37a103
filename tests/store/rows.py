"""Rows for tests of the store: a message that waits in the queue."""

from typing import Any

from sqlalchemy import Connection

from gatepost import ids
from gatepost.domain import route as routes
from gatepost.store import messages, queue
from gatepost.store.queue import Due

NOW = 1_764_000_000_000


def put_message(
    conn: Connection, *, tenant_id: str = "ten_a", domains: tuple[str, ...] = ("example.net",), due_at: int = NOW, lane: int = 1, expires_at: int = NOW + 3_600_000,
    tags: tuple[str, ...] = (), subject: str = "Hello", route: str = "mx", stream: str = "transactional",
) -> list[Due]:  # fmt: skip
    """Insert a message with one recipient in each domain; return its queue rows."""
    message_id = ids.new_message_id()
    message = {
        "id": message_id, "tenant_id": tenant_id, "created_at": NOW, "stream": stream, "lane": lane, "source": "http", "key_id": "key_a",
        "envelope_from": "a@acme.example", "from_": "a@acme.example", "from_domain": "acme.example", "subject": subject, "message_id_header": "x@acme.example",
        "size_bytes": 5, "is_8bit": False, "is_smtputf8": False, "is_sandbox": route == "sandbox", "route": route, "tags": list(tags), "metadata": {},
        "scheduled_at": None, "expires_at": expires_at, "options": {},
    }  # fmt: skip
    rows = [
        Due(**_queue_row(message_id, n, tenant_id, routes.roads_of(route)[0].site_of(domain, domain), lane, due_at, expires_at))
        for n, domain in enumerate(domains)
    ]
    body = {"message_id": message_id, "encoding": "zstd", "data": b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello"}
    messages.insert(conn, [message], [body], [_recipient(row, f"user{row.n}@{domain}") for row, domain in zip(rows, domains, strict=True)])
    queue.insert(conn, [row._asdict() for row in rows])
    return rows


def _queue_row(message_id: str, n: int, tenant_id: str, site: str, lane: int, due_at: int, expires_at: int) -> dict[str, Any]:
    return {
        "shard": routes.shard_of("default", site), "lane": lane, "due_at": due_at, "message_id": message_id, "n": n, "tenant_id": tenant_id, "pool": "default",
        "site": site, "attempt": 1, "retries": 0, "expires_at": expires_at, "tried": 0,
    }  # fmt: skip


def _recipient(row: Due, address: str) -> dict[str, Any]:
    return {
        "message_id": row.message_id, "n": row.n, "tenant_id": row.tenant_id, "address": address, "address_key": address, "kind": "to", "site": row.site,
        "status": "queued", "reason": None, "attempts": 0, "last_reply": None, "last_host": None, "updated_at": NOW, "final_at": None, "notify": None, "orcpt": None,
    }  # fmt: skip

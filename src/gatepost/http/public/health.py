"""
Is it alive, is it ready, how does it do: `/livez`, `/readyz`, `/metrics`.

`/metrics` needs a key unless it is asked for on this machine. What can be counted in the database is counted there, at
most every five seconds, and for the fullest sites only: a site is a stranger's domain, and there are many of them.
"""

import time
from weakref import WeakKeyDictionary

from msgspec import Struct

from gatepost.clock import Instant
from gatepost.http import auth
from gatepost.http.exchange import Answer, Endpoint, Request, as_json
from gatepost.http.public import watch_metrics
from gatepost.observe import metrics
from gatepost.store import queue
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable

_KEPT_S = 5.0
_SITES = 200
_DEPTH = (
    "# HELP gatepost_queue_recipients Recipients in the queue, by site and whether they are due",
    "# TYPE gatepost_queue_recipients gauge",
)
_AGE = (
    "# HELP gatepost_queue_oldest_due_seconds How long the longest due recipient waits, by site",
    "# TYPE gatepost_queue_oldest_due_seconds gauge",
)
_Counts = list[tuple[str, int, int, int, Instant]]
_kept: "WeakKeyDictionary[Engine, tuple[float, bytes]]" = WeakKeyDictionary()


class Health(Struct, frozen=True, kw_only=True):
    """`ok`, or what is wrong."""

    status: str
    problems: list[str]


async def livez(_: Request) -> Answer:
    """The loop turns, or there would be no answer."""
    return as_json(Health(status="ok", problems=[]))


async def readyz(request: Request) -> Answer:
    """Whether database, schema and configuration are as they should be."""
    problems = await request.deps.is_ready()
    return as_json(Health(status="unavailable" if problems else "ok", problems=problems), 503 if problems else 200)


async def show_metrics(request: Request) -> Answer:
    """Prometheus' text format."""
    if not auth.is_local(request.scope):
        await request.authenticate()
    body = metrics.exposition() + await _queue_metrics(request)
    return Answer(200, body, metrics.CONTENT_TYPE.encode())


async def _queue_metrics(request: Request) -> bytes:
    """Return the queue's figures, kept for some seconds; nothing while the database is away."""
    engine = request.deps.engine
    at, text = _kept.get(engine, (float("-inf"), b""))
    if time.monotonic() - at < _KEPT_S:
        return text
    now = request.deps.clock.now()
    try:
        counts = await engine.read(lambda conn: queue.counts_by_site(conn, now))
        text = _write(counts, now) + await engine.read(lambda conn: watch_metrics.text(conn, now))
    except StorageUnavailable:
        return b""
    _kept[engine] = (time.monotonic(), text)
    return text


def _write(counts: _Counts, now: Instant) -> bytes:
    shown, others = counts[:_SITES], counts[_SITES:]
    if others:
        rest = ("other sites", sum(one[1] for one in others), sum(one[2] for one in others), 0, min(one[4] for one in others))
        shown = [*shown, rest]
    depth, age = [*_DEPTH], [*_AGE]
    for site, due, later, _, first in shown:
        label = site.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        depth.append(f'gatepost_queue_recipients{{site="{label}",state="due"}} {due}')
        depth.append(f'gatepost_queue_recipients{{site="{label}",state="waiting"}} {later}')
        age.append(f'gatepost_queue_oldest_due_seconds{{site="{label}"}} {max(0, now - first) / 1000 if due else 0}')
    return ("\n".join([*depth, *age]) + "\n").encode()


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/livez",
        run=livez,
        name="livez",
        summary="Is the process alive?",
        tag="health",
        answers={200: Health},
        is_public=True,
    ),
    Endpoint(
        method="GET",
        path="/readyz",
        run=readyz,
        name="readyz",
        summary="Can the process work?",
        tag="health",
        answers={200: Health, 503: Health},
        is_public=True,
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        run=show_metrics,
        name="metrics",
        summary="Prometheus metrics",
        tag="health",
        description="Needs a key, unless it is asked for on the machine itself.",
        answers={200: "text/plain"},
        codes=("authentication_required", "authentication_failed", "malformed_request"),
        is_public=True,
    ),
]

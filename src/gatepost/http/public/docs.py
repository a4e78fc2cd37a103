"""
The API's description, as JSON for programs and as pages for people.

The viewer is part of this package: no page asks another host for anything, and the policy sent with it forbids it to.
Not here: what the description says (openapi).
"""

import gzip
from functools import lru_cache
from importlib.resources import files
from typing import Any

import msgspec

from gatepost.http.exchange import Answer, Endpoint, Request

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    b"connect-src 'self'; "
    b"worker-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = ((b"content-security-policy", _POLICY), (b"referrer-policy", b"no-referrer"))
_document: dict[str, bytes] = {}


def describe(document: dict[str, Any]) -> None:
    """Set the description that `/openapi.json` shows."""
    _document["json"] = msgspec.json.encode(document)


async def show_document(_: Request) -> Answer:
    """Return the OpenAPI document."""
    return Answer(200, _document["json"])


async def show_docs(_: Request) -> Answer:
    """Return the page that shows the document."""
    return Answer(200, _asset("docs.html"), b"text/html; charset=utf-8", _HEADERS)


async def show_viewer(request: Request) -> Answer:
    """Return the viewer's script, compressed where the browser takes it."""
    packed = _asset("scalar.js.gz")
    vary = (b"vary", b"accept-encoding")
    if "gzip" in (request.header(b"accept-encoding") or ""):
        return Answer(200, packed, b"text/javascript; charset=utf-8", [vary, (b"content-encoding", b"gzip")])
    return Answer(200, gzip.decompress(packed), b"text/javascript; charset=utf-8", [vary])


@lru_cache(maxsize=4)
def _asset(name: str) -> bytes:
    return (files("gatepost.http") / "assets" / name).read_bytes()


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/openapi.json",
        run=show_document,
        name="openapi",
        summary="This description",
        tag="documentation",
        answers={200: dict[str, Any]},
        is_public=True,
    ),
    Endpoint(
        method="GET",
        path="/docs",
        run=show_docs,
        name="docs",
        summary="This description, to browse",
        tag="documentation",
        answers={200: "text/html"},
        is_public=True,
    ),
    Endpoint(
        method="GET",
        path="/docs/scalar.js",
        run=show_viewer,
        name="docsViewer",
        summary="The viewer's script",
        tag="documentation",
        answers={200: "text/javascript"},
        is_public=True,
    ),
]

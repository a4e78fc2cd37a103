"""
The HTTP application: routes to endpoints, and answers for what is no route.

Arrives: what the house offers (`HttpDeps`).
Leaves: a Litestar application. The API's endpoints are ASGI functions under Litestar's router, since they read bodies and
write answers by themselves, and those that most requests go to are called without the router; the pages are ordinary Litestar routes.
Not here: sockets and time limits (server).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from litestar import Litestar, Response
from litestar import Request as LitestarRequest
from litestar.exceptions import HTTPException
from litestar.handlers import ASGIRouteHandler, HTTPRouteHandler
from litestar.types import ASGIApp, ControllerRouterHandler, Receive, Scope, Send

from gatepost.dashboard import routes as dashboard
from gatepost.domain.errors import Refused
from gatepost.http import exchange, openapi
from gatepost.http.deps import HttpDeps
from gatepost.http.exchange import Answer, Endpoint
from gatepost.http.public import docs, health, hooks, oauth, tracking
from gatepost.http.public import team_reports as report_ends
from gatepost.http.v1 import (
    audit,
    clients,
    deliverability,
    domain_health,
    domain_reports,
    domains,
    events,
    keys,
    limits,
    messages,
    people,
    placement,
    policies,
    queue_actions,
    raw,
    relay_control,
    relay_health,
    relays,
    returned,
    routes,
    sending,
    sites,
    stats,
    streams,
    suppression_files,
    suppressions,
    team_reports,
    tenant_limits,
    tenants,
    unusual,
    webhooks,
)

__all__ = ["HttpDeps", "create_app", "endpoints"]

_CODES = {
    400: "malformed_request",
    401: "authentication_required",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
}


_STRAIGHT = ("/v1/messages", "/v1/messages/batch", "/v1/messages/raw")
"""Paths without parameters whose requests are many: the way through Litestar costs a tenth of accepting a message."""


class _App(Litestar):
    """
    A Litestar application whose every answer carries its request's id.

    Attributes:
        by_path: Endpoints that are called by most requests, by path: they need no router.
    """

    by_path: Mapping[str, exchange.PathApp] = MappingProxyType({})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        straight = self.by_path.get(scope["path"])
        if straight is not None:
            scope["path_params"] = {}
            await straight(scope, receive, send)
            return
        identity = exchange.request_id(scope).encode()

        async def send_identified(message: Any) -> None:
            if message["type"] == "http.response.start" and not any(name == b"request-id" for name, _ in message["headers"]):
                message["headers"] = [*message["headers"], (b"request-id", identity)]
            await send(message)

        await super().__call__(scope, receive, send_identified)


def endpoints() -> list[Endpoint]:
    """List every endpoint of the API."""
    parts = (
        sending, raw, messages, domains, domain_health, domain_reports, keys, clients, sites, suppressions,
        suppression_files, policies, streams, queue_actions, people, tenants, tenant_limits, limits, relays, relay_health,
        relay_control, routes, stats, placement, deliverability, unusual, team_reports, report_ends, webhooks, events, audit, returned,
        hooks, tracking, oauth, health, docs,
    )  # fmt: skip
    return [endpoint for part in parts for endpoint in part.ENDPOINTS]


def create_app(deps: HttpDeps) -> Litestar:
    """Build the application."""
    offered = endpoints()
    docs.describe(openapi.document(offered))
    by_path: dict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in offered:
        by_path[endpoint.path].append(endpoint)
    handlers: list[ControllerRouterHandler] = [_handler(deps, path, group) for path, group in by_path.items()]
    app = _App(
        route_handlers=[*handlers, *dashboard.routes(deps)],
        exception_handlers={HTTPException: _on_http_error, Exception: _on_fault},
        openapi_config=None,
        logging_config=None,
        request_max_body_size=None,
    )
    app.by_path = {path: exchange.serve(deps, by_path[path]) for path in _STRAIGHT}
    return app


def _handler(deps: HttpDeps, path: str, group: Sequence[Endpoint]) -> ASGIRouteHandler | HTTPRouteHandler:
    """Make one route of a path; it is an ASGI function, which Litestar hands path parameters only by way of an HTTP handler."""
    serve = exchange.serve(deps, group)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        await serve(scope, receive, send)

    async def answer_with() -> ASGIApp:
        return handle

    if "{" not in path:
        return ASGIRouteHandler(path, name=path, copy_scope=False)(handle)
    return HTTPRouteHandler(path, name=path, http_method=_methods(group), status_code=200)(answer_with)


def _methods(group: Sequence[Endpoint]) -> list[Any]:
    methods = {endpoint.method for endpoint in group}
    return sorted({*methods, "OPTIONS"} | ({"HEAD"} if "GET" in methods else set()))


def _on_http_error(request: LitestarRequest[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    code = _CODES.get(error.status_code)
    if code is None:
        return _on_fault(request, error)
    detail = {"not_found": "there is nothing at this path"}.get(code, "")
    headers = [(b"allow", value.encode()) for name, value in (error.headers or {}).items() if name.lower() == "allow"]
    return _response(exchange.refuse(Refused(code, detail), request.scope, headers))


def _on_fault(request: LitestarRequest[Any, Any, Any], error: Exception) -> Response[bytes]:
    if isinstance(error, Refused):
        return _response(exchange.refuse(error, request.scope))
    return _response(exchange.fail(error, request.scope))


def _response(answer: Answer) -> Response[bytes]:
    headers = {name.decode(): value.decode() for name, value in (*answer.headers, *exchange.ALWAYS)}
    return Response(answer.body, status_code=answer.status, media_type=answer.content_type.decode(), headers=headers)

"""Refusals and faults as pages: the code that the API gives too, one sentence, what to do next, an id to quote."""

from collections.abc import Callable
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException

from gatepost import ids
from gatepost.dashboard.shell import Shell
from gatepost.domain.errors import Refused
from gatepost.observe import maillog
from gatepost.store.errors import StorageUnavailable

Handler = Callable[[Request[Any, Any, Any], Any], Response[Any]]

_BY_STATUS = {
    400: "malformed_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
}


def handlers(shell: Shell) -> Any:
    """Make the exception handlers of the pages."""

    def refused(request: Request[Any, Any, Any], error: Any) -> Response[Any]:
        return _page(shell, request, error, ids.new("req"))

    def unavailable(request: Request[Any, Any, Any], _error: Any) -> Response[Any]:
        return _page(shell, request, Refused("storage_unavailable", "the database cannot be used now", retry_after_s=5), ids.new("req"))

    def http(request: Request[Any, Any, Any], error: Any) -> Response[Any]:
        code = _BY_STATUS.get(error.status_code, "malformed_request" if error.status_code < 500 else "internal_error")
        return _page(shell, request, Refused(code), ids.new("req"))

    def crashed(request: Request[Any, Any, Any], error: Any) -> Response[Any]:
        request_id = ids.new("req")
        # not the path: that of a one-time link is a secret
        maillog.crashed("page", error, request_id=request_id, page=f"{request.method} /{request.url.path.split('/')[1]}")
        return _page(shell, request, Refused("internal_error"), request_id)

    return {Refused: refused, StorageUnavailable: unavailable, HTTPException: http, Exception: crashed}


def _page(shell: Shell, request: Request[Any, Any, Any], refusal: Refused, request_id: str) -> Response[Any]:
    response = shell.page(request, "error.html", status=refusal.kind.status, refusal=refusal, kind=refusal.kind, request_id=request_id)
    if refusal.retry_after_s is not None:
        response.headers["Retry-After"] = str(refusal.retry_after_s)
    response.headers["Request-Id"] = request_id
    return response

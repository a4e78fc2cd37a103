"""
The API's description, made from the endpoints that are really served.

Standards: OpenAPI 3.1.1. Schemas come from the structs that bodies are read into and answers written from.
Not here: how it is shown (public.docs).
"""

import re
import types
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Union, get_args, get_origin

import msgspec

from gatepost import __version__
from gatepost.domain.access import SCOPES
from gatepost.domain.errors import CATALOGUE
from gatepost.http.exchange import Endpoint, Parameter
from gatepost.http.problems import Problem

_REF = "#/components/schemas/{name}"
_ALWAYS = ("malformed_request", "internal_error", "storage_unavailable")
_WITH_KEY = ("authentication_required", "authentication_failed", "permission_denied", "tenant_suspended", "rate_limited", "quota_exceeded")
_PATH_TYPE = re.compile(r":[a-z]+\}")
_DESCRIPTION = """JSON in and out; times are ISO 8601 with offset, ids are TypeIDs. Send an API key or an OAuth 2.0
access token as `Authorization: Bearer …`; mail sent with a `gp_test_…` key never leaves the sandbox. Refusals are problem details
(RFC 9457) whose `errors` point into the body (RFC 6901). Unknown fields are refused."""
_LICENCE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
_RATES = {
    "RateLimit-Policy": "the limits of this key and its tenant: amount `q` in `w` seconds",
    "RateLimit": "what is left of each: `r`, and `t` seconds until all of it is there again",
}
_KEY = {"type": "http", "scheme": "bearer", "description": "an API key, or an access token"}
_OAUTH = {
    "type": "oauth2",
    "description": "an access token for `Authorization: Bearer`, valid for some minutes",
    "flows": {
        "clientCredentials": {
            "tokenUrl": "/oauth/token",
            "scopes": {scope.value: text for scope, text in SCOPES.items()},
        }
    },
}


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Describe endpoints as an OpenAPI document."""
    kinds = list(_structs(endpoints))
    _, components = msgspec.json.schema_components([*kinds, Problem], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for endpoint in endpoints:
        paths[shown_path(endpoint.path)][endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.1",
        "info": {"title": "Gatepost", "version": __version__, "description": _DESCRIPTION, "license": _LICENCE},
        "servers": [{"url": "/"}],
        "security": [{"key": []}, {"oauth": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(endpoint.tag for endpoint in endpoints)],
        "paths": dict(paths),
        "components": {"schemas": components, "securitySchemes": {"key": _KEY, "oauth": _OAUTH}},
    }


def shown_path(path: str) -> str:
    """Write a router's path as OpenAPI has it: parameters without types."""
    return _PATH_TYPE.sub("}", path)


def _structs(endpoints: Iterable[Endpoint]) -> Iterable[Any]:
    for endpoint in endpoints:
        for kind in (endpoint.body, *endpoint.answers.values()):
            yield from (one for one in _members(kind) if isinstance(one, type) and issubclass(one, msgspec.Struct))


def _members(kind: Any) -> Iterable[Any]:
    if isinstance(kind, tuple):
        for member in kind:
            yield from _members(member)
    elif get_origin(kind) in {Union, types.UnionType, list}:
        for member in get_args(kind):
            yield from _members(member)
    else:
        yield kind


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "responses": _responses(endpoint),
    }
    if endpoint.description:
        found["description"] = endpoint.description
    if endpoint.parameters:
        found["parameters"] = [_parameter(one) for one in endpoint.parameters]
    if endpoint.body is not None:
        content = {endpoint.body_type: {"schema": _schema(endpoint.body)}}
        found["requestBody"] = {"required": not endpoint.is_body_optional, "content": content}
    if endpoint.scope is None:
        found["security"] = []
    else:
        found["security"] = [{"key": []}, {"oauth": [endpoint.scope.value]}]
    return found


def _parameter(one: Parameter) -> dict[str, Any]:
    return {"name": one.name, "in": one.place, "description": one.description, "required": one.is_required, "schema": dict(one.schema)}


def _schema(kind: Any) -> dict[str, Any]:
    if kind is bytes:
        return {"type": "string", "contentMediaType": "message/rfc822"}
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    return schema


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    found = {str(status): _answer(endpoint, kind) for status, kind in endpoint.answers.items()}
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in dict.fromkeys([*(() if endpoint.is_public else _WITH_KEY), *endpoint.codes, *_ALWAYS]):
        by_status[CATALOGUE[code].status].append(code)
    for status, codes in sorted(by_status.items()):
        problem = _problem(status, codes)
        if str(status) in found:
            found[str(status)]["content"] |= problem["content"]
        else:
            found[str(status)] = problem
    return found


def _answer(endpoint: Endpoint, kind: Any) -> dict[str, Any]:
    headers = {"Request-Id": _header("leads to the log"), **{name: _header(text) for name, text in endpoint.answer_headers.items()}}
    if not endpoint.is_public:
        headers |= {name: _header(text) for name, text in _RATES.items()}
    found: dict[str, Any] = {"description": endpoint.summary, "headers": headers}
    content = [_content(one) for one in (kind if isinstance(kind, tuple) else (kind,)) if one is not None]
    if content:
        found["content"] = dict(content)
    return found


def _content(kind: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(kind, str):
        return kind, {"schema": {"type": "string"}}
    return "application/json", {"schema": _schema(kind)}


def _problem(status: int, codes: Sequence[str]) -> dict[str, Any]:
    headers = {"Request-Id": _header("leads to the log")}
    if status == 401:
        headers["WWW-Authenticate"] = _header("Bearer")
    if status in {409, 429, 503}:
        headers["Retry-After"] = _header("seconds")
    text = "; ".join(f"`{code}`: {CATALOGUE[code].title}. {CATALOGUE[code].advice}" for code in codes)
    content = {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}}
    return {"description": text, "headers": headers, "content": content}


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}

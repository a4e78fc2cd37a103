"""
One request and its answer.

Arrives: an ASGI scope for a path that the router knows.
Leaves: the endpoint's `Answer`, or a problem; every one with its `Request-Id`. Nothing that goes wrong inside leaves as
more than a code and that id.
Standards: RFC 9110 §9.3.2 (HEAD), §9.3.7 (OPTIONS), §15.5.6 (405 with Allow).
Not here: which endpoints exist (v1, public), how JSON is read (decode), sockets (server).
Bugs: the body of a request that needs none is not read, and so never counted against a limit; it is thrown away.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar.types import Receive, Send
from litestar.types import Scope as AsgiScope

from gatepost import ids
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.tenant import Caller
from gatepost.http import auth, problems, rates
from gatepost.http.deps import HttpDeps
from gatepost.observe import maillog, metrics
from gatepost.store.errors import StorageUnavailable
from gatepost.store.owners import owners_of

JSON = b"application/json"
REQUEST_ID = "gatepost_request_id"
IS_SHED = "gatepost_is_shed"
"""In the scope of a request that was refused because more comes than can be taken: its connection rests for a moment."""

ALWAYS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
_CLOSING = frozenset({"payload_too_large"})
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What goes back.

    Attributes:
        stream: An answer without end, instead of a body.
    """

    status: int = 200
    body: bytes = b""
    content_type: bytes = JSON
    headers: Sequence[tuple[bytes, bytes]] = ()
    stream: AsyncGenerator[bytes, None] | None = None


def as_json(value: Any, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """Answer with a value as JSON."""
    return Answer(status, _encoder.encode(value), JSON, headers)


NO_CONTENT = Answer(204)


class Request:
    """One request; headers, query and body are read when asked for."""

    __slots__ = ("_caller", "_has_doubled", "_headers", "deps", "id", "method", "params", "receive", "scope")

    def __init__(self, deps: HttpDeps, scope: AsgiScope, receive: Receive) -> None:
        self.deps = deps
        self.scope = scope
        self.receive = receive
        self.id: str = request_id(scope)
        self.method: str = str(scope.get("method", ""))
        self.params: Mapping[str, Any] = scope["path_params"]
        self._caller: Caller | None = None
        headers = list(scope["headers"])
        self._headers: dict[bytes, bytes] = dict(headers)
        self._has_doubled = len(self._headers) < len(headers)

    @property
    def caller(self) -> Caller:
        """Who asks; endpoints that need no key have none."""
        assert self._caller is not None
        return self._caller

    @property
    def has_caller(self) -> bool:
        """Tell whether it is known who asks."""
        return self._caller is not None

    @property
    def path(self) -> str:
        """The path without query."""
        return str(self.scope["path"])

    @property
    def raw_path(self) -> bytes:
        """The path as it was sent, percent-encoded."""
        return bytes(self.scope.get("raw_path") or self.path.encode())

    @property
    def peer(self) -> str:
        """The address that the connection comes from; forwarding headers are not believed."""
        return peer_of(self.scope)

    def header(self, name: bytes) -> str | None:
        """
        Return a header that may stand once.

        Raises:
            Refused: It stands twice: which one counts would be a guess.
        """
        value = self._headers.get(name)
        if value is None:
            return None
        if self._has_doubled and len(self.headers(name)) > 1:
            raise Refused("malformed_request", f"the header {name.decode().title()} is given more than once")
        return value.decode("latin-1")

    def headers(self, name: bytes) -> list[str]:
        """Return all values of a header that may be repeated."""
        return [value.decode("latin-1") for key, value in self.scope["headers"] if key == name]

    def query(self, *known: str) -> dict[str, str]:
        """
        Return the query's parameters.

        Raises:
            Refused: One is unknown, stands twice or is no text.
        """
        raw = self.scope.get("query_string") or b""
        if not raw:
            return {}
        return _read_query(bytes(raw), known)

    async def authenticate(self) -> None:
        """
        Find out who asks.

        Raises:
            Refused: authentication_required, authentication_failed, permission_denied or tenant_suspended; rate_limited or
                quota_exceeded when there were too many requests.
        """
        authenticator, shown = self.deps.identity.authenticator, auth.certificate_of(self.scope)
        principal = await auth.principal_of(authenticator, self.header(b"authorization"), self.peer, self.id, shown)
        self._caller = Caller(principal=principal, peer=self.peer, request_id=self.id)
        if self.deps.limits is not None:
            await self.deps.limits.count_request(self._caller)

    def rates(self, endpoint: "Endpoint | None") -> list[tuple[bytes, bytes]]:
        """Return the headers that say what is left of the caller's limits."""
        if self.deps.limits is None or self._caller is None or endpoint is None:
            return []
        return rates.headers_of(self.deps.limits.shown(self._caller, is_sending=endpoint.is_sending), self.deps.clock.now())


Run = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter in path, query or header, as the API's description shows it."""

    name: str
    place: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    is_required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    One method of one path, with its description.

    Attributes:
        path: With parameters as `{name:str}`.
        body: What the request's body is read into; None for none.
        body_type: Media type of the body.
        answers: By status; None has no body, a string is a media type other than JSON, a tuple has several.
        codes: The error codes it may answer with, besides those that every endpoint has.
        scope: What a principal needs for it; None for a public one.
        is_sending: It uses what may be sent, and its answers say how much of that is left.
    """

    method: str
    path: str
    run: Run
    name: str
    summary: str
    tag: str
    description: str = ""
    body: Any = None
    body_type: str = "application/json"
    is_body_optional: bool = False
    answers: Mapping[int, Any] = field(default_factory=dict)
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()
    codes: tuple[str, ...] = ()
    is_public: bool = False
    scope: Scope | None = None
    is_sending: bool = False

    def __post_init__(self) -> None:
        if self.is_public == (self.scope is not None):
            raise ValueError(f"{self.name}: an endpoint is public, or it names the scope that it needs")


def request_id(scope: Any) -> str:
    """Return the request's id, making it when it has none yet."""
    found = scope.get(REQUEST_ID)
    if found is None:
        found = scope[REQUEST_ID] = ids.new("req")
    return str(found)


def peer_of(scope: Any) -> str:
    """Return the address at the other end of the connection."""
    client = scope.get("client")
    return str(client[0]) if client else ""


PathApp = Callable[[AsgiScope, Receive, Send], Awaitable[None]]


def serve(deps: HttpDeps, endpoints: Sequence[Endpoint]) -> PathApp:
    """Make the ASGI application of one path from the endpoints of its methods."""
    methods = {endpoint.method: endpoint for endpoint in endpoints}
    if "GET" in methods:
        methods["HEAD"] = methods["GET"]
    allow = ", ".join(sorted({*methods, "OPTIONS"})).encode()

    async def path_app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        request = Request(deps, scope, receive)
        endpoint = methods.get(request.method)
        try:
            answer = await _run(endpoint, request, allow)
        except Refused as refusal:
            answer = refuse(refusal, request.scope)
        except StorageUnavailable:
            answer = refuse(Refused("storage_unavailable", "the database cannot be used now", retry_after_s=5), request.scope)
        except Exception as error:  # noqa: BLE001 - nothing of a fault of ours leaves the house
            answer = fail(error, request.scope)
        told = request.rates(endpoint)
        if answer.stream is not None:
            await _send_stream(answer, answer.stream, request, send, told)
            return
        await send_answer(answer, request.id, send, told)
        if answer.status == 404:  # after the answer, which says and takes the same whether the object is another tenant's or nobody's
            await _tell_reach(request)

    return path_app


async def _tell_reach(request: Request) -> None:
    """Write it into the log when somebody asked for an object of another tenant."""
    if not request.has_caller:
        return
    caller = request.caller
    for value in request.params.values():
        identity = str(value)
        try:
            owners = await request.deps.engine.read(lambda conn, identity=identity: owners_of(conn, identity))  # type: ignore[misc]
        except StorageUnavailable:
            return
        if owners and caller.tenant_id not in owners:
            maillog.security(
                "other_tenant_asked_for", source="http", object_id=identity, tenant_id=caller.tenant_id, principal_id=caller.principal.id,
                peer=caller.peer, request_id=caller.request_id,
            )  # fmt: skip


async def _run(endpoint: Endpoint | None, request: Request, allow: bytes) -> Answer:
    if endpoint is None:
        if request.method == "OPTIONS":
            return Answer(204, headers=[(b"allow", allow)])
        return refuse(Refused("method_not_allowed", f"{request.method} is not allowed here"), request.scope, [(b"allow", allow)])
    if not endpoint.is_public:
        await request.authenticate()
        _check_scope(endpoint, request.caller)
    return await endpoint.run(request)


def _check_scope(endpoint: Endpoint, caller: Caller) -> None:
    assert endpoint.scope is not None  # an endpoint without one would be open to every key
    if not caller.principal.may(endpoint.scope):
        maillog.security(
            "scope_refused", source="http", scope=endpoint.scope.value, endpoint=endpoint.name, tenant_id=caller.tenant_id,
            principal_id=caller.principal.id, peer=caller.peer, request_id=caller.request_id,
        )  # fmt: skip
        raise Refused("permission_denied", f"it needs the scope {endpoint.scope.value}")


def refuse(refusal: Refused, scope: Any, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """Write a refusal as a problem, and tell log and metrics."""
    identity = request_id(scope)
    if refusal.code == "overloaded":
        scope[IS_SHED] = True  # no line for each, which would be one more load: they are counted
    else:
        maillog.refused(source="http", code=refusal.code, request_id=identity, peer=peer_of(scope))
    metrics.requests_refused.labels("http", refusal.code).inc()
    more = [*headers, *problems.headers_of(refusal)]
    if refusal.code in _CLOSING:
        more.append((b"connection", b"close"))  # the rest of the body is not worth reading
    return Answer(refusal.kind.status, problems.body_of(refusal, str(scope["path"]), identity), problems.CONTENT_TYPE, more)


def fail(error: BaseException, scope: Any) -> Answer:
    """Write a fault of ours as a problem that says nothing but its id."""
    maillog.crashed("http", error, request_id=request_id(scope))
    return refuse(Refused("internal_error", "the request id leads to the log entry"), scope)


async def send_answer(answer: Answer, identity: str, send: Send, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Write an answer with its request's id, and with more headers."""
    headers = [(b"request-id", identity.encode()), *ALWAYS, *answer.headers, *more]
    if answer.status != 204:
        headers.append((b"content-type", answer.content_type))
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})


async def _send_stream(
    answer: Answer, stream: AsyncGenerator[bytes, None], request: Request, send: Send, more: Sequence[tuple[bytes, bytes]]
) -> None:  # fmt: skip
    """Write an answer without end, until it ends, or the client goes."""
    headers = [(b"request-id", request.id.encode()), *ALWAYS, *answer.headers, *more, (b"content-type", answer.content_type)]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})

    async def write() -> None:
        async for part in stream:
            await send({"type": "http.response.body", "body": part, "more_body": True})

    async def until_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = [] if request.method == "HEAD" else [asyncio.ensure_future(write()), asyncio.ensure_future(until_gone())]
    try:
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await stream.aclose()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _read_query(raw: bytes, known: Sequence[str]) -> dict[str, str]:
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
    except (UnicodeDecodeError, ValueError):
        raise Refused("malformed_request", "the query is no UTF-8 text, or has too many parameters") from None
    found: dict[str, str] = {}
    faults = []
    for name, value in pairs:
        if name not in known:
            faults.append(Fault(name[:100], "unknown_parameter", f"the parameters here are: {', '.join(known) or 'none'}"))
        elif name in found:
            faults.append(Fault(name, "duplicate_parameter", "it is given twice"))
        elif not value.isprintable() or len(value) > 1000:
            faults.append(Fault(name, "invalid_text", "it has control characters, or more than 1,000 characters"))
        else:
            found[name] = value
    if faults:
        raise invalid(*faults)
    return found

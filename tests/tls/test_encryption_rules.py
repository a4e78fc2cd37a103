"""What is said without TLS, and what is not: rules on requests, with the real application layer and no sockets."""

import asyncio
from types import SimpleNamespace

import msgspec
import pytest

from gatepost.http.encryption import Encryption
from gatepost.settings import Http, Https, Settings

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"


def ask(
    *headers: tuple[str, str],
    method: str = "GET",
    path: str = "/v1/messages",
    scheme: str = "http",
    client: str | None = "192.0.2.7",
    host: str = "gate.example",
    query: str = "",
    http: Http | None = None,
    https: Https | None = None,
):
    """Ask the application behind the rules, which answers 200; return status, headers and body."""
    settings = Settings(http=http or Http(), https=https or Https(listen="0.0.0.0:8443"))
    answered: list[dict] = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]})
        await send({"type": "http.response.body", "body": b"app"})

    async def send(message):
        answered.append(message)

    app.state = SimpleNamespace()
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "scheme": scheme,
        "client": None if client is None else (client, 1),
        "headers": [(b"host", host.encode()), *((name.encode(), value.encode()) for name, value in headers)],
    }
    answers = {TOKEN: b"token.thumbprint"}
    asyncio.run(Encryption(app, settings, 8443, answers.get)(scope, None, send))
    start, *bodies = answered
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, b"".join(one["body"] for one in bodies)


KEY = ("authorization", "Bearer gp_live_x")


@pytest.mark.parametrize(
    ("headers", "method"),
    [((KEY,), "GET"), ((KEY,), "POST"), ((("cookie", "session=1"),), "GET"), ((), "POST"), ((), "DELETE")],
)
def test_secrets_from_the_network_need_tls(headers, method):
    """A key, a cookie or a form that came in plain text is refused, and the refusal says what to do."""
    status, _, body = ask(*headers, method=method)
    assert status == 403
    assert msgspec.json.decode(body)["code"] == "encryption_required"
    assert ask(*headers, method=method, scheme="https")[2] == b"app"
    assert ask(*headers, method=method, http=Http(allow_plain=True))[2] == b"app"


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "::ffff:127.0.0.1", None])
def test_on_this_machine_nothing_changes(client):
    """A developer needs no certificate, whatever is set."""
    for http in (Http(), Http(redirect_to_https=True)):
        status, headers, body = ask(KEY, method="POST", client=client, http=http)
        assert (status, body) == (200, b"app")
        assert "strict-transport-security" not in headers


def test_what_is_no_secret_passes():
    """Pages for everybody, and health checks, which redirects would confuse."""
    assert ask(path="/docs")[2] == b"app"
    for path in ("/livez", "/readyz"):
        assert ask(path=path, http=Http(redirect_to_https=True))[2] == b"app"


def test_readers_are_sent_to_https():
    """Path and query stay; the method stays too (308). Who sends a key is told, not led."""
    http = Http(redirect_to_https=True)
    status, headers, _ = ask(path="/messages/a%20b", query="q=1", host="Gate.Example:8025", http=http)
    assert (status, headers["location"]) == (308, "https://gate.example:8443/messages/a%20b?q=1")
    assert ask(KEY, http=http)[0] == 403
    assert ask(method="POST", http=http)[0] == 403


@pytest.mark.parametrize("host", ["evil.example/@", "a b", "", "[::1]:80", "gate.example, evil.example", "-.example"])
def test_a_strange_host_is_not_redirected_to(host):
    """What is no name leads nowhere."""
    status, headers, _ = ask(host=host, http=Http(redirect_to_https=True))
    assert (status, "location" in headers) == (200, False)


def test_browsers_are_asked_to_keep_to_https():
    """HSTS for two years, on encrypted answers only (RFC 6797 §7.2)."""
    assert ask(scheme="https")[1]["strict-transport-security"] == "max-age=63072000"
    assert "strict-transport-security" not in ask(path="/docs")[1]
    assert "strict-transport-security" not in ask(scheme="https", https=Https(listen="0.0.0.0:8443", hsts_s=0))[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1:8443", "[2001:db8::1]", "localhost", "app.localhost:8443", "localhost:1"])
def test_addresses_and_localhost_are_not_pinned(host):
    """A developer's browser must not refuse http://localhost for two years."""
    assert "strict-transport-security" not in ask(scheme="https", host=host)[1]


def test_an_authority_hears_the_answer_and_nobody_hears_more():
    """http-01 is answered in plain text, before any redirect, for tokens under way only."""
    path = "/.well-known/acme-challenge/"
    for scheme in ("http", "https"):
        status, headers, body = ask(path=path + TOKEN, scheme=scheme, http=Http(redirect_to_https=True))
        assert (status, body, headers["content-type"]) == (200, b"token.thumbprint", "application/octet-stream")
    for other in (path + "A" * 43, path + "../../gatepost.toml", path, path + TOKEN + "/"):
        assert ask(path=other)[0] == 404
    assert ask(path=path + TOKEN, method="POST")[0] == 404

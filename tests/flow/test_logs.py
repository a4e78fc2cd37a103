"""The log of a running gateway under hostile input: every event one JSON line, and nothing private in it (THREATS 56)."""

import asyncio
import base64
import http.client
import json
import smtplib

import pytest

from gatepost import settings
from gatepost.app.database import create_engine
from gatepost.clock import SystemClock
from gatepost.domain.access import GATEWAY, Restrictions, Scope
from gatepost.domain.tenant import KeyMode
from gatepost.observe.maillog import SECURITY_EVENTS
from gatepost.store import credentials
from gatepost.store.opening import open_store
from gatepost.tenants.keys import describe, hash_secret, make_secret
from gatepost.tenants.tenants import Tenants
from tests.flow.serving import Serving, gatepost_json, prepare, until

HOSTILE = (
    'x\r\n{"event": "accepted", "level": "info"}', "\x1b[2J\x1b[31mred", "line\u2028separator\u2029paragraph", '"}\n{"event": "forged"', "\x00\x08\x7f",
    "\udcff\ud800", "a" * 70_000, "%s%n{0}", "\u202egnirts",
)  # fmt: skip
SUBJECT, CODE, BODY, PERSON = "Quarterly zebra figures", "918273", "zebra secret sentence", "very.private.person"


def ask(serving, method, path, key=None, body=None, **headers):
    """Make one request with whatever header values; a connection of its own, since some break it."""
    host, port = serving.listening["http"].rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        if key:
            connection.putheader("Authorization", f"Bearer {key}")
        if content:
            connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(content)))
        for name, value in headers.items():
            connection._buffer.append(name.replace("_", "-").encode() + b": " + value.encode("utf-8", "surrogateescape"))
        connection.endheaders(content)
        return connection.getresponse().status
    except (http.client.HTTPException, OSError, UnicodeError):
        return 0
    finally:
        connection.close()


def speak(serving, *lines):
    """Say lines to the SMTP door, whatever it answers."""
    host, port = serving.listening["smtp"].rsplit(":", 1)
    client = smtplib.SMTP(host, int(port), timeout=20)
    try:
        for line in lines:
            client.send(line.encode("utf-8", "surrogatepass") + b"\r\n")
            client.getreply()
    except (smtplib.SMTPException, OSError):
        pass  # it was cut off: that is for the door to decide
    finally:
        client.close()


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Run the gateway, do everything to it that an attacker can, and stop it; the keys that were used, and the log."""
    data = tmp_path_factory.mktemp("logs") / "data"
    key, wrong, malformed = prepare(data), make_secret(KeyMode.LIVE), "gp_live_not-even-a-key-918273"
    other, reader, stranger = asyncio.run(_more(data))
    mail = {"from": "shop@acme.example", "to": [f"{PERSON}@example.net"], "subject": SUBJECT, "text": f"{BODY} {CODE}", "stream": "codes"}
    with Serving(data, "log.level=debug") as serving:
        assert ask(serving, "POST", "/v1/messages", key, mail) == 202
        message_id = _newest(serving, key)
        for text in HOSTILE:
            path_text = "".join(c if c.isalnum() else f"%{ord(c) & 0xFF:02X}" for c in text[:500])
            ask(
                serving,
                "POST",
                "/v1/messages",
                key,
                {**mail, "subject": text, "from": {"email": "shop@acme.example", "name": text}, "tags": [text[:40]]},
            )
            ask(serving, "POST", "/v1/messages", key, {**mail, "to": [text], "headers": {"X-A": text}, "metadata": {text[:20]: text}})
            ask(serving, "POST", "/v1/keys", key, {"name": text})
            ask(serving, "POST", "/v1/suppressions", key, {"address": f"{PERSON}@example.net", "note": text})
            ask(serving, "GET", f"/v1/messages?q={path_text}", key, user_agent=text.replace("\r\n", " ").replace("\n", " "))
            ask(serving, "GET", f"/{path_text}", text.replace("\r\n", " ").replace("\n", " ").encode("ascii", "replace").decode()[:2000])
            speak(serving, f"EHLO {text}", f"MAIL FROM:<{text}@x>", f"RCPT TO:<{text}>")
        speak(serving, "EHLO x", f"AUTH PLAIN {HOSTILE[0]}")
        for bad in (wrong, malformed):
            ask(serving, "GET", "/v1/messages", bad)
            speak(serving, "EHLO x", "AUTH PLAIN " + base64.b64encode(f"\0{PERSON}@example.net\0{bad}".encode()).decode())
        assert ask(serving, "POST", "/v1/messages", reader, mail) == 403
        assert ask(serving, "GET", f"/v1/messages/{message_id}", stranger) == 404
        gatepost_json(data, "tenant", "suspend", "other team")
        until(lambda: ask(serving, "GET", "/v1/messages", stranger) == 403)
        until(lambda: '"delivered"' in serving.log)
    log = (data / "serve.log").read_text("utf-8")
    return {"log": log, "secrets": [key, wrong, malformed, reader, stranger], "message_id": message_id, "other": other}


async def _more(data):
    """Make another tenant with a key, and a key of the first that only reads."""
    engine, clock = create_engine(settings.load(data, environ={})), SystemClock()
    default = await open_store(engine, clock)
    other = await Tenants(engine, clock).create("other team", GATEWAY)
    made = []
    for tenant_id, scope in ((default, Scope.MESSAGES_READ), (other.id, Scope.ADMIN)):
        secret, restrictions = make_secret(KeyMode.LIVE), Restrictions(scopes=frozenset({scope}))
        described = describe(secret, tenant_id=tenant_id, name="x", mode=KeyMode.LIVE, now=clock.now(), restrictions=restrictions)
        digest = hash_secret(secret)
        await engine.write(lambda conn, key=described, digest=digest: credentials.insert(conn, key, digest))
        made.append(secret)
    await engine.close()
    return other.id, *made


def _newest(serving, key):
    host, port = serving.listening["http"].rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request("GET", "/v1/messages", headers={"Authorization": f"Bearer {key}"})
    found = json.loads(connection.getresponse().read())["data"][0]["id"]
    connection.close()
    return found


def events(story):
    return [json.loads(line) for line in story["log"].splitlines() if line.startswith("{")]


def test_every_line_is_one_event(story):
    """Beside the words to the operator at the start each line is JSON in ASCII with its event and level; none was forged."""
    lines = story["log"].splitlines()
    told = [line for line in lines if line.startswith("{")]
    assert len(told) > 50
    assert all(line.isascii() and len(line) < 20_000 for line in told)
    assert all({"event", "level", "at", "process"} <= json.loads(line).keys() for line in told)
    assert not [line for line in lines if "forged" in line and not line.startswith("{")]
    assert {one["event"] for one in events(story)} <= {
        "accepted", "replayed", "refused", "attempted", "changed", "security", "lifecycle", "trouble", "crashed"
    }  # fmt: skip


def test_nothing_private_is_in_it(story):
    """No key, password, subject, body, code or whole address; not even of requests that failed."""
    for private in (*story["secrets"], SUBJECT, BODY, CODE, PERSON, "Quarterly"):
        assert private not in story["log"], private
        assert base64.b64encode(private.encode()).decode().rstrip("=")[:-1] not in story["log"], private


def test_nothing_crashed(story):
    """All of it was answered as it should be."""
    assert [one for one in events(story) if one["event"] == "crashed"] == []


def test_what_an_attacker_does_is_told_as_such(story):
    """A wrong key at both doors, a missing scope, a reach into another tenant, a suspended tenant: who, from where, which request."""
    told = [one for one in events(story) if one["event"] == "security"]
    assert {one["what"] for one in told} <= SECURITY_EVENTS.keys()
    assert {one["source"] for one in told if one["what"] == "key_refused"} == {"http", "smtp"}
    assert all(one["peer"].startswith("127.0.0.1") for one in told)
    (reach,) = [one for one in told if one["what"] == "other_tenant_asked_for"]
    assert (reach["object_id"], reach["tenant_id"]) == (story["message_id"], story["other"])
    assert reach["principal_id"].startswith("key_")
    assert reach["request_id"].startswith("req_")
    assert any(one["what"] == "scope_refused" and one["scope"] == "messages:send" for one in told)
    assert any(one["what"] == "key_refused" and one.get("code") == "tenant_suspended" and one["principal_id"] for one in told)

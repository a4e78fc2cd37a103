"""What attackers send to the HTTP door: each of these must end in an answer that says no, and nothing stored."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.doors.http_rig import message

BREAKS = ["\r", "\n", "\r\n", "\0", "\x0b", "\x85", "\u2028"]
TYPE = {"content-type": "application/json"}


def _post(client, body, path="/v1/messages"):
    return client.post(path, content=body, headers=TYPE)


@pytest.mark.parametrize(
    "where", ["", ', "metadata": {"a": "1", "a": "2"}', ', "attachments": [{"filename": "a", "filename": "b", "content": ""}]']
)
def test_keys_given_twice_are_refused_with_their_place(client, where):
    """Which of the two counts would be a guess."""
    body = json.dumps(message())[:-1]
    body = body + (where or ', "to": ["eve@example.net"]') + "}"
    answer = _post(client, body)
    assert answer.status_code == 422
    assert [one["code"] for one in answer.json()["errors"]] == ["duplicate_key"]
    assert answer.json()["errors"][0]["pointer"] in {"/to", "/metadata/a", "/attachments/0/filename"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 100_000, 400),
        (b'{"variables":' + b'{"a":' * 100_000, 400),
        (b'{"a":' * 100_000, 400),
        (b'{"variables":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001, 400),
        (b'{"from":"a@acme.example","to":["b@example.net"],"subject":"x","variables":{"a":1e309}}', 422),
        (b'{"from":"a@acme.example","to":["b@example.net"],"subject":"x","variables":{"a":NaN}}', 400),
        (b'{"from":"a@acme.example","to":["b@example.net"],"subject":"x","variables":{"a":-Infinity}}', 400),
        (b'{"from":"a@acme.example","to":["b@example.net"],"subject":"x","ttl_s":' + b"9" * 100_000 + b"}", 400),
        (b'{"from":"a@acme.example","subject":"\\ud800"}', 400),
        (b'{"from":"a@acme.example","subject":"\xff"}', 400),
        (b"\xef\xbb\xbf{}", 400),
        (b"", 400),
        (b"null", 422),
        (b"{} {}", 400),
    ],
)
def test_json_bombs_and_broken_json_are_refused_quickly(client, body, status):
    """No recursion error, no infinity, no half-read text: a 4xx within a second."""
    started = time.monotonic()
    answer = _post(client, body)
    assert answer.status_code == status, answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json"
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("depth", [50, 300, 480, 700, 900, 990, 1500])
@pytest.mark.parametrize("innermost", [b'{"x":1,"x":2}', b"1"])
def test_no_depth_of_nesting_breaks_anything(client, depth, innermost):
    """At every depth, around the interpreter's own bound too: an answer, never a fault of ours."""
    variables = b'{"a":' * depth + innermost + b"}" * depth
    body = b'{"from":"a@acme.example","to":["b@example.net"],"text":"{{ a.a }}","subject":"x","variables":' + variables + b"}"
    answer = _post(client, body, "/v1/messages/validate")
    assert answer.status_code in ({200, 400, 422} if innermost == b"1" else {400, 422}), answer.text[:200]


@pytest.mark.parametrize("field", [None, "metadata", "headers", "variables"])
def test_a_million_keys_are_refused_quickly(client, field):
    """Bounded work for 12 MB of keys, whether the object is open or closed."""
    keys = ",".join(f'"k{n}":"v"' for n in range(1_000_000))
    inner = keys if field is None else f'"from":"a@acme.example","subject":"x","{field}":{{{keys}}}'
    body = f"{{{inner}}}".encode()
    started = time.monotonic()
    answer = _post(client, body)
    assert answer.status_code == 422
    assert time.monotonic() - started < 15  # what is not bounded takes minutes


def _with(path, value):
    """Put a value into a message at a path such as `attachments/0/filename`."""
    body = message(
        attachments=[{"filename": "a.txt", "content": "YQ==", "content_type": "text/plain", "content_id": "a"}],
        headers={"X-A": "1"},
        metadata={"a": "1"},
        tags=["a"],
        cc=[{"email": "c@example.net", "name": "C"}],
        reply_to=["r@example.net"],
    )
    *parents, leaf = path.split("/")
    place = body
    for parent in parents:
        place = place[int(parent)] if isinstance(place, list) else place[parent]
    place[int(leaf) if isinstance(place, list) else leaf] = value
    return body


@pytest.mark.parametrize("mark", BREAKS, ids=[ascii(mark) for mark in BREAKS])
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("from", "shop{}@acme.example"),
        ("from", '"A{}B" <shop@acme.example>'),
        ("to/0", "ann@example.net{}"),
        ("to/0", "ann@exam{}ple.net"),
        ("cc/0/email", "c{}@example.net"),
        ("cc/0/name", "C{}Bcc: x@example.net"),
        ("reply_to/0", "r@example.net{}"),
        ("subject", "a{}Bcc: x@example.net"),
        ("headers/X-A", "1{}Bcc: x@example.net"),
        ("metadata/a", "a{}b"),
        ("tags/0", "a{}b"),
        ("stream", "codes{}"),
        ("attachments/0/filename", "a{}.txt"),
        ("attachments/0/content_type", "text/plain{}"),
        ("attachments/0/content_id", "a{}b"),
        ("attachments/0/content", "YQ=={}"),
        ("scheduled_at", "2026-11-24T02:00:00Z{}"),
    ],
)
def test_line_breaks_and_control_characters_are_refused_in_every_field(client, mark, path, text):
    """Header injection has no way in; the pointer names the field."""
    answer = client.post("/v1/messages/validate", json=_with(path, text.format(mark)))
    assert answer.status_code == 422, (path, answer.text)
    assert answer.json()["errors"][0]["pointer"] == f"/{path}"


@pytest.mark.parametrize("mark", BREAKS, ids=[ascii(mark) for mark in BREAKS])
def test_header_names_cannot_inject(client, mark):
    """Not even by the name of a header or of a metadata entry."""
    for field in ("headers", "metadata"):
        answer = client.post("/v1/messages/validate", json=message(**{field: {f"X-A{mark}Bcc": "x"}}))
        assert answer.status_code == 422


@pytest.mark.parametrize("name", ["tenant_id", "id", "status", "role", "is_sandbox", "key_id", "created_at", "__proto__", "from_"])
def test_fields_that_are_not_the_callers_are_refused(client, name):
    """Mass assignment: an unknown field is a fault, here and in everything nested, never ignored."""
    nested = message(**{name: "x"})
    for body, pointer in (
        (nested, f"/{name}"),
        (message(to=[{"email": "a@example.net", name: 1}]), f"/to/0/{name}"),
        (message(attachments=[{"filename": "a", "content": "", name: 1}]), f"/attachments/0/{name}"),
    ):
        errors = client.post("/v1/messages", json=body).json()["errors"]
        assert (pointer, "unknown_field") in [(one["pointer"], one["code"]) for one in errors]
    for path, body in (("keys", {"name": "x"}), ("domains", {"name": "x.example"}), ("suppressions", {"address": "a@example.net"})):
        assert client.post(f"/v1/{path}", json={**body, name: "x"}).status_code == 422


def test_a_domain_cannot_vouch_for_itself(client):
    """`is_trusted` is the operator's word, not the caller's."""
    assert client.post("/v1/domains", json={"name": "evil.example", "is_trusted": True}).status_code == 422


@pytest.mark.parametrize(
    "name", ["status", "tag", "recipient", "stream", "since", "until", "q", "limit", "after", "before", "sort", "tenant_id"]
)
@pytest.mark.parametrize(
    "text", ["'", "';--", "' OR '1'='1", '" OR 1=1--', "1; DROP TABLE message", "%27", "\\'", "a@example.net' OR 1=1--", "\0", "%", "_"]
)
def test_sql_in_filters_finds_and_breaks_nothing(client, rig, name, text):
    """A filter is a value: no fault of ours, and never somebody's whole list."""
    answer = client.get("/v1/messages", params={name: text})
    assert answer.status_code in {200, 422}
    if answer.status_code == 200 and text not in {"%", "_", "%27"}:
        assert answer.json()["data"] == []
    assert rig.count("message") >= 0


def test_wildcards_in_a_search_are_characters(client):
    """% and _ match themselves only."""
    client.post("/v1/messages", json=message(subject="wild 100% sure"))
    assert len(client.get("/v1/messages", params={"q": "100% s"}).json()["data"]) == 1
    assert client.get("/v1/messages", params={"q": "1%sure"}).json()["data"] == []
    assert client.get("/v1/messages", params={"q": "wild_100"}).json()["data"] == []


def test_another_tenants_things_are_in_no_list(client, stranger):
    """Lists and searches end at the tenant's wall, cursors included."""
    message_id = client.post("/v1/messages", json=message(tags=["walled"])).json()["id"]
    client.post("/v1/suppressions", json={"address": "walled@example.net"})
    for path in (
        "/v1/messages",
        "/v1/messages?tag=walled",
        "/v1/messages?q=Order",
        f"/v1/messages?before=msg_{'0' * 26}",
        "/v1/suppressions",
    ):
        assert stranger.get(path).json() == {"data": [], "has_more": False}, path
    assert message_id not in stranger.get("/v1/keys").text
    assert [one["name"] for one in stranger.get("/v1/domains").json()["data"]] == ["other.example"]


def test_a_domain_of_another_tenant_cannot_be_sent_from(stranger):
    """Verified elsewhere is not verified here."""
    answer = stranger.post("/v1/messages", json=message())
    assert (answer.status_code, answer.json()["code"]) == (403, "domain_not_verified")
    assert answer.json()["errors"][0]["pointer"] == "/from"


@pytest.mark.parametrize(
    "text", ["a@" * 50_000, "<" * 100_000, '"' * 100_000, "a" * 100_000 + "@example.net", "(" * 50_000, "a@b," * 25_000]
)
def test_hostile_addresses_cost_little(client, text):
    """No expression backtracks: 100 kB of trouble in less than a second, network included."""
    started = time.monotonic()
    assert client.post("/v1/messages", json=message(to=[text])).status_code == 422
    assert time.monotonic() - started < 0.5


def test_idempotency_holds_under_concurrency(rig):
    """100 keys with 50 parallel equal requests each give exactly 100 messages; the others replay or are told to wait."""
    before = rig.count("message")
    jobs = [n for n in range(100) for _ in range(50)]
    bodies = [json.dumps(message(subject=f"once {n}")).encode() for n in range(100)]
    with rig.client() as client, ThreadPoolExecutor(32) as pool:
        answers = list(
            pool.map(lambda n: (n, client.post("/v1/messages", content=bodies[n], headers={**TYPE, "idempotency-key": f"once-{n}"})), jobs)
        )
    assert rig.count("message") - before == 100
    accepted = [(n, answer.json()["id"]) for n, answer in answers if answer.status_code == 202]
    assert len(set(accepted)) == 100
    rest = {
        (answer.status_code, answer.json()["code"], "retry-after" in answer.headers) for _, answer in answers if answer.status_code != 202
    }
    assert rest <= {(409, "idempotency_in_progress", True)}


def test_a_fault_of_ours_shows_its_id_and_nothing_else(rig, client, monkeypatch):
    """500 with a request id; no trace, no text of the exception."""

    async def fail(*_args):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(type(rig.deps.acceptor), "submit", fail)
    answer = client.post("/v1/messages", json=message())
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["request-id"] == answer.json()["request_id"]
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text

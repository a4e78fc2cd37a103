"""The HTTP door when more comes than it can take, and behind proxies: refused early, cheaply, and the right ones."""

import contextlib
import re
import socket
import time

import pytest
from tests.doors.http_rig import message, running_door

from gatepost.accept.admission import AdmissionControl
from gatepost.clock import SystemClock
from gatepost.http.connection import MAX_PIPELINED
from gatepost.http.gate import Gate
from gatepost.observe import maillog
from gatepost.settings import Admission, Http, Settings

MB = 1024 * 1024


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A door with room for four megabytes of bodies and five connections, behind a proxy on loopback."""
    http = Http(header_timeout_s=5, max_connections=5, trusted_proxies=["127.0.0.1/32"])
    settings = Settings(http=http, admission=Admission(body_bytes=4 * MB))
    with running_door(tmp_path_factory.mktemp("narrow"), settings) as rig:
        yield rig


@pytest.fixture
def press(rig):
    """Put the door under pressure; take it away afterwards."""

    def set_lag(seconds):
        rig.admission.note("lag", seconds)
        rig.admission.review()

    yield set_lag
    set_lag(0.0)


def _connect(rig):
    return socket.create_connection(("127.0.0.1", rig.door.port), timeout=10)


def _head(rig, *more, path="/v1/messages", method="POST"):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {rig.key}", "Content-Type: application/json", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _read_all(sock):
    data = b""
    try:
        while chunk := sock.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def _ask_livez(rig, sock):
    sock.sendall(_head(rig, path="/livez", method="GET"))
    answer = b""
    while not answer.endswith(b"}"):
        chunk = sock.recv(65536)
        assert chunk
        answer += chunk
    assert answer.startswith(b"HTTP/1.1 200")


def _until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("lag_s", "statuses"), [(0.0, [202, 202, 202]), (0.1, [202, 202, 503]), (0.6, [202, 503, 503]), (1.0, [503, 503, 503])]
)
def test_bulk_is_shed_first_and_codes_last(rig, client, press, lag_s, statuses):
    """One by one and in a batch, by fields and as finished MIME: 503 overloaded with Retry-After, and nothing is stored."""
    press(lag_s)
    before = rig.count("message")
    raw = b"From: shop@acme.example\r\nTo: ann@example.net\r\n\r\nHi\r\n"
    envelope = {"gatepost-envelope-from": "shop@acme.example", "gatepost-envelope-to": "ann@example.net", "content-type": "message/rfc822"}
    for stream, status in zip(("codes", "transactional", "bulk"), statuses, strict=True):
        answers = [
            client.post("/v1/messages", json=message(stream=stream)),
            client.post("/v1/messages/batch", json={"messages": [message(stream=stream)] * 2, "mode": "permissive"}),
            client.post("/v1/messages/raw", content=raw, headers={**envelope, "gatepost-stream": stream}),
        ]
        assert [answer.status_code for answer in answers] == [status] * 3, stream
        for answer in answers:
            if status == 503:
                assert answer.json()["code"] == "overloaded"
                assert 1 <= int(answer.headers["retry-after"]) <= 45
    assert rig.count("message") - before == statuses.count(202) * 4


def test_a_batch_is_as_urgent_as_its_least_urgent_message(client, press):
    """A code in front does not bring bulk through."""
    press(0.1)
    mixed = {"messages": [message(stream="codes"), message(stream="bulk")], "mode": "permissive"}
    assert client.post("/v1/messages/batch", json=mixed).status_code == 503
    assert client.post("/v1/messages/batch", json={"messages": [message(stream="codes"), message()]}).status_code == 202


def test_what_is_wrong_with_a_request_is_told_under_pressure_too(client, press):
    """A quick look at the stream is no judgement: 422 and 400 stay what they are; checking and reading go on."""
    press(0.6)
    assert client.post("/v1/messages", content=b"{", headers={"content-type": "application/json"}).status_code == 400
    assert client.post("/v1/messages", json={"stream": "codes"}).status_code == 422
    assert client.post("/v1/messages", json=message(stream=7)).status_code == 422
    press(1.0)
    assert client.post("/v1/messages/validate", json=message(stream="bulk")).status_code == 503  # its head looks like sending
    assert client.get("/v1/messages").status_code == 200
    assert client.get("/livez").status_code == 200


def test_a_full_queue_is_full_at_once(rig, client):
    """Messages in hand are counted, not measured now and then: the next bulk message beyond the mark is refused."""
    rig.admission.enter(1_000)
    try:
        assert client.post("/v1/messages", json=message(stream="bulk")).status_code == 503
        assert client.post("/v1/messages", json=message(stream="codes")).status_code == 202
    finally:
        rig.admission.leave(1_000)
    assert client.post("/v1/messages", json=message(stream="bulk")).status_code == 202
    assert rig.admission._in_hand == 0


def test_shed_requests_are_counted_by_lane_and_cause_and_written_to_no_log(client, press, monkeypatch):
    """A line for each refusal would be one more load; the metric says it all."""
    lines = []
    monkeypatch.setattr(maillog, "refused", lambda **fields: lines.append(fields))

    def count():
        found = re.search(r'requests_shed_total\{cause="lag",lane="bulk"\} (\d+)', client.get("/metrics").text)
        return int(found[1]) if found else 0

    press(0.1)
    before = count()
    for _ in range(3):
        client.post("/v1/messages", json=message(stream="bulk"))
    assert count() - before == 3
    assert 'gatepost_pressure{signal="lag"} 1.0' in client.get("/metrics").text
    assert lines == []


@pytest.mark.parametrize("framing", ["Content-Length: 3000000", "Transfer-Encoding: chunked", "Content-Length: 9\r\nExpect: 100-continue"])
def test_when_nothing_is_taken_a_request_is_refused_by_its_head(rig, press, framing):
    """503 before a byte of the body is asked for; there is no 100 Continue."""
    press(1.0)
    with _connect(rig) as sock:
        sock.sendall(_head(rig, framing))
        answer = _read_all(sock)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"retry-after: " in answer
    assert b'"code":"overloaded"' in answer


def test_an_answer_that_comes_early_is_not_lost_by_closing(rig, press):
    """A client that sends its twenty megabytes first still finds the 503 when it looks: the connection is not reset under it."""
    press(1.0)
    with _connect(rig) as sock:
        sock.sendall(_head(rig, "Content-Length: 20000000"))
        for _ in range(20):
            sock.sendall(b"x" * 1_000_000)
        assert _read_all(sock).startswith(b"HTTP/1.1 503")


def test_bodies_in_memory_are_bounded_by_bytes(narrow):
    """Three clients with two megabytes each find room for four in all; what is held is given back, and small mail goes on."""
    held = [_connect(narrow) for _ in range(3)]
    try:
        for sock in held[:2]:
            sock.sendall(_head(narrow, "Transfer-Encoding: chunked") + b"180000\r\n" + b" " * 0x180000 + b"\r\n")
        _until(lambda: narrow.admission.bodies.used_bytes >= 2 * 0x180000)
        held[2].sendall(_head(narrow, "Content-Length: 2000000"))
        assert _read_all(held[2]).startswith(b"HTTP/1.1 503")
        with narrow.client() as client:
            assert client.post("/v1/messages", json=message()).status_code == 202
        with contextlib.suppress(OSError):
            held[0].sendall(b"80000\r\n" + b" " * 0x80000 + b"\r\n")
        assert _read_all(held[0]).startswith(b"HTTP/1.1 503")
        assert narrow.admission.bodies.used_bytes == 0x180000
    finally:
        for sock in held:
            sock.close()
    _until(lambda: narrow.admission.bodies.used_bytes == 0)


def test_a_form_is_small(rig):
    """Outside the API nobody may fill the memory, by whatever framing and without any key."""
    for start in (b"Content-Length: 2000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n200000\r\n" + b"x" * 0x200000 + b"\r\n"):
        with _connect(rig) as sock:
            head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            with contextlib.suppress(OSError):
                sock.sendall(head + b"Sec-Fetch-Site: same-origin\r\n" + start)
            answer = sock.recv(1_000)
        assert answer.startswith(b"HTTP/1.1 413"), answer[:300]
    _until(lambda: rig.admission.bodies.used_bytes == 0)


def test_requests_that_run_ahead_of_their_answers_are_bounded(rig):
    """Thousands of tiny requests in one segment would each cost memory before anybody looked at them."""
    with _connect(rig) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(_head(rig, path="/readyz", method="GET") * 5_000)
        answer = _read_all(sock)
    assert answer.count(b"HTTP/1.1 ") <= MAX_PIPELINED + 2
    with rig.client() as client:
        assert client.get("/livez").status_code == 200


def test_an_idle_connection_makes_room_for_a_new_one(narrow):
    """When every place is taken, who has been silent longest goes: places cannot be held by doing nothing."""
    held = []
    for _ in range(5):
        sock = _connect(narrow)
        _ask_livez(narrow, sock)
        held.append(sock)
    with _connect(narrow) as sock:
        assert _read_all(sock).startswith(b"HTTP/1.1 503")  # nobody is idle for long yet
    time.sleep(1.1)
    _ask_livez(narrow, held[0])
    with _connect(narrow) as sock:
        sock.sendall(_head(narrow, "Connection: close", path="/livez", method="GET"))
        assert _read_all(sock).startswith(b"HTTP/1.1 200")
    held[1].settimeout(5)
    assert _read_all(held[1]) == b""
    _ask_livez(narrow, held[0])
    for sock in held:
        sock.close()


@pytest.mark.parametrize(
    ("addresses", "is_last_let_in"),
    [
        (["203.0.113.7"] * 4, False),
        ([f"2001:db8::{n}" for n in range(4)], False),
        ([f"203.0.113.{n}" for n in range(4)], True),
        (["127.0.0.1"] * 4, True),
        (["10.0.0.1"] * 4, True),
    ],
)
def test_one_address_has_so_many_connections(addresses, is_last_let_in):
    """An IPv6 /64 is one address; this machine and trusted proxies stand for many."""
    import asyncio

    async def run():
        settings = Http(max_connections_per_peer=3, trusted_proxies=["10.0.0.0/8"])
        gate = Gate(settings, AdmissionControl(Admission(), SystemClock()))
        connections = [object() for _ in addresses]
        refusals = [gate.enter(connection, address) for connection, address in zip(connections, addresses, strict=True)]
        assert refusals[:3] == [None] * 3
        assert (refusals[3] is None) is is_last_let_in
        gate.leave(connections[3])
        gate.leave(connections[0])
        assert gate.enter(connections[0], addresses[3]) is None

    asyncio.run(run())


@pytest.mark.parametrize(
    ("forwarded", "peer"), [("203.0.113.7", "203.0.113.7"), ("127.0.0.1, 203.0.113.7", "203.0.113.7"), ("nonsense", "127.0.0.1")]
)
def test_a_trusted_proxy_says_who_asks(narrow, monkeypatch, forwarded, peer):
    """THREATS 61: the address in log and rules is the one that the proxy saw."""
    seen = []
    monkeypatch.setattr(maillog, "security", lambda what, **fields: seen.append(fields["peer"]))
    with narrow.client("gp_live_wrong") as client:
        assert client.get("/v1/messages", headers={"x-forwarded-for": forwarded}).status_code == 401
    assert seen == [peer]


def test_a_strangers_forwarding_headers_are_ignored(rig, monkeypatch):
    """THREATS 61: without trusted proxies X-Forwarded-For, -Proto, -Host, -Prefix and Forwarded change nothing."""
    seen = []
    monkeypatch.setattr(maillog, "security", lambda what, **fields: seen.append(fields["peer"]))
    forged = {
        "x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https", "x-forwarded-host": "evil.example",
        "x-forwarded-prefix": "/evil", "x-real-ip": "203.0.113.7", "forwarded": "for=203.0.113.7;proto=https",
    }  # fmt: skip
    with rig.client("gp_live_wrong") as client:
        answer = client.get("/v1/messages", headers=forged)
    assert (answer.status_code, seen) == (401, ["127.0.0.1"])
    assert "evil" not in answer.text + str(answer.headers)


HEAD = b"POST /v1/messages/validate HTTP/1.1\r\nHost: a\r\n"
SMUGGLED = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"Content-Length: 5, 5\r\n\r\nhello",
        b"Content-Length: +5\r\n\r\nhello",
        b"Content-Length: 0x5\r\n\r\nhello",
        b"Content-Length: 5 5\r\n\r\nhello",
        b"Content-Length : 5\r\n\r\nhello",
        b" Content-Length: 5\r\n\r\nhello",
        b"Content-Length:\r\n\r\n",
        b"Content-Length: 99999999999999999999999\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n",
        b"X: a\r\n\tContent-Length: 5\r\n\r\n",
        b"X: a\nContent-Length: 5\r\n\r\nhello",
        b"X: a\rContent-Length: 5\r\n\r\nhello",
        b"X: a\0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\naXX0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"Host: b\r\n\r\n",
    ],
    ids=lambda framing: ascii(framing)[2:50],
)
def test_no_two_readings_of_where_a_request_ends(rig, framing):
    """THREATS 61: an ambiguous length, a folded line, a second Host: one refusal, and the hidden request is never answered."""
    with _connect(rig) as sock:
        sock.sendall(HEAD + framing + SMUGGLED)
        answer = _read_all(sock)
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401", b"HTTP/1.1 413")), answer[:200]
    assert b'"status":"ok"' not in answer


def test_a_request_names_one_host(rig):
    """RFC 9112 §3.2: HTTP/1.1 without Host is no request; HTTP/1.0 may do without."""
    for start, status in ((b"GET /livez HTTP/1.1\r\n\r\n", b"400"), (b"GET /livez HTTP/1.0\r\n\r\n", b"200")):
        with _connect(rig) as sock:
            sock.sendall(start)
            assert _read_all(sock).split(b" ")[1] == status

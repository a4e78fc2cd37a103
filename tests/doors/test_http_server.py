"""The sockets of the HTTP door: what a connection may cost, byte by byte on a real socket."""

import json
import re
import socket
import time

import msgspec
import pytest
from tests.doors.http_rig import message, running_door

from gatepost.settings import Http, Limits, Settings


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A door with short times and small limits."""
    settings = Settings(http=Http(header_timeout_s=1, max_connections=20), limits=Limits(message_bytes=64 * 1024))
    with running_door(tmp_path_factory.mktemp("strict"), settings) as rig:
        yield rig


def _connect(rig):
    return socket.create_connection(("127.0.0.1", rig.door.port), timeout=10)


def _read_all(sock):
    data = b""
    try:
        while chunk := sock.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def _head(rig, path, *more, method="POST"):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {rig.key}", "Content-Type: application/json", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize(
    ("start", "drip"), [(b"", b""), (b"GET /", b"a"), (b"\r\n", b"\r\n"), (b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nX: ", b"a")]
)
def test_a_client_that_sends_a_byte_now_and_then_is_cut_off(strict, start, drip):
    """Slowloris: dripping header bytes does not extend the time for a request."""
    started = time.monotonic()
    with _connect(strict) as sock:
        sock.settimeout(0.2)
        sock.sendall(start)
        while time.monotonic() - started < 5:
            try:
                if sock.recv(1000) == b"":
                    break
            except TimeoutError:
                try:
                    sock.sendall(drip)
                except OSError:
                    break
            except OSError:
                break
    assert 0.7 < time.monotonic() - started < 3


def test_a_body_that_drips_is_cut_off_and_one_that_flows_is_not(strict):
    """The time is extended only while at least four kilobytes a second arrive."""
    with _connect(strict) as sock:
        sock.sendall(_head(strict, "/v1/messages", "Content-Length: 60000") + b"{")
        started = time.monotonic()
        sock.settimeout(0.2)
        while time.monotonic() - started < 6:
            try:
                sock.sendall(b" ")
                if sock.recv(1000) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - started < 4
    body = json.dumps(message(text="x" * 30_000)).encode()
    with _connect(strict) as sock:
        sock.sendall(_head(strict, "/v1/messages", f"Content-Length: {len(body)}", "Connection: close"))
        for at in range(0, len(body), 2_000):
            sock.sendall(body[at : at + 2_000])
            time.sleep(0.1)
        assert _read_all(sock).startswith(b"HTTP/1.1 202")


def test_an_idle_connection_is_closed_and_an_active_one_kept(strict):
    """Requests one after the other share a connection; silence ends it."""
    with _connect(strict) as sock:
        for _ in range(3):
            sock.sendall(_head(strict, "/livez", method="GET"))
            answer = sock.recv(65536)
            while not answer.endswith(b"}"):
                answer += sock.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(0.5)
        started = time.monotonic()
        assert sock.recv(1000) == b""
        assert time.monotonic() - started < 3


def test_an_endless_header_is_refused(strict):
    """64 KiB of header are enough for anybody; memory stays flat."""
    with _connect(strict) as sock:
        sock.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ")
        try:
            for _ in range(100):
                sock.sendall(b"a" * 10_000)
        except OSError:
            pass
        answer = _read_all(sock)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_over_the_limit_is_refused_before_it_is_read(strict, is_chunked):
    """413 by the declared length at once; without one as soon as the limit is passed."""
    more = "Transfer-Encoding: chunked" if is_chunked else "Content-Length: 100000000000"
    sent = 0
    with _connect(strict) as sock:
        sock.sendall(_head(strict, "/v1/messages", more))
        try:
            while is_chunked and sent < 50_000_000:
                sock.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
                sent += 65536
        except OSError:
            pass
        answer = _read_all(sock)
    if answer:  # the system may drop an answer that the other side has not read before it is reset
        assert answer.startswith(b"HTTP/1.1 413"), answer[:300]
        assert b'"code":"payload_too_large"' in answer
        assert b"request-id: req_" in answer
        assert b"connection: close" in answer
    assert sent < 20_000_000


@pytest.mark.parametrize(
    "request_text",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: a\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_a_problem_and_a_closed_connection(strict, request_text):
    """Request smuggling has no ambiguity to live on: 400, and nothing after it is read."""
    with _connect(strict) as sock:
        sock.sendall(request_text)
        answer = _read_all(sock)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401", b"HTTP/1.1 404", b"HTTP/1.1 505")), answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"request-id: req_" in answer
    assert b"application/problem+json" in answer


def test_too_many_connections_are_turned_away(strict):
    """The 21st hears 503 with Retry-After; when one ends there is room again."""
    held = [_connect(strict) for _ in range(20)]
    try:
        time.sleep(0.2)
        with _connect(strict) as sock:
            answer = _read_all(sock)
        assert answer.startswith(b"HTTP/1.1 503")
        assert re.search(rb"retry-after: [12]\r", answer)
        assert b'"code":"overloaded"' in answer
    finally:
        for sock in held:
            sock.close()
    time.sleep(0.3)
    with strict.client() as client:
        assert client.get("/livez").status_code == 200


def test_a_client_that_does_not_read_its_answer_is_cut_off(strict):
    """Megabytes that nobody takes are not kept in memory: of ten answers, those in the system's buffers are all that comes."""
    with _connect(strict) as sock:
        sock.sendall(_head(strict, "/docs/scalar.js", method="GET") * 10)
        time.sleep(2.5)
        assert len(_read_all(sock)) < 30_000_000


def test_pipelined_requests_are_answered_in_order(strict):
    """Three in one segment, three answers."""
    with _connect(strict) as sock:
        sock.sendall(_head(strict, "/livez", method="GET") * 2 + _head(strict, "/nope", "Connection: close", method="GET"))
        answer = _read_all(sock)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"200", b"404"]


def test_stopping_answers_what_is_under_way(tmp_path):
    """A request that is being worked on when the door stops still gets its answer."""
    import asyncio
    import threading

    with running_door(tmp_path) as rig:
        gate = asyncio.Event()
        submit = rig.deps.acceptor.submit

        async def slow(*args):
            await gate.wait()
            return await submit(*args)

        rig.deps.acceptor.submit = slow
        answers = []
        sender = threading.Thread(target=lambda: answers.append(rig.client().post("/v1/messages", json=message())))
        sender.start()
        time.sleep(0.3)
        stopping = asyncio.run_coroutine_threadsafe(rig.door.stop(), rig.loop)
        time.sleep(0.3)
        assert not stopping.done()
        rig.loop.call_soon_threadsafe(gate.set)
        stopping.result(timeout=10)
        sender.join(timeout=10)
        assert answers[0].status_code == 202


def test_a_stream_without_end_does_not_hold_up_the_stop(tmp_path):
    """An open page that listens for news is cut when the door stops."""
    with running_door(tmp_path) as rig, _connect(rig) as sock:
        sock.sendall(_head(rig, "/live", method="GET"))
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        started = time.monotonic()
        rig.run(rig.door.stop())
        assert time.monotonic() - started < 5


def test_settings_bound_the_body(strict):
    """One message's JSON may have a third more than the message, and a megabyte."""
    limit = msgspec.structs.asdict(strict.deps.settings.limits)["message_bytes"] * 4 // 3 + 1024 * 1024
    with strict.client() as client:
        answer = client.post("/v1/messages", content=b" " * (limit + 1), headers={"content-type": "application/json"})
        assert answer.status_code == 413
        answer = client.post("/v1/messages", json=message(text="x" * 70_000))
        assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")

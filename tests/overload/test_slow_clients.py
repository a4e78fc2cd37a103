"""THREATS 9: two thousand sockets that send a byte now and then take every place, and hurt nobody else."""

import contextlib
import json
import resource
import selectors
import smtplib
import socket
import threading
import time
import urllib.request

import pytest

from tests.flow.serving import Serving, prepare

SOCKETS = 2_000
TIMEOUT_S = 5
DRIP_S = 0.5
_BEGINNINGS = {"http": (b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nX-A: ", b"a"), "smtp": (b"EHLO ", b"a")}


@pytest.fixture
def many_files():
    """Allow this process to hold all the sockets."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], min(before[1], 2 * SOCKETS + 1_000)), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class _Slow:
    """Sockets that drip; each notes when it was cut."""

    def __init__(self, address: str, door: str) -> None:
        host, _, port = address.rpartition(":")
        self._address, (self._start, self._drip) = (host, int(port)), _BEGINNINGS[door]
        self.opened: dict[socket.socket, float] = {}
        self.lives: list[float] = []
        self._is_over = threading.Event()
        self._selector = selectors.DefaultSelector()
        for _ in range(SOCKETS):
            sock = socket.create_connection(self._address, timeout=10)
            sock.sendall(self._start)
            sock.setblocking(False)
            self.opened[sock] = time.monotonic()
            self._selector.register(sock, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        next_drip = time.monotonic() + DRIP_S
        while self.opened and not self._is_over.is_set():
            for key, _ in self._selector.select(0.05):
                self._read(key.fileobj)
            if time.monotonic() >= next_drip:
                next_drip += DRIP_S
                for sock in list(self.opened):
                    with contextlib.suppress(OSError):
                        sock.send(self._drip)

    def _read(self, sock: socket.socket) -> None:
        try:
            is_ended = sock.recv(65536) == b""
        except BlockingIOError:
            return
        except OSError:
            is_ended = True
        if is_ended:
            self._selector.unregister(sock)
            self.lives.append(time.monotonic() - self.opened.pop(sock))
            sock.close()

    def end(self) -> None:
        self._is_over.set()
        self._thread.join(10)
        for sock in self.opened:
            sock.close()


def _send_http(serving: Serving, key: str, n: int) -> str:
    body = {"from": "app@acme.example", "to": [f"r{n}@sink.example"], "subject": f"{n}", "text": "x"}
    request = urllib.request.Request(f"http://{serving.listening['http']}/v1/messages", data=json.dumps(body).encode())
    request.add_header("Authorization", f"Bearer {key}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(answer.status)


def _send_smtp(serving: Serving, key: str, n: int) -> str:
    host, _, port = serving.listening["smtp"].rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=20) as client:
        client.login("any", key)
        client.sendmail("app@acme.example", [f"r{n}@sink.example"], f"From: app@acme.example\r\nSubject: {n}\r\n\r\nx\r\n")
    return "250"


@pytest.mark.slow
def test_two_thousand_dripping_sockets_at_each_door_hurt_nobody(tmp_path, many_files):
    """They take all places of both doors; new clients are served all the same, and each of them is cut at its time, drip as it may."""
    key = prepare(tmp_path)
    places = [f"{door}.max_connections={SOCKETS}" for door in _BEGINNINGS]
    with Serving(tmp_path, *places, f"http.header_timeout_s={TIMEOUT_S}", f"smtp.command_timeout_s={TIMEOUT_S}") as serving:
        crowds = [_Slow(serving.listening[door], door) for door in _BEGINNINGS]
        try:
            time.sleep(2.2)  # who is new has done nothing wrong yet
            answers = set()
            for n in range(20):
                answers.add(_try(lambda n=n: _send_http(serving, key, n)))
                answers.add(_try(lambda n=n: _send_smtp(serving, key, n)))
                time.sleep(0.1)
            assert answers == {"202", "250"}
            deadline = time.monotonic() + 4 * TIMEOUT_S
            while any(crowd.opened for crowd in crowds) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not any(crowd.opened for crowd in crowds)
        finally:
            for crowd in crowds:
                crowd.end()
        assert max(max(crowd.lives) for crowd in crowds) < 3 * TIMEOUT_S
        assert serving.ask("GET", "/livez")[0] == 200


def _try(send) -> str:
    try:
        return send()
    except OSError as error:  # smtplib's errors are OSErrors too
        return repr(error)

"""The doors of a running gateway with TLS: the same API, client certificates, fresh certificates, and what a scanner finds."""

import contextlib
import http.client
import json
import os
import shutil
import smtplib
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.flow.serving import ROOT, Serving, gatepost_json, prepare, until
from tests.tls.authority import Authority

HOST = "gate.example"


class House:
    """A running gateway, its files, and who it trusts."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.authority = authority
        self.clients = Authority("Clients")
        self.data = folder / "data"
        self.own = authority.issue(HOST, "localhost", "127.0.0.1")
        self.cert, self.key = self.own.write(folder)
        self.bound = self.clients.issue("shop", is_client=True)
        self.free_secret = prepare(self.data)
        made = gatepost_json(self.data, "key", "create", "--name", "bound")
        self.key_id, self.secret = made["id"], made["key"]

    def flags(self) -> list[str]:
        ca = self.clients.write(self.folder / "clients.pem")
        return [
            f"tls.cert={self.cert}",
            f"tls.key={self.key}",
            "tls.check_every_s=0.2",
            "https.listen=127.0.0.1:0",
            "smtps.listen=127.0.0.1:0",
            "https.client_certificates=optional",
            f"https.client_ca={ca}",
            f'https.bound_keys={{{self.key_id} = ["{self.bound.fingerprint.upper()}"]}}',
        ]

    def trusting(self, client=None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        if client is not None:
            context.load_cert_chain(*client.write(self.folder, os.urandom(4).hex()))
        return context


@pytest.fixture(scope="module")
def house(authority, tmp_path_factory):
    """Files and keys for a gateway."""
    return House(tmp_path_factory.mktemp("tls"), authority)


@pytest.fixture(scope="module")
def serving(house):
    """The gateway, running."""
    with Serving(house.data, *house.flags()) as running:
        yield running


def ask(serving: Serving, context: ssl.SSLContext, method: str, path: str, secret: str = "", body=None, host: str = ""):
    """Make a request over HTTPS; return status, headers and JSON."""
    name, port = serving.listening["https"].split(":")
    connection = http.client.HTTPSConnection(name, int(port), context=context, timeout=10)
    headers = {"host": host} if host else {}
    if secret:
        headers["authorization"] = f"Bearer {secret}"
    if body is not None:
        headers["content-type"] = "application/json"
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    with contextlib.closing(connection):
        answer = connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read())


MESSAGE = {"from": "shop@acme.example", "to": ["deliver@example.net"], "subject": "Hi", "text": "Hello"}


def test_https_is_the_same_api(house, serving):
    """What was sent encrypted is seen from there and from the other door; browsers that used the name hear HSTS."""
    status, headers, answer = ask(serving, house.trusting(), "POST", "/v1/messages", house.free_secret, MESSAGE)
    assert status == 202, answer
    assert "strict-transport-security" not in headers  # 127.0.0.1 was asked for
    assert serving.ask("GET", f"/v1/messages/{answer['id']}", house.free_secret)[0] == 200
    _, headers, _ = ask(serving, house.trusting(), "GET", "/livez", host=HOST)
    assert headers["strict-transport-security"] == "max-age=63072000"
    assert headers["request-id"].startswith("req_")


def test_a_bound_key_works_only_with_its_certificate(house, serving):
    """A stolen key alone opens nothing: not without the certificate, not with another's, not in plain HTTP, not over SMTP."""
    other = house.clients.issue("other", is_client=True)
    for client, expected in ((house.bound, 202), (other, 403), (None, 403)):
        status, _, answer = ask(serving, house.trusting(client), "POST", "/v1/messages", house.secret, MESSAGE)
        assert status == expected, answer
    assert answer["code"] == "permission_denied"
    assert serving.ask("GET", "/v1/messages", house.secret)[0] == 403
    host, port = serving.listening["smtp"].split(":")
    with smtplib.SMTP(host, int(port), timeout=10) as client:
        client.starttls(context=house.trusting())
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("x", house.secret)
        assert client.login("x", house.free_secret)[0] == 235
    assert f'"certificate": "{other.fingerprint}"' in serving.log


def test_a_strangers_certificate_ends_the_handshake(house, serving):
    """Who shows a certificate shows a good one."""
    stranger = house.authority.issue("shop", is_client=True)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(serving, house.trusting(stranger), "GET", "/livez")


def scanner() -> str:
    """Find sslyze, which lives in an environment of its own (see the Makefile)."""
    own = ROOT / ".venv/sslyze/bin/sslyze"
    found = os.environ.get("SSLYZE") or (str(own) if own.exists() else shutil.which("sslyze"))
    assert found, "the test needs sslyze: make .venv/.sslyze"
    return found


@pytest.mark.parametrize("door", ["https", "smtps", "smtp"])
def test_a_scanner_finds_nothing(house, serving, door):
    """sslyze against Mozilla's intermediate profile, with all its checks for known attacks, at HTTPS, SMTPS and STARTTLS."""
    ca_file = house.authority.write(house.folder / "ca.pem")
    report = house.folder / f"{door}.json"
    more = ["--starttls=smtp"] if door == "smtp" else []
    # the HTTPS door asks for a client's certificate; the scanner shows one, as a client of the API would
    cert, key = house.bound.write(house.folder, "scanner")
    more += [f"--cert={cert}", f"--key={key}"] if door == "https" else []
    command = [
        scanner(),
        f"--certinfo_ca_file={ca_file}",
        f"--json_out={report}",
        *more,
        f"localhost:{serving.listening[door].split(':')[1]}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert "OK - Compliant" in done.stdout, done.stdout[-3000:] + done.stderr[-1000:]
    assert done.returncode == 0
    found = json.loads(report.read_text())["server_scan_results"][0]["scan_result"]
    tls12 = {one["cipher_suite"]["name"] for one in found["tls_1_2_cipher_suites"]["result"]["accepted_cipher_suites"]}
    assert {name.split("_")[1] for name in tls12} == {"ECDHE"}
    assert not [name for name in tls12 if "CBC" in name]
    assert [found[f"tls_1_{minor}_cipher_suites"]["result"]["is_tls_version_supported"] for minor in range(4)] == [False, False, True, True]
    assert not found["session_renegotiation"]["result"]["is_vulnerable_to_client_renegotiation_dos"]
    curves = {one["name"] for one in found["elliptic_curves"]["result"]["supported_curves"]}
    assert curves == {"X25519", "secp256r1", "secp384r1"}


def test_a_new_certificate_reaches_every_door_without_a_restart(house, serving):
    """HTTPS, STARTTLS and SMTPS show it for new connections; the one that was open answers on."""
    host, port = serving.listening["https"].split(":")
    plain = socket.create_connection((host, int(port)), timeout=10)
    with house.trusting().wrap_socket(plain, server_hostname=HOST) as before:
        assert before.getpeercert(binary_form=True) == house.own.certificate.public_bytes(Encoding.DER)
        fresh = house.authority.issue(HOST, "localhost", "127.0.0.1")
        fresh.write(house.folder)
        expected = fresh.certificate.public_bytes(Encoding.DER)
        until(lambda: all(shown(house, serving, door) == expected for door in ("https", "smtps", "smtp")))
        before.sendall(b"GET /livez HTTP/1.1\r\nHost: gate.example\r\n\r\n")
        assert before.recv(100).startswith(b"HTTP/1.1 200")
    assert fresh.fingerprint in serving.log


def shown(house: House, serving: Serving, door: str) -> bytes:
    """Return the certificate that a door shows."""
    host, port = serving.listening[door].split(":")
    if door == "smtp":
        with smtplib.SMTP(host, int(port), timeout=10) as client:
            client.starttls(context=house.trusting())
            return client.sock.getpeercert(binary_form=True)
    plain = socket.create_connection((host, int(port)), timeout=10)
    with house.trusting().wrap_socket(plain, server_hostname=HOST) as sock:
        return sock.getpeercert(binary_form=True)


def test_the_log_has_no_faults(serving):
    """Broken handshakes are clients' business, not ours."""
    assert "crashed" not in serving.log
    assert "Traceback" not in serving.log, serving.log

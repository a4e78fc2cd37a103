"""Certificates from a real ACME server: got at the start, used by every door, renewed without a restart."""

import json
import smtplib
import socket
import ssl
import time
from pathlib import Path

import pytest

from gatepost.certificates.order import OrderFailed, order
from gatepost.certificates.renewal import Renewal
from gatepost.certificates.shelf import Shelf
from gatepost.clock import DAY, SystemClock
from gatepost.net.certificate import read_facts
from gatepost.settings import Acme
from tests.flow.serving import Serving, gatepost, until
from tests.tls.pebble import NAMES, Pebble, running_pebble

NAME = NAMES[0]


@pytest.fixture(scope="module")
def pebble(authority, tmp_path_factory):
    """One Pebble for all tests here."""
    with running_pebble(tmp_path_factory.mktemp("pebble"), authority) as running:
        yield running


def acme_of(pebble: Pebble, **more) -> Acme:
    return Acme(directory_url=pebble.directory_url, agree_to_terms=True, ca_file=str(pebble.ca_file), domains=[NAME], **more)


def https_serial(pebble: Pebble) -> str:
    """Meet the HTTPS door, trusting the authority only; return the serial number that it shows."""
    with meet(pebble) as sock:
        ask_livez(sock)
        return sock.getpeercert()["serialNumber"]


def meet(pebble: Pebble) -> ssl.SSLSocket:
    plain = socket.create_connection((pebble.host, pebble.https_port), timeout=10)
    return pebble.trusting().wrap_socket(plain, server_hostname=NAME)


def ask_livez(sock: ssl.SSLSocket) -> None:
    sock.sendall(f"GET /livez HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
    assert sock.recv(100).startswith(b"HTTP/1.1 200")


def smtp_serial(pebble: Pebble, address: str, *, implicit: bool) -> str:
    """Meet an SMTP door; return the serial number that it shows."""
    host, port = address.rsplit(":", 1)
    context = pebble.trusting()
    if implicit:
        with socket.create_connection((host, int(port)), timeout=10) as plain, context.wrap_socket(plain, server_hostname=NAME) as sock:
            return sock.getpeercert()["serialNumber"]
    with smtplib.SMTP(host, int(port), timeout=10) as client:
        client._host = NAME  # the name that it checks the certificate for
        client.starttls(context=context)
        assert client.ehlo()[0] == 250
        return client.sock.getpeercert()["serialNumber"]


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_a_gateway_gets_its_certificate_and_renews_it_while_it_runs(pebble, tmp_path, challenge):
    """From nothing to verified TLS at HTTPS, STARTTLS and SMTPS; a renewal reaches all three, and open connections live on."""
    flags = [f"{name}={value}" for name, value in pebble.flags(challenge).items()]
    sets = [part for flag in flags for part in ("--set", flag)]
    with Serving(tmp_path / "data", *flags, "smtps.listen=127.0.0.1:0", "tls.check_every_s=0.2") as serving:
        until(lambda: _is_open(pebble))

        def serials() -> set[str]:
            doors = serving.listening
            smtp = {smtp_serial(pebble, doors[name], implicit=name == "smtps") for name in ("smtp", "smtps")}
            return {https_serial(pebble), *smtp}

        first = serials()
        assert len(first) == 1
        with meet(pebble) as open_before:
            done = _show(gatepost(tmp_path / "data", "certificate", "renew", "--force", *sets, "--json"))
            assert done["certificates"] == [{"name": NAME, "status": "renewed", "detail": ""}]
            until(lambda: first.isdisjoint(second := serials()) and len(second) == 1)
            ask_livez(open_before)
        metrics = serving.text("/metrics")
        assert f'gatepost_certificate_expires_seconds{{name="{NAME}"}} 7.7' in metrics, metrics
        assert "crashed" not in serving.log, serving.log
    _check_rights(tmp_path / "data" / "acme")


def _is_open(pebble: Pebble) -> bool:
    try:
        return bool(https_serial(pebble))
    except ssl.SSLError:
        return False


def _show(done) -> dict:
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def _check_rights(folder: Path) -> None:
    """Nothing there is for other users, and no challenge or half-written file is left."""
    paths = [folder, *folder.rglob("*")]
    assert [path for path in paths if path.stat().st_mode & 0o077] == []
    assert list((folder / "challenges").iterdir()) == []
    assert [path for path in paths if path.name.startswith(".new-")] == []


@pytest.fixture
def hasty(monkeypatch):
    """The client asks the authority twenty times a second, not once."""
    sleep = time.sleep
    monkeypatch.setattr("acme.client.time.sleep", lambda seconds: sleep(seconds / 20))


def test_it_is_renewed_when_a_third_of_its_life_is_left(hasty, pebble, tmp_path):
    """Ninety days: nothing is due on day 50, it is on day 61; the account is used again, the key is not."""
    acme, shelf = acme_of(pebble), Shelf(tmp_path)

    class Later(SystemClock):
        ahead = 0

        def now(self):
            return super().now() + self.ahead

    clock = Later()
    with answering(pebble, shelf):
        renewal = Renewal(acme, shelf, clock, chance=lambda: 0.0)
        assert renewal.due() == [NAME]
        assert [one.status for one in renewal.renew([NAME])] == ["renewed"]
        before, account = shelf.certificate(NAME).read_bytes(), shelf.account(acme.directory_url).read_bytes()
        clock.ahead = 50 * DAY
        assert renewal.due() == []
        clock.ahead = 61 * DAY
        assert renewal.due() == [NAME]
        assert [one.status for one in renewal.renew([NAME])] == ["renewed"]
    after = shelf.certificate(NAME).read_bytes()
    assert before.split(b"-----END PRIVATE KEY-----")[0] != after.split(b"-----END PRIVATE KEY-----")[0]
    assert shelf.account(acme.directory_url).read_bytes() == account
    assert read_facts(shelf.certificate(NAME)).names == (NAME,)


def test_a_challenge_that_nobody_answers_says_why(pebble, tmp_path):
    """The authority's own words reach the operator."""
    with pytest.raises(OrderFailed, match=r"(?i)refused|connect"):
        order(acme_of(pebble), NAME, Shelf(tmp_path))
    assert list((tmp_path / "acme" / "challenges").iterdir()) == []


def test_a_wrong_answer_is_no_certificate(hasty, pebble, tmp_path):
    """What the authority reads must be the answer for this account."""
    with answering(pebble, Shelf(tmp_path / "another")), pytest.raises(OrderFailed, match="404"):
        order(acme_of(pebble), NAME, Shelf(tmp_path))


def test_an_authority_that_is_not_there_or_not_trusted_is_named(pebble, tmp_path):
    """No account, no order; the directory's own certificate is checked."""
    with pytest.raises(OrderFailed, match=r"cannot be reached.*certificate verify failed"):
        order(Acme(directory_url=pebble.directory_url, domains=[NAME]), NAME, Shelf(tmp_path))
    with pytest.raises(OrderFailed, match="cannot be reached"):
        order(Acme(directory_url="https://127.0.0.1:1/dir", domains=[NAME]), NAME, Shelf(tmp_path))


def test_an_authority_that_forgot_the_account_is_introduced_anew(hasty, pebble, tmp_path):
    """A test authority that starts afresh, or an account that was closed there: the same key opens another."""
    shelf = Shelf(tmp_path)
    with answering(pebble, shelf):
        order(acme_of(pebble), NAME, shelf)
        path = shelf.account(pebble.directory_url)
        kept = json.loads(path.read_bytes())
        shelf.write_json(path, {**kept, "url": kept["url"] + "9", "key_pem": _another_key()})
        order(acme_of(pebble), NAME, shelf)
        assert json.loads(path.read_bytes())["url"] not in (kept["url"], kept["url"] + "9")


def _another_key() -> str:
    from tests.tls.authority import _new_key, _pem

    return _pem(_new_key()).decode()


def test_an_external_account_is_bound(hasty, authority, tmp_path, tmp_path_factory):
    """Authorities that want to know their customers get kid and HMAC key; a wrong or missing one is refused (RFC 8555 §7.3.4)."""
    secret = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    with running_pebble(tmp_path_factory.mktemp("eab"), authority, eab={"kid-1": secret}) as strict:
        with pytest.raises(OrderFailed, match="eab_kid"):
            order(acme_of(strict), NAME, Shelf(tmp_path / "1"))
        with pytest.raises(OrderFailed):
            order(acme_of(strict, eab_kid="kid-1", eab_key=secret.replace("z", "y")), NAME, Shelf(tmp_path / "2"))
        shelf = Shelf(tmp_path / "3")
        with answering(strict, shelf):
            assert order(acme_of(strict, eab_kid="kid-1", eab_key=secret), NAME, shelf).count(b"BEGIN CERTIFICATE") == 2


def answering(pebble: Pebble, shelf: Shelf):
    """Answer http-01 from a shelf as the HTTP door does."""
    import contextlib
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found = shelf.find_answer(self.path.rpartition("/")[2])
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, *_):
            pass

    @contextlib.contextmanager
    def run():
        with HTTPServer((pebble.host, pebble.http_port), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    return run()

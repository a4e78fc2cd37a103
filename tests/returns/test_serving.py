"""`gatepost serve` with its own return paths: mail leaves with a token, the bounce comes back to port 25, and everybody is told."""

import asyncio
import json
import smtplib
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest

from gatepost.testing.certificates import make_certificates
from gatepost.testing.fake_dns import DnsServer
from gatepost.testing.scripted_peer import ScriptedPeer
from gatepost.wire import hook_signature
from tests.flow.serving import Serving, prepare, until
from tests.relays.peer import Peer, Says
from tests.returns import letters

FAR = {"far.example": {"MX": ["10 mx.far.example"]}, "mx.far.example": {"A": ["127.0.0.2"]}}


def through(data, work, *more):
    """Run `work(serving, far)` against a gateway whose mail to far.example reaches a scripted host."""

    async def main():
        async with DnsServer(FAR) as dns_server, ScriptedPeer(host="127.0.0.2") as far:
            flags = [
                "egress.default_route=mx", f"egress.mx_port={far.port}", f"dns.server={dns_server.address}", "inbound.listen=127.0.0.1:0",
                "inbound.bounce_domain=bounces.example", *more,
            ]  # fmt: skip
            await asyncio.to_thread(serve, flags, far)

    def serve(flags, far):
        with Serving(data, *flags) as serving:
            work(serving, far)

    asyncio.run(main())


def inbound(serving) -> smtplib.SMTP:
    host, _, port = serving.listening["inbound"].rpartition(":")
    return smtplib.SMTP(host, int(port), timeout=20)


def path_of(mail_line: str) -> str:
    return mail_line.partition("<")[2].partition(">")[0]


def test_a_bounce_comes_back_and_suppresses(tmp_path):
    """Delivered with a return path of ours for each recipient; its bounce, sent once and again, ends that recipient and nobody else."""
    data = tmp_path / "data"
    secret = prepare(data)

    def work(serving, far):
        body = {"from": "shop@acme.example", "to": ["ann@far.example", "bob@far.example"], "subject": "Hi", "text": "Hello"}
        status, answer = serving.ask("POST", "/v1/messages", secret, body)
        assert status == 202, answer
        until(lambda: serving.status_of(secret, answer["id"]) == "delivered")
        paths = {recipient: path_of(received.mail) for received in far.messages for recipient in received.recipients}
        ann = next(path for recipient, path in paths.items() if "ann@" in recipient)
        assert len(set(paths.values())) == 2
        assert all(path.startswith("b+") and path.endswith("@bounces.example") for path in paths.values())
        with inbound(serving) as client:
            client.sendmail("", [ann], letters.bounce(ann, "ann@far.example"))
            client.sendmail("", [ann.upper()], letters.bounce(ann, "ann@far.example"))
        until(lambda: serving.status_of(secret, answer["id"]) == "bounced")
        recipients = serving.ask("GET", f"/v1/messages/{answer['id']}", secret)[1]["recipients"]
        assert [(one["status"], one.get("reason")) for one in recipients] == [("bounced", "invalid_recipient"), ("delivered", None)]
        _, page = serving.ask("GET", "/v1/suppressions", secret)
        assert [(one["address"], one["stream"], one["reason"]) for one in page["data"]] == [("ann@far.example", None, "invalid_recipient")]
        status, refused = serving.ask("POST", "/v1/messages", secret, {**body, "to": ["ann@far.example"]})
        assert (status, refused["code"]) == (422, "all_recipients_suppressed")
        _, events = serving.ask("GET", f"/v1/messages/{answer['id']}/events", secret)
        bounced = [one for one in events["data"] if one["type"] == "recipient.bounced"]
        assert [(one["data"]["reported_by"], one["data"]["severity"]) for one in bounced] == [("mail", "hard")]
        assert "ann@far.example" not in serving.log

    through(data, work)


def test_the_listener_knows_only_its_own_addresses_and_no_passwords(tmp_path):
    """550 5.1.1 for everybody else, no AUTH, no relaying, TLS by STARTTLS, and a line that ends in a bare LF is no line."""
    data = tmp_path / "data"
    secret = prepare(data)
    made = make_certificates(tmp_path)

    def work(serving, far):
        with inbound(serving) as client:
            client.ehlo("far.example")
            assert not client.has_extn("auth")
            assert client.docmd("AUTH", "PLAIN AGEAYg==")[0] == 502
            client.mail("spam@far.example")
            for address in ("ann@far.example", "shop@bounces.example", "b+" + "a" * 45 + "@bounces.example"):
                assert client.rcpt(address)[0] == 550
            assert client.rcpt("postmaster@bounces.example")[0] == 250
            client.rset()
            assert client.starttls()[0] == 220
            client.ehlo("far.example")
            assert client.mail("")[0] == 250
            assert client.rcpt("abuse@bounces.example")[0] == 250
            assert client.data(b"Subject: hello\r\n\r\nplease\r\n")[0] == 250
        host, _, port = serving.listening["inbound"].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=20) as raw:
            raw.recv(1000)
            for line in (b"EHLO far.example\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<abuse@bounces.example>\r\n", b"DATA\r\n"):
                raw.sendall(line)
                raw.recv(1000)
            raw.sendall(b"Subject: x\r\n\r\none\n.\nMAIL FROM:<evil@far.example>\r\n.\r\n")
            assert raw.recv(1000).startswith(b"5")
        assert far.messages == []
        assert secret not in serving.log

    through(data, work, f"tls.cert={made.ca_file}", f"tls.key={made.key_file}")


@pytest.mark.parametrize("flag", ["inbound.listen=127.0.0.1:0", 'inbound.return_paths={"acme.example" = "bounces.acme.example"}'])
def test_a_listener_without_a_domain_of_its_own_does_not_start(tmp_path, flag):
    """A listener that knows no address is a mistake: it is told at the start."""
    from tests.flow.serving import gatepost

    done = gatepost(tmp_path / "data", "serve", "--set", flag)
    assert done.returncode != 0
    assert "inbound.bounce_domain" in done.stdout + done.stderr


def test_a_providers_hook_ends_what_it_was_given(tmp_path):
    """Sent by an API, reported by its signed hook: the recipient is bounced and suppressed; an unsigned call is 401 and changes nothing."""
    data = tmp_path / "data"
    data.mkdir()
    secret, peer, loop = hook_signature.make_secret(), Peer(Says(200, {"id": "prov-1"})), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(peer.__aenter__(), loop).result(5)
    (data / "gatepost.toml").write_text(
        f'[relays.main]\nurl = "resend://:re_x@"\nendpoint = "{peer.url}"\n[relays.main.hook]\nsecret = "{secret}"\n[egress]\ndefault_route = "main"\n'
    )
    key = prepare(data)
    with Serving(data) as serving:
        message_id = serving.send(key, "ann@example.net")
        until(lambda: serving.status_of(key, message_id) == "sent")
        event = {
            "type": "email.bounced",
            "data": {
                "email_id": "prov-1",
                "to": ["ann@example.net"],
                "bounce": {"type": "Permanent", "subType": "NoEmail", "message": "no"},
            },
        }
        body = json.dumps(event).encode()

        def called(name, headers):
            request = urllib.request.Request(f"http://{serving.listening['http']}/hooks/{name}", data=body, headers=headers, method="POST")
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                return error.code

        assert called("main", {}) == 401
        assert called("none", {}) == 404
        assert serving.status_of(key, message_id) == "sent"
        assert called("main", hook_signature.headers([secret], "evt-1", int(time.time()), body)) == 200
        until(lambda: serving.status_of(key, message_id) == "bounced")
        assert [one["reason"] for one in serving.ask("GET", "/v1/suppressions", key)[1]["data"]] == ["invalid_recipient"]
        assert secret not in serving.log
    asyncio.run_coroutine_threadsafe(peer.__aexit__(None, None, None), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)

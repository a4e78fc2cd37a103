"""`gatepost serve` from the SMTP door to mail hosts found by DNS: one system's budget, and a signed bounce message that comes back."""

import asyncio
import email
import email.policy
import smtplib
from pathlib import Path

import dkim

from gatepost import settings
from gatepost.app.database import create_engine
from gatepost.clock import SystemClock
from gatepost.domain.access import GATEWAY
from gatepost.net.dns import NoDomain
from gatepost.store import facts, messages, systems
from gatepost.store.opening import open_store
from gatepost.tenants.domains import Domains
from gatepost.testing.fake_dns import DnsServer
from gatepost.testing.scripted_peer import ScriptedPeer
from tests.flow.serving import Serving, prepare, until

MAIL = "From: Shop <shop@acme.example>\r\nTo: {}\r\nSubject: Hi\r\nMessage-ID: <one@acme.example>\r\n\r\nHello\r\n"


class NoTexts:
    async def txt(self, _name):
        return NoDomain()


def read(data: Path, work):
    async def main():
        engine = create_engine(settings.load(data, environ={}))
        await open_store(engine, SystemClock())
        found = await engine.read(work)
        await engine.close()
        return found

    return asyncio.run(main())


def own_domain(data: Path) -> str:
    """Give the gateway a domain of its own; return its DKIM record."""

    async def main():
        engine, clock = create_engine(settings.load(data, environ={})), SystemClock()
        tenant_id = await open_store(engine, clock)
        view = await Domains(engine, clock, NoTexts()).add(tenant_id, "gate.example", by=GATEWAY, is_trusted=True)
        await engine.close()
        return {record.name: record.value for record in view.records if record.purpose == "dkim"}

    return asyncio.run(main())


def submit(serving: Serving, secret: str, to: list[str]) -> None:
    host, _, port = serving.listening["smtp"].rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=20) as client:
        client.login("gatepost", secret)
        client.sendmail("shop@acme.example", to, MAIL.format(", ".join(to)))


def test_domains_of_one_system_are_one_site_and_a_refused_recipient_comes_back(tmp_path):
    """Two customers of one mail system, one unknown recipient: the site is the system's, and the sender gets a signed report."""
    data = tmp_path / "data"
    secret = prepare(data)
    records = own_domain(data)
    # each peer has an address of its own, since all mail hosts have one port
    far = ScriptedPeer({"RCPT:nobody@two.example": "550 5.1.1 no such user"}, extensions=["PIPELINING", "8BITMIME"], host="127.0.0.2")
    home = ScriptedPeer(host="127.0.0.3")
    zone = {
        "one.example": {"MX": ["10 mx1.hosting.example"]},
        "two.example": {"MX": ["10 mx2.hosting.example", "20 mx1.hosting.example"]},
        "mx1.hosting.example": {"A": ["127.0.0.2"]},
        "mx2.hosting.example": {"A": ["127.0.0.2"]},
        "acme.example": {"MX": ["10 mx.acme.example"]},
        "mx.acme.example": {"A": ["127.0.0.3"]},
    }

    async def main():
        async with DnsServer(zone) as dns_server, far:
            home.port = far.port
            async with home:
                await asyncio.to_thread(serve, dns_server)

    def serve(dns_server):
        flags = [
            "egress.default_route=mx",
            f"egress.mx_port={far.port}",
            f"dns.server={dns_server.address}",
            "egress.hostname=gate.example",
        ]
        with Serving(data, *flags) as serving:
            submit(serving, secret, ["ann@one.example", "bob@two.example", "nobody@two.example"])
            until(lambda: home.messages)
            until(lambda: 'gatepost_bounce_messages_total{action="failed"} 1.0' in serving.text("/metrics"))
            assert dns_server.asked["two.example", "MX"] >= 1

    asyncio.run(main())
    (received,) = home.messages
    assert "<>" in received.mail
    report = email.message_from_bytes(received.content, policy=email.policy.SMTP)
    group = list(report.iter_parts())[1].get_payload()[1]
    assert (group["Final-Recipient"], group["Status"]) == ("rfc822; nobody@two.example", "5.1.1")
    signature = report["DKIM-Signature"]
    assert "d=gate.example" in "".join(signature.split())
    assert dkim.verify(received.content, dnsfunc=lambda name, timeout=5: records[name.decode().rstrip(".")].encode())
    found = read(data, lambda conn: systems.find(conn, ["one.example", "two.example", "acme.example"]))
    assert {domain: one.site for domain, one in found.items()} == {
        "one.example": "hosting.example", "two.example": "hosting.example", "acme.example": "acme.example",
    }  # fmt: skip
    rows = read(data, lambda conn: messages.page(conn, None, messages.Filter(), 10))
    assert sorted(row.source for row in rows) == ["dsn", "smtp"]
    original = next(row for row in rows if row.source == "smtp")
    recipients = read(data, lambda conn: messages.recipients_of(conn, [original.id]))[original.id]
    assert [(one.site, one.status) for one in recipients] == [
        ("hosting.example", "delivered"), ("hosting.example", "delivered"), ("hosting.example", "bounced"),
    ]  # fmt: skip
    kinds = [row.type for row in read(data, lambda conn: facts.events_of(conn, original.id))]
    assert kinds.count("recipient.notified") == 1

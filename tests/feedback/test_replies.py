"""What other servers say, as they and their providers document it: each with its reason, when it stands in a report."""

from pathlib import Path

import pytest

from gatepost.policy.classify import Statement, judge

LINES = [
    line.split("\t")
    for line in (Path(__file__).parent / "replies.tsv").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize(("category", "stage", "reply"), LINES, ids=[line[2][:60] for line in LINES])
def test_a_documented_reply_has_its_reason(category: str, stage: str, reply: str) -> None:
    """The rules know what the providers' own pages say; a change that forgets one is seen here."""
    found = judge([Statement(text=reply, stage="" if stage == "-" else stage)])
    assert found.category == category, found.rule

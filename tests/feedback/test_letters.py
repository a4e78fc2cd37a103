"""Mail that came back, in the words of many systems: what it is, whom it is about and why."""

from pathlib import Path

import pytest

from gatepost.feedback.reading import read_report

HERE = Path(__file__).parent
LINES = [line.split("\t") for line in (HERE / "letters.tsv").read_text("utf-8").splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(("name", "kind", "recipients"), [(line[0], line[1], line[2:]) for line in LINES], ids=[line[0] for line in LINES])
def test_a_letter_is_understood(name: str, kind: str, recipients: list[str]) -> None:
    """Kind, every recipient in order, category and codes."""
    report = read_report((HERE / "letters" / f"{name}.eml").read_bytes())
    found = [f"{one.address} {one.category} {one.smtp_code or '-'} {one.enhanced_code or '-'}" for one in report.recipients]
    assert (report.kind, found) == (kind, recipients), [one.rule for one in report.recipients]


def test_every_letter_has_its_line() -> None:
    """A sample without an expectation would prove nothing."""
    assert {path.stem for path in (HERE / "letters").iterdir()} == {line[0] for line in LINES}

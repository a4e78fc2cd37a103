"""The goals on mail that nobody here wrote, where a checkout has the corpora beside it."""

import csv
import gzip
import json
from pathlib import Path

import pytest
from bench.feedback import GOALS, measure

from gatepost.feedback.reading import read_report
from gatepost.mime.parts import read_mail
from gatepost.wire.dmarc_report import parse_aggregate_report
from gatepost.wire.tls_report_reading import parse_tls_report
from gatepost.wire.unpacking import Unreadable

CORPORA = Path(__file__).parents[3] / "shared" / "corpora"
needs_corpora = pytest.mark.skipif(not CORPORA.exists(), reason="the corpora are not part of the project")
FLOOR_UNSEEN = {"recognised": 0.99, "category": 0.87, "hard": 0.95, "recipients": 0.97}


@needs_corpora
def test_the_goals_hold_where_rules_were_written() -> None:
    """Half of the mail systems meet every goal; the half that nobody looked at may not fall behind what was reached there."""
    seen, unseen = measure(CORPORA)
    for name in ("recognised", "category", "hard", "recipients"):
        assert seen.share(name) >= GOALS[name], name
        assert unseen.share(name) >= FLOOR_UNSEEN[name], name
    assert seen.false_bounces == unseen.false_bounces == 0
    assert seen.copies_differ == unseen.copies_differ == 0


@needs_corpora
def test_complaints_of_others_are_read() -> None:
    """Every ARF sample is a complaint with the type that is written beside it."""
    for path in sorted((CORPORA / "arf").glob("*.eml")):
        expected = json.loads(path.with_suffix(".json").read_text())
        report = read_report(path.read_bytes())
        assert (path.name, report.kind) == (path.name, "complaint")
        assert report.feedback_type.replace("-", "") == str(expected["feedback_type"]).lower()


@needs_corpora
def test_reports_of_others_are_read() -> None:
    """Every DMARC and TLS sample, alone and in a mail, and none of them is a bounce."""
    for path in sorted((CORPORA / "dmarc").glob("*.xml")):
        expected = json.loads(path.with_suffix(".json").read_text())
        found = parse_aggregate_report(path.read_bytes())
        assert (found.report_id, len(found.records)) == (expected["report_metadata"]["report_id"], len(expected["record"]))
    for path in [
        *sorted((CORPORA / "dmarc").glob("*.eml")),
        *sorted((CORPORA / "tlsrpt").glob("*.eml")),
        *sorted((CORPORA / "dkim").glob("*")),
    ]:
        assert (path.name, read_report(path.read_bytes()).kind) == (path.name, "other")
    for path in sorted((CORPORA / "tlsrpt").glob("rpt*.json")):
        assert parse_tls_report(gzip.compress(path.read_bytes())).policies
    for path in sorted((CORPORA / "dmarc").glob("*.eml")):
        assert any(_is_report(part.raw) for part in read_mail(path.read_bytes()).parts if part.raw)


@needs_corpora
def test_the_split_is_by_system() -> None:
    """Files of one system are in one half, so that the other half says something about systems that were never seen."""
    with (CORPORA / "sisimai" / "EXPECTED.csv").open(encoding="utf-8", newline="") as file:
        names = {row["file"] for row in csv.DictReader(file)}
    assert len(names) > 300


def _is_report(content: bytes) -> bool:
    try:
        return bool(parse_aggregate_report(content).records)
    except Unreadable:
        return False

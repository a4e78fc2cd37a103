"""What reports say, and how they look: numbers against the week before, the worst first, one letter in text and HTML."""

import datetime as dt
import re
from html.parser import HTMLParser

import pytest

from gatepost.domain.stats import Counts
from gatepost.domain.team_report import ReportKind, ReportSubscription
from gatepost.domain.unusual import UnusualChange
from gatepost.mime.team_letter import as_html, as_text
from gatepost.policy.deliverability import Standing, evaluate
from gatepost.policy.report_periods import latest
from gatepost.policy.report_words import count_tile, rate_tile
from gatepost.policy.team_letters import DomainFacts, Facts, write

NOW = int(dt.datetime(2026, 11, 24, 9, tzinfo=dt.UTC).timestamp()) * 1000
WELL = Standing(score=100)


def counts(delivered: int, *, bounced: int = 0, **more) -> Counts:
    given = {"bounces": {"invalid_recipient": bounced}} if bounced else {}
    return Counts(accepted=delivered + bounced, attempted=delivered + bounced, delivered=delivered, bounced=bounced, **{**given, **more})


def facts(kind: ReportKind = ReportKind.WEEKLY, **more) -> Facts:
    one = ReportSubscription(
        id="rps_1", tenant_id="ten_1", kind=kind, address="", zone="Europe/Berlin", created_at=0, changed_at=0, next_at=0
    )
    good, bad = counts(9_000, opened=3_000), counts(2_700, bounced=300, complained=12)
    domains = [
        DomainFacts(name="acme.example", now=good, before=good, score=evaluate(good, WELL), earlier=evaluate(good, WELL)),
        DomainFacts(
            name="news.acme.example", now=bad, before=counts(3_000), score=evaluate(bad, WELL), earlier=evaluate(counts(3_000), WELL)
        ),
    ]
    given = {
        "of": "Acme",
        "domains": domains,
        "now": good + bad,
        "before": counts(11_000, opened=3_300),
        "sites": [("google.com", counts(900, bounced=30))],
    }
    return Facts(kind=kind, zone="Europe/Berlin", period=latest(one, NOW), **{**given, **more})


UNUSUAL = UnusualChange(
    id="unc_1", tenant_id="ten_1", metric="bounces", scope="domain", name="news.acme.example", span="day", opened_at=NOW - 5 * 86_400_000,
    seen_at=NOW, expected=0.01, seen=0.1, part=300, whole=3_000, detail="10.0 % of 3,000 recipients bounced in 24 hours; usual is 1.0 %",
    advice="look at the newest bounces",
)  # fmt: skip


def test_the_weekly_report_names_the_worst_with_reason_and_advice():
    """Subject with the numbers, what to look at first, domains with the worst score first, each change against the week before."""
    letter = write(facts(unusual=[UNUSUAL]))
    assert letter.subject == "Acme: 11,700 delivered (97.5 %) in the week of 16–22 November, 2 things to look at"
    assert letter.notes[0].title == "Unusual: bounces of domain news.acme.example"
    fallen = letter.notes[1]
    assert re.fullmatch(r"news\.acme\.example has \d+ of 100, −\d+", fallen.title)
    assert "12 of 2,700" in fallen.text
    assert "before" in fallen.text
    assert fallen.advice
    domains = next(table for table in letter.tables if table.title.startswith("Domains"))
    assert [row[0] for row in domains.rows] == ["news.acme.example", "acme.example"]
    tiles = {tile.label: tile for tile in letter.tiles}
    assert (tiles["Delivered"].value, tiles["Delivered"].change) == ("11,700", "+6 %")
    assert (tiles["Bounced"].tone.value, tiles["Bounced"].change) == ("bad", "+2.5 points")
    assert "700 more than in the week before" in letter.lead


def test_nothing_to_worry_about_is_said():
    """A week of clean mail has no notes, and says so in the subject."""
    good = counts(5_000)
    letter = write(
        facts(now=good, before=good, domains=[DomainFacts(name="acme.example", now=good, before=good, score=evaluate(good, WELL))])
    )
    assert letter.subject.endswith("nothing to worry about")
    assert letter.notes == ()
    assert {tile.change for tile in letter.tiles if tile.value != "–"} <= {"as before", ""}


@pytest.mark.parametrize("kind", list(ReportKind))
def test_without_mail_there_is_no_letter(kind):
    """A week without mail, a day without bounces, a day without complaints."""
    assert write(facts(kind, now=Counts(), before=Counts(), domains=[], sites=[])) is None


def test_digests_say_why_and_where():
    """Bounces by reason and receiving system; complaints with the line that large receivers draw."""
    bounces = write(facts(ReportKind.BOUNCES))
    assert bounces.subject == "Acme: 300 bounces (2.5 %) on 23 November"
    assert ("no such mailbox", "300", "100.0 %") in bounces.tables[0].rows
    assert ("google.com", "30", "3.2 %") in next(table for table in bounces.tables if table.title == "Receiving systems").rows
    complaints = write(facts(ReportKind.COMPLAINTS, now=counts(2_700, complained=12, unsubscribed=1)))
    assert complaints.subject == "Acme: 12 complaints (0.44 %) and 1 unsubscription on 23 November"
    assert "0.1 %" in complaints.notes[0].text


class Checked(HTMLParser):
    """Counts what mail programs do not bear, and keeps what is read."""

    void = frozenset({"meta", "br", "img", "hr"})

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in self.void:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in {"href", "src", "action", "background"}]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


@pytest.mark.parametrize("kind", list(ReportKind))
def test_the_html_is_what_mail_programs_show_and_says_what_the_text_says(kind):
    """Balanced, without script, image and form, links to the pages alone, below the size at which Gmail cuts; every number is in both parts."""
    letter = write(facts(kind, unusual=[UNUSUAL]))
    html = as_html(letter, pages="https://gate.example", unsubscribe="https://gate.example/reports/unsubscribe/x")
    text = as_text(letter, pages="https://gate.example", unsubscribe="https://gate.example/reports/unsubscribe/x")
    read = Checked()
    read.feed(html)
    assert read.open == []
    assert not read.tags & {"script", "img", "form", "iframe", "link", "svg", "video"}
    assert set(read.links) == {"https://gate.example", "https://gate.example/reports/unsubscribe/x"}
    assert len(html.encode()) < 100_000
    shown = " ".join(read.text)
    for tile in letter.tiles:
        assert tile.value in shown
        assert tile.value in text
    for table in letter.tables:
        assert all(cell in shown and cell in text for row in table.rows for cell in row)
    assert max(map(len, text.splitlines())) <= 100


def test_names_are_text_not_markup():
    """A tenant or a receiving system may be named as it likes: nothing of it is markup in the letter."""
    letter = write(facts(ReportKind.BOUNCES, of='<b onload="x">&', sites=[("<script>alert(1)</script>", counts(10, bounced=5))]))
    html = as_html(letter)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_numbers_change_in_words():
    """More bounces are bad, more deliveries are no news, a rate moves by points, nothing is divided by nothing."""
    assert count_tile("x", 30, 10).change == "+200 %"
    assert count_tile("x", 300, 10).change == "× 30"
    assert count_tile("x", 5, 0).change == "none before"
    assert count_tile("x", 5, 10).tone.value == "good"
    assert rate_tile("x", None, 0.1).value == "–"
    assert rate_tile("x", 0.0005, 0.0004).change == "+0.01 points"
    assert rate_tile("x", 0.98, 0.99, is_good=True).tone.value == "bad"

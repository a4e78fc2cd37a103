"""Insights: the numbers that the store has, in the time that was asked for, for everybody who looks."""

import csv
import io
import re

import pytest

from gatepost.clock import DAY, HOUR, MINUTE, iso
from gatepost.dashboard import charts
from gatepost.domain.stats import Labels, waited
from gatepost.store import counting, folding
from tests.dashboard.accessible import violations
from tests.dashboard.conftest import OpenPage
from tests.dashboard.site import Site, running_site

HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A gateway with a week of mail in two streams, and two openings."""
    with running_site(tmp_path_factory.mktemp("insights")) as running:
        running.write(lambda conn: count(conn, running.deps.default_tenant_id, running.deps.clock.now()))
        yield running


def count(conn, tenant_id, now):
    """Count 10 messages an hour of which one bounces, and as many a week before of which none does."""
    deltas = counting.Deltas()
    for hour in range(14 * 24 - 2):
        at = now - hour * HOUR - MINUTE
        labels = Labels("acme.example", "bulk" if hour % 2 else "transactional", '["=cmd()"]', "", at)
        is_new = hour < 7 * 24
        deltas.add(tenant_id, labels, "mx", "", "", at, ("messages", "accepted"), 10)
        deltas.add(tenant_id, labels, "mx", "ip1", "google", at, ("attempted", "delivered", waited(700)), 9 if is_new else 10)
        if is_new:
            deltas.add(tenant_id, labels, "mx", "ip1", HOSTILE, at, ("attempted", "bounced", "bounced_invalid_recipient"))
    deltas.add(tenant_id, labels, "mx", "ip1", "google", now - HOUR, ("opened", "opens", "clicked", "clicks"), 2)
    deltas.write(conn)
    folding.fold(conn, folding.Names())


def test_the_page_tells_a_week_beside_the_week_before(site: Site, client) -> None:
    """Rates of now and then, the charts as pictures with words, the table by stream; names of strangers are text."""
    end = site.deps.clock.now() // (5 * MINUTE) * 5 * MINUTE + 5 * MINUTE
    week = {"from": iso(end - 7 * DAY), "to": iso(end)}
    text = client.get("/insights", params=week).text
    assert "90.0%" in text
    assert "was 100.0%" in text
    assert text.count('role="img"') == 4
    assert "1,512 recipients were delivered, 168 failed." in text
    assert "invalid recipient" in text
    by_site = client.get("/insights", params={**week, "by": "site"}).text
    assert HOSTILE not in by_site
    assert "not known yet" in by_site


def test_the_page_keeps_to_its_time_and_filters(site: Site, client) -> None:
    """A day, one stream, nothing of the sandbox; every choice stands in the address."""
    assert "240</strong>" in client.get("/insights?span=24h").text or "230</strong>" in client.get("/insights?span=24h").text
    bulk = client.get("/insights?span=30d&stream=bulk&by=stream").text
    assert 'value="sandbox"' in bulk
    assert "<option selected>bulk</option>" in bulk
    assert "No mail in this time" in client.get("/insights?mode=sandbox").text
    assert "No mail in this time" in client.get("/insights?domain=none.example").text
    assert "span=30d" in client.get("/insights?span=30d").text
    assert client.get("/insights?from=2026-01-01&to=2026-02-01").status_code == 200


@pytest.mark.parametrize(
    ("given", "field", "told"),
    [
        ({"from": "yesterday"}, "from", "Give a day such as"),
        ({"from": "2026-11-01", "to": "2026-13-01"}, "to", "Give a day such as"),
        ({"from": "2026-02-01", "to": "2026-01-01"}, "from", "It begins before it ends"),
        ({"to": "9999-12-31"}, "to", "It is at most ten years from now"),
        ({"from": "2026-11-01T10:00"}, "from", "Give a day such as"),
        ({"time_zone": "Mars/Olympus"}, "time_zone", "Give a name of the IANA list"),
    ],
)
def test_a_time_that_makes_no_sense_is_told_beside_its_field(client, given: dict[str, str], field: str, told: str) -> None:
    """The page is there with what was typed and the last week's numbers; its file leads back to it. Nothing is an error page."""
    answer = client.get("/insights", params=given)
    assert answer.status_code == 422
    assert re.findall(r'id="(\w+)-fault" role="alert">([^<]*)', answer.text)[0][0] == field
    assert told in answer.text
    assert f'value="{given[field]}"' in answer.text
    assert answer.text.count('role="img"') == 4, "the numbers of a week are there"
    file = client.get("/insights/table.csv", params=given, follow_redirects=True)
    assert (file.status_code, f'id="{field}-fault"' in file.text) == (422, True)


def test_a_hostile_time_is_text(client) -> None:
    """What was typed comes back escaped."""
    for name in ("from", "to", "time_zone"):
        assert HOSTILE not in client.get("/insights", params={name: HOSTILE}).text


def test_days_are_those_of_a_time_zone(site: Site, client) -> None:
    """UTC where none is given; else days begin at midnight there, and every time on the page is that zone's."""
    text = client.get("/insights?span=30d").text
    assert ("UTC; beside it" in text, "From (UTC)" in text, 'name="time_zone" value="UTC"' in text) == (True, True, True)
    there = client.get("/insights?span=30d&time_zone=Asia/Kolkata").text
    assert ("Asia/Kolkata; beside it" in there, "From (Asia/Kolkata)" in there) == (True, True)
    starts = re.findall(r'<th scope="row"><time datetime="([^"]+)">([^<]+)</time>', there)
    assert starts
    assert {at[10:] for at, _ in starts} == {"T18:30:00.000Z"}
    assert {told[10:] for _, told in starts} == {" 00:00"}
    assert "time_zone=Asia%2FKolkata" in there, "choices keep it"
    day = client.get("/insights?from=2026-03-29&to=2026-03-30&time_zone=Europe/Berlin").text
    assert '<time datetime="2026-03-28T23:00:00.000Z">2026-03-29 00:00</time>' in day
    assert '<time datetime="2026-03-29T22:00:00.000Z">2026-03-30 00:00</time>' in day


def test_the_table_is_there_as_csv(site: Site, client) -> None:
    """The same rows; nothing that a spreadsheet computes."""
    answer = client.get("/insights/table.csv?by=tag&span=30d")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["tag"] for row in rows] == ["'=cmd()"]
    assert int(rows[0]["bounced"]) == 168


def test_a_fresh_gateway_shows_how_to_begin(empty_site: Site) -> None:
    """No charts of nothing."""
    import httpx

    text = httpx.get(empty_site.url + "/insights").text
    assert "No mail in this time" in text
    assert '<svg viewBox="0 0 1000' not in text


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_everybody_can_read_the_page(site: Site, open_page: OpenPage, theme: str, width: int) -> None:
    """axe-core finds nothing, nothing is wider than the screen, no rule of the policy is broken, with and without script."""
    page = open_page(site.url + "/insights?span=30d&time_zone=Europe/Berlin", width=width, theme=theme)
    page.get_by_text("The numbers behind the charts").click()
    found = [one["id"] for one in violations(page, iframes=False) if one["impact"] != "minor"]
    assert found == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tallest = page.evaluate("Math.max(...[...document.querySelectorAll('.chart rect')].map(one => one.getBoundingClientRect().height))")
    assert tallest > 40
    assert page.evaluate("getComputedStyle(document.querySelector('.chart rect')).fill") not in {"", "rgb(0, 0, 0)"}


def test_a_filter_works_without_script(site: Site, open_page: OpenPage) -> None:
    """Choosing a stream and pressing the button leads to its numbers."""
    page = open_page(site.url + "/insights", script=False)
    page.get_by_label("Stream").select_option("bulk")
    page.get_by_role("button", name="Show").click()
    assert "stream=bulk" in page.url
    assert page.locator(".insight-table").first.locator("tbody tr").count() == 1


def test_a_day_is_chosen_without_script(site: Site, open_page: OpenPage) -> None:
    """Two days and a zone in the form, in place of the span that was shown before."""
    page = open_page(site.url + "/insights?span=24h", script=False)
    page.get_by_label("From", exact=True).fill("2026-01-01")
    page.get_by_label("To, not included").fill("2026-02-01")
    page.get_by_label("Time zone").fill("America/New_York")
    page.get_by_role("button", name="Show").click()
    assert "2026-01-01 00:00" in page.locator(".lead").inner_text()
    assert "America/New_York" in page.locator(".lead").inner_text()
    assert page.locator(".chips a[aria-current]").count() == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_everybody_can_read_a_fault(site: Site, open_page: OpenPage, width: int) -> None:
    """The message belongs to its field, for who sees it and who does not."""
    page = open_page(site.url + "/insights", width=width)
    page.get_by_label("Time zone").fill("Mars/Olympus")
    page.get_by_role("button", name="Show").click()
    assert page.get_by_label("Time zone").get_attribute("aria-describedby") == "time_zone-fault"
    assert "IANA" in page.get_by_role("alert").inner_text()
    found = [one["id"] for one in violations(page, iframes=False) if one["impact"] != "minor"]
    assert found == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    open_page.complaints.clear()  # type: ignore[attr-defined]  # the browser notes a 422


def test_a_value_that_stands_alone_is_seen() -> None:
    """One hour's rate between hours without mail is a dot, and no gap."""
    drawn = charts.line("bounced", [None, 0.5, None, 0.2, 0.4], 1.0)
    assert len(drawn.dots) == 1
    assert [len(part.split()) for part in drawn.parts] == [2]

"""Scores, unusual changes and reports at the doors: HTTP, the link in a mail, the command line, the pages."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from gatepost.cli import main
from gatepost.clock import DAY
from gatepost.domain.unusual import UnusualChange
from gatepost.policy.deliverability import Standing, evaluate
from gatepost.policy.quota import day_of
from gatepost.settings import Reports
from gatepost.store import scores, team_reports, unusual
from gatepost.store.counting import Deltas, Labels
from gatepost.store.scores import ScoreRow
from gatepost.tenants.team_reports import LINK
from tests.dashboard.accessible import violations
from tests.dashboard.conftest import browser, open_page  # noqa: F401 - fixtures
from tests.dashboard.site import running_site
from tests.dashboard.team import EMAILS, set_up, token_of
from tests.dashboard.team import browser as signed_in
from tests.doors.http_rig import DOMAIN, Rig, running_door
from tests.telling.test_deliverability import WELL, counts


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running_door(tmp_path_factory.mktemp("door")) as running:
        fill(running.deps, DOMAIN, running.run)
        yield running


def fill(deps, domain: str, run) -> None:
    """Write a week of scores down, and mail of the last hour that bounces more."""
    now = deps.clock.now()
    domain_id = run(deps.domains.get(deps.default_tenant_id, domain)).domain.id
    rows = [
        ScoreRow(domain_id=domain_id, tenant_id=deps.default_tenant_id, day=day_of(now - n * DAY), at=now, score=evaluate(counts(), WELL))
        for n in range(1, 8)
    ]  # fmt: skip
    run(deps.engine.write(lambda conn: scores.put(conn, rows)))
    deltas = Deltas()
    for names, n in ((["accepted"], 1_000), (["attempted"], 1_000), (["delivered"], 900), (["bounced", "bounced_invalid_recipient"], 100)):
        deltas.add(deps.default_tenant_id, Labels(domain, "bulk", "", "", now), "mx", "", "far.example", now, names, n)
    run(deps.engine.write(deltas.write))


def test_the_score_is_read_with_components_and_the_reason_of_each_change(rig):
    """As of now, the days before as they were written, and why today is not yesterday."""
    with rig.client() as client:
        found = client.get(f"/v1/domains/{DOMAIN}/deliverability?days=5").json()
        assert found["object"] == "deliverability"
        assert [one["score"] for one in found["days"]] == [100, 100, 100, 100, found["score"]]
        assert found["score"] < 90
        assert found["trend"] == "falling"
        assert found["days"][-1]["changes"][0]["component"] == "bounces"
        assert "100 of 1,000" in found["days"][-1]["changes"][0]["after"]
        assert found["next_step"]
        assert client.get(f"/v1/domains/{found['id']}/deliverability").json()["score"] == found["score"]
        assert client.get(f"/v1/domains/{DOMAIN}/deliverability?days=0").json()["errors"][0]["pointer"] == "days"
        assert client.get("/v1/domains/none.example/deliverability").status_code == 404


def test_unusual_changes_are_listed_by_state(rig):
    """What lasts, what is over, page by page."""
    deps, now = rig.deps, rig.deps.clock.now()
    for n, name in enumerate(("a.example", "b.example", "c.example")):
        one = UnusualChange(
            id=f"unc_01m87d2r93e008ty822j4yspk{n}", tenant_id=deps.default_tenant_id, metric="bounces", scope="domain", name=name, span="hour",
            opened_at=now, seen_at=now, expected=0.01, seen=0.3, part=30, whole=100, detail="many", advice="look",
        )  # fmt: skip
        rig.run(deps.engine.write(lambda conn, one=one: unusual.open_change(conn, one)))
    rig.run(deps.engine.write(lambda conn: unusual.close_change(conn, "unc_01m87d2r93e008ty822j4yspk0", now)))
    with rig.client() as client:
        assert [one["name"] for one in client.get("/v1/unusual").json()["data"]] == ["c.example", "b.example"]
        assert [one["name"] for one in client.get("/v1/unusual?state=closed").json()["data"]] == ["a.example"]
        page = client.get("/v1/unusual?state=all&limit=2").json()
        assert page["has_more"]
        rest = client.get(f"/v1/unusual?state=all&after={page['data'][-1]['id']}").json()
        assert [one["name"] for one in rest["data"]] == ["a.example"]
        assert client.get("/v1/unusual?state=odd").json()["errors"][0]["code"] == "unknown_status"


def test_a_subscription_is_made_read_changed_and_ended(rig):
    """The whole life of one over HTTP, with its places for faults."""
    with rig.client() as client, rig.client(rig.other_key) as stranger:
        made = client.post("/v1/reports", json={"kind": "weekly", "address": "ann@acme.example", "zone": "Europe/Berlin"})
        assert made.status_code == 201
        path = made.headers["location"]
        assert made.json()["next_at"]
        assert client.post("/v1/reports", json={"kind": "weekly", "address": "ANN@acme.example"}).status_code == 409
        assert client.post("/v1/reports", json={"kind": "weekly", "address": "nope"}).json()["errors"][0]["pointer"] == "/address"
        assert client.post("/v1/reports", json={"kind": "x", "address": "a@b.example"}).status_code == 422
        assert client.patch(path, json={"hour": 9, "domains": [DOMAIN]}).json()["hour"] == 9
        assert client.get(path).json()["domains"] == [DOMAIN]
        assert [one["id"] for one in client.get("/v1/reports").json()["data"]] == [made.json()["id"]]
        assert stranger.get(path).status_code == 404
        assert client.delete(path).status_code == 204
        assert client.get(path).status_code == 404


def test_the_link_in_a_mail_needs_a_post_and_nothing_else(rig):
    """GET shows a page and changes nothing; POST, as a mail program sends it, ends the report; a wrong link is a page, too."""
    with rig.client() as client, rig.client(None) as reader:
        made = client.post("/v1/reports", json={"kind": "bounces", "address": "reader@acme.example"}).json()
        token = rig.run(rig.engine.read(lambda conn: team_reports.token_of(conn, made["id"])))
        link = f"{LINK}{made['id']}.{token}"
        for _ in range(2):
            page = reader.get(link)
            assert (page.status_code, "End the report" in page.text) == (200, True)
            assert "script" not in page.headers["content-security-policy"]
        assert client.get(f"/v1/reports/{made['id']}").json()["ended_at"] is None
        one_click = {"content-type": "application/x-www-form-urlencoded"}
        for _ in range(2):
            ended = reader.post(link, content="List-Unsubscribe=One-Click", headers=one_click)
            assert (ended.status_code, "has ended" in ended.text) == (200, True)
        assert client.get(f"/v1/reports/{made['id']}").json()["ended_by"] == "receiver"
        assert client.post("/v1/reports", json={"kind": "bounces", "address": "reader@acme.example"}).status_code == 409
        assert reader.post(link[:-1] + ("0" if link[-1] != "0" else "1")).status_code == 404
        assert reader.get(LINK + "x").status_code == 404
        assert "reader@" not in page.text


def run(data: Path, *arguments: str, code: int = 0):
    result = CliRunner().invoke(main, [*arguments, "--data", str(data), "--json"])
    assert result.exit_code == code, result.output + repr(result.exception)
    return json.loads(result.stdout)


def test_the_command_line_does_the_same(tmp_path):
    """Score, unusual changes, subscriptions and a preview; what does not exist fails clearly."""
    data = tmp_path / "data"
    run(data, "domain", "add", "acme.example", "--trust")
    assert run(data, "domain", "score", "acme.example")["score"] is None
    assert run(data, "domain", "score", "none.example", code=1)["error"]["code"] == "not_found"
    assert run(data, "unusual", "list", "--all") == []
    made = run(data, "report", "subscribe", "bounces", "ann@acme.example", "--zone", "Asia/Kolkata", "--hour", "9")
    assert run(data, "report", "change", made["id"], "--hour", "10")["hour"] == 10
    assert [one["address"] for one in run(data, "report", "list")] == ["ann@acme.example"]
    assert run(data, "report", "subscribe", "bounces", "ann@acme.example", code=1)["error"]["code"] == "conflict"
    assert run(data, "report", "preview", "weekly", code=1)["error"]["code"] == "not_found"
    assert run(data, "report", "remove", made["id"])["removed"] is True
    for command in (["domain", "score", "acme.example"], ["unusual", "list"], ["report", "list"]):
        assert CliRunner().invoke(main, [*command, "--data", str(data)]).exit_code == 0


@pytest.fixture
def site(tmp_path):
    with running_site(tmp_path, reports=Reports(sender="reports@acme.example")) as site:
        yield site


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_a_domains_page_shows_score_trend_and_reason(site, open_page, width, theme):  # noqa: F811
    """The number, a line of the days, what costs points, why it moved; without faults of accessibility, on any screen."""
    from gatepost.domain.access import GATEWAY

    view = site.run(site.deps.domains.add(site.deps.default_tenant_id, "acme.example", by=GATEWAY, is_trusted=True))
    fill(site.deps, "acme.example", site.run)
    page = open_page(f"{site.url}/domains/{view.domain.id}", width=width, theme=theme)
    card = page.locator("section", has=page.get_by_role("heading", name="Deliverability"))
    assert "of 100" in card.inner_text()
    assert "100 of 1,000 recipients bounced" in card.inner_text()
    line = card.get_by_role("img")
    assert "to " in line.get_attribute("aria-label")
    box = line.locator("polyline").bounding_box()
    assert box["width"] > 200
    assert box["height"] > 2
    assert [one["id"] for one in violations(page) if one["impact"] != "minor"] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_people_choose_their_own_reports_on_their_page(site):
    """Ticked kinds are sent to one's own address, unticked ones end; a wrong zone is told beside its field."""
    set_up(site)
    with closing(signed_in(site)) as client:
        assert "Reports by mail" in client.get("/account").text
        form = {"token": token_of(client), "weekly": "on", "bounces": "on", "zone": "Europe/Berlin", "hour": "8"}
        assert client.post("/account/reports", data=form).status_code == 303
        found = subscriptions(site)
        assert {(one.kind.value, one.zone, one.hour, one.address) for one in found} == {
            (kind, "Europe/Berlin", 8, EMAILS["owner"]) for kind in ("weekly", "bounces")
        }
        del form["bounces"]
        assert client.post("/account/reports", data={**form, "hour": "9"}).status_code == 303
        assert {(one.kind.value, one.hour) for one in subscriptions(site)} == {("weekly", 9)}
        wrong = client.post("/account/reports", data={**form, "zone": "Mars"})
        assert wrong.status_code == 422
        assert "time zone of the IANA list" in wrong.text
        assert 'name="weekly" value="on" checked' in client.get("/account").text


def subscriptions(site):
    return site.run(site.deps.engine.read(lambda conn: team_reports.of_tenant(conn, site.deps.default_tenant_id)))


def test_a_score_of_nothing_is_not_known(site):
    """A domain that nobody looked at and that sent nothing has no number, no line and no step."""
    from gatepost.domain.access import GATEWAY

    view = site.run(site.deps.domains.add(site.deps.default_tenant_id, "new.example", by=GATEWAY, is_trusted=True))
    assert evaluate(counts(0), Standing(score=None)).score is None
    with httpx.Client(base_url=site.url, headers={"Sec-Fetch-Site": "same-origin"}) as client:
        assert "<polyline" not in client.get(f"/domains/{view.domain.id}").text

"""The pages of webhooks, suppressions, streams, routes, relays, sites, actions on the queue, reports and what came back: their forms."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from gatepost.domain.address import parse_address
from gatepost.domain.recipient import Status
from gatepost.egress.courier import Probe
from gatepost.settings import RouteRule
from gatepost.store import inbound, roads, shaping, suppressions
from gatepost.store.schema import audit, queue_action, recipient
from tests.dashboard import team
from tests.dashboard.accessible import violations
from tests.dashboard.conftest import OpenPage, fill
from tests.dashboard.rooms import HOSTILE, RELAYS, SEEDS, furnish
from tests.dashboard.site import Site, running_site
from tests.store.rows import put_message

PATHS = (
    "/webhooks", "/webhooks/{webhook}", "/webhooks/{webhook}?status=failed", "/suppressions", "/suppressions?address=nobody@example.net",
    "/streams", "/streams/newsletter", "/streams/codes", "/routes", "/routes/{route}", "/routes/fixed", "/relays", "/relays/main",
    "/relays/second", "/relays/mx", "/sites", "/sites/microsoft", "/sites/example.net", "/sites/*", "/q", "/q/actions",
    "/q/actions?count=yes&action=reroute&site=google", "/q/actions/{action}", "/returned", "/returned?state=unread", "/returned/{unread}",
    "/domains/{domain}", "/domains/{domain}/dmarc", "/domains/{quiet_domain}/dmarc", "/domains/{domain}/tls-reports",
    "/domains/{quiet_domain}/tls-reports", "/placement", "/placement?span=90d&domain=none.example", "/placement/{placement}", "/relay-lists",
)  # fmt: skip


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway with something in every room; tests change only what they made themselves, or put it back."""
    fixed = {"fixed": RouteRule(roads="second,mx", streams=["codes"])}
    with running_site(tmp_path_factory.mktemp("rooms"), relays=RELAYS, routes=fixed, seeds=SEEDS) as site:
        fill(site)
        furnish(site)
        yield site


@pytest.fixture
def client(rooms: Site) -> Iterator[httpx.Client]:
    """A browser without a screen, at this machine."""
    with httpx.Client(base_url=rooms.url, headers={"Sec-Fetch-Site": "same-origin"}, timeout=20) as opened:
        yield opened


def send(client: httpx.Client, path: str, *, page: str = "", **form: object) -> httpx.Response:
    """Send a form with the token of the page that it stands on; return the answer, redirects followed."""
    token = re.search(r'name="token" value="([^"]+)"', client.get(page or path).text)
    assert token is not None, page or path
    return client.post(path, data={"token": token[1], **form}, follow_redirects=True)


def audited(site: Site, action: str) -> int:
    """Count entries of the audit log."""
    return int(
        site.run(site.deps.engine.read(lambda conn: conn.execute(sa.select(sa.func.count()).where(audit.c.action == action)).scalar_one()))
    )


def test_a_webhook_is_made_and_its_secret_is_shown_once(rooms: Site, client: httpx.Client) -> None:
    """The page after the form holds the secret; no other page does."""
    answer = send(client, "/webhooks", url="https://new.acme.example/hook", events=["recipient.*"], headers="X-API-Key: s3cret")
    secret = re.search(r"whsec_[A-Za-z0-9+/=]+", answer.text)
    assert secret is not None
    here = re.search(r'href="(/webhooks/whk_[^"]+)"', answer.text)
    assert here is not None
    for path in ("/webhooks", here[1]):
        page = client.get(path).text
        assert secret[0] not in page
        assert "s3cret" not in page
    changed = send(client, here[1], url="https://new.acme.example/hook", events=["recipient.*"], description="renamed", batch_size="5").text
    assert ("renamed" in changed, "X-API-Key" in changed) == (True, True), "headers that are not given stay"
    rotated = send(client, f"{here[1]}/rotate", page=here[1], overlap="3600").text
    assert (secret[0] in rotated, "whsec_" in rotated, "goes on to sign until" in rotated) == (False, True, True)
    assert "Told of" not in send(client, f"{here[1]}/remove", page=here[1]).text.partition("renamed")[2]
    assert client.get(here[1]).status_code == 404


def test_faults_of_a_webhook_stand_beside_its_fields(client: httpx.Client) -> None:
    """What was typed is still there."""
    answer = send(client, "/webhooks", url="http://127.0.0.1/x", events=["nonsense"], description="mine", batch_size="x")
    assert answer.status_code == 422
    assert "mine" in answer.text
    answer = send(client, "/webhooks", url="http://127.0.0.1/x", events=["nonsense"], description="mine", headers="Host: y")
    assert answer.text.count('role="alert"') == 3
    assert "http://127.0.0.1/x" in answer.text


def test_a_webhook_is_paused_tried_and_sent_to_again(rooms: Site, client: httpx.Client) -> None:
    """Test, pause, enable; one delivery, a time and all that failed are sent again."""
    here = f"/webhooks/{rooms.ids['webhook']}"
    assert "A test is on its way" in send(client, f"{here}/test", page=here).text
    assert "webhook.test" in client.get(here).text
    assert "is paused" in send(client, f"{here}/switch", page=here, on="no").text
    assert send(client, f"{here}/test", page=here).status_code == 409
    assert "goes on where it stopped" in send(client, f"{here}/switch", page=here, on="yes").text
    assert "<td" not in client.get(f"{here}?status=delivered").text.partition("failed</span>")[2].partition("</table>")[0]
    assert "It is sent again" in send(client, f"{here}/deliveries/{rooms.ids['event']}/replay", page=here).text
    assert "1 event is sent again" in send(client, f"{here}/replay", page=here, what="failed").text
    assert "say from when" in send(client, f"{here}/replay", page=here, what="range").text.lower()
    assert re.search(
        r"\d+ events? (is|are) sent again", send(client, f"{here}/replay", page=here, what="range", since="2020-01-01T00:00").text
    )
    assert send(client, f"{here}/deliveries/evt_none/replay", page=here).status_code == 404


def test_an_address_is_suppressed_found_and_lifted(rooms: Site, client: httpx.Client) -> None:
    """The list changes, the audit log tells of it."""
    before = audited(rooms, "suppression.added")
    answer = send(client, "/suppressions", address="New.Person@example.org", reason="manual", stream="bulk", lasts="7", note="a note")
    assert "is suppressed" in answer.text
    assert audited(rooms, "suppression.added") == before + 1
    found = client.get("/suppressions", params={"address": "New.Person@example.org"}).text
    assert ("a note" in found, "carla@" in found) == (True, False)
    assert "renewed" not in found
    lifted = send(client, "/suppressions/remove", page="/suppressions", address="New.Person@example.org", stream="bulk")
    assert "may get mail again" in lifted.text
    assert "is not suppressed" in client.get("/suppressions", params={"address": "New.Person@example.org"}).text
    assert "only a whole one can be looked up" in client.get("/suppressions?address=new.person").text
    wrong = send(client, "/suppressions", address="nobody", reason="manual", stream="nonsense", lasts="")
    assert (wrong.status_code, wrong.text.count("field-fault")) == (422, 2)


def test_a_list_comes_and_goes_as_a_file(rooms: Site, client: httpx.Client) -> None:
    """With a faulty line nothing is taken, unless faulty lines are left out; the export holds what was taken."""
    lines = b"email,reason\nimp1@example.org,bounce\nnobody,bounce\n=imp2@example.org,unsubscribe\n"
    token = re.search(r'name="token" value="([^"]+)"', client.get("/suppressions").text)
    assert token is not None

    def load(**form: str) -> httpx.Response:
        files = {"file": ("list.csv", lines, "text/csv")}
        return client.post("/suppressions/import", data={"token": token[1], **form}, files=files, follow_redirects=True)

    refused = load()
    assert (refused.status_code, "line 3" in refused.text) == (422, True)
    assert "2 addresses added, 0 renewed, 1 line left out" in load(skip="yes").text
    assert "0 addresses added, 2 renewed" in load(skip="yes").text
    exported = client.get("/suppressions/export?format=csv")
    assert exported.headers["content-disposition"] == 'attachment; filename="suppressions.csv"'
    assert "imp1@example.org,,invalid_recipient" in exported.text
    assert "'=imp2@example.org" in exported.text
    assert audited(rooms, "suppressions.exported") >= 1
    pasted = send(client, "/suppressions/import", page="/suppressions", lines='{"address": "imp3@example.org"}')
    assert "1 address added" in pasted.text
    assert rooms.run(
        rooms.deps.engine.read(
            lambda conn: suppressions.of_address(conn, rooms.deps.default_tenant_id, parse_address("imp3@example.org").key)
        )
    )
    assert "Nothing was taken" in send(client, "/suppressions/import", page="/suppressions", lines="a,b\n1,2\n").text


def test_a_large_form_is_refused_except_a_list(client: httpx.Client) -> None:
    """Only the import takes more than a form's size."""
    assert send(client, "/suppressions", address="x" * 40_000).status_code == 413
    assert "Nothing was taken" in send(client, "/suppressions/import", page="/suppressions", lines="x" * 40_000).text


def test_a_stream_is_made_changed_and_deleted(client: httpx.Client) -> None:
    """Lane, time to live, hours and tracking; what is wrong is told beside the field."""
    form = {"lane": "bulk", "ttl": "36", "unit": "h", "opens_at": "09:00", "closes_at": "17:00", "zone": "Europe/Rome", "days": ["mon"]}
    assert "is made" in send(client, "/streams", name="digest", tracking=["opens"], unsubscribe="yes", **form).text
    page = client.get("/streams/digest").text
    assert ('value="36"' in page, 'value="09:00"' in page, 'value="Europe/Rome"' in page) == (True, True, True)
    row = client.get("/streams").text.partition("/streams/digest")[2].partition("</tr>")[0]
    assert ("36 h" in row, "opens, unsubscribe" in row) == (True, True)
    assert send(client, "/streams", name="digest", lane="bulk", unit="h").status_code == 409
    wrong = send(client, "/streams/digest", lane="bulk", unit="h", route="nowhere", opens_at="9", closes_at="17:00")
    assert (wrong.status_code, wrong.text.count("field-fault")) == (422, 2)
    assert "is changed" in send(client, "/streams/digest", lane="bulk", ttl="", unit="h").text
    assert "36 h" not in client.get("/streams").text
    assert "is deleted" in send(client, "/streams/digest/delete", page="/streams/digest").text
    assert client.get("/streams/digest").status_code == 404


def test_routes_are_made_ordered_and_removed(rooms: Site, client: httpx.Client) -> None:
    """Those of the settings come first and cannot be changed; the others move and go."""
    assert "is made" in send(client, "/routes", name="late", roads="mx,main", strategy="ordered", tags="night, batch", is_chosen="yes").text

    def names() -> list[str]:
        return re.findall(r'class="mono breakable" href="/routes/[^"]+">([^<]+)<', client.get("/routes").text)

    assert names()[0] == "fixed"
    assert names()[-1] == "late"
    own = re.search(r'href="/routes/(rte_[^"]+)">late<', client.get("/routes").text)
    assert own is not None
    assert "asked in this order" in send(client, f"/routes/{own[1]}/move", page="/routes", to="earlier").text
    assert names()[-2] == "late"
    assert "night" in client.get(f"/routes/{own[1]}").text
    wrong = send(client, f"/routes/{own[1]}", name="late", roads="nowhere", recipients="*.x y")
    assert (wrong.status_code, "field-fault" in wrong.text) == (422, True)
    assert send(client, "/routes/fixed", page="/routes", name="fixed", roads="mx").status_code == 409
    assert "is removed" in send(client, f"/routes/{own[1]}/remove", page="/routes").text
    assert "late" not in names()


def test_a_relay_is_switched_off_and_on_and_asked(rooms: Site, client: httpx.Client) -> None:
    """With the note for whoever finds it; a test sends nothing and tells how the relay answered."""
    off = send(client, "/relays/main/disable", page="/relays/main", note=f"their outage {HOSTILE}").text
    assert ("switched off" in off, HOSTILE in off, "their outage" in off) == (True, False, True)
    state = rooms.run(rooms.deps.engine.read(lambda conn: roads.view(conn, "main", rooms.deps.clock.now()))).state
    assert state == "disabled"
    assert "tried at once" in send(client, "/relays/main/enable", page="/relays/main").text
    assert audited(rooms, "relay.disabled") == audited(rooms, "relay.enabled") == 1
    assert client.post("/relays/nowhere/test", data={"token": "x"}).status_code == 403
    assert client.get("/relays/nowhere").status_code == 404
    assert "sendgrid://" not in client.get("/relays/main").text, "a relay's URL may hold its key"
    assert send(client, "/relays/main/test", page="/relays/main").status_code == 404, "nobody to ask in this process"


def test_a_relays_answer_is_shown(tmp_path: Path) -> None:
    """What the probe says, in words; the relay is asked once for each click."""
    asked = []

    async def probe(name: str) -> Probe:
        asked.append(name)
        return Probe(is_reachable=True, is_authenticated=False, latency_ms=120, detail=f"401 {HOSTILE}")

    with (
        running_site(tmp_path, relays=RELAYS) as site,
        httpx.Client(base_url=site.url, headers={"Sec-Fetch-Site": "same-origin"}) as client,
    ):
        object.__setattr__(site.deps, "probe_relay", probe)
        page = send(client, "/relays/main/test", page="/relays/main").text
        assert ("It would take no mail." in page, "does not know our key" in page, HOSTILE in page) == (True, True, False)
        assert asked == ["main"]


def test_a_site_is_suspended_limited_and_resumed(rooms: Site, client: httpx.Client) -> None:
    """The order, its note and its end are seen; a warm-up plan that was ordered stays when limits are set here."""
    assert (
        "Nothing goes there"
        in send(client, "/sites/slow.example/suspend", page="/sites/slow.example", **{"for": "3600000", "note": "calm"}).text
    )
    page = client.get("/sites/slow.example").text
    assert ("calm" in page, "in 59 min" in page or "in 1 h" in page) == (True, True)
    assert "slow.example" in client.get("/sites").text
    assert "goes there again" in send(client, "/sites/slow.example/resume", page="/sites/slow.example").text
    rule = {"warm_up": [10, 20], "warm_up_from": "2026-11-24"}
    rooms.write(lambda conn: shaping.set_rule(conn, shaping.SiteRule(source="", site="slow.example", limits=rule)))
    assert "within two seconds" in send(client, "/sites/slow.example/limits", page="/sites/slow.example", connections="3").text
    kept = next(one for one in rooms.run(rooms.deps.engine.read(shaping.rules)) if one.site == "slow.example")
    assert kept.limits == {**rule, "connections": 3}
    wrong = send(client, "/sites/slow.example/limits", page="/sites/slow.example", connections="many")
    assert (wrong.status_code, "field-fault" in wrong.text) == (422, True)
    assert client.get("/sites/no%20site").status_code == 404


def test_the_queue_is_counted_before_anything_is_done(rooms: Site, client: httpx.Client) -> None:
    """A query in the URL only counts; the form asks, and the action's page says how far it is."""
    rooms.write(
        lambda conn: put_message(
            conn, tenant_id=rooms.deps.default_tenant_id, route="mx", domains=("held.example",), due_at=1, expires_at=10**14
        )
    )

    def actions() -> int:
        return int(
            rooms.run(rooms.deps.engine.read(lambda conn: conn.execute(sa.select(sa.func.count()).select_from(queue_action)).scalar_one()))
        )

    before = actions()
    page = client.get("/q/actions", params={"count": "yes", "action": "cancel", "site": "Held.example", "note": "x"}).text
    assert "Cancel 1 recipient?" in page
    assert actions() == before
    assert "name at least one thing" in client.get("/q/actions?count=yes&action=hold").text.lower()
    assert "Nothing fits" in client.get("/q/actions?count=yes&action=release&site=held.example").text
    counted = "/q/actions?count=yes&action=cancel&site=held.example"
    done = send(client, "/q/actions", page=counted, action="cancel", site="held.example", note=HOSTILE)
    assert re.search(r"/q/actions/qac_", str(done.url))
    assert ("being done" in done.text, HOSTILE in done.text) == (True, False)
    assert actions() == before + 1
    statuses = rooms.run(rooms.deps.engine.read(lambda conn: conn.execute(sa.select(recipient.c.status)).scalars().all()))
    assert Status.CANCELLED.value not in statuses[-1:], "the page only asks; owners of the queue do it"
    wrong = send(client, "/q/actions", page=counted, action="reroute", site="held.example", to="nowhere")
    assert (wrong.status_code, "Reroute" in wrong.text) == (422, True)


def test_what_was_put_aside_is_seen_read_again_and_forgotten(rooms: Site, client: httpx.Client) -> None:
    """Its content is text; who looks stands in the audit log; reading it again makes it wait."""
    before = audited(rooms, "returned.viewed")
    page = client.get(f"/returned/{rooms.ids['unread']}").text
    assert ("Why do you write to me?" in page, HOSTILE in page) == (True, False)
    assert audited(rooms, "returned.viewed") == before + 1
    here = f"/returned/{rooms.ids['unmatched']}"
    assert "read once more" in send(client, f"{here}/again", page=here).text
    assert client.get(here).status_code == 404
    assert rooms.run(rooms.deps.engine.read(inbound.counts))["waiting"] == 1
    here = f"/returned/{rooms.ids['quarantined']}"
    assert "forgotten" in send(client, f"{here}/forget", page=here).text
    assert client.get(here).status_code == 404
    assert client.get("/returned/none").status_code == 404


def test_reports_name_the_sources_and_the_fix(rooms: Site, client: httpx.Client) -> None:
    """DMARC by source with what mends it; TLS failures by host; a domain without reports learns how to get them."""
    page = client.get(f"/domains/{rooms.ids['domain']}/dmarc?days=7").text
    assert ("1,840 <span" in page, "88.1%" in page, "198.51.100.7" in page) == (True, True, True)
    assert "let it sign with d=reported.example" in page
    tls = client.get(f"/domains/{rooms.ids['domain']}/tls-reports").text
    assert ("mx1.reported.example" in tls, "The certificate has expired." in tls, "4,210" in tls) == (True, True, True)
    assert "rua=mailto:" in client.get(f"/domains/{rooms.ids['quiet_domain']}/dmarc").text
    assert client.get("/domains/none/dmarc").status_code == 404


def test_texts_of_strangers_are_text_in_every_room(rooms: Site, client: httpx.Client) -> None:
    """Answers of consumers, replies of sites, notes, subjects of what came back: nothing of it is markup (CWE-79)."""
    shown = 0
    for path in PATHS:
        answer = client.get(path.format(**rooms.ids))
        assert answer.status_code == 200, path
        assert "<script>alert" not in answer.text, path
        shown += "&lt;script&gt;alert" in answer.text
        assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert shown >= 5


def test_who_may_only_look_is_offered_nothing_to_change(tmp_path: Path) -> None:
    """A viewer sees suppressions, streams, queue actions and reports without a form; rooms of operators are refused, to owners too."""
    with running_site(tmp_path, relays=RELAYS) as site:
        fill(site)
        team.gather(site)
        furnish(site)
        with contextlib.closing(team.browser(site, team.EMAILS["viewer"])) as viewer:
            for path in ("/suppressions", "/streams", "/streams/newsletter", "/q/actions", f"/domains/{site.ids['domain']}/dmarc"):
                answer = viewer.get(path)
                assert answer.status_code == 200, path
                assert re.findall(r'method="post" action="(?!/logout|/tenant)([^"]+)"', answer.text) == [], path
            assert "/routes" not in viewer.get("/streams").text
            for path in ("/webhooks", "/routes", "/relays", "/sites", "/returned"):
                assert viewer.get(path).status_code == 403, path
            token = team.token_of(viewer)
            assert viewer.post("/suppressions", data={"token": token, "address": "x@example.net"}).status_code == 403
        with contextlib.closing(team.browser(site, team.EMAILS["developer"])) as developer:
            page = developer.get("/q/actions?count=yes&action=hold&site=google").text
            assert "every tenant" not in page
            assert developer.get("/webhooks").status_code == 200
        with contextlib.closing(team.browser(site, team.EMAILS["admin"])) as admin:
            assert admin.get("/sites").status_code == 403
            assert send(admin, "/streams", name="named", lane="bulk", unit="h", route="main").status_code == 422, (
                "only operators name roads"
            )


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_everybody_can_use_every_room(rooms: Site, open_page: OpenPage, width: int, theme: str) -> None:
    """axe-core finds nothing moderate or worse; nothing is wider than the screen."""
    page = open_page(rooms.url, width=width, theme=theme)
    found = []
    for path in [one for one in PATHS if "?" not in one or "reroute" in one]:
        page.goto(rooms.url + path.format(**rooms.ids), wait_until="load")
        found += [f"{path}: {one['id']}: {one['nodes'][0]['html'][:120]}" for one in violations(page) if one["impact"] != "minor"]
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(f"{path}: too wide")
    assert found == []


def test_a_person_without_script_adds_a_webhook(rooms: Site, open_page: OpenPage) -> None:
    """Plain forms: fold open, tick, send; the secret is there; then it is removed behind a confirmation."""
    page = open_page(f"{rooms.url}/webhooks", script=False)
    page.get_by_label("URL").fill("https://plain.acme.example/hook")
    page.get_by_label("everything").uncheck()
    page.get_by_text("Single kinds of event").click()
    page.get_by_label("recipient.bounced").check()
    page.get_by_role("button", name="Add the webhook").click()
    expect(page.get_by_text("whsec_")).to_have_count(2)
    page.get_by_role("link", name="I have kept it").click()
    expect(page.get_by_text("Nothing was sent yet")).to_be_visible()
    page.get_by_text("Remove…").click()
    page.get_by_role("button", name="Remove the webhook").click()
    expect(page.get_by_text("The webhook is removed")).to_be_visible()


def test_on_a_phone_every_room_is_two_taps_away(rooms: Site, open_page: OpenPage) -> None:
    """The bar holds the first rooms, the rest unfolds; where one is, is marked."""
    page = open_page(rooms.url, width=390)
    expect(page.locator(".rail").get_by_role("link", name="Webhooks")).to_have_count(0)
    page.locator("summary", has_text="More").click()
    page.get_by_role("link", name="Webhooks").click()
    expect(page.get_by_role("heading", name="Webhooks", exact=True)).to_be_visible()
    page.locator("summary", has_text="More").click()
    expect(page.get_by_role("link", name="Webhooks")).to_have_attribute("aria-current", "page")
    page.get_by_role("link", name="Delivery").click()
    page.get_by_role("link", name="Relays").click()
    expect(page.get_by_role("link", name="second")).to_be_visible()

"""One's own account in a real Chromium: passkeys with its virtual authenticator, and every new page for everybody."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import CDPSession, Page, expect

from tests.dashboard.accessible import violations
from tests.dashboard.conftest import OpenPage, fill
from tests.dashboard.site import Site, running_site
from tests.dashboard.team import EMAILS, HEADERS, PASSWORD, gather, invite, links_of, set_up
from tests.dashboard.test_flows import is_scrolled_sideways


def named(site: Site) -> str:
    """Return the site's address under a name: browsers offer no passkeys for an IP address."""
    return site.url.replace("127.0.0.1", "localhost")


def sign_in(page: Page, base: str, email: str = EMAILS["owner"]) -> None:
    """Give address and password."""
    page.goto(f"{base}/login")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


def add_authenticator(page: Page, *, can_verify: bool = True) -> CDPSession:
    """Plug a virtual authenticator in."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options: dict[str, Any] = {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": can_verify, "isUserVerified": can_verify,
        "automaticPresenceSimulation": True,
    }  # fmt: skip
    session.authenticator = session.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]  # type: ignore[attr-defined]
    return session


def credentials(session: CDPSession) -> list[dict[str, Any]]:
    """List what the authenticator holds."""
    found: list[dict[str, Any]] = session.send("WebAuthn.getCredentials", {"authenticatorId": session.authenticator})["credentials"]  # type: ignore[attr-defined]
    return found


@contextlib.contextmanager
def with_passkey(tmp_path: Path, open_page: OpenPage, *, can_verify: bool = True) -> Iterator[tuple[Site, Page, CDPSession, list[str]]]:
    """Run a site whose owner has added a passkey; give page, authenticator, recovery codes."""
    with running_site(tmp_path) as site:
        set_up(site)
        page = open_page("about:blank")
        session = add_authenticator(page, can_verify=can_verify)
        sign_in(page, named(site))
        page.goto(f"{named(site)}/account")
        page.get_by_role("listitem").filter(has_text="Passkey").get_by_role("link", name="Add").click()
        page.get_by_label("What to call it").fill("laptop")
        page.get_by_role("button", name="Add").click()
        expect(page.get_by_role("heading", name="Your recovery codes")).to_be_visible()
        codes = page.locator("#codes").inner_text().split()
        yield site, page, session, codes


def sign_out(page: Page) -> None:
    """End the session."""
    page.goto(f"{page.url.split('/', 3)[0]}//{page.url.split('/')[2]}/account")
    page.get_by_role("button", name="Sign out here").click()


def test_a_passkey_is_added_and_signs_in_alone_and_after_the_password(tmp_path: Path, open_page: OpenPage) -> None:
    """Chromium's authenticator makes the key and signs; both ways end in the inbox."""
    with with_passkey(tmp_path, open_page) as (site, page, session, codes):
        assert len(codes) == 10
        assert credentials(session)[0]["rpId"] == "localhost"
        sign_out(page)
        page.get_by_role("button", name="Sign in with a passkey").click()
        page.wait_for_url(f"{named(site)}/")
        sign_out(page)
        sign_in(page, named(site))
        page.wait_for_url("**/login/second*")
        page.get_by_role("button", name="Use a passkey").click()
        page.wait_for_url(f"{named(site)}/")
        page.goto(f"{named(site)}/account")
        expect(page.get_by_text("laptop")).to_be_visible()
        page.get_by_label("Remove the passkey laptop").click()
        page.get_by_role("button", name="Remove the passkey").click()
        expect(page.locator(".notice")).to_contain_text("The passkey is removed")
        sign_out(page)
        page.get_by_role("button", name="Sign in with a passkey").click()
        expect(page.get_by_role("alert").filter(has_text="not known here")).to_be_visible()
        open_page.complaints.clear()  # the 401


def test_a_passkey_alone_must_be_unlocked(tmp_path: Path, open_page: OpenPage) -> None:
    """An authenticator that cannot verify its owner is no sign-in, whatever the page was made to ask; behind the password it is enough."""
    with with_passkey(tmp_path, open_page, can_verify=False) as (site, page, session, _codes):
        sign_out(page)
        known = credentials(session)[0]["credentialId"].replace("+", "-").replace("/", "_").rstrip("=")
        page.evaluate(
            """(known) => {
            const form = document.querySelector("form[data-passkey]");
            const options = { ...JSON.parse(form.dataset.options), userVerification: "discouraged" };
            form.dataset.options = JSON.stringify({ ...options, allowCredentials: [{ type: "public-key", id: known }] });
        }""",
            known,
        )
        page.get_by_role("button", name="Sign in with a passkey").click()
        expect(page.get_by_role("alert").filter(has_text="not accepted")).to_be_visible()
        open_page.complaints.clear()  # the 401
        sign_in(page, named(site))
        page.get_by_role("button", name="Use a passkey").click()
        page.wait_for_url(f"{named(site)}/")


def test_what_a_passkey_signed_counts_once_and_for_its_own_page_only(tmp_path: Path, open_page: OpenPage) -> None:
    """Sent again, with another ticket, without the visit's cookie, for another origin, or changed: refused."""
    with with_passkey(tmp_path, open_page) as (site, page, _, _codes):
        sign_out(page)
        sent: list[dict[str, str]] = []
        page.route("**/login/passkey", lambda route: (sent.append(_form(route.request.post_data or "")), route.abort()))
        page.get_by_role("button", name="Sign in with a passkey").click()
        page.wait_for_timeout(300)
        visit = {one["name"]: one["value"] for one in page.context.cookies()}["gatepost_visit"]
        form = sent[0]
        there = {**HEADERS, "Host": f"localhost:{site.port}", "Cookie": f"gatepost_visit={visit}"}

        def send(headers: dict[str, str] = there, **changes: str) -> int:
            return httpx.post(f"{site.url}/login/passkey", headers=headers, data={**form, **changes}).status_code

        answer = json.loads(form["credential"])
        other_origin = {**there, "Host": f"gate.localhost:{site.port}"}
        assert send({**HEADERS, "Host": there["Host"]}) == 401
        assert send({**there, "Cookie": "gatepost_visit=another"}) == 401
        assert send(other_origin) == 401
        assert (
            send(credential=json.dumps({**answer, "response": {**answer["response"], "signature": answer["response"]["signature"][::-1]}}))
            == 401
        )
        for broken in ("", "{}", "[]", "null", '{"id": 1}', '{"id": "x"}', "x" * 15_000):
            assert send(credential=broken) == 401
        assert send(ticket="x.y") == 401
        assert send() == 303
        assert send() == 401  # a second time
        open_page.complaints.clear()


def _form(body: str) -> dict[str, str]:
    from urllib.parse import parse_qs

    return {name: values[0] for name, values in parse_qs(body, keep_blank_values=True).items()}


def test_a_copied_passkey_is_noticed(tmp_path: Path, open_page: OpenPage) -> None:
    """A signature count that goes back is refused."""
    from gatepost.store.schema import passkey

    with with_passkey(tmp_path, open_page) as (site, page, _, _codes):
        sign_out(page)
        site.write(lambda conn: conn.execute(passkey.update().values(sign_count=1000)))
        page.get_by_role("button", name="Sign in with a passkey").click()
        expect(page.get_by_role("alert").filter(has_text="not accepted")).to_be_visible()
        open_page.complaints.clear()


def test_a_recovery_code_stands_in_for_a_lost_passkey(tmp_path: Path, open_page: OpenPage) -> None:
    """Password and code; then one is fewer."""
    with with_passkey(tmp_path, open_page) as (site, page, _, codes):
        sign_out(page)
        sign_in(page, named(site))
        page.get_by_label("Code").fill(codes[0])
        page.get_by_role("button", name="Continue").click()
        page.wait_for_url(f"{named(site)}/")
        page.goto(f"{named(site)}/account")
        expect(page.get_by_text("9 left")).to_be_visible()


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with people of each role."""
    with running_site(tmp_path_factory.mktemp("team")) as site:
        fill(site)
        gather(site)
        invite(site, "somebody.with.a.long.address@marketing.acme.example", "developer")
        site.ids["invitation"] = invite(site, "new@acme.example", "viewer")
        site.ids["known"] = invite(site, "zoe@other.example", "viewer")
        yield site


PAGES = ("/account", "/account/totp", "/account/passkeys/new", "/people", "/keys", "/confirm?next=/account", "/", "/q", "/m/{receipt}")
OPEN = ("/login", "/forgot", "/invitation/{invitation}", "/invitation/{known}", "/invitation/wrong")


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_everybody_can_use_every_page_of_people(team: Site, open_page: OpenPage, theme: str, width: int) -> None:
    """axe-core finds nothing moderate or worse, signed in and signed out; nothing is wider than the screen."""
    page = open_page("about:blank", width=width, theme=theme)
    found: list[str] = []

    def look(path: str) -> None:
        page.goto(named(team) + path.format(**team.ids), wait_until="load")
        results = violations(page, iframes=False)
        found.extend(f"{path}: {one['id']}: {one['nodes'][0]['html'][:120]}" for one in results if one["impact"] != "minor")
        if is_scrolled_sideways(page):
            found.append(f"{path}: scrolls sideways")

    for path in OPEN:
        look(path)
    sign_in(page, named(team))
    for path in PAGES:
        look(path)
    page.goto(f"{named(team)}/people")
    page.locator("summary", has_text="More").nth(1).click()
    expect(page.get_by_role("button", name="Remove")).to_be_in_viewport(ratio=1)
    found += [one["id"] for one in violations(page, iframes=False) if one["impact"] != "minor"]
    assert found == []
    open_page.complaints.clear()  # the wrong link's own 404


def test_a_viewer_is_offered_nothing_that_they_may_not_do(team: Site, open_page: OpenPage) -> None:
    """No people, no keys, no retry, no pause; the rest is there."""
    page = open_page("about:blank")
    sign_in(page, named(team), EMAILS["viewer"])
    rail = page.get_by_role("navigation", name="Pages", exact=True)
    assert rail.get_by_role("link").all_inner_texts()[1:] == [
        "Inbox",
        "Queue",
        "Insights",
        "Domains",
        "Suppressions",
        "Delivery",
        "API",
        "Account",
    ]
    page.goto(f"{named(team)}/m/{team.ids['deferred']}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_role("button", name="Retry now")).to_have_count(0)
    expect(page.get_by_text("Cancel…")).to_have_count(0)
    page.goto(f"{named(team)}/q")
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)


def test_the_pages_of_people_work_without_script(tmp_path: Path, open_page: OpenPage) -> None:
    """Set-up, invitation, password, sign-out: forms; what needs a script is not shown."""
    with running_site(tmp_path) as site:
        page = open_page(f"{named(site)}/setup/{site.run(links_of(site).make_setup())}", script=False)
        page.get_by_label("E-mail").fill(EMAILS["owner"])
        page.get_by_label("Name").fill("Ann Lee")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Set up").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Ann Lee")
        page.get_by_role("navigation", name="Pages", exact=True).get_by_role("link", name="People").click()
        page.get_by_label("E-mail").fill("bob@acme.example")
        page.get_by_role("button", name="Make an invitation").click()
        expect(page.locator("#link")).to_contain_text("/invitation/")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_hidden()
        sign_in(page, named(site))
        expect(page.get_by_text("No mail yet")).to_be_visible()

"""Coming in: set-up, invitations, signing in, who may see which page; over HTTP as a browser speaks it."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyotp
import pytest

from gatepost.dashboard.page import Needs
from gatepost.dashboard.routes import PAGES
from gatepost.domain.access import ROLE_SCOPES, Role, widened
from gatepost.observe import maillog
from gatepost.settings import Dashboard, Oidc
from tests.dashboard.conftest import fill
from tests.dashboard.site import Site, running_site
from tests.dashboard.team import EMAILS, HEADERS, OTHER, PASSWORD, browser, gather, invite, links_of, set_up, token_of
from tests.people.provider import CLIENT_ID, CLIENT_SECRET, Provider, running_provider


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with people of each role, mail, and a second tenant."""
    with running_site(tmp_path_factory.mktemp("team")) as site:
        fill(site)
        gather(site)
        yield site


def cookies_of(answer: httpx.Response) -> dict[str, str]:
    """Read the cookies that an answer sets, with their attributes in lower case."""
    found = {}
    for line in answer.headers.get_list("set-cookie"):
        name, _, rest = line.partition("=")
        found[name] = rest.lower()
    return found


def test_the_first_person_is_made_by_a_link_and_then_everybody_signs_in(tmp_path: Path) -> None:
    """Until then this machine's visitors see the inbox; from the moment on nobody does without a session."""
    with running_site(tmp_path) as site:
        link = f"/setup/{site.run(links_of(site).make_setup())}"
        client = httpx.Client(base_url=site.url, headers=HEADERS)
        assert client.get("/").status_code == 200
        assert client.get(link).status_code == client.get(link).status_code == 200
        form = {"email": "ann@acme.example", "name": "Ann Lee", "password": "short"}
        assert "at least 12 characters" in client.post(link, data=form).text
        assert httpx.post(site.url + link, headers={"Sec-Fetch-Site": "cross-site"}, data=form).status_code == 403
        answer = client.post(link, data={**form, "password": PASSWORD})
        assert answer.status_code == 303
        assert answer.headers["location"] == "/account"
        assert "Ann Lee" in client.get("/account").text
        assert client.get(link).status_code == 404
        assert httpx.get(site.url).headers["location"] == "/login"
        assert httpx.get(f"{site.url}/live", headers=HEADERS).status_code == 303
        assert "API key" not in httpx.get(f"{site.url}/login").text


def test_an_admin_key_opens_nothing_once_somebody_is_set_up(tmp_path: Path) -> None:
    """Neither a new session nor the one that it had opened before."""
    from tests.dashboard.test_access import AWAY, make_key, sign_in

    with running_site(tmp_path) as site:
        _, secret = make_key(site)
        before = sign_in(site, secret)
        assert before.status_code == 303
        set_up(site)
        assert sign_in(site, secret).status_code == 401
        assert httpx.get(site.url, headers=AWAY, cookies=before.cookies).status_code == 303


def test_login_can_be_asked_for_on_this_machine_from_the_start(tmp_path: Path) -> None:
    """With dashboard.require_login nobody sees anything before they are set up."""
    with running_site(tmp_path, dashboard=Dashboard(require_login=True)) as site:
        assert httpx.get(site.url).status_code == 303


def test_a_password_opens_the_pages_and_the_cookie_is_out_of_reach(team: Site) -> None:
    """HttpOnly and Lax; a session of 256 random bits; a second cookie makes the device known."""
    answer = httpx.post(f"{team.url}/login", headers=HEADERS, data={"email": EMAILS["owner"], "password": PASSWORD, "next": "/q"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/q")
    cookies = cookies_of(answer)
    assert set(cookies) == {"gatepost_session", "gatepost_device"}
    for cookie in cookies.values():
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert "secure" not in cookie
    assert len(answer.cookies["gatepost_session"]) == 43


def test_over_tls_the_cookie_is_bound_to_this_host(tmp_path: Path) -> None:
    """`__Host-` and Secure, also behind a proxy that ends TLS; one without the prefix is not looked at."""
    with running_site(tmp_path, dashboard=Dashboard(url="https://gate.acme.example")) as site:
        set_up(site)
        there = {**HEADERS, "Host": "gate.acme.example"}
        answer = httpx.post(f"{site.url}/login", headers=there, data={"email": EMAILS["owner"], "password": PASSWORD})
        cookies = cookies_of(answer)
        assert set(cookies) == {"__Host-gatepost", "__Host-gatepost-device"}
        assert all("secure" in cookie and "path=/" in cookie and "domain" not in cookie for cookie in cookies.values())
        value = answer.cookies["__Host-gatepost"]
        assert httpx.get(site.url, headers={**there, "Cookie": f"__Host-gatepost={value}"}).status_code == 200
        assert httpx.get(site.url, headers={**there, "Cookie": f"gatepost_session={value}"}).status_code == 303


def test_wrong_password_and_unknown_address_get_the_same_page(team: Site) -> None:
    """But for the address, which is the visitor's own."""
    texts = set()
    for email in (EMAILS["owner"], "nobody@acme.example"):
        answer = httpx.post(f"{team.url}/login", headers=HEADERS, data={"email": email, "password": OTHER})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        texts.add(answer.text.replace(email, ""))
    assert len(texts) == 1


def test_a_pause_is_an_answer_with_its_length(tmp_path: Path) -> None:
    """429 and Retry-After; a device that is known goes on."""
    with running_site(tmp_path) as site:
        set_up(site)
        known = browser(site)
        for _ in range(5):
            httpx.post(f"{site.url}/login", headers=HEADERS, data={"email": EMAILS["owner"], "password": OTHER})
        answer = httpx.post(f"{site.url}/login", headers=HEADERS, data={"email": EMAILS["owner"], "password": PASSWORD})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert "Too many attempts" in answer.text
        again = known.post("/login", data={"email": EMAILS["owner"], "password": PASSWORD})
        assert again.status_code == 303


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/\r\nSet-Cookie: a=b", "", "\\/evil.example"]
)
def test_no_way_in_leads_to_another_site(team: Site, target: str) -> None:
    """Neither the password's nor the confirmation's (THREATS 36, 44)."""
    answer = httpx.post(f"{team.url}/login", headers=HEADERS, data={"email": EMAILS["owner"], "password": PASSWORD, "next": target})
    assert answer.headers["location"] == "/"
    client = browser(team)
    answer = client.post("/confirm", data={"token": token_of(client), "password": PASSWORD, "next": target})
    assert answer.headers["location"] in {"/", "/account"}


@pytest.mark.parametrize("role", [*EMAILS])
def test_every_page_asks_for_its_scope(team: Site, role: str) -> None:
    """Each page of the list, for each role: who lacks the scope is refused, who has it is not."""
    scopes = widened(ROLE_SCOPES[Role(role)]) | ({"operator"} if role == "owner" else set())
    client = browser(team, EMAILS[role])
    token = token_of(client)
    for page in PAGES:
        if page.needs is not Needs.VIEWER or page.path == "/live":
            continue
        path = re.sub(r"\{person_id:str\}", "per_00000000000000000000000000", page.path)
        path = re.sub(r"\{key_id:str\}", "key_00000000000000000000000000", path)
        path = path.replace("{message_id:str}", team.ids["receipt"]).replace("{n:int}", "0")
        answer = client.request(page.method, path, data={"token": token} if page.method == "POST" else None)
        assert (answer.status_code == 403 and "needs the scope" in answer.text) == (page.scope not in scopes), (page.method, page.path)


def test_no_page_is_seen_without_a_session(team: Site) -> None:
    """Every page that is not open to everybody sends a stranger to sign in."""
    for page in PAGES:
        if page.needs is Needs.NOTHING:
            continue
        path = re.sub(r"\{\w+:str\}", "x", page.path).replace("{n:int}", "0")
        answer = httpx.request(page.method, team.url + path, headers=HEADERS, data={"token": "x"} if page.method == "POST" else None)
        if page.method == "GET":
            assert answer.headers.get("location", "").startswith("/login"), path
        else:
            assert answer.status_code == 401, path
        assert "ann@" not in answer.text


def test_every_change_wants_the_token_of_its_session(team: Site) -> None:
    """All forms of the list: without it, with another session's, or from another site nothing happens (THREATS 37)."""
    client, other = browser(team), browser(team)
    foreign, own = token_of(other), token_of(client)
    assert foreign != own
    for page in PAGES:
        if page.method != "POST":
            continue
        path = re.sub(r"\{\w+:str\}", "x", page.path)
        for site in ("cross-site", "same-site", "none"):
            assert client.post(path, data={"token": own}, headers={"Sec-Fetch-Site": site}).status_code == 403, path
        assert (
            client.post(path, data={"token": own}, headers={"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}).status_code
            == 403
        )
        if page.needs is not Needs.NOTHING:
            for token in ("", foreign, own[:-1]):
                answer = client.post(path, data={"token": token})
                assert answer.status_code == 403, path
                assert "out of date" in answer.text
    assert client.get("/account").status_code == 200


def test_news_are_not_streamed_to_another_sites_page(team: Site) -> None:
    """An event stream with the visitor's cookie, opened from elsewhere, is refused (THREATS 37)."""
    client = browser(team)
    for headers in ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, {"Sec-Fetch-Site": "same-site"}):
        assert client.get("/live", headers=headers).status_code == 403


def test_a_session_that_ends_ends_its_news(team: Site) -> None:
    """An open stream stops within two seconds of the sign-out."""
    client = browser(team)
    token = token_of(client)
    with client.stream("GET", "/live") as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("data: "))
        assert client.post("/logout", data={"token": token}).status_code == 303
        assert [line for line in lines if line.startswith("data: ")] == []


def test_signing_out_ends_the_session_itself(team: Site) -> None:
    """Not only the cookie: a copy of it opens nothing any more."""
    client = browser(team)
    copy = client.cookies["gatepost_session"]
    answer = client.post("/logout", data={"token": token_of(client)})
    assert "max-age=0" in cookies_of(answer)["gatepost_session"]
    assert httpx.get(team.url, headers={**HEADERS, "Cookie": f"gatepost_session={copy}"}).status_code == 303


def test_another_process_knows_at_once_that_a_session_ended(tmp_path: Path) -> None:
    """Two servers over one database: what one ends, the other does not take."""
    with running_site(tmp_path) as first, running_site(tmp_path) as second:
        set_up(first)
        client = browser(first)
        cookie = {"Cookie": f"gatepost_session={client.cookies['gatepost_session']}", **HEADERS}
        assert httpx.get(f"{second.url}/account", headers=cookie).status_code == 200
        other = browser(second)
        assert other.post("/account/sessions", data={"token": token_of(other)}).status_code == 303
        assert httpx.get(f"{first.url}/account", headers=cookie).status_code == 303


def test_a_person_sees_their_tenants_mail_and_no_other(team: Site) -> None:
    """Not in the list, not by its address, not in the search, not in the news (THREATS 30)."""
    client = browser(team, EMAILS["viewer"])
    theirs = team.ids["theirs"]
    assert "Your order 42-1187" in client.get("/").text
    assert "Foreign matter" not in client.get("/?q=Foreign").text.replace('value="Foreign"', "")
    for path in (f"/m/{theirs}", f"/m/{theirs}/raw", f"/m/{theirs}/html", f"/m/{theirs}/files/0", f"/live?message={theirs}"):
        assert client.get(path).status_code == 404
    developer = browser(team, EMAILS["developer"])
    assert developer.post(f"/m/{theirs}", data={"token": token_of(developer), "action": "cancel"}).status_code == 404
    stranger = browser(team, "zoe@other.example")
    assert "Foreign matter" in stranger.get("/").text
    assert "Your order 42-1187" not in stranger.get("/").text


def test_who_belongs_to_two_tenants_switches(team: Site) -> None:
    """In the page's head; to a tenant of others they cannot."""
    token = invite(team, EMAILS["viewer"], "viewer", team.ids["second"])
    client = browser(team, EMAILS["viewer"])
    answer = client.post(f"/invitation/{token}", data={"token": token_of(client)})
    assert answer.status_code == 303
    assert "Foreign matter" in client.get("/").text
    assert client.post("/tenant", data={"token": token_of(client), "tenant": team.deps.default_tenant_id}).status_code == 303
    assert "Foreign matter" not in client.get("/").text
    owner = browser(team)
    assert owner.post("/tenant", data={"token": token_of(owner), "tenant": team.ids["second"]}).status_code == 404


def test_what_matters_asks_for_the_password_again_after_a_quarter_of_an_hour(team: Site) -> None:
    """Roles, second factors; with the password given the way goes on."""
    from gatepost.store.schema import session

    client = browser(team)
    token = token_of(client)
    team.write(lambda conn: conn.execute(session.update().values(proved_at=session.c.proved_at - 901_000)))
    for method, path in (
        ("GET", "/account/totp"), ("POST", "/account/totp"), ("POST", "/account/recovery"), ("POST", "/account/totp/remove"),
        ("POST", "/account/passkeys/remove"), ("POST", "/people"), ("POST", f"/people/{team.ids['viewer']}/role"),
        ("POST", f"/people/{team.ids['viewer']}/remove"),
    ):  # fmt: skip
        answer = client.request(method, path, data={"token": token, "role": "admin"} if method == "POST" else None)
        assert answer.headers["location"].startswith("/confirm?next=%2F"), path
    assert client.post("/confirm", data={"token": token, "password": OTHER, "next": "/people"}).status_code == 401
    assert client.post("/confirm", data={"token": token, "password": PASSWORD, "next": "/people"}).headers["location"] == "/people"
    assert client.get("/account/totp").status_code == 200


def test_an_authenticator_is_added_and_asked_for(tmp_path: Path) -> None:
    """The whole way over forms, without script; the half session opens no page."""
    with running_site(tmp_path) as site:
        set_up(site)
        client = browser(site)
        page = client.get("/account/totp").text
        secret = page.partition('name="secret" value="')[2].partition('"')[0]
        assert "<svg" in page
        assert " style=" not in page
        form = {"token": token_of(client), "secret": secret}
        assert client.post("/account/totp", data={**form, "code": "000000"}).status_code == 422
        answer = client.post("/account/totp", data={**form, "code": pyotp.TOTP(secret).now()})
        codes = answer.text.partition('id="codes"><code>')[2].partition("</code>")[0].split()
        assert len(codes) == 10
        other = httpx.Client(base_url=site.url, headers=HEADERS)
        answer = other.post("/login", data={"email": EMAILS["owner"], "password": PASSWORD, "next": "/q"})
        assert answer.headers["location"] == "/login/second?next=%2Fq"
        assert "gatepost_device" not in answer.cookies
        for path in ("/", "/account", "/people", "/live"):
            assert other.get(path).headers["location"].startswith("/login")
        assert other.post("/login/second", data={"code": "111111"}).status_code == 401
        answer = other.post("/login/second", data={"code": codes[0], "next": "/q"})
        assert answer.headers["location"] == "/q"
        assert other.get("/q").status_code == 200


def test_a_link_is_used_once_and_its_secret_stands_in_no_log(
    team: Site, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even when the page fails."""
    for name in ("_least", "_is_masked", "_is_info", "_process"):  # put back afterwards
        monkeypatch.setattr(maillog, name, getattr(maillog, name))
    maillog.configure(level="debug", mask_addresses=True, process="test")
    token = invite(team, "eve@acme.example", "viewer")
    client = httpx.Client(base_url=team.url, headers=HEADERS)
    assert "eve@acme.example" in client.get(f"/invitation/{token}").text
    team.write(lambda conn: conn.exec_driver_sql("UPDATE one_time_link SET role = 'king' WHERE role = 'viewer' AND used_at IS NULL"))
    assert client.get(f"/invitation/{token}").status_code == 500
    team.write(lambda conn: conn.exec_driver_sql("UPDATE one_time_link SET role = 'viewer' WHERE role = 'king'"))
    answer = client.post(f"/invitation/{token}", data={"name": "Eve", "password": PASSWORD})
    assert answer.status_code == 303
    assert client.get(f"/invitation/{token}").status_code == 404
    output = "".join(part for part in capfd.readouterr() if part)
    ours = "\n".join(line for line in output.splitlines() if line.startswith("{"))
    assert "crashed" in ours
    assert token not in ours
    assert PASSWORD not in ours


def test_a_forgotten_password_is_replaced_by_a_link(tmp_path: Path) -> None:
    """All sessions end; the page then asks for the new one."""
    from tests.dashboard.team import at_the_machine

    with running_site(tmp_path) as site:
        set_up(site)
        before = browser(site)
        _, token = site.run(links_of(site).make_reset(at_the_machine(site), EMAILS["owner"]))
        client = httpx.Client(base_url=site.url, headers=HEADERS)
        assert client.get("/forgot").status_code == 200
        assert client.get(f"/reset/{token}").status_code == 200
        assert client.post(f"/reset/{token}", data={"password": OTHER}).headers["location"] == "/login?done=reset"
        assert "Your password is changed" in client.get("/login?done=reset").text
        assert before.get("/account").status_code == 303
        browser(site, password=OTHER)


def test_people_are_invited_changed_and_removed_on_their_page(team: Site) -> None:
    """An admin's page offers no owner, and sending the form by hand makes none."""
    client = browser(team, EMAILS["admin"])
    page, token = client.get("/people").text, token_of(client)
    assert '<option value="owner"' not in page
    assert client.post("/people", data={"token": token, "email": "x@acme.example", "role": "owner"}).status_code == 403
    answer = client.post("/people", data={"token": token, "email": "gil@acme.example", "role": "viewer"})
    link = answer.text.partition('id="link"><code>')[2].partition("</code>")[0]
    assert link.startswith(f"{team.url}/invitation/")
    new = httpx.Client(base_url=team.url, headers=HEADERS)
    assert new.post(link, data={"name": "Gil", "password": PASSWORD}).status_code == 303
    person_id = re.search(
        r"/people/(per_\w+)/role\"><input[^>]*><select name=\"role\" aria-label=\"Role of Gil\"", client.get("/people").text
    )[1]
    assert client.post(f"/people/{person_id}/role", data={"token": token, "role": "developer"}).status_code == 303
    assert new.get("/account").status_code == 303
    assert client.post(f"/people/{team.ids['owner']}/remove", data={"token": token}).status_code == 403
    assert client.post(f"/people/{person_id}/remove", data={"token": token}).status_code == 303
    assert client.post(f"/people/{team.ids['stranger']}/remove", data={"token": token}).status_code == 404
    owner = browser(team)
    answer = owner.post(f"/people/{team.ids['owner']}/remove", data={"token": token_of(owner)})
    assert answer.status_code == 409
    assert "keeps one owner" in answer.text


def test_keys_are_made_and_revoked_on_their_page(team: Site) -> None:
    """The secret is shown once; nobody makes a key that can do more than they can."""
    client = browser(team, EMAILS["admin"])
    token = token_of(client)
    answer = client.post("/keys", data={"token": token, "name": "shop", "mode": "live", "scopes": ["messages:send", "messages:read"]})
    secret = re.search(r"gp_live_\w+", answer.text)[0]
    listing = client.get("/keys").text
    assert secret not in listing
    assert "messages:read, messages:send" in listing
    assert client.post("/keys", data={"token": token, "name": "boss", "scopes": "admin"}).status_code == 403
    assert client.post("/keys", data={"token": token, "name": "", "scopes": "messages:send"}).status_code == 422
    key_id = re.search(r"/keys/(key_\w+)/revoke", listing)[1]
    assert client.post(f"/keys/{key_id}/revoke", data={"token": token}).status_code == 303
    assert "revoked" in client.get("/keys").text


@pytest.fixture
def provider() -> Iterator[Provider]:
    """An OpenID provider."""
    with running_provider() as running:
        yield running


def test_single_sign_on_goes_to_the_provider_and_back(tmp_path: Path, provider: Provider) -> None:
    """Through the browser's cookies; the way back works in this browser only, and ends on one of our pages."""
    settings = Oidc(issuer=provider.issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, name="Acme ID")
    with running_site(tmp_path, oidc=settings) as site:
        set_up(site)
        now = site.deps.clock.now() // 1000
        provider.claims = {"iat": now, "exp": now + 300}
        client = httpx.Client(base_url=site.url, headers=HEADERS)
        assert "Continue with Acme ID" in client.get("/login").text
        start = client.get("/login/provider", params={"next": "//evil.example"})
        assert start.headers["location"].startswith(f"{provider.issuer}/authorize?")
        assert "samesite=lax" in cookies_of(start)["gatepost_provider"]
        query = provider.authorize(start.headers["location"])
        away = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        stolen = httpx.get(f"{site.url}/login/provider/return", params=query, headers=away)
        assert stolen.status_code == 401
        assert "gatepost_session" not in stolen.cookies
        answer = client.get("/login/provider/return", params=query, headers=away)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert client.get("/account").status_code == 200
        again = client.get("/login/provider/return", params=query, headers=away)
        assert again.status_code == 401


def test_without_a_provider_there_is_no_way_to_one(team: Site) -> None:
    """Nothing is offered, nothing answers."""
    assert httpx.get(f"{team.url}/login/provider").status_code == 404
    assert httpx.get(f"{team.url}/login/provider/return?code=x&state=y").status_code == 404

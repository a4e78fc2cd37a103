"""Who may look at the pages."""

import ipaddress

import httpx
import pytest

from gatepost.domain.access import Restrictions, Scope, parse_limit
from gatepost.domain.tenant import ApiKey, KeyMode
from gatepost.store import credentials
from gatepost.tenants import keys
from tests.dashboard.site import Site

AWAY = {"Host": "gate.acme.example", "Sec-Fetch-Site": "same-origin"}


def make_key(
    site: Site, mode: KeyMode = KeyMode.LIVE, tenant_id: str | None = None, narrowed: Restrictions | None = None
) -> tuple[ApiKey, str]:
    """Make a key; return it with its secret."""
    secret = keys.make_secret(mode)
    tenant_id = tenant_id or site.deps.default_tenant_id
    key = keys.describe(secret, tenant_id=tenant_id, name="test", mode=mode, now=site.deps.clock.now(), restrictions=narrowed)
    site.write(lambda conn: credentials.insert(conn, key, keys.hash_secret(secret)))
    site.run(site.deps.directory.refresh())
    return key, secret


def sign_in(site: Site, secret: str, **fields: str) -> httpx.Response:
    """Send the login form as a visitor from elsewhere would."""
    return httpx.post(f"{site.url}/login", headers=AWAY, data={"key": secret, "next": "/", **fields})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.9:8025", "[::1]", "LOCALHOST"])
def test_on_this_machine_no_key_is_needed(site: Site, host: str) -> None:
    """A visitor on loopback who asked for a loopback name sees the inbox."""
    assert httpx.get(site.url, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example"}, {"Host": "127.0.0.1.attacker.example"}, {"Host": "localhost.attacker.example"}, {"Host": "10.0.0.1"},
        {"Host": ""}, {"Host": "[::1].x"}, {"Host": "0x7f000001"}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"}, {"Via": "1.1 proxy"},
    ],
)  # fmt: skip
def test_a_name_that_only_points_here_must_sign_in(site: Site, headers: dict[str, str]) -> None:
    """DNS rebinding and proxies end at the login page, with nothing of the inbox on it."""
    for path in ("/", "/q", f"/m/{site.ids['receipt']}", f"/m/{site.ids['receipt']}/raw", "/live"):
        answer = httpx.get(site.url + path, headers=headers)
        assert answer.status_code in {303, 400}
        assert "ann@" not in answer.text


def test_an_admin_key_opens_a_session(site: Site) -> None:
    """After signing in the pages are shown; the cookie is out of reach of scripts and other sites."""
    _, secret = make_key(site)
    answer = sign_in(site, secret, next="/q")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/q"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert secret.lower() not in cookie
    page = httpx.get(site.url, headers=AWAY, cookies=answer.cookies)
    assert page.status_code == 200
    assert "ann@example.net" in page.text
    assert "Sign out" in page.text


def test_only_a_live_key_of_the_default_tenant_is_an_admin_key(site: Site) -> None:
    """Test keys, other tenants' keys and guesses are refused with one and the same page."""
    test_key, foreign = make_key(site, KeyMode.TEST)[1], make_key(site, tenant_id="ten_01j0000000000000000000000z")[1]
    texts = set()
    for secret in (test_key, foreign, keys.make_secret(KeyMode.LIVE), "gp_live_nonsense", ""):
        answer = sign_in(site, secret)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        texts.add(answer.text)
    assert len(texts) == 1


def test_a_narrow_key_opens_no_pages_and_one_with_networks_only_from_there(site: Site) -> None:
    """Scopes, domains and networks of a key hold at this door, too."""
    far, near = ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("127.0.0.0/8")
    for narrowed, status in (
        (Restrictions(scopes=frozenset({Scope.MESSAGES_READ})), 401),
        (Restrictions(domains=frozenset({"acme.example"})), 401),
        (Restrictions(networks=(far,)), 401),
        (Restrictions(expires_at=site.deps.clock.now() - 1), 401),
        (Restrictions(networks=(near,)), 303),
    ):
        assert sign_in(site, make_key(site, narrowed=narrowed)[1]).status_code == status


def test_who_signs_in_with_a_key_makes_no_key_that_is_more(site: Site) -> None:
    """THREATS 28: a key's end, networks and limits hold for the keys that are made by way of these pages."""
    end, near = site.deps.clock.now() + 3_600_000, ipaddress.ip_network("127.0.0.0/8")
    own = Restrictions(networks=(near,), limits=(parse_limit("messages=10/minute"),), expires_at=end)
    key, secret = make_key(site, narrowed=own)
    cookies = sign_in(site, secret).cookies
    page = httpx.get(f"{site.url}/keys", headers=AWAY, cookies=cookies).text
    token = page.partition('name="token" value="')[2].partition('"')[0]
    form = {"token": token, "name": "more", "mode": "live", "scopes": "admin"}
    headers = {**AWAY, "Origin": f"http://{AWAY['Host']}"}
    assert httpx.post(f"{site.url}/keys", headers=headers, cookies=cookies, data=form).status_code == 200
    made = site.write(lambda conn: credentials.of_tenant(conn, ApiKey, key.tenant_id))[-1]
    assert (made.name, made.networks, made.limits, made.expires_at) == ("more", own.networks, own.limits, end)


def test_a_revoked_key_ends_its_sessions(site: Site) -> None:
    """A session lives no longer than the key that opened it."""
    key, secret = make_key(site)
    cookies = sign_in(site, secret).cookies
    site.write(lambda conn: credentials.revoke(conn, key, site.deps.clock.now()))
    assert httpx.get(site.url, headers=AWAY, cookies=cookies).status_code == 303


@pytest.mark.parametrize("cookie", ["", ".", "a.b", "key_x.99999999999999.AAAA", "é.é.é", "key_x..", "." * 50])
def test_a_forged_cookie_is_worth_nothing(site: Site, cookie: str) -> None:
    """Only what this process signed is believed."""
    answer = httpx.get(site.url, headers={**AWAY, "Cookie": f"gatepost_session={cookie}".encode()})
    assert answer.status_code == 303


def test_a_session_cannot_be_prolonged(site: Site) -> None:
    """The end of a session is signed with it."""
    _, secret = make_key(site)
    value = sign_in(site, secret).cookies["gatepost_session"]
    key_id, _, mac = value.split(".")
    assert httpx.get(site.url, headers=AWAY, cookies={"gatepost_session": f"{key_id}.99999999999999.{mac}"}).status_code == 303


def test_signing_out_ends_the_session_in_this_browser(site: Site) -> None:
    """The cookie is taken back, and only by the page's own form."""
    _, secret = make_key(site)
    cookies = sign_in(site, secret).cookies
    page = httpx.get(site.url, headers=AWAY, cookies=cookies).text
    token = page.partition('name="token" value="')[2].partition('"')[0]
    assert httpx.post(f"{site.url}/logout", headers=AWAY, cookies=cookies, data={"token": "x"}).status_code == 403
    answer = httpx.post(f"{site.url}/logout", headers=AWAY, cookies=cookies, data={"token": token})
    assert answer.status_code == 303
    assert "max-age=0" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/\r\nSet-Cookie: a=b", ""]
)
def test_signing_in_leads_to_no_other_site(site: Site, target: str) -> None:
    """A link to the login page cannot send the visitor elsewhere afterwards."""
    _, secret = make_key(site)
    assert sign_in(site, secret, next=target).headers["location"] == "/"


def test_a_secret_never_stands_in_the_page_or_the_log(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither a right key nor a wrong one is repeated anywhere."""
    wrong, right = keys.make_secret(KeyMode.LIVE), make_key(site)[1]
    text = sign_in(site, wrong).text + sign_in(site, right).text
    output = "".join(capfd.readouterr())
    assert wrong not in text + output
    assert right not in text + output

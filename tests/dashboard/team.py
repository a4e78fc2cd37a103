"""A site where people have been set up: an owner who is operator, an admin, a developer, a viewer; and a second tenant."""

from typing import Any

import httpx

from gatepost import ids
from gatepost.domain.access import Principal, PrincipalKind, Role, Scope
from gatepost.domain.tenant import Caller, Tenant
from gatepost.store import tenants
from gatepost.tenants.one_time_links import Joining, OneTimeLinks
from gatepost.tenants.passwords import Passwords
from gatepost.tenants.people import People
from gatepost.tenants.sessions import Entered, Visit
from tests.dashboard.seed import Mail, To, store
from tests.dashboard.site import Site

PASSWORD = "tulip anchor violet"
OTHER = "seven mossy kettles"
EMAILS = {"owner": "ann@acme.example", "admin": "adam@acme.example", "developer": "dora@acme.example", "viewer": "vera@acme.example"}
VISIT = Visit(peer="192.0.2.1", agent="test")
HEADERS = {"Sec-Fetch-Site": "same-origin"}


def links_of(site: Site) -> OneTimeLinks:
    """Make links as the command line does."""
    deps = site.deps
    return OneTimeLinks(deps.engine, deps.clock, deps.settings, Passwords(memory_kib=64, passes=1))


def at_the_machine(site: Site, tenant_id: str = "") -> Caller:
    """Act as who sits there."""
    tenant_id = tenant_id or site.deps.default_tenant_id
    principal = Principal(id="local", kind=PrincipalKind.LOCAL, tenant_id=tenant_id, name="root", scopes=frozenset(Scope))
    return Caller(principal=principal, peer="", request_id="")


def invite(site: Site, email: str, role: str, tenant_id: str = "") -> str:
    """Make an invitation; return its secret."""
    by = at_the_machine(site, tenant_id)
    return site.run(People(site.deps.engine, site.deps.clock, site.deps.settings).invite(by, by.tenant_id, email, Role(role))).token


def set_up(site: Site) -> Entered:
    """Make the first person."""
    joining = Joining(email=EMAILS["owner"], name="Ann Lee", password=PASSWORD)
    return site.run(links_of(site).set_up(site.run(links_of(site).make_setup()), joining, VISIT))


def join(site: Site, email: str, role: str, tenant_id: str = "") -> Entered:
    """Invite somebody, who accepts."""
    token = invite(site, email, role, tenant_id)
    return site.run(links_of(site).accept(token, Joining(name=email.partition("@")[0].title(), password=PASSWORD), VISIT))


def gather(site: Site) -> None:
    """Set a team up; the second tenant has a message of its own, and a person."""
    deps = site.deps
    site.ids["owner"] = set_up(site).person.id
    for role in ("admin", "developer", "viewer"):
        site.ids[role] = join(site, EMAILS[role], role).person.id
    second = site.ids["second"] = ids.new("ten")
    site.write(lambda conn: tenants.insert_tenant(conn, Tenant(id=second, name="second", created_at=deps.clock.now())))
    site.ids["stranger"] = join(site, "zoe@other.example", "owner", second).person.id
    mail = Mail(name="theirs", ago_s=3, sender="x@other.example", subject="Foreign matter", to=(To(address="y@example.net"),), text="Hush")
    site.ids["theirs"] = site.run(store(deps.engine, deps.blobs, second, deps.clock.now(), mail))


def browser(site: Site, email: str = EMAILS["owner"], password: str = PASSWORD, **more: Any) -> httpx.Client:
    """Sign in; return a browser without a screen that holds the session."""
    client = httpx.Client(base_url=site.url, headers=HEADERS, timeout=20, **more)
    answer = client.post("/login", data={"email": email, "password": password})
    assert answer.status_code == 303, answer.text
    return client


def token_of(client: httpx.Client, path: str = "/account") -> str:
    """Read the token out of a page's form."""
    return client.get(path).text.partition('name="token" value="')[2].partition('"')[0]

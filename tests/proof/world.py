"""Two tenants with everything that a tenant can have, behind one real `gatepost serve`."""

import asyncio
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatepost import settings
from gatepost.app.database import create_engine
from gatepost.app.parts import create_domains
from gatepost.clock import SystemClock
from gatepost.domain.access import GATEWAY, Principal, PrincipalKind, Restrictions, Role, Scope
from gatepost.domain.tenant import DEFAULT_TENANT, Caller, KeyMode, Tenant
from gatepost.ids import new
from gatepost.store import credentials, tenants
from gatepost.store.engine import Engine
from gatepost.store.opening import open_store
from gatepost.tenants import keys
from gatepost.tenants.one_time_links import Joining, OneTimeLinks
from gatepost.tenants.passwords import Passwords
from gatepost.tenants.people import People
from gatepost.tenants.sessions import Visit
from tests.flow.serving import Serving, until

MARK = "zebra"
"""Stands in every text of tenant B: no answer to anybody else may hold it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    body: bytes

    @property
    def code(self) -> str:
        """The problem's code, or empty."""
        try:
            return str(json.loads(self.body).get("code", ""))
        except (ValueError, AttributeError):
            return ""


@dataclass(slots=True)
class Side:
    """One tenant."""

    id: str
    admin: str
    by_scope: dict[Scope, str] = field(default_factory=dict)
    sessions: dict[Role, str] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class World:
    """The gateway with tenant A, who attacks, and tenant B, who owns things."""

    serving: Serving
    data: Path
    a: Side
    b: Side
    operator: str
    spare_id: str

    def browse(self, method: str, path: str, session: str, form: dict[str, str] | None = None) -> Answer:
        """Ask for a page, or send its form, as a browser with a session would; redirects are not followed."""
        host = self.serving.listening["http"]
        connection = http.client.HTTPConnection(host, timeout=20)
        headers = {"Cookie": f"gatepost_session={session}", "Sec-Fetch-Site": "same-origin", "Origin": f"http://{host}"}
        body = None
        if form is not None:
            body, headers["Content-Type"] = urllib.parse.urlencode(form), "application/x-www-form-urlencoded"
        connection.request(method, path, body, headers)
        try:
            response = connection.getresponse()
            if response.getheader("Content-Type", "").startswith("text/event-stream"):
                return Answer(status=response.status, body=b"")
            return Answer(status=response.status, body=response.read())
        finally:
            connection.close()

    def ask(self, method: str, path: str, key: str, body: Any = None, **headers: str) -> Answer:
        """Make a request."""
        request = urllib.request.Request(f"http://{self.serving.listening['http']}{path}", method=method)
        request.add_header("Authorization", f"Bearer {key}")
        if isinstance(body, bytes):
            request.data = body
        elif body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                is_endless = response.headers.get("Content-Type", "").startswith("text/event-stream")
                return Answer(status=response.status, body=b"" if is_endless else response.read())
        except urllib.error.HTTPError as error:
            return Answer(status=error.code, body=error.read())

    def made(self, method: str, path: str, body: Any, status: int = 201) -> Any:
        """Let tenant B make something."""
        answer = self.ask(method, path, self.b.admin, body)
        assert answer.status == status, answer.body
        return json.loads(answer.body)


async def _key(engine: Engine, tenant_id: str, *scopes: Scope) -> str:
    secret = keys.make_secret(KeyMode.LIVE)
    restrictions = Restrictions(scopes=frozenset(scopes))
    name = MARK if not scopes else scopes[0].value
    made = keys.describe(secret, tenant_id=tenant_id, name=name, mode=KeyMode.LIVE, now=SystemClock().now(), restrictions=restrictions)
    await engine.write(lambda conn: credentials.insert(conn, made, keys.hash_secret(secret)))
    return secret


async def _prepare(data: Path) -> tuple[Side, Side, str, str]:
    loaded, clock = settings.load(data, environ={}), SystemClock()
    engine = create_engine(loaded)
    default_id = await open_store(engine, clock)
    assert await engine.read(lambda conn: tenants.by_name(conn, DEFAULT_TENANT)) == default_id
    sides = []
    for name in ("attacker", f"{MARK}-owner", "spare"):
        tenant_id = new("ten")
        tenant = Tenant(id=tenant_id, name=name, created_at=clock.now())
        await engine.write(lambda conn, tenant=tenant: tenants.insert_tenant(conn, tenant))
        side = Side(id=tenant_id, admin=await _key(engine, tenant_id, Scope.ADMIN))
        for scope in Scope:
            if scope is not Scope.OPERATOR:
                side.by_scope[scope] = await _key(engine, tenant_id, scope)
        sides.append(side)
    operator = await _key(engine, default_id, Scope.OPERATOR)
    domains = create_domains(loaded, engine, clock)
    await _trusted(domains, sides[0].id, "attacker.example")
    sides[1].objects["domain"] = await _trusted(domains, sides[1].id, f"{MARK}.example")
    people, links = People(engine, clock, loaded.settings), OneTimeLinks(engine, clock, loaded.settings, Passwords(memory_kib=64, passes=1))
    for side, domain in ((sides[0], "attacker.example"), (sides[1], f"{MARK}.example")):
        for role in Role:
            joined = await _join(people, links, side.id, f"{role.value}@{domain}", role)
            side.sessions[role] = joined.token
    members = {member.role: member.person.id for member in await people.members(sides[1].id)}
    sides[1].objects["person_id"] = members[Role.VIEWER]
    sides[1].objects["invitation_id"] = (
        await people.invite(_machine(sides[1].id), sides[1].id, f"new@{MARK}.example", Role.VIEWER)
    ).link.id
    await engine.close()
    return sides[0], sides[1], operator, sides[2].id


def _machine(tenant_id: str) -> Caller:
    principal = Principal(id="local", kind=PrincipalKind.LOCAL, tenant_id=tenant_id, name="root", scopes=frozenset(Scope))
    return Caller(principal=principal, peer="", request_id="")


async def _join(people: People, links: OneTimeLinks, tenant_id: str, email: str, role: Role) -> Any:
    made = await people.invite(_machine(tenant_id), tenant_id, email, role)
    visit = Visit(peer="192.0.2.1", agent="Mozilla/5.0", request_id="req_1")
    return await links.accept(made.token, Joining(name=role.value, password="tulip anchor violet"), visit)


async def _trusted(domains: Any, tenant_id: str, name: str) -> str:
    return str((await domains.add(tenant_id, name, by=GATEWAY, is_trusted=True)).domain.id)


def open_world(data: Path) -> World:
    """Start the gateway and let tenant B have one of everything."""
    data.mkdir(parents=True, exist_ok=True)
    a, b, operator, spare_id = asyncio.run(_prepare(data))
    seeds = (
        "seeds.a.address=seed@provider.example",
        "seeds.a.url=imap://seed@127.0.0.1:1/?tls=never",
        "seeds.a.secret=x",
        "placement.every_s=0.5",
    )
    world = World(serving=Serving(data, *seeds), data=data, a=a, b=b, operator=operator, spare_id=spare_id)
    try:
        _fill(world)
    except BaseException:
        world.serving.__exit__()
        raise
    return world


def _fill(world: World) -> None:
    mail = {"from": f"shop@{MARK}.example", "subject": MARK, "text": MARK, "tags": [MARK], "metadata": {MARK: MARK}}
    sent = world.made("POST", "/v1/messages", {**mail, "to": [f"deliver@{MARK}.net"]}, 202)
    world.b.objects["message_id"], world.b.objects["recipient_id"] = sent["id"], sent["recipients"][0]["id"]
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    world.b.objects["soon"] = later
    world.b.objects["scheduled_id"] = world.made(
        "POST", "/v1/messages", {**mail, "to": [f"deliver@{MARK}.net"], "scheduled_at": later}, 202
    )["id"]
    world.made("POST", "/v1/suppressions", {"address": f"blocked@{MARK}.net"}, 201)
    world.b.objects["address"] = f"blocked@{MARK}.net"
    world.b.objects["name"] = world.made("POST", "/v1/streams", {"name": f"{MARK}-stream", "lane": "bulk"})["name"]
    action = {"action": "hold", "filter": {"tag": f"{MARK}-none"}}
    world.b.objects["action_id"] = world.made("POST", "/v1/queue/actions", action, 202)["id"]
    webhook = world.made("POST", "/v1/webhooks", {"url": f"https://hooks.{MARK}.invalid/", "description": MARK, "events": ["webhook.*"]})
    world.b.objects["webhook_id"] = webhook["id"]
    world.b.objects["event_id"] = world.made("POST", f"/v1/webhooks/{webhook['id']}/test", None, 202)["event_id"]
    world.b.objects["report_id"] = world.made("POST", "/v1/reports", {"kind": "weekly", "address": f"ann@{MARK}.example"})["id"]
    world.b.objects["key_id"] = world.made("POST", "/v1/keys", {"name": MARK})["id"]
    world.b.objects["client_id"] = world.made("POST", "/v1/oauth-clients", {"name": MARK})["id"]
    test = world.made("POST", "/v1/placement", {"from": f"shop@{MARK}.example", "subject": MARK, "text": MARK}, 202)
    world.b.objects["placement_id"] = test["id"]
    until(lambda: json.loads(world.ask("GET", f"/v1/placement/{test['id']}", world.b.admin).body)["status"] == "finished")

"""
Every route x every object of another tenant x every scope: nobody reaches what is not theirs (THREATS 30).

A route that is not in `CASES` fails the test: whoever adds one says here what of another tenant it could reach.
"""

import re
import smtplib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gatepost.clock import SystemClock
from gatepost.dashboard import routes
from gatepost.dashboard.page import Needs
from gatepost.domain.access import ROLE_SCOPES, Scope, widened
from gatepost.http import openapi
from gatepost.http.app import endpoints
from gatepost.wire.tracking_token import TokenKind, TrackingTokens, link_id
from tests.proof.world import MARK, World, open_world

PathOf = Callable[[World], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    How one route is tried.

    Attributes:
        names: What of tenant B its path names; empty for a collection, whose answers must not hold B's marks.
        path: Used instead of filling the route's own path with `names`.
        is_above: Only operators pass, and they may: it tells of tenants, never of what is inside them.
        says: Codes other than `not_found` that also tell nothing of B, for a route that names B's object in its body.
    """

    names: tuple[str, ...] = ()
    path: PathOf | None = None
    body: Callable[[World], Any] = lambda world: None
    headers: Callable[[World], dict[str, str]] = lambda world: {}
    says: tuple[str, ...] = ()
    is_above: bool = False


def _mail(world: World) -> dict[str, Any]:
    return {"from": f"shop@{MARK}.example", "to": ["deliver@example.net"], "subject": "mine now", "text": "Hi"}


def _raw(world: World) -> bytes:
    return f"From: shop@{MARK}.example\r\nTo: deliver@example.net\r\nSubject: mine now\r\n\r\nHi\r\n".encode()


_STOLEN = ("domain_not_verified",)
_MESSAGE = Case(names=("message_id",))
_DOMAIN = Case(names=("domain",))
_KEY = Case(names=("key_id",))
_CLIENT = Case(names=("client_id",))
_WEBHOOK = Case(names=("webhook_id",))
_TENANT = Case(is_above=True, names=("tenant_id",))

CASES: dict[str, Case] = {
    "sendMessage": Case(body=_mail, says=_STOLEN),
    "sendBatch": Case(body=lambda world: {"messages": [_mail(world)]}, says=("validation_failed", *_STOLEN)),
    "validateMessage": Case(body=_mail, says=_STOLEN),
    "sendRaw": Case(
        body=_raw,
        headers=lambda world: {"Content-Type": "message/rfc822", "Envelope-To": "deliver@example.net"},
        says=("validation_failed", *_STOLEN),
    ),
    "listMessages": Case(path=lambda world: "/v1/messages?limit=100"),
    "getMessage": _MESSAGE,
    "rescheduleMessage": Case(names=("message_id",), body=lambda world: {"scheduled_at": world.b.objects["soon"]}),
    "listMessageEvents": _MESSAGE,
    "listMessageAttempts": _MESSAGE,
    "getMessageSource": _MESSAGE,
    "explainMessage": _MESSAGE,
    "cancelMessage": _MESSAGE,
    "retryMessage": _MESSAGE,
    "addDomain": Case(body=lambda world: {"name": "new.attacker.example"}, says=("conflict",)),
    "listDomains": Case(),
    "getDomain": _DOMAIN,
    "getDomainHealth": _DOMAIN,
    "getDmarcSummary": _DOMAIN,
    "getTlsReportSummary": _DOMAIN,
    "getRelayHealth": Case(is_above=True, path=lambda world: "/v1/relays/none/health"),
    "verifyDomain": _DOMAIN,
    "rotateDkimKeys": _DOMAIN,
    "removeDomain": _DOMAIN,
    "makeKey": Case(body=lambda world: {"name": "mine"}, says=("permission_denied",)),
    "listKeys": Case(),
    "getKey": _KEY,
    "changeKey": Case(names=("key_id",), body=lambda world: {"name": "mine"}),
    "rotateKey": Case(names=("key_id",), body=lambda world: {}),
    "revokeKey": _KEY,
    "makeOAuthClient": Case(body=lambda world: {"name": "mine"}, says=("permission_denied",)),
    "listOAuthClients": Case(),
    "getOAuthClient": _CLIENT,
    "rotateOAuthClientSecret": _CLIENT,
    "revokeOAuthClient": _CLIENT,
    "getPolicies": Case(),
    "changePolicies": Case(body=lambda world: {}),
    "listStreams": Case(),
    "makeStream": Case(body=lambda world: {"name": "mine"}, says=("conflict",)),
    "getStream": Case(names=("name",)),
    "changeStream": Case(names=("name",), body=lambda world: {"ttl_s": 60}),
    "deleteStream": Case(names=("name",)),
    "askQueueAction": Case(body=lambda world: {"action": "hold", "filter": {"sender": f"{MARK}.example"}}),
    "listQueueActions": Case(),
    "getQueueAction": Case(names=("action_id",)),
    "listPeople": Case(),
    "invitePerson": Case(body=lambda world: {"email": "new@attacker.example", "role": "viewer"}, says=("conflict", "permission_denied")),
    "changePersonRole": Case(names=("person_id",), body=lambda world: {"role": "viewer"}),
    "removePerson": Case(names=("person_id",)),
    "withdrawInvitation": Case(names=("invitation_id",)),
    "makeTenant": Case(body=lambda world: {"name": "mine"}, says=("conflict",)),
    "listTenants": Case(is_above=True),
    "getTenant": _TENANT,
    "suspendTenant": _TENANT,
    "resumeTenant": _TENANT,
    "getTenantLimits": _TENANT,
    "setTenantLimits": Case(is_above=True, path=lambda world: f"/v1/tenants/{world.spare_id}/limits", body=lambda world: {"limits": []}),
    "getTenantBalance": _TENANT,
    "changeTenantBalance": Case(
        is_above=True, path=lambda world: f"/v1/tenants/{world.spare_id}/balance", body=lambda world: {"add": "1.00"}
    ),
    "listRelays": Case(is_above=True),
    "listRoutes": Case(is_above=True),
    "makeRoute": Case(is_above=True, body=lambda world: {"name": "mine", "roads": "mx", "is_chosen": False}),
    "orderRoutes": Case(is_above=True, body=lambda world: {"routes": []}),
    "getRoute": Case(is_above=True, path=lambda world: "/v1/routes/none"),
    "changeRoute": Case(is_above=True, path=lambda world: "/v1/routes/none", body=lambda world: {}),
    "removeRoute": Case(is_above=True, path=lambda world: "/v1/routes/none"),
    "getRelayState": Case(is_above=True, path=lambda world: "/v1/relays/none/state"),
    "disableRelay": Case(is_above=True, path=lambda world: "/v1/relays/none/disable"),
    "enableRelay": Case(is_above=True, path=lambda world: "/v1/relays/none/enable"),
    "beginPlacementTest": Case(body=lambda world: {"from": f"shop@{MARK}.example", "subject": "mine now"}, says=_STOLEN),
    "listPlacementTests": Case(),
    "getPlacementSummary": Case(),
    "getPlacementTest": Case(names=("placement_id",)),
    "getDeliverability": _DOMAIN,
    "listUnusualChanges": Case(path=lambda world: "/v1/unusual?state=all"),
    "subscribeReport": Case(body=lambda world: {"kind": "weekly", "address": "mine@attacker.example"}, says=("conflict",)),
    "listReports": Case(),
    "getReport": Case(names=("report_id",)),
    "changeReport": Case(names=("report_id",), body=lambda world: {"hour": 3}),
    "removeReport": Case(names=("report_id",)),
    "showLimits": Case(),
    "showUsage": Case(),
    "showStats": Case(path=lambda world: "/v1/stats?from=2020-01-01&to=2029-01-01&group_by=domain"),
    "listAuditEntries": Case(),
    "listGatewayAuditEntries": Case(is_above=True),
    "listReturned": Case(is_above=True),
    "getReturned": Case(is_above=True, path=lambda world: "/v1/returned/none"),
    "getReturnedSource": Case(is_above=True, path=lambda world: "/v1/returned/none/raw"),
    "retryReturned": Case(is_above=True, path=lambda world: "/v1/returned/none/retry"),
    "removeReturned": Case(is_above=True, path=lambda world: "/v1/returned/none"),
    "listSites": Case(is_above=True),
    "getSite": Case(is_above=True, path=lambda world: "/v1/sites/spare.example"),
    "suspendSite": Case(is_above=True, path=lambda world: "/v1/sites/spare.example/suspend", body=lambda world: {"seconds": 1}),
    "resumeSite": Case(is_above=True, path=lambda world: "/v1/sites/spare.example/resume", body=lambda world: {}),
    "setSiteLimits": Case(is_above=True, path=lambda world: "/v1/sites/spare.example/limits", body=lambda world: {"connections": 3}),
    "listPools": Case(is_above=True),
    "addSuppression": Case(body=lambda world: {"address": "mine@example.net"}),
    "addSuppressions": Case(body=lambda world: {"suppressions": [{"address": "mine@example.net"}]}),
    "listSuppressions": Case(),
    "exportSuppressions": Case(),
    "importSuppressions": Case(body=lambda world: b"address\nmine@example.net\n", headers=lambda world: {"Content-Type": "text/csv"}),
    "getSuppression": Case(names=("address",)),
    "removeSuppression": Case(names=("address",)),
    "makeWebhook": Case(body=lambda world: {"url": "https://hooks.attacker.invalid/"}, says=("conflict",)),
    "listWebhooks": Case(),
    "getWebhook": _WEBHOOK,
    "changeWebhook": Case(names=("webhook_id",), body=lambda world: {"enabled": False}),
    "removeWebhook": _WEBHOOK,
    "testWebhook": _WEBHOOK,
    "rotateWebhookSecret": Case(names=("webhook_id",), body=lambda world: {}),
    "listWebhookDeliveries": _WEBHOOK,
    "replayWebhookDelivery": Case(names=("webhook_id", "event_id")),
    "replayWebhook": Case(names=("webhook_id",), body=lambda world: {"status": "failed"}),
    "pollEvents": Case(path=lambda world: "/v1/events?limit=1000"),
    "streamEvents": Case(),
}
"""By the endpoint's name."""


def _tried() -> Iterator[Any]:
    return (endpoint for endpoint in endpoints() if not endpoint.is_public)


def _path(world: World, endpoint: Any, case: Case) -> str:
    if case.path is not None:
        return case.path(world)
    path = openapi.shown_path(endpoint.path)
    for name in case.names:
        path = path.replace(f"{{{name}}}", world.spare_id if name == "tenant_id" else world.b.objects[name])
    assert "{" not in path, f"{endpoint.name}: say in CASES which object {path} names"
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    opened = open_world(tmp_path_factory.mktemp("world") / "data")
    with opened.serving:
        yield opened


def test_every_route_is_in_the_matrix():
    """A new route cannot be forgotten."""
    assert {endpoint.name for endpoint in _tried()} == set(CASES)


def _is_right(endpoint: Any, case: Case, holds: frozenset[Scope], answer: Any) -> bool:
    if case.is_above and endpoint.scope in holds:
        return answer.status < 500
    if MARK.encode() in answer.body.replace(f"{MARK}.example".encode(), b"") and case.names == ():
        return False
    if endpoint.scope not in holds:
        return (answer.status, answer.code) == (403, "permission_denied")
    if case.names:
        return (answer.status, answer.code) == (404, "not_found")
    return answer.status < 300 or answer.code in case.says


def _quiet_state(world: World) -> dict[str, bytes]:
    """Return tenant B's things once its own mail has come to rest."""
    before = _state(world)
    for _ in range(40):
        time.sleep(0.25)
        if (now := _state(world)) == before:
            break
        before = now
    return before


def test_no_scope_reaches_another_tenants_objects(world: World):
    """A key of tenant A, with each scope and with all, gets 404 for every object of tenant B and 403 without the scope."""
    before = _quiet_state(world)
    wrong = []
    cells = 0
    for endpoint in _tried():
        case = CASES[endpoint.name]
        for scope, key in (*world.a.by_scope.items(), (Scope.OPERATOR, world.operator)):
            holds = widened(frozenset({scope}))
            answer = world.ask(endpoint.method, _path(world, endpoint, case), key, case.body(world), **case.headers(world))
            cells += 1
            if endpoint.name == "suspendTenant" and answer.status < 300:
                world.ask("POST", f"/v1/tenants/{world.spare_id}/resume", key)
            if not _is_right(endpoint, case, holds, answer):
                wrong.append((endpoint.name, scope.value, answer.status, answer.code, answer.body[:120]))
    assert not wrong, "\n".join(map(str, wrong))
    assert cells == len(CASES) * len(Scope)
    assert _state(world) == before, "tenant B's things changed"


def test_the_owner_reaches_every_object(world: World):
    """The same paths answer tenant B itself: the matrix tries things that exist."""
    for endpoint in _tried():
        case = CASES[endpoint.name]
        if endpoint.method == "GET" and case.names and not case.is_above:
            answer = world.ask("GET", _path(world, endpoint, case), world.b.admin)
            assert answer.status == 200, (endpoint.name, answer.status, answer.body)


_MOVING = {
    "listWebhookDeliveries",
    "getWebhook",
    "listWebhooks",
    "pollEvents",
    "listAuditEntries",
    "listKeys",
    "getKey",
    "listQueueActions",
    "getQueueAction",
    "showLimits",
    "listPeople",
    "getDeliverability",
    "listPlacementTests",
    "getPlacementTest",
    "getPlacementSummary",
}
"""What changes by itself, or by being asked for: times of last use, what is left of a limit."""


def _state(world: World) -> dict[str, bytes]:
    """All that tenant B can see of its own."""
    found = {}
    for endpoint in _tried():
        case = CASES[endpoint.name]
        if endpoint.method == "GET" and not case.is_above and endpoint.name not in _MOVING:
            found[endpoint.name] = world.ask("GET", _path(world, endpoint, case), world.b.admin).body
    return found


def test_a_token_of_mail_is_all_that_counts(world: World):
    """Pixels, links and recipients' pages: no key, no session and no token of a stranger's making says anything of tenant B's mail."""
    message_id = world.b.objects["message_id"]
    strange = TrackingTokens(key=b"a stranger's key")
    now = SystemClock().now()
    own = ("/v1/suppressions", f"/v1/messages/{message_id}/events")
    before = [world.ask("GET", path, world.b.admin).body for path in own]
    for endpoint in endpoints():
        kind = {
            "showPixel": TokenKind.OPEN,
            "followLink": TokenKind.CLICK,
            "showPreference": TokenKind.UNSUBSCRIBE,
            "unsubscribe": TokenKind.UNSUBSCRIBE,
        }.get(endpoint.name)
        if kind is None:
            continue
        link = link_id("https://example.net/") if kind is TokenKind.CLICK else b""
        for token in (strange.make(kind, message_id, 0, now, link), message_id, world.b.objects["recipient_id"]):
            path = f"/t/{kind.value}/{token}{'.gif' if kind is TokenKind.OPEN else ''}"
            for key in (world.a.admin, world.b.admin, world.operator):
                form = {"Content-Type": "application/x-www-form-urlencoded"} if endpoint.method == "POST" else {}
                answer = world.ask(endpoint.method, path, key, b"List-Unsubscribe=One-Click" if form else None, **form)
                assert answer.status == 404, (endpoint.name, token)
                assert MARK.encode() not in answer.body
    assert [world.ask("GET", path, world.b.admin).body for path in own] == before


PAGES: dict[tuple[str, str], dict[str, str]] = {
    ("GET", "/"): {},
    ("GET", "/new"): {},
    ("GET", "/q"): {},
    ("POST", "/q"): {"site": "example.net", "action": "pause"},
    ("GET", "/live"): {},
    ("GET", "/m/{message_id}"): {},
    ("POST", "/m/{message_id}"): {"action": "cancel"},
    ("GET", "/m/{message_id}/html"): {},
    ("GET", "/m/{message_id}/raw"): {},
    ("GET", "/m/{message_id}/files/{n}"): {},
    ("GET", "/people"): {},
    ("POST", "/people"): {"email": "x@attacker.example", "role": "viewer"},
    ("POST", "/people/withdraw"): {"invitation": "lnk_0"},
    ("POST", "/people/{person_id}/role"): {"role": "viewer"},
    ("POST", "/people/{person_id}/remove"): {},
    ("POST", "/people/{person_id}/reset"): {},
    ("GET", "/keys"): {},
    ("POST", "/keys"): {"name": "mine", "mode": "live"},
    ("POST", "/keys/{key_id}/revoke"): {},
    ("GET", "/domains"): {},
    ("GET", "/domains/{domain}"): {},
    ("POST", "/domains/{domain}/look"): {},
    ("GET", "/domains/{domain}/dmarc"): {},
    ("GET", "/domains/{domain}/tls-reports"): {},
    ("GET", "/suppressions"): {},
    ("POST", "/suppressions"): {"address": "mine@example.net"},
    ("POST", "/suppressions/remove"): {"address": f"blocked@{MARK}.net", "stream": ""},
    ("GET", "/suppressions/export"): {},
    ("POST", "/suppressions/import"): {"lines": "address\nmine@example.net\n"},
    ("GET", "/webhooks"): {},
    ("POST", "/webhooks"): {"url": "https://hooks.attacker.invalid/", "events": "*"},
    ("GET", "/webhooks/{webhook_id}"): {},
    ("POST", "/webhooks/{webhook_id}"): {"url": "https://hooks.attacker.invalid/", "events": "*"},
    ("POST", "/webhooks/{webhook_id}/switch"): {"on": "no"},
    ("POST", "/webhooks/{webhook_id}/test"): {},
    ("POST", "/webhooks/{webhook_id}/rotate"): {},
    ("POST", "/webhooks/{webhook_id}/remove"): {},
    ("POST", "/webhooks/{webhook_id}/replay"): {"what": "failed"},
    ("POST", "/webhooks/{webhook_id}/deliveries/{event_id}/replay"): {},
    ("GET", "/streams"): {},
    ("POST", "/streams"): {"name": "mine", "lane": "bulk"},
    ("GET", "/streams/{name}"): {},
    ("POST", "/streams/{name}"): {"lane": "bulk"},
    ("POST", "/streams/{name}/delete"): {},
    ("GET", "/q/actions"): {},
    ("POST", "/q/actions"): {"action": "hold", "sender": "attacker.example"},
    ("GET", "/q/actions/{action_id}"): {},
    ("GET", "/routes"): {},
    ("POST", "/routes"): {"name": "mine", "roads": "mx"},
    ("GET", "/routes/{route}"): {},
    ("POST", "/routes/{route}"): {"name": "mine", "roads": "mx"},
    ("POST", "/routes/{route}/remove"): {},
    ("POST", "/routes/{route}/move"): {"to": "earlier"},
    ("GET", "/relays"): {},
    ("GET", "/relays/{name}"): {},
    ("POST", "/relays/{name}/disable"): {},
    ("POST", "/relays/{name}/enable"): {},
    ("POST", "/relays/{name}/test"): {},
    ("GET", "/sites"): {},
    ("GET", "/sites/{site}"): {},
    ("POST", "/sites/{site}/suspend"): {},
    ("POST", "/sites/{site}/resume"): {},
    ("POST", "/sites/{site}/limits"): {"connections": "1"},
    ("GET", "/insights"): {},
    ("GET", "/insights/table.csv"): {},
    ("GET", "/placement"): {},
    ("POST", "/placement"): {"from": f"shop@{MARK}.example"},
    ("GET", "/placement/{placement_id}"): {},
    ("GET", "/relay-lists"): {},
    ("POST", "/relay-lists/{name}/sync"): {},
    ("GET", "/returned"): {},
    ("GET", "/returned/{inbound_id}"): {},
    ("POST", "/returned/{inbound_id}/again"): {},
    ("POST", "/returned/{inbound_id}/forget"): {},
}
"""Every page with a scope, and the form that is sent to it."""


def _pages() -> dict[tuple[str, str], Any]:
    return {(page.method, openapi.shown_path(page.path)): page for page in routes.PAGES if page.scope is not None}


def test_every_page_is_in_the_matrix():
    """A new page that needs a scope cannot be forgotten; one that needs none is about oneself, or open."""
    assert set(_pages()) == set(PAGES)
    assert {page.needs for page in routes.PAGES if page.scope is None} <= {Needs.NOTHING, Needs.SESSION, Needs.PERSON}


def test_no_role_reaches_another_tenants_things_on_any_page(world: World):
    """Signed in to tenant A in each role: pages about tenant B's things are 404, pages beyond the role 403, lists hold nothing of B."""
    wrong = []
    for role, session in world.a.sessions.items():
        home = world.browse("GET", "/account", session)
        token = re.search(rb'name="token" value="([^"]+)"', home.body)
        assert token is not None, (role, home.status, home.body[:500])
        for (method, path), page in _pages().items():
            objects = {**world.b.objects, "n": "0", "route": "none", "site": "spare.example", "inbound_id": "none"}
            filled = re.sub(r"\{(\w+)\}", lambda found: objects[found[1]], path)  # noqa: B023
            form = {**PAGES[method, path], "token": token[1].decode()} if method == "POST" else None
            answer = world.browse(method, filled, session, form)
            if page.scope not in widened(ROLE_SCOPES[role]):
                is_right = answer.status == 403
            elif "{" in path:
                is_right = answer.status == 404
            else:
                is_right = answer.status < 500 and MARK.encode() not in answer.body.replace(f"{MARK}.example".encode(), b"")
            if not is_right:
                wrong.append((role.value, method, path, answer.status, answer.body[:100]))
    assert not wrong, wrong


def test_no_key_sends_for_another_tenant_over_smtp(world: World):
    """Each key of tenant A at the SMTP door: without messages:send nothing is taken, with it no mail from tenant B's domain."""
    host, port = world.serving.listening["smtp"].rsplit(":", 1)
    for scope, key in world.a.by_scope.items():
        with smtplib.SMTP(host, int(port), timeout=20) as client:
            client.ehlo()
            client.login("any", key)
            for domain in ("attacker.example", f"{MARK}.example"):
                content = f"From: shop@{domain}\r\nTo: deliver@example.net\r\nSubject: mine\r\n\r\nHi\r\n"
                may = domain == "attacker.example" and Scope.MESSAGES_SEND in widened(frozenset({scope}))
                try:
                    client.sendmail(f"shop@{domain}", ["deliver@example.net"], content)
                    was_taken = True
                except smtplib.SMTPException as refused:
                    was_taken = False
                    assert "550" in str(refused), (scope, domain, refused)
                    client.rset()
                assert was_taken == may, (scope, domain)

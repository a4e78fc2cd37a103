"""Tenants and the audit log over HTTP: the operator sees tenants, each tenant its own changes."""

import httpx
import pytest
from tests.doors.http_rig import Rig, message

from gatepost import ids
from gatepost.clock import SystemClock
from gatepost.domain.access import GATEWAY, Restrictions, Scope
from gatepost.domain.tenant import KeyMode
from gatepost.store import audit, credentials
from gatepost.tenants import keys


def key_for(rig: Rig, tenant_id: str, *scopes: Scope) -> str:
    """Make a key with only these scopes."""
    secret = keys.make_secret(KeyMode.LIVE)
    restrictions = Restrictions(scopes=frozenset(scopes))
    made = keys.describe(secret, tenant_id=tenant_id, name="x", mode=KeyMode.LIVE, now=SystemClock().now(), restrictions=restrictions)
    rig.run(rig.engine.write(lambda conn: credentials.insert(conn, made, keys.hash_secret(secret))))
    rig.run(rig.deps.directory.refresh())
    return secret


@pytest.fixture
def operator(rig):
    with rig.client(key_for(rig, rig.deps.default_tenant_id, Scope.OPERATOR)) as made:
        yield made


def entries(client: httpx.Client, **query: str):
    answer = client.get("/v1/audit", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_a_tenant_is_made_listed_suspended_and_resumed(operator):
    """Its name is its own; a second one with the name is refused; an unknown id is not there."""
    made = operator.post("/v1/tenants", json={"name": "New team"})
    assert made.status_code == 201, made.text
    tenant = made.json()
    assert (tenant["name"], tenant["suspended_at"]) == ("New team", None)
    assert operator.get(made.headers["location"]).json() == tenant
    assert operator.post("/v1/tenants", json={"name": "New team"}).json()["code"] == "conflict"
    assert operator.post(f"/v1/tenants/{tenant['id']}/suspend").json()["suspended_at"] is not None
    assert operator.get("/v1/tenants").json()["data"][0]["suspended_at"] is not None
    assert operator.post(f"/v1/tenants/{tenant['id']}/resume").json()["suspended_at"] is None
    for path in (f"/v1/tenants/{ids.new('ten')}", "/v1/tenants/New%20team", "/v1/tenants/ten_1"):
        assert operator.get(path).status_code == 404


@pytest.mark.parametrize("name", ["", " ", "a\nb", "ten_x", "a" * 201, "\u202eevil"])
def test_what_cannot_be_told_apart_is_no_name(operator, name):
    """Empty, with control characters, or like an id."""
    assert operator.post("/v1/tenants", json={"name": name}).status_code == 422


def test_a_suspended_tenant_is_refused_and_resumed_it_is_not(rig, operator):
    """From the next request on, with its own code."""
    made = operator.post("/v1/tenants", json={"name": "Late payer"}).json()
    with rig.client(key_for(rig, made["id"], Scope.ADMIN)) as client:
        assert client.get("/v1/messages").status_code == 200
        operator.post(f"/v1/tenants/{made['id']}/suspend")
        answer = client.post("/v1/messages", json=message())
        assert (answer.status_code, answer.json()["code"]) == (403, "tenant_suspended")
        operator.post(f"/v1/tenants/{made['id']}/resume")
        assert client.get("/v1/messages").status_code == 200
        told = [one["action"] for one in entries(client)]
    assert told == ["tenant.resumed", "tenant.suspended", "tenant.created"]


def test_only_an_operator_reaches_tenants(client):
    """Not even a tenant's own admin key."""
    for method, path in (("GET", "/v1/tenants"), ("POST", "/v1/tenants"), ("GET", "/v1/audit/gateway")):
        assert client.request(method, path, json={"name": "x"} if method == "POST" else None).status_code == 403


def test_every_change_is_in_the_log_with_who_and_from_where(rig, client):
    """Domains, suppressions and messages: action, object, key, peer, request, before and after."""
    domain = client.post("/v1/domains", json={"name": "audited.example"})
    request_id = domain.headers["request-id"]
    domain_id = domain.json()["id"]
    client.post(f"/v1/domains/{domain_id}/dkim/rotate")
    client.delete(f"/v1/domains/{domain_id}")
    added, rotated, removed = reversed(entries(client, object=domain_id))
    assert [added["action"], rotated["action"], removed["action"]] == ["domain.added", "domain.keys_rotated", "domain.removed"]
    assert (added["request_id"], added["peer"], added["actor"]["kind"], added["actor"]["name"]) == (request_id, "127.0.0.1", "key", "test")
    assert added["before"] is None
    assert added["after"]["name"] == "audited.example"
    assert len(rotated["after"]["selectors"]) > len(rotated["before"]["selectors"])
    assert removed["after"] is None

    sup = client.post(
        "/v1/suppressions", json={"address": "audited.person@example.net", "note": "asked by audited.person@example.net"}
    ).json()
    client.post("/v1/suppressions", json={"address": "audited.person@example.net", "note": "again"})
    client.delete("/v1/suppressions/audited.person@example.net")
    told = entries(client, object=sup["id"])
    assert [one["action"] for one in told] == ["suppression.removed", "suppression.renewed", "suppression.added"]
    assert told[1]["before"]["has_note"] and told[1]["after"]["has_note"] and "again" not in str(told)
    assert "audited.person" not in str(told)
    client.post("/v1/suppressions/bulk", json={"suppressions": [{"address": f"u{n}@bulk.example"} for n in range(3)]})
    (bulk,) = entries(client, action="suppressions.added")
    assert bulk["after"] == {"added": 3, "renewed": 0}

    later = client.post("/v1/messages", json=message(scheduled_at="2099-01-01T00:00:00Z"))
    assert later.status_code == 422  # too far ahead: nothing was changed, nothing is logged
    sent = client.post("/v1/messages", json=message()).json()
    client.get(f"/v1/messages/{sent['id']}/raw")
    assert client.post(f"/v1/messages/{sent['id']}/cancel").status_code == 200
    assert [one["action"] for one in entries(client, object=sent["id"])] == ["message.cancelled"]
    assert rig.run(rig.engine.read(audit.verify)).problem is None


def test_a_tenant_reads_only_its_own_entries(rig, client, stranger, operator):
    """Neither another tenant's nor the gateway's; the operator reads the gateway's, and no tenant's."""
    rig.run(rig.deps.control.pause_site("paused.example", "why", by=GATEWAY))
    client.post("/v1/domains", json={"name": "mine.example"})
    mine = entries(client, action="domain.")
    assert any(one["after"] and one["after"]["name"] == "mine.example" for one in mine)
    assert "mine.example" not in stranger.get("/v1/audit?limit=100").text
    assert "paused.example" not in client.get("/v1/audit?limit=100").text
    gateway = operator.get("/v1/audit/gateway").text
    assert "paused.example" in gateway
    assert "mine.example" not in gateway
    assert operator.get("/v1/audit").status_code == 403
    # another tenant's entry as a cursor or as an object leads nowhere
    assert entries(stranger, object=mine[0]["object_id"]) == []


def test_the_log_is_paged_and_filtered(client):
    """A Link leads on; filters narrow; what is no filter is refused with its name."""
    for n in range(3):
        client.post("/v1/domains", json={"name": f"page{n}.example"})
    first = client.get("/v1/audit", params={"action": "domain.added", "limit": 2})
    assert first.json()["has_more"]
    second = client.get(first.links["next"]["url"])
    seen = {one["id"] for one in first.json()["data"]}
    assert second.json()["data"]
    assert not seen & {one["id"] for one in second.json()["data"]}
    assert entries(client, until="2020-01-01T00:00:00Z") == []
    assert entries(client, since="2099-01-01T00:00:00Z") == []
    assert entries(client, actor="key_nobody") == []
    for bad in ({"action": "x"}, {"action": "a.b;--"}, {"since": "yesterday"}, {"who": "x"}, {"after": "dom_1"}):
        assert client.get("/v1/audit", params=bad).status_code == 422


def test_reading_real_mail_is_in_the_log(rig, client):
    """The source of a message that really leaves is content: who looked is recorded, before it is shown."""
    sent = client.post("/v1/messages", json=message()).json()
    assert client.get(f"/v1/messages/{sent['id']}/raw").status_code == 200
    assert entries(client, object=sent["id"]) == []  # the sandbox is for looking
    import sqlalchemy as sa

    rig.run(rig.engine.write(lambda conn: conn.execute(sa.text("UPDATE message SET is_sandbox = false WHERE id = :i"), {"i": sent["id"]})))
    assert client.get(f"/v1/messages/{sent['id']}/raw").status_code == 200
    (entry,) = entries(client, object=sent["id"])
    assert entry["action"] == "message.content_viewed"

"""`/v1/people`: over HTTP, with keys."""

from collections.abc import Iterator

import httpx
import pytest

from gatepost.domain.access import Restrictions, Role, Scope
from gatepost.store import credentials
from gatepost.tenants import keys
from gatepost.tenants.one_time_links import Joining, OneTimeLinks
from gatepost.tenants.passwords import Passwords
from gatepost.tenants.people import People
from tests.doors.http_rig import Rig, running_door
from tests.people.house import PASSWORD, operator, visit


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A running HTTP door, and an owner in each tenant."""
    with running_door(tmp_path_factory.mktemp("door")) as running:
        deps = running.deps
        people = People(deps.engine, deps.clock, deps.settings)
        links = OneTimeLinks(deps.engine, deps.clock, deps.settings, Passwords(memory_kib=64, passes=1))
        for tenant_id, email in ((deps.default_tenant_id, "ann@acme.example"), (running.other_tenant_id, "zoe@other.example")):
            made = running.run(people.invite(operator(tenant_id), tenant_id, email, Role.OWNER))
            running.run(links.accept(made.token, Joining(name="Owner", password=PASSWORD), visit()))
        yield running


def client_with(rig: Rig, *scopes: Scope) -> httpx.Client:
    """Make a key with scopes."""
    secret = keys.make_secret(keys.KeyMode.LIVE)
    key = keys.describe(
        secret, tenant_id=rig.deps.default_tenant_id, name="k", mode=keys.KeyMode.LIVE, now=rig.deps.clock.now(),
        restrictions=Restrictions(scopes=frozenset(scopes)),
    )  # fmt: skip
    rig.run(rig.engine.write(lambda conn: credentials.insert(conn, key, keys.hash_secret(secret))))
    rig.run(rig.deps.directory.refresh())
    return rig.client(secret)


def test_people_are_invited_listed_changed_and_removed(rig):
    """With an admin key; the link is in the one answer that made it."""
    with rig.client() as client:
        made = client.post("/v1/people", json={"email": "bob@acme.example", "role": "developer"})
        assert made.status_code == 201
        link = made.json()["link"]
        page = client.get("/v1/people").json()
        assert [one["email"] for one in page["data"]] == ["ann@acme.example"]
        assert [one["email"] for one in page["invitations"]] == ["bob@acme.example"]
        assert "link" not in page["invitations"][0]
        deps = rig.deps
        links = OneTimeLinks(deps.engine, deps.clock, deps.settings, Passwords(memory_kib=64, passes=1))
        rig.run(links.accept(link.rpartition("/")[2], Joining(name="Bob", password=PASSWORD), visit()))
        bob = client.get("/v1/people", params={"limit": 1}).json()["data"][0]
        assert (bob["email"], bob["role"], bob["has_second_factor"]) == ("bob@acme.example", "developer", False)
        changed = client.patch(f"/v1/people/{bob['id']}", json={"role": "admin"})
        assert changed.json()["role"] == "admin"
        assert client.delete(f"/v1/people/{bob['id']}").status_code == 204
        assert client.delete(f"/v1/people/{bob['id']}").status_code == 404


def test_the_last_owner_stays_and_faults_are_named(rig):
    """409 for the one, 422 with the place for the others."""
    with rig.client() as client:
        ann = client.get("/v1/people").json()["data"][-1]
        assert client.delete(f"/v1/people/{ann['id']}").json()["code"] == "conflict"
        assert client.patch(f"/v1/people/{ann['id']}", json={"role": "viewer"}).status_code == 409
        for body, pointer in (
            ({"email": "x", "role": "viewer"}, "/email"), ({"email": "a@b.example", "role": "king"}, "/role"),
            ({"email": "a@b.example", "is_operator": True}, "/is_operator"), ({}, "/email"),
        ):  # fmt: skip
            answer = client.post("/v1/people", json=body)
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["pointer"] == pointer
        assert client.post("/v1/people", json={"email": "ann@acme.example"}).status_code == 409


def test_another_tenants_people_are_not_there(rig):
    """404, and not in the list."""
    with rig.client(rig.other_key) as stranger, rig.client() as client:
        ann = client.get("/v1/people").json()["data"][-1]
        assert [one["email"] for one in stranger.get("/v1/people").json()["data"]] == ["zoe@other.example"]
        assert stranger.patch(f"/v1/people/{ann['id']}", json={"role": "viewer"}).status_code == 404
        assert stranger.delete(f"/v1/people/{ann['id']}").status_code == 404
        made = client.post("/v1/people", json={"email": "eve@acme.example"}).json()
        assert stranger.delete(f"/v1/people/invitations/{made['id']}").status_code == 404
        assert client.delete(f"/v1/people/invitations/{made['id']}").status_code == 204


def test_a_key_gives_no_role_that_can_do_more_than_itself(rig):
    """people:write alone is no way to everything."""
    with client_with(rig, Scope.PEOPLE_WRITE) as narrow:
        for role in Role:
            answer = narrow.post("/v1/people", json={"email": "mallory@evil.example", "role": role.value})
            assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        ann = narrow.get("/v1/people").json()["data"][-1]
        assert narrow.delete(f"/v1/people/{ann['id']}").status_code == 403
    with client_with(rig, Scope.MESSAGES_SEND) as sender:
        assert sender.get("/v1/people").status_code == 403

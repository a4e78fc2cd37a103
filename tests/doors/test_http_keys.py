"""Keys and OAuth clients over HTTP: made within what the caller has, changed, rotated, revoked."""

import time

import pytest
from tests.doors.http_rig import DOMAIN, message

from gatepost.clock import iso


def made(client, path="/v1/keys", **body):
    answer = client.post(path, json={"name": "made", **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


def pointers(answer):
    return {fault["pointer"] for fault in answer.json().get("errors", [])}


def soon(seconds):
    return iso(int((time.time() + seconds) * 1000))


def test_a_key_shows_what_it_may_and_its_secret_once(client):
    """The answer to making it is the only one with the secret; the others have all the rest."""
    body = {
        "scopes": ["messages:send", "messages:read"], "domains": ["ACME.example"], "streams": ["codes"], "cidrs": ["127.0.0.1/8"],
        "limits": ["messages=10/minute"], "expires_at": soon(3600),
    }  # fmt: skip
    new = made(client, **body)
    shown = client.get(f"/v1/keys/{new['id']}").json()
    assert "key" not in shown
    assert {name: value for name, value in new.items() if name != "key"} == shown
    assert (shown["scopes"], shown["domains"], shown["streams"]) == (["messages:read", "messages:send"], ["acme.example"], ["codes"])
    assert (shown["cidrs"], shown["limits"], shown["last_used_at"]) == (["127.0.0.0/8"], ["messages=10/minute"], None)
    (listed,) = [one for one in client.get("/v1/keys?limit=100").json()["data"] if one["id"] == new["id"]]
    assert listed == shown


def test_restrictions_of_a_key_are_enforced(rig, client):
    """Scope, domain, stream and network: each with permission_denied, and nothing is stored."""
    new = made(client, scopes=["messages:send"], domains=[DOMAIN], streams=["codes"])
    far = made(client, cidrs=["192.0.2.0/24"])
    before = rig.count("message")
    with rig.client(new["key"]) as narrow:
        assert narrow.get("/v1/messages").status_code == 403
        assert narrow.get("/v1/keys").status_code == 403
        assert narrow.post("/v1/messages", json=message(stream="bulk")).status_code == 403
        assert narrow.post("/v1/messages", json={**message(stream="codes"), "from": "a@other.example"}).status_code == 403
        assert rig.count("message") == before
        assert narrow.post("/v1/messages", json=message(stream="codes")).status_code == 202
    with rig.client(far["key"]) as elsewhere:
        assert (elsewhere.get("/v1/messages").status_code, elsewhere.get("/v1/messages").json()["code"]) == (403, "permission_denied")


def test_a_key_ends_at_its_time(rig, client):
    """A moment later it is not valid any more."""
    new = made(client, expires_at=soon(1))
    with rig.client(new["key"]) as short:
        assert short.get("/v1/messages").status_code == 200
        time.sleep(1.05)
        assert short.get("/v1/messages").json()["code"] == "authentication_failed"
    assert pointers(client.post("/v1/keys", json={"name": "x", "expires_at": "2020-01-01T00:00:00Z"})) == {"/expires_at"}
    assert pointers(client.post("/v1/keys", json={"name": "x", "expires_at": "tomorrow"})) == {"/expires_at"}


@pytest.mark.parametrize("path", ["/v1/keys", "/v1/oauth-clients"])
def test_nobody_makes_more_than_they_have(rig, client, path):
    """THREATS 28: scopes, domains, streams, networks and modes beyond the maker are refused with their place."""
    narrow = made(client, scopes=["keys:write", "messages:send"], domains=[DOMAIN], streams=["codes"], cidrs=["127.0.0.0/8"])
    with rig.client(narrow["key"]) as maker:
        for wish, place in (
            ({"scopes": ["admin"]}, "/scopes"),
            ({"scopes": ["operator"]}, "/scopes"),
            ({"domains": ["other.example"]}, "/domains"),
            ({"streams": ["codes", "bulk"]}, "/streams"),
            ({"cidrs": ["0.0.0.0/0"]}, "/cidrs"),
        ):
            answer = maker.post(path, json={"name": "more", **wish})
            assert (answer.status_code, answer.json()["code"], pointers(answer)) == (403, "permission_denied", {place}), wish
        child = made(maker, path)
        assert set(child["scopes"]) == {"keys:read", "keys:write", "messages:send"}
        assert (child["domains"], child["streams"], child["cidrs"]) == ([DOMAIN], ["codes"], ["127.0.0.0/8"])
    with rig.client(rig.test_key) as tester:
        assert pointers(tester.post(path, json={"name": "live"})) == {"/mode"}
        assert made(tester, path, mode="test")["mode"] == "test"
    with rig.client(made(client, scopes=["keys:read"])["key"]) as reader:
        assert reader.post(path, json={"name": "x"}).status_code == 403
    assert pointers(client.post(path, json={"name": "x", "tenant_id": rig.other_tenant_id})) == {"/tenant_id"}
    assert pointers(client.post(path, json={"name": "x", "scopes": ["operator"]})) == {"/scopes"}


def test_rotating_or_changing_a_stronger_key_is_refused(rig, client):
    """Who gets a key's new secret gets its rights."""
    strong = made(client)
    weak = made(client, scopes=["keys:write"])
    with rig.client(weak["key"]) as maker:
        for answer in (
            maker.post(f"/v1/keys/{strong['id']}/rotate"),
            maker.patch(f"/v1/keys/{strong['id']}", json={"name": "mine"}),
            maker.patch(f"/v1/keys/{weak['id']}", json={"scopes": ["admin"]}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        assert maker.post(f"/v1/keys/{weak['id']}/rotate").status_code == 200
    with rig.client(strong["key"]) as same:
        assert same.get("/v1/messages").status_code == 200


def test_a_key_is_changed_in_place(rig, client):
    """The same secret, other rights, at once; what is not named stays, an empty list narrows no more."""
    new = made(client, scopes=["messages:read"], domains=[DOMAIN])
    with rig.client(new["key"]) as changed:
        assert changed.get("/v1/messages").status_code == 200
        answer = client.patch(f"/v1/keys/{new['id']}", json={"name": "renamed", "scopes": ["domains:read"], "domains": []})
        assert answer.status_code == 200, answer.text
        assert (answer.json()["name"], answer.json()["scopes"], answer.json()["domains"]) == ("renamed", ["domains:read"], [])
        assert [changed.get(path).status_code for path in ("/v1/messages", "/v1/domains")] == [403, 200]
    assert pointers(client.patch(f"/v1/keys/{new['id']}", json={"scopes": []})) == {"/scopes"}
    assert pointers(client.patch(f"/v1/keys/{new['id']}", json={"cidrs": ["x"], "limits": ["y"]})) == {"/cidrs/0", "/limits/0"}
    client.delete(f"/v1/keys/{new['id']}")
    assert client.patch(f"/v1/keys/{new['id']}", json={"name": "x"}).status_code == 409


def test_a_rotated_key_keeps_its_id_and_overlaps(rig, client):
    """Both secrets work; without overlap only the new one."""
    new = made(client)
    first = client.post(f"/v1/keys/{new['id']}/rotate", json={"overlap_s": 60}).json()
    assert (first["id"], first["key"] != new["key"], first["old_secret_until"] is not None) == (new["id"], True, True)
    second = client.post(f"/v1/keys/{new['id']}/rotate", json={"overlap_s": 0}).json()
    statuses = []
    for secret in (new["key"], first["key"], second["key"]):
        with rig.client(secret) as tried:
            statuses.append(tried.get("/v1/messages").status_code)
    assert statuses == [401, 401, 200]
    assert client.post(f"/v1/keys/{new['id']}/rotate", json={"overlap_s": 10**9}).status_code == 422
    client.delete(f"/v1/keys/{new['id']}")
    assert client.post(f"/v1/keys/{new['id']}/rotate").status_code == 409


def test_a_client_of_oauth_has_the_same_life(rig, client):
    """Made, shown, rotated, revoked; and one that signs assertions has no secret."""
    new = made(client, "/v1/oauth-clients", scopes=["messages:read"])
    assert new["client_id"] == new["id"]
    assert new["client_secret"].startswith("gp_oauth_")
    shown = client.get(f"/v1/oauth-clients/{new['id']}").json()
    assert "client_secret" not in shown
    rotated = client.post(f"/v1/oauth-clients/{new['id']}/rotate-secret", json={"overlap_s": 0}).json()
    assert rotated["client_secret"] != new["client_secret"]
    assert client.delete(f"/v1/oauth-clients/{new['id']}").status_code == 204
    assert client.post(f"/v1/oauth-clients/{new['id']}/rotate-secret").status_code == 409
    key = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    signer = made(client, "/v1/oauth-clients", jwks={"keys": [key]})
    assert (signer["client_secret"], signer["jwks"], signer["hint"]) == (None, {"keys": [key]}, "")
    assert client.post(f"/v1/oauth-clients/{signer['id']}/rotate-secret").status_code == 409
    assert pointers(client.post("/v1/oauth-clients", json={"name": "x", "jwks": {"keys": [{**key, "d": "secret"}]}})) == {"/jwks"}

"""Domains, keys, suppressions, health and problems over HTTP."""

import json

import pytest
from tests.doors.http_rig import DOMAIN, message, running_door

TYPE = {"content-type": "application/json"}


def test_a_domain_is_added_read_verified_rotated_and_removed(client):
    """Its records are told; without them it stays pending; an id and a name both lead to it."""
    added = client.post("/v1/domains", json={"name": "New.Example"})
    assert added.status_code == 201, added.text
    domain = added.json()
    assert (domain["name"], domain["status"], domain["is_trusted"]) == ("new.example", "pending", False)
    assert {(one["type"], one["purpose"]) for one in domain["records"]} >= {("TXT", "dkim"), ("TXT", "spf"), ("TXT", "dmarc")}
    assert client.get(added.headers["location"]).json() == domain
    assert client.get("/v1/domains/new.example").json()["id"] == domain["id"]
    assert client.post("/v1/domains", json={"name": "new.example"}).json()["code"] == "conflict"
    assert client.post(f"/v1/domains/{domain['id']}/verify").json()["status"] == "pending"
    rotated = client.post(f"/v1/domains/{domain['id']}/dkim/rotate").json()
    assert len(rotated["records"]) > len(domain["records"])
    assert client.delete(f"/v1/domains/{domain['id']}").status_code == 204
    assert client.get(f"/v1/domains/{domain['id']}").status_code == 404


def test_no_private_key_is_shown_with_a_domain(client):
    """The API shows what is published in DNS and nothing else of a signing key."""
    assert "PRIVATE" not in client.get("/v1/domains").text


@pytest.mark.parametrize("name", ["", "x", "a b.example", "a..example", "127.0.0.1", "x\r\n.example", "*.example", "-.example", "a" * 300])
def test_what_is_no_domain_is_refused(client, name):
    """With the pointer of the field."""
    answer = client.post("/v1/domains", json={"name": name})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/name")


def test_a_key_is_shown_once_works_and_can_be_revoked(client, rig):
    """Its secret is in the answer of its making and nowhere else; revoked, it is refused at once."""
    made = client.post("/v1/keys", json={"name": "shop", "mode": "test"})
    assert made.status_code == 201
    secret = made.json()["key"]
    assert secret.startswith("gp_test_")
    with rig.client(secret) as other:
        assert other.get("/v1/messages").status_code == 200
        assert client.delete(f"/v1/keys/{made.json()['id']}").status_code == 204
        answer = other.get("/v1/messages")
    assert (answer.status_code, answer.json()["code"]) == (401, "authentication_failed")
    listed = client.get("/v1/keys")
    assert secret not in listed.text
    assert next(one for one in listed.json()["data"] if one["id"] == made.json()["id"])["revoked_at"] is not None


def test_a_test_key_cannot_make_a_live_key(rig):
    """Else its mail could leave the sandbox after all."""
    with rig.client(rig.test_key) as client:
        answer = client.post("/v1/keys", json={"name": "x", "mode": "live"})
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        assert client.post("/v1/keys", json={"name": "x", "mode": "test"}).status_code == 201


def test_a_suppression_is_added_renewed_read_and_lifted(client):
    """Addresses are known by their canonical form; a second add renews; streams are apart."""
    assert client.post("/v1/suppressions", json={"address": "A/b+c@Example.NET", "note": "asked"}).status_code == 201
    again = client.post(
        "/v1/suppressions", json={"address": "a/b+c@example.net", "reason": "complaint", "expires_at": "2099-01-01T00:00:00Z"}
    )
    assert (again.status_code, again.json()["reason"], again.json()["stream"]) == (200, "complaint", None)
    assert client.post("/v1/suppressions", json={"address": "a/b+c@example.net", "stream": "bulk"}).status_code == 201
    assert client.get("/v1/suppressions/A%2Fb%2Bc@example.net").json()["address"] == "a/b+c@example.net"
    assert client.get("/v1/suppressions/a%2Fb%2Bc@example.net?stream=bulk").json()["stream"] == "bulk"
    assert client.delete("/v1/suppressions/a%2Fb%2Bc@example.net?stream=bulk").status_code == 204
    assert client.delete("/v1/suppressions/a%2Fb%2Bc@example.net").status_code == 204
    assert client.get("/v1/suppressions/a%2Fb%2Bc@example.net").status_code == 404
    assert client.delete("/v1/suppressions/a%2Fb%2Bc@example.net").status_code == 404


def test_many_suppressions_are_added_all_or_none(client):
    """A faulty one is named and keeps all out; then the rest goes in, counted."""
    rows = [{"address": f"bulk{n}@example.net"} for n in range(5)]
    answer = client.post("/v1/suppressions/bulk", json={"suppressions": [*rows, {"address": "nope", "stream": "x"}]})
    assert [one["pointer"] for one in answer.json()["errors"]] == ["/suppressions/5/address", "/suppressions/5/stream"]
    assert client.get("/v1/suppressions/bulk0@example.net").status_code == 404
    assert client.post("/v1/suppressions/bulk", json={"suppressions": rows}).json() == {"object": "suppressions", "added": 5, "renewed": 0}
    assert client.post("/v1/suppressions/bulk", json={"suppressions": rows}).json()["renewed"] == 5


def test_a_suppression_keeps_mail_from_its_stream_only(client):
    """Suppressed for bulk, somebody still gets a code."""
    client.post("/v1/suppressions", json={"address": "nobulk@example.net", "stream": "bulk"})
    assert client.post("/v1/messages", json=message(to=["nobulk@example.net"], stream="bulk")).status_code == 422
    assert client.post("/v1/messages", json=message(to=["nobulk@example.net"], stream="codes")).status_code == 202


@pytest.mark.parametrize("path", ["/v1/domains", "/v1/keys", "/v1/suppressions"])
def test_every_list_is_paged_the_same_way(client, path):
    """limit, after and Link lead through all objects, newest first, each once."""
    for n in range(3):
        body = {
            "/v1/domains": {"name": f"paged{n}.example"},
            "/v1/keys": {"name": f"k{n}"},
            "/v1/suppressions": {"address": f"paged{n}@example.net"},
        }[path]
        assert client.post(path, json=body).status_code == 201
    everything = [one["id"] for one in client.get(f"{path}?limit=100").json()["data"]]
    assert everything == sorted(everything, reverse=True)
    url, found = f"{path}?limit=2", []
    while url:
        answer = client.get(url)
        found += [one["id"] for one in answer.json()["data"]]
        url = answer.links.get("next", {}).get("url")
    assert found == everything


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "limit=-1", "after=x", "before=msg_x", "limit=1&limit=2", "nope=1", "after=%ff"]
)
def test_paging_parameters_are_checked(client, query):
    """A typo is told, not ignored."""
    assert client.get(f"/v1/messages?{query}").status_code in {400, 422}


def test_health_is_told_without_a_key(rig):
    """Alive is 200; not ready is 503 and says why."""
    with rig.client(None) as client:
        assert client.get("/livez").json() == {"status": "ok", "problems": []}
        assert client.get("/readyz").status_code == 200
        rig.problems.append("the database is away")
        try:
            answer = client.get("/readyz")
        finally:
            rig.problems.clear()
        assert (answer.status_code, answer.json()["problems"]) == (503, ["the database is away"])


def test_metrics_need_a_key_unless_asked_on_this_machine(rig):
    """A foreign Host header (DNS rebinding) or a proxy's header means that somebody else asks."""
    with rig.client(None) as client:
        assert client.get("/metrics").status_code == 200
        for headers in ({"host": "evil.example"}, {"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=1.2.3.4"}):
            assert client.get("/metrics", headers=headers).status_code == 401
        with_key = client.get("/metrics", headers={"host": "gate.example", "authorization": f"Bearer {rig.key}"})
    assert with_key.status_code == 200
    assert "gatepost_queue_recipients" in with_key.text
    assert "gatepost_requests_refused_total" in with_key.text


def _assert_problem(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, f"https://gatepost.dev/problems/{code}")
    assert body["request_id"] == answer.headers["request-id"]
    assert body["request_id"].startswith("req_")
    assert body["title"]
    assert body["detail"]
    assert body["instance"].startswith("/")


def test_every_refusal_is_a_problem_with_its_request_id(rig, client):
    """401, 404, 405, 409, 413, 415, 422 have one shape, and the headers that HTTP asks for."""
    with rig.client(None) as nobody:
        answer = nobody.get("/v1/messages")
        _assert_problem(answer, 401, "authentication_required")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        for wrong in ("Bearer x", f"Bearer {rig.key[:-1]}", "Bearer gp_live_" + "a" * 38):
            answer = nobody.get("/v1/messages", headers={"authorization": wrong})
            _assert_problem(answer, 401, "authentication_failed")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        _assert_problem(nobody.get("/v1/messages", headers={"authorization": f"Basic {rig.key}"}), 401, "authentication_required")
        _assert_problem(nobody.get("/v1/nope"), 404, "not_found")
    answer = client.put("/v1/messages", json={})
    _assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    answer = client.put(f"/v1/domains/{DOMAIN}", json={})
    _assert_problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "DELETE"}
    _assert_problem(client.request("TRACE", "/v1/messages"), 405, "method_not_allowed")
    _assert_problem(client.post("/v1/domains", json={"name": DOMAIN}), 409, "conflict")
    _assert_problem(client.post("/v1/keys", content=b" " * 70_000, headers=TYPE), 413, "payload_too_large")
    _assert_problem(client.post("/v1/keys", json={}), 422, "validation_failed")
    _assert_problem(client.post("/v1/keys", content=b"{", headers=TYPE), 400, "malformed_request")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=utf-16"},
        {**TYPE, "content-encoding": "gzip"},
        {"content-type": "multipart/form-data; boundary=x"},
    ],
)
def test_other_content_types_and_encodings_are_refused(client, headers):
    """Compressed bodies too: a bomb has nothing to explode in."""
    _assert_problem(client.post("/v1/messages", content=json.dumps(message()).encode(), headers=headers), 415, "unsupported_media_type")


def test_a_header_given_twice_is_refused(client, rig):
    """Which of two keys or tokens counts would be a guess."""
    twice = [("idempotency-key", "a"), ("idempotency-key", "b"), ("content-type", "application/json")]
    _assert_problem(client.post("/v1/messages", content=json.dumps(message()).encode(), headers=twice), 400, "malformed_request")
    with rig.client(None) as nobody:
        _assert_problem(
            nobody.get("/v1/keys", headers=[("authorization", f"Bearer {rig.key}"), ("authorization", "Bearer x")]),
            400,
            "malformed_request",
        )


def test_head_and_options_are_sane(client):
    """HEAD is GET without a body; OPTIONS names the methods and needs no key."""
    head, get = client.head("/v1/messages"), client.get("/v1/messages")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", get.headers["content-length"])
    options = client.options("/v1/keys")
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    assert "request-id" in options.headers
    assert "server" not in get.headers


def test_the_docs_page_asks_no_other_host(client):
    """Its policy allows its own origin only, and its script is served from here, compressed or not."""
    page = client.get("/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http" not in page.text.replace("<!doctype html>", "").replace('lang="en"', "")
    script = client.get("/docs/scalar.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["content-encoding"] == "gzip"
    plain = client.get("/docs/scalar.js", headers={"accept-encoding": "identity"})
    assert plain.content == script.content
    assert len(plain.content) > 1_000_000


def test_without_its_database_the_door_says_so(tmp_path):
    """503 with Retry-After, and nothing is accepted."""
    with running_door(tmp_path) as away:
        away.run(away.engine.close())
        with away.client() as client:
            for path, body in (("/v1/messages", message()), ("/v1/keys", {"name": "x"})):
                answer = client.post(path, json=body)
                _assert_problem(answer, 503, "storage_unavailable")
                assert int(answer.headers["retry-after"]) > 0

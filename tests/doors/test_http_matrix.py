"""What is tried at every parameter and every body of the API, from the table of endpoints: injection, fields that are not theirs."""

import re
from urllib.parse import quote

import pytest
from tests.doors.http_rig import DOMAIN
from tests.doors.test_http_tenants import key_for

from gatepost.domain.access import Scope
from gatepost.http.app import endpoints

INJECTIONS = (
    "'", '"', "' OR '1'='1", "1; DROP TABLE message;--", "') UNION SELECT secret_hash FROM api_key--", "\\' OR 1=1 /*", "%27%20OR%201=1",
    "' || pg_sleep(5) || '", "%", "_", "\\", "\u2019 OR \u20191", "-1", "1e309",
)  # fmt: skip
"""Quotes, comments, stacked statements, unions, sleeps, wild cards, and what other languages would take for a value."""

FOREIGN = {
    "tenant_id": "ten_01m86eymxse00bynhmebgw8bxf", "role": "owner", "status": "verified", "is_trusted": True, "is_operator": True, "id": "x",
    "suspended_at": None, "balance": 10**9, "created_at": "2020-01-01T00:00:00Z", "object": "x", "__proto__": {"role": "owner"},
}  # fmt: skip
"""What a body might try to set besides its own fields (API3:2023)."""

API = [one for one in endpoints() if not one.is_public]
WITH_QUERY = [(one, parameter.name) for one in API for parameter in one.parameters if parameter.place == "query"]
WITH_PATH = [(one, name) for one in API for name in re.findall(r"{(\w+):\w+}", one.path)]
WITH_BODY = [one for one in API if one.body is not None and one.body is not bytes]


def path_of(endpoint, **values):
    """Fill an endpoint's path."""
    return re.sub(r"{(\w+):\w+}", lambda found: quote(values.get(found[1], "none"), safe=""), endpoint.path)


@pytest.fixture(scope="module")
def whole(rig):
    """A client that may do everything, and what the database holds before."""
    with rig.client(key_for(rig, rig.deps.default_tenant_id, *Scope)) as client:
        yield client


def untouched(rig):
    return [rig.count(table) for table in ("message", "tenant", "domain", "suppression", "audit_head")]


def is_nothing(row):
    """A sum over no mail is a row of zeros."""
    sums = row.get("metrics")
    return sums is not None and not any(value for value in sums.values() if isinstance(value, int | float))


@pytest.mark.parametrize(("endpoint", "name"), WITH_QUERY, ids=lambda one: getattr(one, "name", one))
def test_no_query_parameter_reaches_sql_as_sql(rig, whole, endpoint, name):
    """THREATS 27: refused, or a value like any other that matches nothing; never a 500, and never more rows than without it."""
    body = b"" if endpoint.body is None else b"{}"
    allowed = {200, 404, 422} if endpoint.method == "GET" else {200, 404, 409, 415, 422}
    before = untouched(rig)
    for injection in INJECTIONS:
        answer = whole.request(endpoint.method, path_of(endpoint), params={name: injection}, content=body)
        assert answer.status_code in allowed, (injection, answer.status_code, answer.text)
        data = answer.json().get("data") if answer.status_code == 200 and answer.headers["content-type"] == "application/json" else None
        if isinstance(data, list) and name not in {"limit", "q"}:
            assert [row for row in data if not is_nothing(row)] == [], (name, injection)
    assert untouched(rig) == before


@pytest.mark.parametrize(("endpoint", "name"), WITH_PATH, ids=lambda one: getattr(one, "name", one))
def test_no_path_parameter_reaches_sql_as_sql(rig, whole, endpoint, name):
    """THREATS 27: there is no such thing; never a 500, never somebody else's row."""
    before = untouched(rig)
    for injection in INJECTIONS:
        answer = whole.request(endpoint.method, path_of(endpoint, **{name: injection}), json={} if endpoint.body is not None else None)
        assert answer.status_code in {404, 422}, (injection, answer.status_code, answer.text)
        if endpoint.body is None:
            assert answer.status_code == 404 or name == "address" or answer.json()["errors"], injection
    assert untouched(rig) == before


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=lambda one: one.name)
def test_a_body_sets_nothing_but_its_own_fields(rig, whole, endpoint):
    """THREATS 28: each field that is not in the description is refused by its name, at the top and inside."""
    known = set(getattr(endpoint.body, "__struct_fields__", ()))
    before = untouched(rig)
    for field, value in FOREIGN.items():
        if field in known:
            continue
        answer = whole.request(endpoint.method, path_of(endpoint), json={field: value})
        assert answer.status_code in {404, 422}, (field, answer.status_code, answer.text)
        if answer.status_code == 422:
            assert f"/{field}" in {one["pointer"] for one in answer.json()["errors"]}, answer.text
    assert untouched(rig) == before


def test_fields_inside_a_message_are_checked_too(client):
    """A recipient, an attachment, a personalization and a message of a batch take no foreign field."""
    bodies = [
        {"to": [{"email": "a@example.net", "role": "owner"}]},
        {"attachments": [{"filename": "a", "content": "", "tenant_id": "x"}]},
        {"personalizations": [{"to": ["a@example.net"], "status": "delivered"}]},
    ]
    for body in bodies:
        answer = client.post("/v1/messages", json={"from": f"shop@{DOMAIN}", "subject": "x", "text": "x", **body})
        assert answer.status_code == 422
        assert "unknown_field" in answer.text
    answer = client.post("/v1/messages/batch", json={"messages": [{"from": f"shop@{DOMAIN}", "tenant_id": "x"}]})
    assert answer.status_code == 422


def test_no_body_takes_free_fields():
    """Every body is a struct that forbids what it does not know, so that a new one is in the matrix by itself."""
    assert [one.name for one in WITH_BODY if not (isinstance(one.body, type) and one.body.__struct_config__.forbid_unknown_fields)] == []

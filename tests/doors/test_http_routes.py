"""Routes and the switches of relays over HTTP, for operators only."""

import httpx
import pytest
from tests.doors.http_rig import message, running_door
from tests.doors.test_http_tenants import key_for

from gatepost.domain.access import Scope
from gatepost.settings import Egress, Relay, RouteRule, Settings

SETTINGS = Settings(
    egress=Egress(default_route="main,mx"),
    relays={"main": Relay(url="smtp://127.0.0.1:1"), "second": Relay(url="smtp://127.0.0.1:2")},
    routes={"fixed": RouteRule(roads="second", streams=["codes"])},
)


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with running_door(tmp_path_factory.mktemp("routes"), SETTINGS) as made:
        yield made


@pytest.fixture
def operator(rig):
    with rig.client(key_for(rig, rig.deps.default_tenant_id, Scope.OPERATOR)) as made:
        yield made


def refused(answer: httpx.Response, status: int, code: str) -> list[tuple[str, str]]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return [(one["pointer"], one["code"]) for one in answer.json().get("errors", [])]


def test_a_route_is_made_changed_ordered_and_removed(operator):
    """The list says in which order they are asked; those of the settings come first and stay as they are."""
    made = operator.post(
        "/v1/routes", json={"name": "news", "roads": "main:80,second:20", "strategy": "weighted", "match": {"streams": ["bulk"]}}
    )
    assert made.status_code == 201, made.text
    assert operator.get(made.headers["location"]).json() == made.json() == operator.get("/v1/routes/news").json()
    assert made.json()["roads"] == [{"road": "main", "weight": 80}, {"road": "second", "weight": 20}]
    other = operator.post(
        "/v1/routes", json={"name": "partner", "roads": [{"road": "second"}], "match": {"recipients": ["P.example"]}, "is_first": True}
    )
    assert other.json()["match"]["recipients"] == ["p.example"]
    listed = operator.get("/v1/routes").json()
    assert ([one["name"] for one in listed["data"]], listed["default"]) == (["fixed", "partner", "news"], "main,mx")
    ordered = operator.post("/v1/routes/order", json={"routes": ["news", other.json()["id"]]}).json()
    assert [one["name"] for one in ordered["data"]] == ["fixed", "news", "partner"]
    changed = operator.patch("/v1/routes/partner", json={"roads": "mx", "match": {"tags": ["x"]}, "may_be_named": True}).json()
    assert (changed["roads"], changed["match"]["tags"], changed["match"]["recipients"]) == (
        [{"road": "mx", "weight": 1}],
        ["x"],
        ["p.example"],
    )
    for name in ("news", "partner"):
        assert operator.delete(f"/v1/routes/{name}").status_code == 204
    refused(operator.delete("/v1/routes/news"), 404, "not_found")
    refused(operator.delete("/v1/routes/fixed"), 409, "conflict")
    refused(operator.patch("/v1/routes/fixed", json={"roads": "mx"}), 409, "conflict")


def test_what_is_no_route_is_refused_with_its_place(operator):
    """Each fault names where it is."""
    assert refused(operator.post("/v1/routes", json={"name": "x", "roads": "nowhere"}), 422, "validation_failed") == [
        ("/roads", "unknown_road")
    ]
    assert refused(operator.post("/v1/routes", json={"name": "main", "roads": "mx"}), 422, "validation_failed") == [
        ("/name", "invalid_name")
    ]
    assert refused(operator.post("/v1/routes", json={"name": "x", "roads": "mx", "strategy": "best"}), 422, "validation_failed")
    assert refused(
        operator.post("/v1/routes", json={"name": "x", "roads": "mx", "match": {"senders": ["a b"]}}), 422, "validation_failed"
    ) == [("/match/senders", "invalid_domain")]
    refused(operator.post("/v1/routes/order", json={"routes": ["nobody"]}), 422, "validation_failed")


def test_a_message_asks_for_a_route(rig, operator):
    """What may be named is taken; a relay's name is not the sender's business."""
    with rig.client() as client:
        assert refused(client.post("/v1/messages", json=message(route="main")), 422, "validation_failed") == [("/route", "unknown_route")]
        assert refused(client.post("/v1/messages/validate", json=message(route="main")), 422, "validation_failed")
        sent = client.post("/v1/messages", json=message(route="sandbox"))
        assert sent.status_code == 202, sent.text
        assert client.get(f"/v1/messages/{sent.json()['id']}").json()["route"] == "sandbox"


def test_a_relay_is_switched_off_and_on(operator):
    """Its state says who keeps mail away from it; what is no relay is not there."""
    off = operator.post("/v1/relays/main/disable", json={"note": "unpaid"}).json()
    assert (off["name"], off["state"], off["reason"]) == ("main", "disabled", "unpaid")
    assert operator.get("/v1/relays/main/state").json() == off
    assert operator.post("/v1/relays/main/enable").json()["state"] == "closed"
    assert operator.post("/v1/relays/mx/disable").json()["state"] == "disabled"
    assert operator.post("/v1/relays/mx/enable").json()["state"] == "closed"
    for path in ("/v1/relays/nowhere/disable", "/v1/relays/sandbox/disable", "/v1/relays/main,mx/disable"):
        refused(operator.post(path), 404, "not_found")


def test_only_operators_see_routes_and_switch_relays(rig):
    """A tenant's admin key is not enough."""
    with rig.client() as client:
        for method, path in (
            ("GET", "/v1/routes"),
            ("POST", "/v1/routes"),
            ("POST", "/v1/relays/main/disable"),
            ("GET", "/v1/relays/main/state"),
        ):
            refused(client.request(method, path), 403, "permission_denied")

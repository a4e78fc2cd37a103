"""Sites at the doors: `/v1/sites`, `/v1/pools` and `gatepost site`, for operators; what was ordered is what owners follow."""

import json
from pathlib import Path

import pytest

from gatepost.clock import SystemClock
from gatepost.dispatch.shaping import SiteShaping
from gatepost.domain.access import Restrictions, Scope
from gatepost.domain.outcome import Category, Deferred, Exchange, Reply
from gatepost.domain.route import shard_of
from gatepost.domain.tenant import KeyMode
from gatepost.settings import Egress, Settings, SiteLimits, SourceAddress, SourcePool
from gatepost.store import credentials
from gatepost.tenants import keys
from tests.cli.test_commands import run, run_json
from tests.doors.http_rig import message, running_door

SOURCES = {"far": SourceAddress(address="192.0.2.9", proxy="socks5://ann:secret@proxy.test:1080", hostname="far.acme.example")}
SETTINGS = Settings(
    egress=Egress(default_route="mx", connections_per_site=7),
    sources=SOURCES,
    pools={"bulk": SourcePool(sources=["far"])},
    shaping={"example.net": SiteLimits(messages_per_second=4.0)},
)


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with running_door(tmp_path_factory.mktemp("sites"), SETTINGS) as opened:
        yield opened


@pytest.fixture
def operator(rig):
    secret = keys.make_secret(KeyMode.LIVE)
    made = keys.describe(
        secret, tenant_id=rig.deps.default_tenant_id, name="x", mode=KeyMode.LIVE, now=SystemClock().now(),
        restrictions=Restrictions(scopes=frozenset({Scope.OPERATOR})),
    )  # fmt: skip
    rig.run(rig.engine.write(lambda conn: credentials.insert(conn, made, keys.hash_secret(secret))))
    rig.run(rig.deps.directory.refresh())
    with rig.client(secret) as client:
        yield client


def owner_of(rig, *sites):
    """Let a dispatch process own the sites and have a transaction refused at each."""
    owner = SiteShaping(SETTINGS, rig.engine)
    now = SystemClock().now()
    epochs = {shard_of("default", site): 1 for site in sites}
    said = Reply(code=421, enhanced="4.7.0", text="too many connections from you")
    exchange = Exchange(route="mx", started_at=now, finished_at=now)
    outcome = Deferred(exchange=exchange, category=Category.RATE_LIMITED, detail=str(said), reply=said)
    rig.run(owner.step(epochs, now))
    for site in sites:
        owner.give_back(owner.take(("default", site), now), [outcome], now)
    rig.run(owner.step(epochs, now))
    return owner, epochs


def test_sites_show_what_waits_and_why(rig, operator):
    """The queue's counts and the owner's knowledge in one answer: limits, back-off, the reply, the cause."""
    with rig.client() as client:
        assert client.post("/v1/messages", json=message(to=["ann@example.net", "bob@example.net"])).status_code == 202
    owner_of(rig, "example.net", "busy.example")
    found = {one["site"]: one for one in operator.get("/v1/sites").json()["data"]}
    waiting = found["?example.net"] if "?example.net" in found else found["example.net"]
    assert waiting["due"] == 2
    (source,) = [one for one in found["busy.example"]["sources"] if one["source"] == "default"]
    assert (source["connections"], source["connections_limit"], source["width"], source["cause"]) == (3, 7, 0.5, "backing_off")
    assert source["signal"]["id"] == "connections"
    assert "too many connections" in source["signal"]["text"]
    one = operator.get("/v1/sites/busy.example").json()
    assert one["sources"] == found["busy.example"]["sources"]
    assert operator.get("/v1/sites", params={"limit": 1}).json()["has_more"] is True
    assert operator.get("/v1/sites", params={"limit": 0}).json()["code"] == "validation_failed"


def test_an_operator_suspends_resumes_and_limits_over_http(rig, operator):
    """Each order is shown, followed by the owner, and stands in the audit log with who gave it."""
    owner, epochs = owner_of(rig, "orders.example")
    now = SystemClock().now()
    made = operator.post("/v1/sites/orders.example/suspend", json={"seconds": 60, "note": "they asked"})
    assert made.status_code == 200, made.text
    assert [(one["note"], one["source"]) for one in made.json()["orders"]] == [("they asked", "")]
    rig.run(owner.step(epochs, now))
    assert owner.take(("default", "orders.example"), now).cause in {"site_suspended", "backing_off"}
    assert operator.post("/v1/sites/orders.example/resume", json={}).json()["orders"] == []
    put = operator.put("/v1/sites/orders.example/limits", json={"connections": 2, "messages_per_second": 1.5})
    assert {one["connections_limit"] for one in put.json()["sources"]} == {2}
    later = SystemClock().now() + 10_000
    rig.run(owner.step(epochs, later))
    assert owner.take(("default", "orders.example"), later).connections == 1
    assert operator.put("/v1/sites/orders.example/limits", json={}).json()["orders"] == []
    entries = operator.get("/v1/audit/gateway").json()["data"][:4]
    assert [one["action"] for one in entries] == ["site.limits_changed", "site.limits_changed", "site.resumed", "site.suspended"]


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/sites/x.example/suspend", {"seconds": 1, "until": "2999-01-01T00:00:00Z"}, "validation_failed"),
        ("/v1/sites/x.example/suspend", {"until": "2001-01-01T00:00:00Z"}, "validation_failed"),
        ("/v1/sites/x.example/suspend", {"source": "nobody"}, "validation_failed"),
        ("/v1/sites/x.example/suspend", {"seconds": 0}, "validation_failed"),
        ("/v1/sites/Not%20One/suspend", {}, "not_found"),
        ("/v1/sites/x.example/resume", {"site": 1}, "validation_failed"),
    ],
)
def test_orders_that_make_no_sense_are_refused(operator, path, body, code):
    """Refused with the place of the fault, and nothing is written."""
    assert operator.post(path, json=body).json()["code"] == code


def test_pools_are_listed_without_secrets(operator):
    """Sources with their addresses and names; of a proxy not its password."""
    data = operator.get("/v1/pools").json()["data"]
    assert [(one["name"], one["road"]) for one in data] == [("bulk", "mx:bulk"), ("default", "mx")]
    assert data[0]["sources"] == [
        {"name": "far", "address": "192.0.2.9", "hostname": "far.acme.example", "proxy": "socks5://proxy.test:1080", "weight": 1.0}
    ]


def test_tenants_keys_reach_none_of_it(rig):
    """Sites are the operator's: a tenant's key is refused."""
    with rig.client() as client:
        for answer in (client.get("/v1/sites"), client.get("/v1/pools"), client.post("/v1/sites/x.example/resume", json={})):
            assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


def test_the_command_line_gives_the_same_orders(tmp_path: Path, monkeypatch):
    """`gatepost site`: limit adds to what was ordered, --reset takes it back, suspend and resume leave their entries."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    assert run_json(data, "site", "list") == []
    run_json(data, "site", "limit", "example.net", "--connections", "3")
    found = run_json(
        data, "site", "limit", "example.net", "--messages-per-second", "0.5", "--warm-up-from", "2026-11-24", "--warm-up", "50,100"
    )
    assert found["orders"][0]["limits"] == {
        "connections": 3,
        "messages_per_second": 0.5,
        "warm_up_from": "2026-11-24",
        "warm_up": [50, 100],
    }
    assert found["sources"][0]["connections_limit"] == 3
    assert run_json(data, "site", "limit", "example.net", "--reset")["orders"] == []
    held = run_json(data, "site", "suspend", "example.net", "--for", "2h", "--note", "they asked")
    assert held["orders"][0]["note"] == "they asked"
    assert "they asked" in run(data, "site", "show", "example.net").output
    run_json(data, "queue", "pause", "example.net")
    assert run_json(data, "site", "show", "example.net")["paused_since"] is not None
    assert run_json(data, "site", "resume", "example.net") == {
        **run_json(data, "site", "show", "example.net"),
        "orders": [],
        "paused_since": None,
    }
    assert run_json(data, "site", "suspend", "example.net", "--source", "nobody", code=1)["error"]["code"] == "validation_failed"
    actions = [one["action"] for one in run_json(data, "audit", "list", "--gateway")]
    assert actions == ["site.resumed", "site.paused", "site.suspended", *["site.limits_changed"] * 3]
    assert json.dumps(run_json(data, "site", "list")) == "[]"


def test_the_old_command_still_pauses(tmp_path: Path, monkeypatch):
    """`gatepost queue pause` and `resume` are as they were."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    assert run_json(data, "queue", "pause", "example.net")["paused"] is True
    assert run_json(data, "queue", "resume", "example.net")["paused"] is False

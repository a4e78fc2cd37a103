"""A tenant's own policy: stored, audited, in force in every process; by API and command line; on both engines."""

import asyncio
import json

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from gatepost import ids
from gatepost.cli import main
from gatepost.clock import SystemClock
from gatepost.domain.access import Actor, PrincipalKind
from gatepost.domain.errors import Refused
from gatepost.domain.screening import RULES, Policy, Strictness
from gatepost.domain.tenant import Tenant
from gatepost.http.v1.bodies import PolicyBody
from gatepost.settings import Screening, Settings
from gatepost.store import tenants
from gatepost.store.opening import open_store
from gatepost.store.schema import audit
from gatepost.tenants.directory import Directory
from gatepost.tenants.policies import Policies, defaults_of
from tests.doors.http_rig import message, running_door

ACTOR = Actor(kind=PrincipalKind.LOCAL, id="local", name="ann", peer="127.0.0.1")


def entries(conn):
    rows = conn.execute(sa.select(audit).where(audit.c.action == "policy.changed").order_by(audit.c.seq))
    return [(row.actor_name, row.tenant_id, row.before, row.after) for row in rows]


def test_a_change_is_stored_audited_and_followed_by_others(make_engine):
    """Only that tenant's values; another process sees them at its next look; a change of nothing leaves no entry."""

    async def run():
        engine, other, clock = make_engine(), make_engine(), SystemClock()
        tenant_id = await open_store(engine, clock)
        second = Tenant(id=ids.new("ten"), name="second", created_at=clock.now())
        await engine.write(lambda conn: tenants.insert_tenant(conn, second))
        directory, theirs = Directory(engine, clock), Directory(other, clock)
        await theirs.refresh()
        policies = Policies(engine, clock, Screening(), directory)
        view = await policies.change(tenant_id, {"attachments": "warn", "roles": "refuse"}, by=ACTOR)
        assert (view.values["attachments"], view.values["roles"], view.own) == ("warn", "refuse", ("roles", "attachments"))
        assert directory.policy(tenant_id) == {"attachments": "warn", "roles": "refuse"}
        assert await theirs.refresh()
        assert theirs.policy(tenant_id) == directory.policy(tenant_id)
        assert theirs.policy(second.id) == {}
        await policies.change(tenant_id, {"attachments": "warn"}, by=ACTOR)
        view = await policies.change(tenant_id, {"roles": None, "attachments": "default"}, by=ACTOR)
        assert (view.own, dict(view.values)) == ((), defaults_of(Screening()))
        assert await engine.read(entries) == [
            ("ann", tenant_id, {"attachments": "default", "roles": "default"}, {"attachments": "warn", "roles": "refuse"}),
            ("ann", tenant_id, {"attachments": "warn", "roles": "refuse"}, {"attachments": "default", "roles": "default"}),
        ]
        await engine.close()
        await other.close()

    asyncio.run(run())


def test_what_is_no_rule_or_no_value_is_refused(make_engine):
    """Each with its place; and a tenant that is not there has no policy."""

    async def run():
        engine, clock = make_engine(), SystemClock()
        tenant_id = await open_store(engine, clock)
        policies = Policies(engine, clock, Screening(operator_only=["spam"]))
        with pytest.raises(Refused) as caught:
            await policies.change(tenant_id, {"nonsense": "off", "roles": "maybe"}, by=ACTOR)
        assert [(fault.pointer, fault.code) for fault in caught.value.faults] == [
            ("/nonsense", "unknown_field"),
            ("/roles", "out_of_range"),
        ]
        for work in (policies.get(ids.new("ten")), policies.change(ids.new("ten"), {"roles": "off"}, by=ACTOR)):
            with pytest.raises(Refused) as caught:
                await work
            assert caught.value.code == "not_found"
        with pytest.raises(Refused) as caught:
            await policies.change(tenant_id, {"spam": "off"}, by=ACTOR)
        assert caught.value.code == "permission_denied"
        assert (await policies.change(tenant_id, {"spam": "off"}, by=ACTOR, is_operator=True)).values["spam"] == "off"
        await engine.close()

    asyncio.run(run())


def test_every_rule_is_an_option_a_field_of_the_api_and_of_the_policy():
    """Four lists that must say the same."""
    options = {
        name for name in Screening.__struct_fields__ if isinstance(value := getattr(Screening(), name), str) and value in set(Strictness)
    }
    assert options == set(RULES) == set(PolicyBody.__struct_fields__)
    assert Policy().values() == dict.fromkeys(RULES, "off")


def test_the_api_reads_and_changes_the_policy_of_its_own_tenant(tmp_path):
    """What PATCH sets is in force for the next message, and not for another tenant."""
    with (
        running_door(tmp_path, Settings(screening=Screening(operator_only=["macros"]))) as rig,
        rig.client() as client,
        rig.client(rig.other_key) as other,
    ):
        before = client.get("/v1/policies").json()
        assert before == {"object": "policy", "rules": defaults_of(Screening()), "own": [], "operator_only": ["macros"]}
        file = {"filename": "a.exe", "content": "aGk="}
        assert client.post("/v1/messages", json=message(attachments=[file])).json()["code"] == "content_refused"
        changed = client.patch("/v1/policies", json={"attachments": "warn", "roles": "off"})
        assert (changed.status_code, changed.json()["rules"]["attachments"], changed.json()["own"]) == (
            200,
            "warn",
            ["roles", "attachments"],
        )
        sent = client.post("/v1/messages", json=message(attachments=[file]))
        assert (sent.status_code, [one["code"] for one in sent.json()["warnings"]]) == (202, ["blocked_extension"])
        assert other.get("/v1/policies").json() == before
        back = client.patch("/v1/policies", json={"attachments": None})
        assert (back.json()["rules"]["attachments"], back.json()["own"]) == ("refuse", ["roles"])
        for body, status, pointer in (
            ({"nonsense": "off"}, 422, "/nonsense"),
            ({"roles": "maybe"}, 422, "/roles"),
            ({"macros": "off"}, 403, "/macros"),
        ):
            answer = client.patch("/v1/policies", json=body)
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (status, pointer)


def test_reading_and_changing_need_their_scopes(tmp_path):
    """A key that only sends neither reads nor changes the policy."""
    with running_door(tmp_path) as rig, rig.client() as client:
        made = client.post("/v1/keys", json={"name": "sender", "scopes": ["messages:send"]})
        reading = client.post("/v1/keys", json={"name": "reader", "scopes": ["policies:read"]})
        with rig.client(made.json()["key"]) as sender, rig.client(reading.json()["key"]) as reader:
            assert sender.get("/v1/policies").status_code == 403
            assert reader.get("/v1/policies").status_code == 200
            assert [one.patch("/v1/policies", json={"roles": "off"}).status_code for one in (sender, reader)] == [403, 403]


def test_the_command_line_shows_and_sets(tmp_path):
    """`policy set` may change what only the operator may; `default` goes back; mistakes are named."""

    def call(*arguments, fails=False):
        done = CliRunner().invoke(main, ["policy", *arguments, "--data", str(tmp_path), "--json"])
        assert (done.exit_code != 0) is fails, done.output
        return json.loads(done.output)

    assert call("show")["rules"]["attachments"] == "refuse"
    found = call("set", "attachments=warn", "spam=refuse", "--set", 'screening.operator_only=["spam"]')
    assert (found["rules"]["attachments"], found["own"], found["operator_only"]) == ("warn", ["attachments", "spam"], ["spam"])
    assert call("set", "attachments=default")["own"] == ["spam"]
    assert call("set", "attachments=maybe", fails=True)["error"]["errors"][0]["pointer"] == "/attachments"
    assert call("show", "--tenant", "nobody", fails=True)["error"]["code"] == "not_found"
    assert CliRunner().invoke(main, ["policy", "set", "attachments", "--data", str(tmp_path)]).exit_code == 2
    assert "attachments" in CliRunner().invoke(main, ["policy", "show", "--data", str(tmp_path)]).output

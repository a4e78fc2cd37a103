"""An attacker who holds a key for one domain, or one stream, asks every endpoint that tells how mail fares."""

from collections.abc import Iterator

import httpx
import pytest
from tests.doors.http_rig import DOMAIN, Rig

from gatepost import ids
from gatepost.domain.access import GATEWAY
from gatepost.domain.placement import Outcome, PlacementResult, PlacementTest
from gatepost.domain.unusual import UnusualChange
from gatepost.store import placement, unusual

SECRET = "secret-brand.example"
"""A domain of the same tenant that the key is not for."""
NOBODY = "nobody.example"


@pytest.fixture(scope="module", autouse=True)
def things(rig: Rig) -> dict[str, str]:
    """A second domain; unusual changes of every kind, placement tests and reports of both domains."""
    deps, tenant_id, now = rig.deps, rig.deps.default_tenant_id, rig.deps.clock.now()
    found = {"domain": rig.run(deps.domains.add(tenant_id, SECRET, by=GATEWAY, is_trusted=True)).domain.id}
    changes = [("domain", DOMAIN), ("domain", SECRET), ("stream", "bulk"), ("stream", "codes"), ("relay", "mx"), ("tenant", ""),
               ("site", "google")]  # fmt: skip

    def write(conn) -> None:
        for scope, name in changes:
            unusual.open_change(conn, UnusualChange(
                id=ids.new("unc"), tenant_id=tenant_id, metric="bounces", scope=scope, name=name, span="hour", opened_at=now, seen_at=now,
                expected=0.01, seen=0.2, part=20, whole=100, detail="of it", advice="",
            ))  # fmt: skip
        for domain in (DOMAIN, SECRET):
            found[f"placement {domain}"] = test_id = ids.new("plc")
            placement.insert(conn, PlacementTest(
                id=test_id, tenant_id=tenant_id, domain=domain, sender=f"a@{domain}", subject="x", marker=test_id, created_at=now,
                deadline_at=now, finished_at=now, results=(PlacementResult(seed="a", provider="p", outcome=Outcome.SPAM),),
            ))  # fmt: skip

    rig.run(deps.engine.write(write))
    with rig.client() as client:
        for domain in (DOMAIN, SECRET):
            made = client.post("/v1/reports", json={"kind": "weekly", "address": f"boss@{domain}", "domains": [domain]})
            assert made.status_code == 201, made.text
            found[f"report {domain}"] = made.json()["id"]
        found["report of all"] = client.post("/v1/reports", json={"kind": "bounces", "address": f"boss@{DOMAIN}"}).json()["id"]
    return found


@pytest.fixture(scope="module")
def keys(rig: Rig) -> dict[str, str]:
    """Keys with every scope, for one domain, for one stream, for both."""
    narrow = {"domain": {"domains": [DOMAIN]}, "stream": {"streams": ["codes"]}, "both": {"domains": [DOMAIN], "streams": ["codes"]}}
    with rig.client() as client:
        made = {name: client.post("/v1/keys", json={"name": name, "mode": "live", **one}) for name, one in narrow.items()}
    return {name: one.json()["key"] for name, one in made.items()}


@pytest.fixture
def of_domain(rig: Rig, keys) -> Iterator[httpx.Client]:
    """A client with the key for one domain."""
    with rig.client(keys["domain"]) as made:
        yield made


@pytest.fixture
def of_stream(rig: Rig, keys) -> Iterator[httpx.Client]:
    """A client with the key for one stream."""
    with rig.client(keys["stream"]) as made:
        yield made


def is_refused(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


@pytest.mark.parametrize("what", ["", "/deliverability", "/health", "/dmarc", "/tls-reports"])
def test_another_domain_is_refused_by_name_and_by_id(of_domain, things, what) -> None:
    """The same words for a domain that is there and one that is not; its own is answered; an id of nothing is not found."""
    told = []
    for name in (SECRET, SECRET.upper(), f"{SECRET}.", NOBODY, things["domain"]):
        answer = of_domain.get(f"/v1/domains/{name}{what}")
        assert is_refused(answer), (name, answer.text)
        told.append(answer.json()["detail"])
        assert answer.json()["errors"][0]["code"] == "domain_not_allowed"
    assert len(set(told)) == 1
    assert SECRET not in told[0]
    assert of_domain.get(f"/v1/domains/{DOMAIN}{what}").status_code == 200
    assert of_domain.get(f"/v1/domains/{ids.new('dom')}{what}").status_code == 404


def test_another_domain_cannot_be_changed(of_domain, client, things) -> None:
    """Nor verified, nor given new keys, nor removed, nor made."""
    assert is_refused(of_domain.post(f"/v1/domains/{things['domain']}/verify"))
    assert is_refused(of_domain.post(f"/v1/domains/{SECRET}/dkim/rotate"))
    assert is_refused(of_domain.delete(f"/v1/domains/{SECRET}"))
    assert is_refused(of_domain.post("/v1/domains", json={"name": "new.example"}))
    assert SECRET in client.get("/v1/domains").text


def test_lists_hold_only_the_keys_own_domain(of_domain, things) -> None:
    """Domains, placement tests, sums and reports, however they are asked for."""
    for path in (
        "/v1/domains", "/v1/placement", f"/v1/placement?domain={SECRET}", "/v1/reports", "/v1/unusual?state=all",
        "/v1/stats?group_by=domain", f"/v1/stats?group_by=domain&domain={SECRET}",
    ):  # fmt: skip
        answer = of_domain.get(path)
        assert answer.status_code == 200, (path, answer.text)
        assert SECRET not in str(answer.json()["data"]), path
    assert [one["name"] for one in of_domain.get("/v1/domains").json()["data"]] == [DOMAIN]
    assert [one["domain"] for one in of_domain.get("/v1/placement").json()["data"]] == [DOMAIN]
    assert of_domain.get("/v1/placement/summary").json()["tests"] == 1
    assert of_domain.get(f"/v1/placement/summary?domain={SECRET}").json()["tests"] == 0
    assert of_domain.get(f"/v1/placement/{things[f'placement {SECRET}']}").status_code == 404
    assert of_domain.get(f"/v1/placement/{things[f'placement {DOMAIN}']}").status_code == 200


def test_unusual_changes_are_those_of_its_own_places(rig, client, of_domain, of_stream, keys) -> None:
    """A domain's key sees its domain's, a stream's key its stream's; none sees the tenant's, a relay's or a site's, nor who has both."""

    def seen(one: httpx.Client) -> set[tuple[str, str]]:
        return {(row["scope"], row["name"]) for row in one.get("/v1/unusual", params={"state": "all"}).json()["data"]}

    assert len(seen(client)) == 7
    assert seen(of_domain) == {("domain", DOMAIN)}
    assert seen(of_stream) == {("stream", "codes")}
    with rig.client(keys["both"]) as both:
        assert seen(both) == set()


def test_reports_are_seen_and_made_for_its_own_domain_only(of_domain, client, things) -> None:
    """One about everything, or another domain, is as if it were not there; a new one is about the key's domain, whatever it leaves out."""
    assert [one["id"] for one in of_domain.get("/v1/reports").json()["data"]] == [things[f"report {DOMAIN}"]]
    for hidden in (things[f"report {SECRET}"], things["report of all"]):
        path = f"/v1/reports/{hidden}"
        for answer in (of_domain.get(path), of_domain.patch(path, json={"hour": 3}), of_domain.delete(path)):
            assert answer.status_code == 404, answer.text
        assert client.get(path).json()["hour"] == 7
    wanted = {"kind": "complaints", "address": "evil@attacker.example"}
    assert is_refused(of_domain.post("/v1/reports", json={**wanted, "domains": [SECRET]}))
    assert is_refused(of_domain.post("/v1/reports", json={**wanted, "domains": [DOMAIN, SECRET]}))
    made = of_domain.post("/v1/reports", json={**wanted, "domains": []}).json()
    assert made["domains"] == [DOMAIN]
    path = f"/v1/reports/{made['id']}"
    assert is_refused(of_domain.patch(path, json={"domains": [SECRET]}))
    assert of_domain.patch(path, json={"domains": []}).json()["domains"] == [DOMAIN]
    assert of_domain.patch(path, json={"hour": 3}).json()["domains"] == [DOMAIN]
    assert of_domain.delete(path).status_code == 204


def test_what_tells_of_every_stream_is_refused_to_a_key_for_one(of_stream, client, things) -> None:
    """Scores and reports cannot be divided by stream: such a key gets none of them, and changes none."""
    assert is_refused(of_stream.get(f"/v1/domains/{DOMAIN}/deliverability"))
    path = f"/v1/reports/{things[f'report {DOMAIN}']}"
    for answer in (
        of_stream.get("/v1/reports"), of_stream.get(path), of_stream.patch(path, json={"hour": 3}), of_stream.delete(path),
        of_stream.post("/v1/reports", json={"kind": "weekly", "address": "evil@attacker.example"}),
    ):  # fmt: skip
        assert is_refused(answer), answer.text
    assert client.get(path).status_code == 200


@pytest.fixture(scope="module")
def mail(rig: Rig, things) -> dict[str, str]:
    """One message of each domain and stream."""
    found = {}
    with rig.client() as client:
        for domain in (DOMAIN, SECRET):
            for stream in ("codes", "bulk"):
                wanted = {"from": f"a@{domain}", "to": ["b@example.net"], "subject": "x", "text": "x", "stream": stream}
                made = client.post("/v1/messages", json={**wanted, "scheduled_at": "2037-01-01T00:00:00Z"})
                if made.status_code != 202:
                    made = client.post("/v1/messages", json=wanted)
                assert made.status_code == 202, made.text
                found[f"{domain} {stream}"] = made.json()["id"]
    return found


def test_a_key_neither_finds_nor_changes_mail_that_it_may_not_send(rig, keys, mail) -> None:
    """Another domain's or stream's message is as if it were not there: in lists, by id, and for every change."""
    may = {
        "domain": {f"{DOMAIN} codes", f"{DOMAIN} bulk"}, "stream": {f"{DOMAIN} codes", f"{SECRET} codes"}, "both": {f"{DOMAIN} codes"},
    }  # fmt: skip
    for kind, seen in may.items():
        with rig.client(keys[kind]) as one:
            for query in ({}, {"q": "x"}, {"recipient": "b@example.net"}, {"stream": "bulk"}):
                listed = {row["id"] for row in one.get("/v1/messages", params={"limit": 100, **query}).json()["data"]}
                assert not listed & {mail[name] for name in mail.keys() - seen}, (kind, query)
                if query != {"stream": "bulk"}:
                    assert {mail[name] for name in seen} <= listed, (kind, query)
            for name in mail.keys() - seen:
                path = f"/v1/messages/{mail[name]}"
                answers = [one.get(f"{path}{what}") for what in ("", "/events", "/attempts", "/raw", "/explain")]
                answers += [one.post(f"{path}/{what}") for what in ("cancel", "retry")]
                answers.append(one.post(f"{path}/reschedule", json={"scheduled_at": "2036-01-01T00:00:00Z"}))
                assert {answer.status_code for answer in answers} == {404}, (kind, name)
            for name in seen:
                assert one.get(f"/v1/messages/{mail[name]}/explain").status_code == 200


def test_an_action_on_the_queue_reaches_mail_of_its_own_only(of_domain, of_stream, client, mail) -> None:
    """A key's action is about its own domain or stream, whatever it leaves out; other ones' actions it does not see."""
    hold = {"action": "hold", "filter": {"recipient": "example.net"}, "dry_run": True}
    assert is_refused(of_domain.post("/v1/queue/actions", json={**hold, "filter": {"sender": SECRET}}))
    assert is_refused(of_stream.post("/v1/queue/actions", json={**hold, "filter": {"stream": "bulk"}}))
    assert of_domain.post("/v1/queue/actions", json=hold).json()["count"] < client.post("/v1/queue/actions", json=hold).json()["count"]
    everywhere = client.post("/v1/queue/actions", json={"action": "hold", "filter": {"tag": "none"}}).json()["id"]
    own = of_domain.post("/v1/queue/actions", json={"action": "release", "filter": {"tag": "none"}}).json()
    assert own["filter"]["sender"] == DOMAIN
    assert [one["id"] for one in of_domain.get("/v1/queue/actions").json()["data"]] == [own["id"]]
    assert of_domain.get(f"/v1/queue/actions/{everywhere}").status_code == 404
    assert is_refused(of_domain.get("/v1/usage"))

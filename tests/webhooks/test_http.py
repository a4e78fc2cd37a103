"""Webhooks and events over the API: what may be asked for, what is answered, and who sees what."""

import asyncio
import json
import threading
from collections.abc import Iterator

import httpx
import pytest

from gatepost import ids
from gatepost.clock import SystemClock
from gatepost.domain.access import Restrictions, Scope
from gatepost.domain.event import Event, EventType
from gatepost.domain.tenant import KeyMode
from gatepost.store import credentials, facts
from gatepost.tenants import keys
from tests.doors.http_rig import Rig, message, running_door
from tests.webhooks.house import consuming, settings

URL = "https://hooks.acme.example/in?token=tulip"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running_door(tmp_path_factory.mktemp("door"), settings(max_per_tenant=50)) as running:
        yield running


@pytest.fixture
def client(rig: Rig) -> Iterator[httpx.Client]:
    with rig.client() as made:
        yield made


def key_for(rig: Rig, *scopes: Scope, **narrowed) -> str:
    secret = keys.make_secret(KeyMode.LIVE)
    restrictions = Restrictions(scopes=frozenset(scopes), **narrowed)
    made = keys.describe(
        secret, tenant_id=rig.deps.default_tenant_id, name="x", mode=KeyMode.LIVE, now=SystemClock().now(), restrictions=restrictions
    )
    rig.run(rig.engine.write(lambda conn: credentials.insert(conn, made, keys.hash_secret(secret))))
    rig.run(rig.deps.directory.refresh())
    return secret


def happen(rig: Rig, *kinds: EventType, tenant_id: str = "") -> list[str]:
    made = [
        Event(id=ids.new("evt"), type=kind, tenant_id=tenant_id or rig.deps.default_tenant_id, at=SystemClock().now()) for kind in kinds
    ]
    rig.run(rig.engine.write(lambda conn: facts.insert_events(conn, made)))
    return [one.id for one in made]


def made(client: httpx.Client, **body) -> dict:
    answer = client.post("/v1/webhooks", json={"url": URL, **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_webhook_is_made_shown_changed_and_removed(rig, client):
    """The secret is shown once; values of headers never; every change stands in the audit log without the URL's secrets."""
    answer = made(client, events=["*"], headers={"X-API-Key": "violet"}, description="orders")
    assert answer["secret"].startswith("whsec_")
    path = f"/v1/webhooks/{answer['id']}"
    shown = client.get(path)
    assert answer["secret"] not in shown.text
    assert "violet" not in shown.text
    assert shown.json()["header_names"] == ["X-API-Key"]
    assert (shown.json()["enabled"], shown.json()["events"], shown.json()["url"]) == (True, ["*"], URL)
    assert answer["id"] in [one["id"] for one in client.get("/v1/webhooks").json()["data"]]
    changed = client.patch(path, json={"events": ["recipient.*"], "enabled": False}).json()
    assert (changed["events"], changed["enabled"], changed["description"]) == (["recipient.*"], False, "orders")
    assert client.patch(path, json={"enabled": True}).json()["disabled_at"] is None
    rotated = client.post(f"{path}/rotate-secret", json={"overlap_s": 60}).json()
    assert rotated["secret"] != answer["secret"]
    assert client.post(f"{path}/rotate-secret").json()["secret"] != rotated["secret"]
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    entries = [one for one in client.get("/v1/audit?limit=100").json()["data"] if one["object_id"] == answer["id"]]
    assert {one["action"] for one in entries} == {"webhook.created", "webhook.changed", "webhook.secret_rotated", "webhook.removed"}
    for secret in ("tulip", "violet", "whsec_"):
        assert secret not in json.dumps(entries)


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"url": "http://8.8.8.8/"}, "/url", "invalid_url"),
        ({"url": "https://10.0.0.1/"}, "/url", "invalid_url"),
        ({"url": "https://user:pw@acme.example/"}, "/url", "invalid_url"),
        ({"events": ["recipient.eaten"]}, "/events/0", "unknown_event"),
        ({"events": []}, "/events", "too_short"),
        ({"streams": ["nonsense"]}, "/streams/0", "unknown_stream"),
        ({"headers": {"Host": "metadata"}}, "/headers/Host", "header_not_allowed"),
        ({"headers": {"X-API-Key": "a\r\nb"}}, "/headers/X-API-Key", "invalid_header"),
        ({"batch_size": 101}, "/batch_size", "out_of_range"),
        ({"secret": "whsec_mine"}, "/secret", "unknown_field"),
    ],
)
def test_what_cannot_be_a_webhook_is_refused_by_its_place(client, body, pointer, code):
    """Every fault has its pointer, and nothing is made."""
    answer = client.post("/v1/webhooks", json={"url": URL, **body})
    assert answer.status_code == 422, answer.text
    assert pointer in {one["pointer"] for one in answer.json()["errors"]}, answer.text
    if code != "too_short":
        assert code in {one["code"] for one in answer.json()["errors"]}


def test_a_narrowed_key_makes_no_wider_webhook(rig, client):
    """A key for some streams is told of these; one for some domains makes none."""
    with rig.client(key_for(rig, Scope.WEBHOOKS_WRITE, streams=frozenset({"bulk"}))) as narrow:
        webhook_id = made(narrow)["id"]
        assert client.get(f"/v1/webhooks/{webhook_id}").json()["streams"] == ["bulk"]
        refused = narrow.post("/v1/webhooks", json={"url": URL, "streams": ["codes"]})
        assert refused.json()["errors"][0]["code"] == "stream_not_allowed"
    with rig.client(key_for(rig, Scope.WEBHOOKS_WRITE, domains=frozenset({"acme.example"}))) as narrow:
        assert narrow.post("/v1/webhooks", json={"url": URL}).status_code == 403


def test_deliveries_are_listed_and_sent_again(rig, client):
    """A test waits; paging, filter by status, replay of one, of a range and of what failed."""
    webhook_id = made(client, events=["domain.*"])["id"]
    path = f"/v1/webhooks/{webhook_id}"
    tried = [client.post(f"{path}/test").json()["event_id"] for _ in range(3)]
    listed = client.get(f"{path}/deliveries").json()
    assert [one["id"] for one in listed["data"]] == tried[::-1]
    assert {one["status"] for one in listed["data"]} == {"waiting"}
    first = client.get(f"{path}/deliveries?limit=2").json()
    assert first["has_more"]
    assert [one["id"] for one in client.get(f"{path}/deliveries?limit=2&after={tried[1]}").json()["data"]] == tried[:1]
    assert client.get(f"{path}/deliveries?status=eaten").status_code == 422
    import sqlalchemy as sa

    from gatepost.store.schema import hook

    rig.run(
        rig.engine.write(
            lambda conn: conn.execute(sa.update(hook).where(hook.c.event_id.in_(tried)).values(status="failed", code=500, attempts=10))
        )
    )
    assert len(client.get(f"{path}/deliveries?status=failed").json()["data"]) == 3
    again = client.post(f"{path}/deliveries/{tried[0]}/replay")
    assert (again.status_code, again.json()["status"], again.json()["attempts"]) == (202, "waiting", 0)
    assert client.post(f"{path}/deliveries/{ids.new('evt')}/replay").status_code == 404
    assert client.post(f"{path}/replay", json={"until": "2020-01-01T00:00:00Z"}).json()["count"] == 0
    assert client.post(f"{path}/replay", json={}).status_code == 422
    assert client.post(f"{path}/replay", json={"status": "failed"}).json()["count"] == 2
    client.patch(path, json={"enabled": False})
    for call in (f"{path}/test", f"{path}/deliveries/{tried[0]}/replay"):
        assert client.post(call).status_code == 409


def test_polling_never_skips_and_never_repeats(rig, client):
    """Follow `next` from the beginning: each event once, in the order of commits; `latest` begins now."""
    told = happen(rig, *[EventType.DOMAIN_FAILING] * 25)
    found, after = [], ""
    while True:
        page = client.get("/v1/events", params={"limit": 10, **({"after": after} if after else {})}).json()
        found += [one["id"] for one in page["data"]]
        after = page["next"]
        if not page["has_more"]:
            break
    assert len(found) == len(set(found))
    assert [one for one in found if one in told] == told
    page = client.get(f"/v1/events?after={after}").json()
    assert (page["data"], page["next"]) == ([], after)
    assert client.get("/v1/events?after=latest").json() == {"data": [], "has_more": False, "next": after}
    (new,) = happen(rig, EventType.DOMAIN_VERIFIED)
    assert [one["id"] for one in client.get(f"/v1/events?after={after}").json()["data"]] == [new]
    for wrong in ("evt_nonsense", ids.new("evt"), "0", ""):
        assert client.get("/v1/events", params={"after": wrong}).status_code == 422


def test_events_are_a_tenants_own_and_within_scopes_and_streams(rig, client):
    """Another tenant's never; suppressions only with their scope; a key for one stream sees that stream's."""
    after = client.get("/v1/events?after=latest").json()["next"]
    (mine,) = happen(rig, EventType.SUPPRESSION_ADDED)
    (foreign,) = happen(rig, EventType.SUPPRESSION_ADDED, tenant_id=rig.other_tenant_id)
    sent = {name: client.post("/v1/messages", json=message(stream=name)).json()["id"] for name in ("bulk", "transactional")}
    suffix = f"?after={after}" if after else ""
    whole = client.get(f"/v1/events{suffix}").json()["data"]
    assert mine in [one["id"] for one in whole]
    assert foreign not in [one["id"] for one in whole]
    assert client.get(f"/v1/events?after={foreign}").status_code == 422
    accepted = [one for one in whole if one["type"] == "message.accepted"]
    assert {one["data"]["message_id"] for one in accepted} == set(sent.values())
    assert accepted[0]["data"]["subject"] == "Order 42"
    with rig.client(key_for(rig, Scope.MESSAGES_READ)) as reader:
        assert {one["type"].split(".")[0] for one in reader.get(f"/v1/events{suffix}").json()["data"]} <= {"message", "recipient"}
    with rig.client(key_for(rig, Scope.ADMIN, streams=frozenset({"bulk"}))) as narrow:
        assert {one["data"]["message_id"] for one in narrow.get(f"/v1/events{suffix}").json()["data"]} == {sent["bulk"]}
        assert narrow.get("/v1/events?stream=transactional").json()["data"] == []
    with rig.client(key_for(rig, Scope.ADMIN, domains=frozenset({"other.example"}))) as narrow:
        assert narrow.get(f"/v1/events{suffix}").json()["data"] == []
    types = client.get(f"/v1/events?types=message.accepted&stream=bulk&{suffix[1:]}").json()["data"]
    assert [one["data"]["message_id"] for one in types] == [sent["bulk"]]
    assert client.get("/v1/events?types=nonsense").status_code == 422
    with rig.client(key_for(rig, Scope.WEBHOOKS_READ)) as other:
        assert other.get("/v1/events").status_code == 403


def read_stream(rig: Rig, count: int, *, last_id: str = "", query: str = "", on_open=lambda: None) -> list[dict]:
    """Read some events of a live stream."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    found: list[dict] = []
    with rig.client() as reader, reader.stream("GET", f"/v1/events/stream{query}", headers=headers) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        is_told = False
        current: dict = {}
        for line in answer.iter_lines():
            if not is_told:
                is_told = True
                on_open()
            name, _, value = line.partition(": ")
            if name in {"id", "event", "data"}:
                current[name] = value
            elif not line and current:
                found.append(current)
                current = {}
                if len(found) == count:
                    return found
    return found


def test_a_live_stream_tells_at_once_and_goes_on_after_the_last_event(rig):
    """Server-sent events: from now on, or after Last-Event-ID; the same objects as polling gives."""
    told: list[str] = []
    found = read_stream(rig, 2, on_open=lambda: told.extend(happen(rig, EventType.DOMAIN_FAILING, EventType.DOMAIN_VERIFIED)))
    assert [one["id"] for one in found] == told
    assert [one["event"] for one in found] == ["domain.failing", "domain.verified"]
    assert json.loads(found[0]["data"])["object"] == "event"
    later = happen(rig, EventType.DOMAIN_FAILING)
    assert [one["id"] for one in read_stream(rig, 2, last_id=told[0])] == [told[1], *later]
    assert [one["id"] for one in read_stream(rig, 1, last_id=told[0], query="?types=domain.failing")] == later
    with rig.client() as reader:
        assert reader.get("/v1/events/stream", headers={"Last-Event-ID": "evt_0"}).status_code == 422
        assert reader.head("/v1/events/stream").status_code == 200


def test_a_stream_that_its_reader_leaves_is_over(rig):
    """No generator goes on reading the database for nobody."""
    from gatepost.http.v1.events import _open

    for _ in range(3):
        read_stream(rig, 1, on_open=lambda: happen(rig, EventType.DOMAIN_FAILING))
    is_over = threading.Event()

    async def until_closed() -> None:
        async with asyncio.timeout(10):
            while _open.count:
                await asyncio.sleep(0.02)
        is_over.set()

    rig.run(until_closed())
    assert is_over.is_set()


def test_a_revoked_key_reads_no_further(rig, monkeypatch):
    """A stream does not outlive the key that opened it."""
    from gatepost.http.v1 import events

    monkeypatch.setattr(events, "_CHECK_S", 0.0)
    monkeypatch.setattr(events, "_POLL_S", 0.02)
    secret = key_for(rig, Scope.MESSAGES_READ)
    with rig.client(secret) as reader, reader.stream("GET", "/v1/events/stream") as answer:
        lines = answer.iter_lines()
        next(lines)
        found = rig.run(rig.deps.directory.find(keys.hash_secret(secret)))
        with rig.client() as owner:
            assert owner.delete(f"/v1/keys/{found.principal.id}").status_code in {200, 204}
        assert [line for line in lines if line.startswith("data")] == []


def test_the_loop_delivers_what_the_api_made(rig, client):
    """From the API to a consumer and back into the log."""
    from gatepost.webhooks.loop import HookLoop

    async def run(webhook_url_of) -> None:
        async with consuming() as consumer:
            await asyncio.to_thread(webhook_url_of, consumer.url())
            loop = HookLoop(rig.engine, SystemClock(), rig.deps.settings, None, "node-1")
            await asyncio.to_thread(client.post, "/v1/messages", json=message(tags=["order"], metadata={"order": "42"}))
            async with asyncio.timeout(20):
                while not consumer.calls:
                    await loop.step()
                    await asyncio.sleep(0.02)
            await loop.close()
            data = consumer.calls[0].json["data"]
            assert (data["tags"], data["metadata"], data["subject"]) == (["order"], {"order": "42"}, "Order 42")

    made_ids: list[str] = []
    rig.run(run(lambda url: made_ids.append(made(client, url=url, events=["message.accepted"])["id"])))
    (delivery,) = client.get(f"/v1/webhooks/{made_ids[0]}/deliveries").json()["data"]
    assert (delivery["status"], delivery["status_code"], delivery["attempts"], delivery["answer"]) == ("delivered", 200, 1, None)
    assert client.get(f"/v1/webhooks/{made_ids[0]}").json()["answered_at"] is not None


def test_an_open_stream_does_not_hold_up_the_end(tmp_path):
    """A door that stops cuts streams; their readers come again, and miss nothing."""
    with running_door(tmp_path) as own, own.client() as reader, reader.stream("GET", "/v1/events/stream") as answer:
        lines = answer.iter_lines()
        next(lines)
        own.run(asyncio.wait_for(own.door.stop(), 10))
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)

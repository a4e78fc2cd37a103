"""Limits over HTTP: headers, refusals, what is left, what was used; by a real door."""

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import msgspec
import pytest

from gatepost.clock import SystemClock
from gatepost.domain.access import KeyMode, Scope, parse_limit
from gatepost.settings import Rates, Settings
from gatepost.store import credentials
from gatepost.tenants import keys
from gatepost.tenants.metering import Metering
from tests.doors.http_rig import message, running_door
from tests.limits.fields import read_list
from tests.limits.house import BY, House


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """A door with limits, shared by the module's tests, each of which brings its own keys."""
    settings = msgspec.structs.replace(Settings(), rates=Rates(per_domain=["messages=100000/day"]))
    with running_door(tmp_path_factory.mktemp("limits"), settings, has_limits=True) as running:
        yield running


def new_key(rig, *limits, tenant_id=None, scopes=(Scope.ADMIN,), mode=KeyMode.LIVE):
    """Make a key with limits; return a client."""
    secret = keys.make_secret(mode)
    made = keys.describe(secret, tenant_id=tenant_id or rig.deps.default_tenant_id, name="test", mode=mode, now=SystemClock().now())
    made = replace(made, limits=tuple(parse_limit(one) for one in limits), scopes=frozenset(scopes))
    rig.run(rig.engine.write(lambda conn: credentials.insert(conn, made, keys.hash_secret(secret))))
    rig.run(rig.deps.directory.refresh())
    return rig.client(secret)


def fields(answer, name):
    return dict(read_list(answer.headers[name]))


def test_answers_say_the_limits_and_what_is_left(rig):
    """RateLimit-Policy and RateLimit are structured fields whose numbers are true; without limits there are none."""
    with new_key(rig, "messages=100/minute", "bytes=1000000/day", "requests=50/hour") as client:
        answer = client.post("/v1/messages", json=message(to=["h1@example.net"]))
        assert answer.status_code == 202
        policy, left = fields(answer, "ratelimit-policy"), fields(answer, "ratelimit")
        assert policy["key-messages-minute"] == {"q": 100, "w": 60}
        assert policy["key-bytes-day"] == {"q": 1000000, "w": 86400, "qu": "content-bytes"}
        assert policy["key-requests-hour"] == {"q": 50, "w": 3600}
        assert left["key-messages-minute"] == {"r": 99, "t": 1}
        assert left["key-requests-hour"] == {"r": 49, "t": 72}
        assert 0 < left["key-bytes-day"]["t"] <= 86400
        read = client.get("/v1/messages")
        assert set(fields(read, "ratelimit")) == {"key-requests-hour"}
        assert fields(read, "ratelimit")["key-requests-hour"]["r"] == 48
    with new_key(rig) as client:
        assert "ratelimit" not in client.get("/v1/messages").headers


def test_too_much_is_429_with_retry_after_and_the_limits_name(rig):
    """The problem names the limit, Retry-After the wait, RateLimit the nothing that is left."""
    with new_key(rig, "messages=2/minute") as client:
        for n in range(2):
            assert client.post("/v1/messages", json=message(to=[f"r{n}@example.net"])).status_code == 202
        answer = client.post("/v1/messages", json=message(to=["r9@example.net"]))
        assert answer.status_code == 429
        problem = answer.json()
        assert problem["code"] == "rate_limited"
        assert "key messages=2/minute" in problem["detail"]
        assert problem["errors"][0]["detail"] == "key messages=2/minute is used up"
        assert 28 <= int(answer.headers["retry-after"]) <= 30
        assert fields(answer, "ratelimit")["key-messages-minute"]["r"] == 0
        for path, body, content_type in (
            ("/v1/messages/batch", {"messages": [message()]}, None),
            ("/v1/messages/raw", None, "message/rfc822"),
        ):
            if body is not None:
                assert client.post(path, json=body).status_code == 429
            else:
                headers = {
                    "content-type": content_type,
                    "gatepost-envelope-from": "shop@acme.example",
                    "gatepost-envelope-to": "a@example.net",
                }
                raw = b"From: shop@acme.example\r\nTo: a@example.net\r\nSubject: x\r\n\r\nx\r\n"
                assert client.post(path, content=raw, headers=headers).status_code == 429


def test_a_days_quota_has_its_own_code(rig):
    """quota_exceeded, with the time until midnight UTC."""
    with new_key(rig, "recipients=3/day") as client:
        assert client.post("/v1/messages", json=message(to=["q1@example.net", "q2@example.net"])).status_code == 202
        answer = client.post("/v1/messages", json=message(to=["q1@example.net", "q2@example.net"]))
        assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
        assert 0 < int(answer.headers["retry-after"]) <= 86400


def test_requests_of_any_kind_count_against_a_limit_of_requests(rig):
    """Reading, sending and being refused for want of a scope: all are requests."""
    with new_key(rig, "requests=3/hour", scopes=(Scope.MESSAGES_READ,)) as client:
        assert [client.get(path).status_code for path in ("/v1/messages", "/v1/keys", "/v1/messages", "/v1/messages")] == [
            200,
            403,
            200,
            429,
        ]
        assert client.get("/v1/messages").json()["code"] == "rate_limited"


def test_a_hundred_parallel_requests_at_quota_minus_one_give_exactly_one(rig):
    """THREATS 35 over HTTP, on a hundred connections."""
    with new_key(rig, "messages=4/day") as client:
        for n in range(3):
            assert client.post("/v1/messages", json=message(to=[f"p{n}@example.net"])).status_code == 202
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda n: client.post("/v1/messages", json=message(to=[f"pp{n}@example.net"])).status_code, range(100)))
        assert (answers.count(202), answers.count(429)) == (1, 99)


def test_a_replay_is_answered_when_nothing_is_left(rig):
    """An idempotent repeat needs no quota."""
    with new_key(rig, "messages=1/day") as client:
        body, key = message(to=["once@example.net"]), {"idempotency-key": "limits-once"}
        first = client.post("/v1/messages", json=body, headers=key)
        again = client.post("/v1/messages", json=body, headers=key)
        assert (first.status_code, again.status_code, again.headers["idempotent-replayed"]) == (202, 202, "true")
        assert first.json() == again.json()
        assert client.post("/v1/messages", json=body).status_code == 429


def test_the_cap_of_a_recipient_points_at_them(rig):
    """429 with a pointer to the recipient; whose mails used the cap up is not told."""
    with new_key(rig) as client:
        for n in range(4):
            assert client.post("/v1/messages", json=message(to=[f"cap+{n}@example.net"], stream="bulk")).status_code == 202
        answer = client.post("/v1/messages", json=message(to=["free@example.net", "cap@example.net"], stream="bulk"))
        assert answer.status_code == 429
        assert [one["pointer"] for one in answer.json()["errors"]] == ["/to/1"]
        assert int(answer.headers["retry-after"]) > 0


def test_limits_shows_what_this_key_may_still_do(rig):
    """Each limit of key, tenant and domain with what is left and when it renews, the caps, and the balance."""
    metering = Metering(rig.engine, SystemClock())
    rig.run(metering.change_limits(rig.other_tenant_id, [parse_limit("recipients=50/month")], BY))
    rig.run(metering.change_account(rig.other_tenant_id, BY, add_micros=10_000_000, price_micros=280_000))
    rig.run(rig.deps.limits.refresh())
    with new_key(rig, "messages=10/minute", tenant_id=rig.other_tenant_id, scopes=(Scope.MESSAGES_SEND,)) as client:
        sender = "shop@other.example"
        assert client.post("/v1/messages", json=message(**{"from": sender, "to": ["l1@example.net", "l2@example.net"]})).status_code == 202
        found = client.get("/v1/limits").json()
        limits = {(one["kind"], one["resource"], one["per"]): one for one in found["data"]}
        assert limits["key", "messages", "minute"]["remaining"] == 9
        assert limits["tenant", "recipients", "month"]["remaining"] == 48
        assert limits["tenant", "recipients", "month"]["resets_at"].endswith("-01T00:00:00.000Z")
        assert limits["domain", "messages", "day"]["subject"] == "other.example"
        assert found["per_recipient"] == {"codes": 10, "transactional": 30, "bulk": 4}
        assert found["account"] == {"object": "balance", "balance": "9.99944", "price_per_1000": "0.28"}


def test_without_a_balance_it_is_402(rig):
    """A code of its own, so that nobody takes it for a rate."""
    metering = Metering(rig.engine, SystemClock())
    poor = rig.run(_tenant(rig))
    rig.run(metering.change_account(poor, BY, add_micros=0, price_micros=1))
    rig.run(rig.deps.limits.refresh())
    with new_key(rig, tenant_id=poor) as client:
        answer = client.post("/v1/messages", json=message(**{"from": "a@poor.example"}))
        assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_balance")


async def _tenant(rig):
    house = House(None, None, clock=SystemClock())
    house.engine = rig.engine
    made = await house.add_tenant("poor")
    await rig.deps.directory.refresh()
    return made


def test_usage_is_json_and_csv(rig):
    """The same sums in both; the export stands in the audit log."""
    with new_key(rig) as client:
        client.post("/v1/messages", json=message(to=["u1@example.net", "u2@example.net"]))
        (row,) = [one for one in client.get("/v1/usage").json()["data"] if one["route"] == "sandbox"]
        answer = client.get("/v1/usage", headers={"accept": "text/csv"})
        assert answer.headers["content-type"].startswith("text/csv")
        (line,) = csv.DictReader(io.StringIO(answer.text))
        assert {name: str(row[name]) for name in line} == line
        assert client.get("/v1/usage?from=2020-01-01&to=2020-01-31").json()["data"] == []
        assert client.get("/v1/usage?from=yesterday").status_code == 422
        assert client.get("/v1/audit?action=usage.exported").json()["data"][0]["after"]["rows"] == 1


def test_the_operator_sets_limits_and_balances(rig):
    """Within a moment they hold; a tenant's own admin may not touch them; a typo is refused with its place."""
    target = rig.deps.default_tenant_id
    path = f"/v1/tenants/{target}"
    with new_key(rig) as admin:
        assert admin.put(f"{path}/limits", json={"limits": []}).status_code == 403
        assert admin.get(f"{path}/balance").status_code == 403
    with new_key(rig, scopes=(Scope.OPERATOR,), tenant_id=rig.other_tenant_id) as operator, new_key(rig) as sender:
        done = operator.put(f"{path}/limits", json={"limits": ["requests=1/month", "messages=7/hour"]})
        assert done.json()["limits"] == ["requests=1/month", "messages=7/hour"]
        assert [sender.get("/v1/messages").status_code for _ in range(2)] == [200, 429]
        assert operator.put(f"{path}/limits", json={"limits": []}).json()["limits"] == []
        assert operator.get(f"{path}/limits").json()["limits"] == []
        assert sender.get("/v1/messages").status_code == 200
        bad = operator.put(f"{path}/limits", json={"limits": ["messages=7/hour", "mesages=7/hour"]})
        assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "/limits/1")
        twice = operator.put(f"{path}/limits", json={"limits": ["messages=7/hour", "messages=8/hour"]})
        assert (twice.status_code, twice.json()["errors"][0]["pointer"]) == (422, "/limits/1")
        assert operator.get("/v1/tenants/ten_01j00000000000000000000000/limits").status_code == 404
        poor = operator.post(f"{path}/balance", json={"price_per_1000": "-1"})
        assert (poor.status_code, poor.json()["errors"][0]["pointer"]) == (422, "/price_per_1000")
    with new_key(rig, scopes=(Scope.OPERATOR,)) as operator:
        path = f"/v1/tenants/{rig.other_tenant_id}/balance"
        before = float(operator.get(path).json()["account"]["balance"] or 0)
        found = operator.post(path, json={"add": "2.50", "note": "invoice 7"}).json()
        assert float(found["account"]["balance"]) == pytest.approx(before + 2.5)
        assert (found["entries"][0]["amount"], found["entries"][0]["note"]) == ("2.50", "invoice 7")


@pytest.mark.parametrize("text", ['"a"', '"a";r=1', '"a";r=1;t=2, "b";r=0;t=9', 'a;x, "q\\"q"'])
def test_the_reader_of_structured_fields_reads_lists(text):
    """The reader itself takes what RFC 9651 allows."""
    assert read_list(text)


@pytest.mark.parametrize("text", ["", '"a" "b"', '"a",', '"a";R=1', '"a";r=', '"é"', '"a'])
def test_the_reader_of_structured_fields_refuses_what_is_none(text):
    """Else the test of the headers would prove nothing."""
    with pytest.raises(ValueError):
        read_list(text)

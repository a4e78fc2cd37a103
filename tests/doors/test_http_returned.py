"""What came back and was put aside, over HTTP: for operators, each content with a line in the audit log."""

from collections.abc import Iterator

import httpx
import pytest
from tests.doors.http_rig import Rig

from gatepost import ids
from gatepost.clock import SystemClock
from gatepost.domain.access import Restrictions, Scope
from gatepost.domain.tenant import KeyMode
from gatepost.store import credentials, inbound
from gatepost.store.inbound import Arrived
from gatepost.tenants import keys

MAIL = b"From: Mallory <mallory@far.example>\r\nTo: abuse@bounces.example\r\nSubject: Why do you write?\r\n\r\n<script>secret words</script>\r\n"


@pytest.fixture
def aside(rig: Rig) -> dict[str, str]:
    """One of each kind, new for each test."""
    now = rig.deps.clock.now()

    def write(conn) -> dict[str, str]:
        details = {"sender": "mallory@far.example", "recipients": ["abuse@bounces.example"], "peer": "192.0.2.7"}
        made = {"unread": inbound.put(conn, Arrived(kind="mail", details=details, body=MAIL), now)}
        inbound.set_aside(conn, made["unread"], "unread", "it is no report that is known")
        made["unmatched"] = inbound.put(conn, Arrived(kind="hook", source="main", details={}, body=b'{"event": "bounce"}'), now)
        inbound.set_aside(conn, made["unmatched"], "unmatched", "nobody knows this mail")
        made["waiting"] = inbound.put(conn, Arrived(kind="mail", details=details, body=MAIL), now)
        return made

    return rig.run(rig.engine.write(write))


@pytest.fixture(scope="module")
def operator(rig: Rig) -> Iterator[httpx.Client]:
    """A client whose key has the scope operator."""
    key = rig.run(_operator_key(rig))
    with rig.client(key) as made:
        yield made


async def _operator_key(rig: Rig) -> str:
    secret = keys.make_secret(KeyMode.LIVE)
    restrictions = Restrictions(scopes=frozenset({Scope.OPERATOR}))
    made = keys.describe(
        secret, tenant_id=rig.deps.default_tenant_id, name="operator", mode=KeyMode.LIVE, now=SystemClock().now(), restrictions=restrictions
    )
    await rig.engine.write(lambda conn: credentials.insert(conn, made, keys.hash_secret(secret)))
    return secret


def looks(operator: httpx.Client, returned_id: str) -> int:
    """Count who looked at one."""
    found = operator.get("/v1/audit/gateway", params={"action": "returned.viewed", "object": returned_id}).json()["data"]
    return len(found)


def test_the_list_says_who_wrote_and_why_it_is_here(operator, aside) -> None:
    """The newest first, by reason; nothing of its content, and nobody is noted for having read a list."""
    found = operator.get("/v1/returned", params={"limit": 100}).json()
    assert found["waiting"] >= 1
    rows = {one["id"]: one for one in found["data"]}
    assert aside["waiting"] not in rows
    mail, hook = rows[aside["unread"]], rows[aside["unmatched"]]
    assert (mail["kind"], mail["status"], mail["from"], mail["to"], mail["subject"], mail["relay"]) == (
        "mail", "unread", "Mallory <mallory@far.example>", ["abuse@bounces.example"], "Why do you write?", None,
    )  # fmt: skip
    assert (hook["kind"], hook["relay"], hook["detail"]) == ("hook", "main", "nobody knows this mail")
    assert "secret words" not in str(found)
    of_kind = operator.get("/v1/returned", params={"status": "unmatched"}).json()["data"]
    assert {one["status"] for one in of_kind} == {"unmatched"}
    assert looks(operator, aside["unread"]) == 0


def test_the_list_has_pages(operator, aside) -> None:
    """One by one, each once, with a link to the next."""
    first = operator.get("/v1/returned", params={"limit": 1})
    assert first.json()["has_more"]
    assert 'rel="next"' in first.headers["link"]
    second = operator.get("/v1/returned", params={"limit": 1, "after": first.json()["data"][0]["id"]}).json()
    assert second["data"][0]["id"] < first.json()["data"][0]["id"]


def test_its_source_comes_as_it_came_and_who_looks_is_written_down(operator, aside) -> None:
    """Untouched bytes that no browser shows; one line in the audit log for each look, none for the heading."""
    path = f"/v1/returned/{aside['unread']}"
    assert operator.get(path).json()["subject"] == "Why do you write?"
    assert looks(operator, aside["unread"]) == 0
    raw = operator.get(f"{path}/raw")
    assert raw.content == MAIL
    assert raw.headers["content-type"] == "message/rfc822"
    assert raw.headers["content-disposition"] == "attachment"
    assert "sandbox" in raw.headers["content-security-policy"]
    assert looks(operator, aside["unread"]) == 1
    hook = operator.get(f"/v1/returned/{aside['unmatched']}/raw")
    assert (hook.headers["content-type"], hook.content) == ("application/octet-stream", b'{"event": "bounce"}')


def test_one_is_read_again_or_forgotten_once(operator, aside) -> None:
    """The second time it is not there; neither is what still waits, nor what never was."""
    assert operator.post(f"/v1/returned/{aside['unread']}/retry").status_code == 204
    assert operator.delete(f"/v1/returned/{aside['unmatched']}").status_code == 204
    for one in (*aside.values(), ids.new("inb"), ids.new("msg"), "none"):
        for method, more in (("GET", ""), ("GET", "/raw"), ("POST", "/retry"), ("DELETE", "")):
            answer = operator.request(method, f"/v1/returned/{one}{more}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (method, one, more)


def test_it_is_for_operators_only(client, stranger, aside) -> None:
    """A tenant's key with every scope of its tenant reaches none of it: what comes back may speak of anybody's mail."""
    for one in (client, stranger):
        for method, path in (
            ("GET", "/v1/returned"), ("GET", f"/v1/returned/{aside['unread']}"), ("GET", f"/v1/returned/{aside['unread']}/raw"),
            ("POST", f"/v1/returned/{aside['unread']}/retry"), ("DELETE", f"/v1/returned/{aside['unread']}"),
        ):  # fmt: skip
            answer = one.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), path


def test_an_unknown_reason_is_refused(operator) -> None:
    """Not an empty list."""
    answer = operator.get("/v1/returned?status=waiting")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "status")

"""The public endpoints: pixel, link, page and one-click, as mail programs, scanners and attackers ask for them."""

import asyncio
import base64

import httpx
import pytest
import sqlalchemy as sa

from gatepost.clock import DAY, SystemClock
from gatepost.domain.errors import Refused
from gatepost.domain.statement import Said
from gatepost.engaged import Counting
from gatepost.http.tracking_hosts import TrackingHosts
from gatepost.net.peer import parse_peer
from gatepost.policy.visitors import Visit, load_rules
from gatepost.store import engagement
from gatepost.suppressing import Suppressing
from gatepost.testing.fake_clock import FakeClock
from gatepost.tracking.desk import NotOurs, TrackingDesk, TrackingOptions
from gatepost.wire.tracking_token import TokenKind, link_id
from tests.doors.http_rig import TOKENS, message, running_door

CHROME = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"}
TARGET = "https://shop.example/cart?id=7&mail=ann@example.net#top"
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with running_door(tmp_path_factory.mktemp("door")) as running:
        yield running


@pytest.fixture
def reader(rig):
    """A mail program: no key, no cookie."""
    with httpx.Client(base_url=rig.url, headers=CHROME, timeout=20) as opened:
        yield opened


class Sent:
    """A tracked message, and what its recipient's mail program would ask for."""

    def __init__(self, rig, **changes):
        wanted = {
            "html": f'<a href="{TARGET.replace("&", "&amp;")}">x</a>',
            "stream": "bulk",
            "tracking": {"opens": True, "clicks": True},
            "unsubscribe": True,
        }
        with rig.client() as client:
            answer = client.post("/v1/messages", json=message(**{**wanted, **changes}))
        assert answer.status_code == 202, answer.text
        self.rig, self.id = rig, answer.json()["id"]
        self.address = answer.json()["recipients"][0]["address"]

    def path(self, kind, n=0, now=None, link=TARGET):
        token = TOKENS.make(kind, self.id, n, now or SystemClock().now(), link_id(link) if kind is TokenKind.CLICK else b"")
        return f"/t/{kind.value}/{token}{'.gif' if kind is TokenKind.OPEN else ''}"

    def events(self, *kinds):
        self.rig.run(self.rig.deps.tracking.drain())
        with self.rig.client() as client:
            data = client.get(f"/v1/messages/{self.id}/events").json()["data"]
        return [one for one in data if one["type"] in kinds]

    def delivered(self):
        """Write down that it was delivered, long ago."""
        statement = sa.text("UPDATE recipient SET status = 'delivered', final_at = 1 WHERE message_id = :id").bindparams(id=self.id)
        self.rig.run(self.rig.engine.write(lambda conn: conn.execute(statement).rowcount))
        return self


def suppressed(rig, address):
    with rig.client() as client:
        return [
            (one["stream"], one["reason"]) for one in client.get("/v1/suppressions?limit=100").json()["data"] if one["address"] == address
        ]


def test_the_pixel_is_an_image_that_nobody_keeps(rig, reader):
    """A GIF of one dot, never cached, and an event for each reader that asks."""
    sent = Sent(rig).delivered()
    answer = reader.get(sent.path(TokenKind.OPEN))
    assert (answer.status_code, answer.headers["content-type"], len(answer.content)) == (200, "image/gif", 42)
    assert answer.content.startswith(b"GIF89a")
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    (event,) = sent.events("recipient.opened")
    assert (event["data"]["class"], event["data"]["is_first"]) == ("human", True)


def test_a_link_leads_where_the_sender_wrote(rig, reader):
    """302 to the stored target, letter for letter; the event says which."""
    sent = Sent(rig).delivered()
    answer = reader.get(sent.path(TokenKind.CLICK))
    assert (answer.status_code, answer.headers["location"]) == (302, TARGET)
    (event,) = sent.events("recipient.clicked")
    assert (event["data"]["url"], event["data"]["class"]) == (TARGET, "human")


def test_head_is_answered_like_get_and_is_a_machines(rig, reader):
    """RFC 9110 §9.3.2: the same header fields, no content; told apart in the event."""
    sent = Sent(rig).delivered()
    for kind in (TokenKind.OPEN, TokenKind.CLICK):
        head, got = reader.head(sent.path(kind)), reader.get(sent.path(kind))
        assert (head.status_code, head.content, head.headers.get("location")) == (got.status_code, b"", got.headers.get("location"))
    for kind in ("recipient.opened", "recipient.clicked"):
        assert sorted((one["data"]["class"], one["data"].get("rule")) for one in sent.events(kind)) == [
            ("bot", "head_request"),
            ("human", None),
        ]


@pytest.mark.parametrize(
    "agent", ["Mozilla/5.0", "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)", "curl/8.4.0", ""]
)
def test_machines_get_the_same_answer_and_another_class(rig, reader, agent):
    """Who is told apart does not notice."""
    sent = Sent(rig).delivered()
    assert reader.get(sent.path(TokenKind.OPEN), headers={"user-agent": agent}).status_code == 200
    (event,) = sent.events("recipient.opened")
    assert event["data"]["class"] != "human"
    assert event["data"]["is_counted"] is False


@pytest.mark.parametrize(
    "suffix",
    [
        "//evil.example",
        "?url=https://evil.example",
        "/https://evil.example",
        "/../../v1/messages",
        "%2f%2fevil.example",
        "\\evil.example",
        "#x",
        "%00",
        "%0d%0aLocation:%20https://evil.example",
    ],
)
def test_nothing_in_the_url_changes_where_a_link_leads(rig, reader, suffix):
    """THREATS 44: whatever is put behind the token, the answer is the stored target or no redirect at all."""
    answer = reader.get(sent_path := Sent(rig).path(TokenKind.CLICK) + suffix)
    assert answer.status_code in {302, 400, 404}, sent_path
    assert answer.headers.get("location", TARGET) == TARGET


def test_a_link_that_the_message_never_had_leads_nowhere(rig, reader):
    """Even with the key of tokens there is no redirect to what was not stored."""
    sent = Sent(rig)
    for link in ("https://evil.example/", "javascript:alert(1)", "//evil.example"):
        answer = reader.get(sent.path(TokenKind.CLICK, link=link))
        assert (answer.status_code, "location" in answer.headers) == (404, False)


def test_a_stored_target_that_is_none_is_not_followed(rig, reader):
    """The rule is asked again when the link is followed: a database that was changed makes no open redirect."""
    sent = Sent(rig, html="<p>no links</p>")
    for target in ("javascript:alert(1)", "//evil.example", "https:\\\\evil.example", "https://a@evil.example/"):
        rig.run(rig.engine.write(lambda conn: conn.exec_driver_sql("DELETE FROM message_links").rowcount))
        rows = [(rig.deps.default_tenant_id, sent.id, [target], 2**60)]
        rig.run(rig.engine.write(lambda conn, rows=rows: engagement.put_links(conn, rows)))
        rig.deps.tracking._memory.links.clear()
        answer = reader.get(sent.path(TokenKind.CLICK, link=target))
        assert (answer.status_code, "location" in answer.headers) == (404, False)


def test_looking_unsubscribes_nobody(rig, reader):
    """THREATS 43: link scanners GET and HEAD everything; only POST decides."""
    sent = Sent(rig, to=["looked@example.net"])
    for _ in range(2):
        page = reader.get(sent.path(TokenKind.UNSUBSCRIBE))
        assert page.status_code == 200
        assert "Unsubscribe?" in page.text
        assert reader.head(sent.path(TokenKind.UNSUBSCRIBE)).status_code == 200
    assert reader.get(sent.path(TokenKind.UNSUBSCRIBE) + "?List-Unsubscribe=One-Click").status_code in {200, 422}
    assert suppressed(rig, "looked@example.net") == []
    assert sent.events("recipient.unsubscribed") == []


@pytest.mark.parametrize(
    "request_",
    [
        {"data": ONE_CLICK},
        {"content": b"List-Unsubscribe=One-Click", "headers": {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}},
        {"files": {"List-Unsubscribe": (None, "One-Click")}},
        {
            "content": b"List-Unsubscribe=One-Click",
            "headers": {
                "origin": "https://mail.example",
                "sec-fetch-site": "cross-site",
                "content-type": "application/x-www-form-urlencoded",
            },
        },
    ],
    ids=["form", "charset", "multipart", "cross-site"],
)
def test_one_click_unsubscribes(rig, reader, request_, request):
    """RFC 8058 §3.2: a form of either kind, from anywhere, without cookies; answered 200 without a redirect."""
    address = f"{request.node.callspec.id}@example.net"
    sent = Sent(rig, to=[address])
    answer = reader.post(sent.path(TokenKind.UNSUBSCRIBE), **request_)
    assert (answer.status_code, answer.history) == (200, [])
    assert suppressed(rig, address) == [("bulk", "unsubscribed")]
    (event,) = sent.events("recipient.unsubscribed")
    assert event["data"]["by"] == "one_click"
    with rig.client() as client:
        again = client.post("/v1/messages", json=message(to=[address], stream="bulk"))
        other = client.post("/v1/messages", json=message(to=[address]))
    assert (again.status_code, again.json()["code"], other.status_code) == (422, "all_recipients_suppressed", 202)


@pytest.mark.parametrize(
    "content", [b"", b"x=1", b"List-Unsubscribe=Two-Clicks", b"action=delete", b"\xff", b"List-Unsubscribe", b"a=b&" * 1000]
)
def test_a_post_that_says_nothing_changes_nothing(rig, reader, content):
    """Only what the RFC or the page says is a decision."""
    sent = Sent(rig, to=["unclear@example.net"])
    answer = reader.post(sent.path(TokenKind.UNSUBSCRIBE), content=content, headers={"content-type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 400
    assert suppressed(rig, "unclear@example.net") == []


def test_another_recipients_token_and_a_changed_one_are_refused_kindly(rig, reader):
    """THREATS 43: a page in words for people, and nothing happens to anybody."""
    sent = Sent(rig, to=["one@example.net", "two@example.net"])
    good = sent.path(TokenKind.UNSUBSCRIBE)
    raw = bytearray(base64.urlsafe_b64decode(good.removeprefix("/t/u/")))
    raw[15] ^= 1  # the number: the other recipient
    forged = f"/t/u/{base64.urlsafe_b64encode(raw).decode()}"
    pixel = sent.path(TokenKind.OPEN).replace("/t/o/", "/t/u/").removesuffix(".gif")
    stranger = sent.path(TokenKind.UNSUBSCRIBE, n=9)
    for path in (forged, pixel, stranger, "/t/u/x", f"/t/u/{'A' * 5000}"):
        answer = reader.post(path, data=ONE_CLICK)
        assert (answer.status_code, "This link does not work" in answer.text) == (404, True)
        assert reader.get(path).status_code == 404
    assert suppressed(rig, "one@example.net") == suppressed(rig, "two@example.net") == []


def test_a_token_that_has_ended_is_refused_kindly(rig, reader):
    """The page says that it is too old, with 410; the pixel is still a pixel."""
    sent, past = Sent(rig), SystemClock().now() - 400 * DAY
    answer = reader.post(sent.path(TokenKind.UNSUBSCRIBE, now=past), data=ONE_CLICK)
    assert (answer.status_code, "too old" in answer.text) == (410, True)
    assert reader.get(sent.path(TokenKind.CLICK, now=past)).status_code == 410
    assert reader.get(sent.path(TokenKind.OPEN, now=past)).headers["content-type"] == "image/gif"
    assert sent.events("recipient.opened", "recipient.clicked", "recipient.unsubscribed") == []


def test_the_page_shows_no_address_and_loads_nothing(rig, reader):
    """Whoever was forwarded the mail has the page, too; its policy allows no script and nothing from elsewhere."""
    page = reader.get(Sent(rig, to=["ann.margaret@example.net"]).path(TokenKind.UNSUBSCRIBE))
    assert "ann.margaret" not in page.text
    assert "a***@example.net" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "<script" not in page.text
    assert len(page.content) < 8_000


def test_a_senders_name_is_text_on_the_page(rig, reader):
    """A From header is the tenant's, and the page is the gateway's."""
    sent = Sent(rig, **{"from": {"email": "shop@acme.example", "name": "<script>alert(1)</script>"}})
    text = reader.get(sent.path(TokenKind.UNSUBSCRIBE)).text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_the_tenants_own_list_unsubscribe_conflicts_with_ours(rig):
    """Two would be one too many: which one counts is for the sender to say."""
    with rig.client() as client:
        answer = client.post("/v1/messages", json=message(unsubscribe=True, headers={"List-Unsubscribe": "<https://acme.example/off>"}))
    assert [(one["pointer"], one["code"]) for one in answer.json()["errors"]] == [("/unsubscribe", "conflicting")]


def test_streams_say_what_is_tracked(rig):
    """Set, read, changed in part, taken back; codes refuse it."""
    with rig.client() as client:
        made = client.post(
            "/v1/streams", json={"name": "letters", "lane": "bulk", "tracking": {"opens": True, "clicks": True}, "unsubscribe": True}
        )
        assert made.status_code == 201
        assert made.json()["tracking"] == {"opens": True, "clicks": True, "text": False}
        changed = client.patch("/v1/streams/letters", json={"tracking": {"opens": True}}).json()
        assert (changed["tracking"], changed["unsubscribe"]) == ({"opens": True, "clicks": False, "text": False}, True)
        off = client.patch("/v1/streams/letters", json={"tracking": None, "unsubscribe": False}).json()
        assert (off["tracking"]["opens"], off["unsubscribe"]) == (False, False)
        for body, pointer in (({"tracking": {"opens": True}}, "/tracking"), ({"unsubscribe": True}, "/unsubscribe")):
            refused = client.patch("/v1/streams/codes", json=body)
            assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer)


class Paced:
    """A desk with a clock that stands still, on the rig's database."""

    def __init__(self, rig, per_minute=10):
        self.clock = FakeClock(SystemClock().now())
        options = TrackingOptions(how=Counting(rules=load_rules(soon_ms=0)), per_minute=per_minute)
        self.desk = TrackingDesk(rig.engine, self.clock, TOKENS, Suppressing(), options)


def test_one_address_may_ask_so_often_and_no_more(rig):
    """Guessing tokens is slow; an IPv6 site counts as one; others are not held up, nor is this very machine."""
    desk = Paced(rig).desk

    async def ask(peer):
        try:
            await desk.clicked("A" * 48, Visit(said=Said.CLICKED, agent="x", peer=peer))
        except NotOurs:
            return "not ours"
        except Refused as refusal:
            assert refusal.retry_after_s > 0
            return refusal.code

    assert parse_peer("2001:db8::1").group == parse_peer("2001:db8::ffff").group
    assert [rig.run(ask("203.0.113.9")) for _ in range(11)] == ["not ours"] * 10 + ["rate_limited"]
    assert [rig.run(ask(f"2001:db8::{n}")) for n in range(1, 12)][-1] == "rate_limited"
    assert rig.run(ask("203.0.113.10")) == "not ours"
    assert {rig.run(ask("127.0.0.1")) for _ in range(30)} == {"not ours"}


def test_one_recipients_visits_are_written_down_so_often_and_no_more(rig):
    """A program that reloads a pixel all day costs the database thirty rows a minute; it is still answered."""
    paced, sent = Paced(rig, 10_000), Sent(rig).delivered()
    token = sent.path(TokenKind.OPEN).removeprefix("/t/o/").removesuffix(".gif")

    async def reload():
        for _ in range(100):
            paced.desk.opened(token, Visit(said=Said.OPENED, agent="Mozilla/5.0 (X11) Firefox/133.0", peer="203.0.113.9"))
        await paced.desk.drain()

    rig.run(reload())
    totals = rig.run(rig.engine.read(lambda conn: engagement.of_message(conn, sent.id)))
    assert [(one.kind, one.total) for one in totals] == [("opened", 30)]


def test_a_tracking_host_serves_nothing_else():
    """No page, no API, no cookie under a name that stands in everybody's mail."""
    seen, answers = [], []

    async def app(scope, receive, send):
        seen.append(scope["path"])

    async def send(part):
        answers.append(part.get("status"))

    behind = TrackingHosts(app, ["t.acme.example"])

    def ask(path, host):
        answers.clear()
        asyncio.run(behind({"type": "http", "path": path, "method": "GET", "headers": [(b"host", host)]}, None, send))
        return answers[0] if answers else None

    for path in ("/", "/login", "/v1/messages", "/docs", "/static/app.css", "/hooks/x"):
        for host in (b"t.acme.example", b"T.ACME.example:443", b"t.acme.example."):
            assert ask(path, host) == 404
    assert seen == []
    served = ["/t/o/x.gif", "/t/u/x", "/livez"]
    assert [ask(path, b"t.acme.example") for path in served] == [None] * 3
    assert ask("/login", b"gate.example") is None
    assert seen == [*served, "/login"]

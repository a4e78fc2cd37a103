"""Tracked mail as it leaves: each recipient has tokens and a signature of its own; untracked mail is as it was. Both engines."""

import asyncio
import email
import email.policy
import random
import re

import dkim
import pytest

from gatepost import ids
from gatepost.clock import SystemClock
from gatepost.dispatch.loop import Dispatcher
from gatepost.dispatch.ownership import Ownership
from gatepost.domain import route as routes
from gatepost.settings import Egress, Retry, Settings
from gatepost.store import messages, queue
from gatepost.store.blobs import LocalBlobs
from gatepost.store.opening import open_store
from gatepost.testing.fake_clock import FakeClock
from gatepost.wire.dkim import ED25519_SHA256, RSA_SHA256, Signer, dns_record, generate_key
from gatepost.wire.tracking_token import TokenKind, TrackingTokens, TrackingUrls, link_id
from tests.flow.test_dispatcher import ToldCourier

NOW = SystemClock().now()
"""Of today: dkimpy asks its own clock whether a signature has ended."""

TOKENS = TrackingTokens(key=b"k" * 16)
BODY = '<p>Hi</p><a href="https://x.example/a">a</a><a href="https://x.example/b">b</a><a href="gatepost:unsubscribe">stop</a>'
CONTENT = f"From: shop@acme.example\r\nTo: ann@example.net\r\nSubject: Hi\r\nDate: Tue, 24 Nov 2026 02:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{BODY}\r\n".encode()
KEYS = {name: generate_key(name) for name in (RSA_SHA256, ED25519_SHA256)}
SIGNERS = [Signer.from_pem("acme.example", name[:3], name, KEYS[name][0]) for name in KEYS]


class Signing:
    """Two keys of acme.example."""

    def signers(self, _tenant_id, _domain):
        return SIGNERS


def txt(name, timeout=5):
    """Answer for the two keys' records, as DNS would."""
    records = dict(dns_record("acme.example", algorithm[:3], algorithm, public) for algorithm, (_, public) in KEYS.items())
    return records.get(name.decode().rstrip("."), "").encode()


class House:
    """A dispatcher whose courier keeps what it is given."""

    def __init__(self, make_engine, tmp_path, urls):
        self.make_engine, self.tmp_path, self.urls = make_engine, tmp_path, urls
        self.clock = FakeClock(NOW)
        self.courier = ToldCourier(self.clock)

    async def __aenter__(self):
        self.engine = self.make_engine()
        self.blobs = LocalBlobs(self.tmp_path / "blobs")
        await open_store(self.engine, self.clock)
        ownership = Ownership(self.engine, self.clock, "node_a", "host", 1, lease_s=15)
        self.dispatcher = Dispatcher(
            engine=self.engine, blobs=self.blobs, signing=Signing(), couriers={"mx": self.courier, "sandbox": self.courier}, clock=self.clock, ownership=ownership,
            settings=Settings(egress=Egress(connections_per_site=3), retry=Retry(schedule=[60], jitter=0)), chance=random.Random(1), hostname="gate.example",
            tracking=self.urls,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_):
        await self.engine.close()

    async def deliver(self, track, *, route="mx", content=CONTENT, people=2):
        message_id = ids.new_message_id()
        await self.engine.write(lambda conn: self._put(conn, message_id, track, route, content, people))
        for _ in range(4):
            await self.dispatcher.step()
            await self.dispatcher.finish()
        return message_id, self.courier.batches

    def _put(self, conn, message_id, track, route, content, people):
        encoding, data = self.blobs.put(content)
        message = {
            "id": message_id, "tenant_id": "ten_a", "created_at": NOW, "stream": "bulk", "lane": 2, "source": "http", "key_id": "key_a", "envelope_from": "shop@acme.example",
            "from_": "shop@acme.example", "from_domain": "acme.example", "subject": "Hi", "message_id_header": "x@acme.example", "size_bytes": len(content), "is_8bit": False,
            "is_smtputf8": False, "is_sandbox": route == "sandbox", "route": route, "tags": [], "metadata": {}, "scheduled_at": None, "expires_at": NOW + 3_600_000,
            "options": {"track": track} if track else {},
        }  # fmt: skip
        road = routes.roads_of(route)[0]
        site = road.site_of("example.net", "example.net")
        recipients = [
            {"message_id": message_id, "n": n, "tenant_id": "ten_a", "address": f"u{n}@example.net", "address_key": f"u{n}@example.net", "kind": "to", "site": site,
             "status": "queued", "reason": None, "attempts": 0, "last_reply": None, "last_host": None, "updated_at": NOW, "final_at": None, "notify": None, "orcpt": None}
            for n in range(people)
        ]  # fmt: skip
        waiting = [
            {"shard": routes.shard_of(road.pool, site), "lane": 2, "due_at": NOW, "message_id": message_id, "n": n, "tenant_id": "ten_a", "pool": road.pool, "site": site,
             "attempt": 1, "retries": 0, "expires_at": NOW + 3_600_000, "tried": 0}
            for n in range(people)
        ]  # fmt: skip
        messages.insert(conn, [message], [{"message_id": message_id, "encoding": encoding, "data": data}], recipients)
        queue.insert(conn, waiting)


URLS = TrackingUrls(tokens=TOKENS, base="https://t.acme.example", sandbox="http://127.0.0.1:8025")
ALL = {"opens": True, "clicks": True, "unsubscribe": True}


def run(make_engine, tmp_path, work, urls=URLS):
    async def main():
        async with House(make_engine, tmp_path, urls) as house:
            await work(house)

    asyncio.run(main())


def tokens_in(content, kind):
    return re.findall(rf"https://t\.acme\.example/t/{kind.value}/([A-Za-z0-9_-]+)", content.decode())


def test_each_recipient_has_tokens_of_its_own(make_engine, tmp_path):
    """Pixel, links and page of one say nothing of the other, and each leads to its recipient and link."""

    async def work(house):
        message_id, batches = await house.deliver(ALL)
        assert [[one.n for one in batch.recipients] for batch in batches] == [[0], [1]]
        for n, batch in enumerate(batches):
            found = {kind: [TOKENS.read(kind, text, NOW) for text in tokens_in(batch.content, kind)] for kind in TokenKind}
            assert {(one.message_id, one.n) for ones in found.values() for one in ones} == {(message_id, n)}
            assert [one.link for one in found[TokenKind.CLICK]] == [link_id("https://x.example/a"), link_id("https://x.example/b")]
            assert (len(found[TokenKind.OPEN]), len(found[TokenKind.UNSUBSCRIBE])) == (1, 2)
            assert b"gatepost:" not in batch.content

    run(make_engine, tmp_path, work)


def test_both_one_click_fields_are_signed_by_every_key(make_engine, tmp_path):
    """RFC 8058 §4: a valid signature that covers both; dkimpy, which is not ours, verifies it; one more field breaks it."""

    async def work(house):
        _, batches = await house.deliver(ALL)
        for batch in batches:
            content = batch.content
            read = email.message_from_bytes(content, policy=email.policy.default)
            assert re.fullmatch(r"<https://t\.acme\.example/t/u/[A-Za-z0-9_-]{40}>", read["List-Unsubscribe"].strip())
            assert read["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
            signatures = read.get_all("DKIM-Signature")
            assert len(signatures) == 2
            for at, signature in enumerate(signatures):
                signed = re.sub(r"\s", "", re.search(r"\bh=([^;]+)", signature)[1]).lower().split(":")
                assert {"list-unsubscribe", "list-unsubscribe-post"} <= set(signed)
                assert dkim.DKIM(content).verify(at, dnsfunc=txt)
                assert not dkim.DKIM(content.replace(b"\r\nFrom:", b"\r\nList-Unsubscribe: <https://evil.example/>\r\nFrom:", 1)).verify(
                    at, dnsfunc=txt
                )
            assert dkim.DKIM(content.replace(b"/t/u/", b"/t/x/", 1)).verify(0, dnsfunc=txt) is False

    run(make_engine, tmp_path, work)


def test_untracked_mail_is_one_batch_with_the_stored_content(make_engine, tmp_path):
    """Nothing of tracking touches it: both recipients in one transaction, octets as accepted."""

    async def work(house):
        _, batches = await house.deliver(None)
        assert [[one.n for one in batch.recipients] for batch in batches] == [[0, 1]]
        assert batches[0].content.endswith(CONTENT)

    run(make_engine, tmp_path, work)


@pytest.mark.parametrize(
    ("route", "urls", "base"),
    [
        ("sandbox", TrackingUrls(tokens=TOKENS, sandbox="http://127.0.0.1:8025"), b"http://127.0.0.1:8025/t/"),
        ("mx", TrackingUrls(tokens=TOKENS, by_sender={"acme.example": "https://go.acme.example"}), b"https://go.acme.example/t/"),
        ("mx", TrackingUrls(tokens=TOKENS, sandbox="http://127.0.0.1:8025"), None),
    ],
)
def test_the_host_is_the_senders_and_a_local_one_never_leaves(make_engine, tmp_path, route, urls, base):
    """Where the host was taken away after the message was accepted, it goes untracked; a loopback link never goes out."""

    async def work(house):
        _, batches = await house.deliver(ALL, route=route, people=1)
        assert base in batches[0].content if base else b"/t/" not in batches[0].content

    run(make_engine, tmp_path, work, urls)

"""Accept: what is taken, what is refused, and that an answer means it is on disk; on both engines."""

import asyncio
from collections import Counter

import pytest

from gatepost.accept import AcceptedMessage, Acceptor, Idempotency, RefusedMessage
from gatepost.domain.address import parse_address, parse_mailbox
from gatepost.domain.errors import Refused
from gatepost.domain.message import EnvelopeRecipient, RawSubmission, Source, Steering, Submission
from gatepost.domain.tenant import Caller, Domain, DomainStatus, KeyMode
from gatepost.settings import Limits, Settings
from gatepost.store import credentials, facts, messages, queue, suppressions, tenants
from gatepost.store.blobs import LocalBlobs
from gatepost.store.errors import StorageUnavailable
from gatepost.store.opening import open_store
from gatepost.tenants import keys
from gatepost.tenants.directory import Directory
from gatepost.testing.fake_clock import FakeClock

RAW = b"From: Shop <shop@acme.example>\r\nTo: ann@example.net\r\nSubject: Hi\r\nDate: Tue, 24 Nov 2026 02:00:00 +0000\r\n\r\nHello\r\n"


class House:
    """An acceptor on a fresh database, with a verified domain and one key."""

    def __init__(self, make_engine, tmp_path, **settings):
        self.make_engine = make_engine
        self.tmp_path = tmp_path
        self.settings = Settings(**settings)
        self.clock = FakeClock()

    async def __aenter__(self):
        self.engine = self.make_engine()
        self.tenant_id = await open_store(self.engine, self.clock)
        self.caller = await self.new_caller(KeyMode.LIVE)
        for name, status in (("acme.example", DomainStatus.VERIFIED), ("pending.example", DomainStatus.PENDING)):
            domain = Domain(id=f"dom_{name}", tenant_id=self.tenant_id, name=name, status=status, is_trusted=False, created_at=0)
            await self.engine.write(lambda conn, domain=domain: tenants.insert_domain(conn, domain))
        self.directory = Directory(self.engine, self.clock)
        await self.directory.refresh()
        self.acceptor = self.new_acceptor()
        return self

    async def __aexit__(self, *_):
        await self.engine.close()

    def new_acceptor(self, engine=None):
        return Acceptor(
            engine=engine or self.engine, blobs=LocalBlobs(self.tmp_path / "blobs"), directory=self.directory, settings=self.settings, clock=self.clock,
            hostname="gw.example",
        )  # fmt: skip

    async def new_caller(self, mode):
        secret = keys.make_secret(mode)
        key = keys.describe(secret, tenant_id=self.tenant_id, name="test", mode=mode, now=self.clock.now())
        await self.engine.write(lambda conn: credentials.insert(conn, key, keys.hash_secret(secret)))
        return Caller(principal=key.principal(), peer="127.0.0.1", request_id="req_1")

    async def suppress(self, address, stream=""):
        row = {"tenant_id": self.tenant_id, "address": address, "stream": stream, "id": f"sup_{address}", "reason": "hard_bounce", "note": "", "created_at": 0,
               "expires_at": None}  # fmt: skip
        await self.engine.write(lambda conn: suppressions.put(conn, row))

    async def stored(self):
        rows = await self.engine.read(lambda conn: messages.page(conn, None, messages.Filter(), 1000))
        return [row.id for row in rows]


def run(make_engine, tmp_path, work, **settings):
    async def main():
        async with House(make_engine, tmp_path, **settings) as house:
            await work(house)

    asyncio.run(main())


def submission(*to, sender="shop@acme.example", **fields):
    fields = {"subject": "Hi", "text": "Hello", **fields}
    return Submission(sender=parse_mailbox(sender), to=tuple(parse_mailbox(one) for one in to or ("ann@example.net",)), **fields)


def raw(content=RAW, to=("ann@example.net",), envelope_from="shop@acme.example", **fields):
    recipients = tuple(EnvelopeRecipient(address=parse_address(one)) for one in to)
    return RawSubmission(
        envelope_from=parse_address(envelope_from) if envelope_from else None, recipients=recipients, content=content, **fields
    )


async def refusal(awaitable):
    with pytest.raises(Refused) as caught:
        await awaitable
    return caught.value


def test_an_answer_means_that_everything_is_on_disk(make_engine, tmp_path):
    """Another process sees message, body, recipients, queue rows and event as soon as the answer is there."""

    async def work(house):
        accepted = await house.acceptor.submit(house.caller, submission("ann@example.net", "Bob <bob@EXAMPLE.org>"))
        (result,) = accepted.results
        other = house.make_engine()
        row = await other.read(lambda conn: messages.get(conn, house.tenant_id, result.id))
        assert (row.subject, row.route, row.is_sandbox, row.stream) == ("Hi", "sandbox", True, "transactional")
        encoding, data = await other.read(lambda conn: messages.body_of(conn, result.id))
        assert b"Hello" in LocalBlobs(tmp_path).get(encoding, data)
        recipients = (await other.read(lambda conn: messages.recipients_of(conn, [result.id])))[result.id]
        assert [(one.address, one.status) for one in recipients] == [("ann@example.net", "queued"), ("bob@example.org", "queued")]
        assert [one.n for one in await other.read(lambda conn: queue.of_message(conn, result.id))] == [0, 1]
        assert [one.type for one in await other.read(lambda conn: facts.events_of(conn, result.id))] == ["message.accepted"]
        await other.close()

    run(make_engine, tmp_path, work)


def test_a_foreign_or_unverified_sender_domain_is_refused_at_every_door(make_engine, tmp_path):
    """The same code for fields, for MIME and for the envelope; the null sender needs no domain."""

    async def work(house):
        for bad in ("a@other.example", "a@pending.example", "a@sub.acme.example"):
            content = RAW.replace(b"shop@acme.example", bad.encode())
            for attempt in (
                house.acceptor.submit(house.caller, submission(sender=bad)),
                house.acceptor.submit_raw(house.caller, raw(content, envelope_from="")),
                house.acceptor.submit_raw(house.caller, raw(envelope_from=bad)),
            ):
                assert (await refusal(attempt)).code == "domain_not_verified"
        await house.acceptor.submit_raw(house.caller, raw(envelope_from=""))
        assert len(await house.stored()) == 1

    run(make_engine, tmp_path, work)


def test_a_domain_that_was_just_added_works_at_once(make_engine, tmp_path):
    """The snapshot is looked at again when a domain is missing in it."""

    async def work(house):
        house.clock.advance(1)
        domain = Domain(
            id="dom_new", tenant_id=house.tenant_id, name="new.example", status=DomainStatus.VERIFIED, is_trusted=True, created_at=0
        )
        await house.engine.write(lambda conn: tenants.insert_domain(conn, domain))
        await house.acceptor.submit(house.caller, submission(sender="a@new.example"))

    run(make_engine, tmp_path, work)


def test_suppressed_recipients_are_named_and_never_queued(make_engine, tmp_path):
    """One suppressed recipient of two is told; all of them suppressed refuses the message; another stream is not touched."""

    async def work(house):
        await house.suppress("bob@example.net")
        await house.suppress("cy@example.net", "bulk")
        (result,) = (await house.acceptor.submit(house.caller, submission("ann@example.net", "Bob@example.net", "cy@example.net"))).results
        assert [(one.status, one.reason) for one in result.recipients] == [
            ("queued", None),
            ("suppressed", "hard_bounce"),
            ("queued", None),
        ]
        assert [one.n for one in await house.engine.read(lambda conn: queue.of_message(conn, result.id))] == [0, 2]
        types = [one.type for one in await house.engine.read(lambda conn: facts.events_of(conn, result.id))]
        assert types == ["message.accepted", "recipient.suppressed"]
        refused = await refusal(house.acceptor.submit(house.caller, submission("bob@example.net")))
        assert (refused.code, refused.faults[0].pointer) == ("all_recipients_suppressed", "/to/0")
        assert (await refusal(house.acceptor.submit_raw(house.caller, raw(to=("bob@example.net",))))).code == "all_recipients_suppressed"
        assert len(await house.stored()) == 1

    run(make_engine, tmp_path, work)


def test_limits_are_the_same_at_both_doors(make_engine, tmp_path):
    """Too many recipients, too large, too far ahead: one code each, however it came in."""

    async def work(house):
        many = [f"u{n}@example.net" for n in range(6)]
        assert (await refusal(house.acceptor.submit(house.caller, submission(*many)))).code == "too_many_recipients"
        assert (await refusal(house.acceptor.submit_raw(house.caller, raw(to=many)))).code == "too_many_recipients"
        large = "x" * 70 + "\r\n"
        assert (await refusal(house.acceptor.submit(house.caller, submission(text=large * 100)))).code == "payload_too_large"
        assert (await refusal(house.acceptor.submit_raw(house.caller, raw(RAW + large.encode() * 100)))).code == "payload_too_large"
        late = house.clock.now() + 3_601_000
        assert (await refusal(house.acceptor.submit(house.caller, submission(steering=Steering(scheduled_at=late))))).faults[
            0
        ].code == "too_far_ahead"
        assert (await refusal(house.acceptor.submit_raw(house.caller, raw(steering=Steering(scheduled_at=late))))).faults[
            0
        ].code == "too_far_ahead"
        assert await house.stored() == []

    run(make_engine, tmp_path, work, limits=Limits(recipients=5, message_bytes=4096, schedule_ahead_s=3600))


def test_a_test_key_never_leaves_the_sandbox(make_engine, tmp_path):
    """Whatever the default route is."""

    async def work(house):
        caller = await house.new_caller(KeyMode.TEST)
        (live,) = (await house.acceptor.submit(house.caller, submission())).results
        (test,) = (await house.acceptor.submit(caller, submission())).results
        assert (live.is_sandbox, test.is_sandbox) == (False, True)

    from gatepost.settings import Egress

    run(make_engine, tmp_path, work, egress=Egress(default_route="mx"))


@pytest.mark.parametrize("processes", [1, 2])
def test_equal_requests_at_once_give_one_message_each(make_engine, tmp_path, processes):
    """20 keys by 10 equal requests, in one process and in two: 20 messages; every other answer is a replay or 'in progress'."""

    async def work(house):
        engines = [house.make_engine() for _ in range(processes - 1)]
        acceptors = [house.acceptor, *[house.new_acceptor(engine) for engine in engines]]

        async def ask(n, key):
            try:
                accepted = await acceptors[n % processes].submit(house.caller, submission(), Idempotency(key=key, request_hash=b"same"))
            except Refused as refused:
                assert refused.code == "idempotency_in_progress"
                return key, "in progress"
            return key, accepted.results[0].id

        answers = await asyncio.gather(*[ask(n, f"key-{key}") for n in range(10) for key in range(20)])
        made = Counter(answer for answer in answers if answer[1] != "in progress")
        assert len(made) == 20
        assert sorted(await house.stored()) == sorted(message_id for _, message_id in made)
        again = await house.acceptor.submit(house.caller, submission(), Idempotency(key="key-7", request_hash=b"same"))
        assert again.is_replay
        assert ("key-7", again.results[0].id) in made
        refused = await refusal(house.acceptor.submit(house.caller, submission(), Idempotency(key="key-7", request_hash=b"other")))
        assert refused.code == "idempotency_key_reused"
        for engine in engines:
            await engine.close()

    run(make_engine, tmp_path, work)


def test_an_idempotency_key_is_free_again_after_a_day_and_after_a_refusal(make_engine, tmp_path):
    """Refusals are not remembered, and neither is anything older than 24 hours."""

    async def work(house):
        answered_as = Idempotency(key="k", request_hash=b"h")
        await house.suppress("bob@example.net")
        await refusal(house.acceptor.submit(house.caller, submission("bob@example.net"), answered_as))
        first = await house.acceptor.submit(house.caller, submission(), answered_as)
        house.clock.advance(86_401)
        second = await house.acceptor.submit(house.caller, submission(), answered_as)
        assert not second.is_replay
        assert first.results[0].id != second.results[0].id

    run(make_engine, tmp_path, work)


def test_the_key_in_a_header_makes_smtp_idempotent(make_engine, tmp_path):
    """A client that sends again after a broken connection gets the same message id."""

    async def work(house):
        content = b"X-Gatepost-Idempotency-Key: order-42\r\n" + RAW
        first = await house.acceptor.submit_raw(house.caller, raw(content))
        second = await house.acceptor.submit_raw(house.caller, raw(content))
        assert first.id == second.id
        other = await refusal(house.acceptor.submit_raw(house.caller, raw(content + b"more\r\n")))
        assert other.code == "idempotency_key_reused"

    run(make_engine, tmp_path, work)


def test_a_strict_batch_is_all_or_nothing_and_a_permissive_one_answers_in_order(make_engine, tmp_path):
    """One faulty and one suppressed message among four."""

    async def work(house):
        await house.suppress("bob@example.net")
        batch = [submission(), submission(subject="a\r\nb"), submission("bob@example.net"), submission("cy@example.net")]
        refused = await refusal(house.acceptor.submit_batch(house.caller, batch, "strict"))
        assert [fault.pointer for fault in refused.faults] == ["/messages/1/subject"]
        refused = await refusal(house.acceptor.submit_batch(house.caller, [batch[0], batch[2]], "strict"))
        assert refused.code == "all_recipients_suppressed"
        assert await house.stored() == []
        answered_as = Idempotency(key="batch", request_hash=b"h")
        accepted = await house.acceptor.submit_batch(house.caller, batch, "permissive", answered_as)
        assert [type(result) for result in accepted.results] == [AcceptedMessage, RefusedMessage, RefusedMessage, AcceptedMessage]
        assert [result.code for result in accepted.results[1:3]] == ["validation_failed", "all_recipients_suppressed"]
        replay = await house.acceptor.submit_batch(house.caller, batch, "permissive", answered_as)
        assert (replay.is_replay, replay.results) == (True, accepted.results)
        assert len(await house.stored()) == 2

    run(make_engine, tmp_path, work)


def test_a_database_that_is_away_refuses_and_takes_nothing(make_engine, tmp_path):
    """The refusal says when to come back; the next request works as if nothing had been."""

    async def work(house):
        write = house.engine.write

        async def unavailable(_work):
            raise StorageUnavailable("disk is full")

        house.engine.write = unavailable
        refused = await refusal(house.acceptor.submit(house.caller, submission(), Idempotency(key="k", request_hash=b"h")))
        assert (refused.code, refused.retry_after_s, refused.kind.smtp) == ("storage_unavailable", 5, "451 4.3.1")
        house.engine.write = write
        assert not (await house.acceptor.submit(house.caller, submission(), Idempotency(key="k", request_hash=b"h"))).is_replay
        assert len(await house.stored()) == 1

    run(make_engine, tmp_path, work)


def test_large_content_lies_in_the_blob_store_before_its_row_exists(make_engine, tmp_path):
    """What does not compress below 256 KiB becomes a file, and comes back byte for byte."""
    import os

    async def work(house):
        body = os.urandom(600_000).hex()
        lines = "\r\n".join(body[start : start + 70] for start in range(0, len(body), 70)) + "\r\n"
        result = await house.acceptor.submit_raw(house.caller, raw(RAW + lines.encode()), Source.SMTP)
        encoding, data = await house.engine.read(lambda conn: messages.body_of(conn, result.id))
        assert encoding == "blob"
        assert LocalBlobs(tmp_path / "blobs").get(encoding, data).endswith(lines.encode())

    run(make_engine, tmp_path, work)


def test_a_scheduled_message_waits_for_its_time(make_engine, tmp_path):
    """Its queue row is due then, its status says so, and its end counts from then."""

    async def work(house):
        at = house.clock.now() + 3_600_000
        (result,) = (await house.acceptor.submit(house.caller, submission(steering=Steering(scheduled_at=at)))).results
        assert result.status == "scheduled"
        (row,) = await house.engine.read(lambda conn: queue.of_message(conn, result.id))
        assert (row.due_at, row.expires_at) == (at, at + 72 * 3_600_000)
        assert [one.type for one in await house.engine.read(lambda conn: facts.events_of(conn, result.id))] == ["message.scheduled"]

    run(make_engine, tmp_path, work)

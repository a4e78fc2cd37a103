"""Senders over SMTP are told by mail what became of their messages (RFC 3461 to 3464); on both engines, from accept to the wire."""

import asyncio
import email
import email.policy
import random

import pytest

from gatepost.accept import Acceptor
from gatepost.bounce_messages import BounceMessages
from gatepost.dispatch.loop import Dispatcher
from gatepost.dispatch.ownership import Ownership
from gatepost.domain.address import parse_address
from gatepost.domain.errors import Refused
from gatepost.domain.message import EnvelopeRecipient, RawSubmission, Source
from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Failed, Reply
from gatepost.domain.tenant import Caller, Domain, DomainStatus, KeyMode
from gatepost.policy.notify import NotifyRules
from gatepost.policy.retry import RetrySchedule
from gatepost.settings import BounceMessages as Options
from gatepost.settings import Egress, Retry, Settings
from gatepost.settle import Result, decide, new_event_id, settle
from gatepost.store import credentials, facts, messages, queue, suppressions, tenants
from gatepost.store.blobs import LocalBlobs
from gatepost.store.opening import open_store
from gatepost.tenants import keys
from gatepost.tenants.directory import Directory
from gatepost.testing.fake_clock import FakeClock
from tests.flow.test_dispatcher import ToldCourier, Unsigned

HEAD = b"From: Shop <shop@acme.example>\r\nTo: ann@far.example\r\nSubject: Offer\r\nDate: Tue, 24 Nov 2026 02:00:00 +0000\r\nMessage-ID: <m1@acme.example>\r\n\r\n"
RAW = HEAD + b"Hello\r\n"
NO_USER = Reply(code=550, enhanced="5.1.1", text="no such user")


class House:
    def __init__(self, make_engine, tmp_path, **options):
        self.engine = make_engine()
        self.clock = FakeClock()
        self.blobs = LocalBlobs(tmp_path / "blobs")
        self.courier = ToldCourier(self.clock, self.answer)
        self.fates = {}
        self.takes_dsn = False
        self.settings = Settings(
            egress=Egress(default_route="mx"), retry=Retry(schedule=[600], jitter=0, max_age_s=7200), bounce_messages=Options(**options)
        )

    async def open(self):
        self.tenant_id = await open_store(self.engine, self.clock)
        secret = keys.make_secret(KeyMode.LIVE)
        key = keys.describe(secret, tenant_id=self.tenant_id, name="test", mode=KeyMode.LIVE, now=self.clock.now())
        await self.engine.write(lambda conn: credentials.insert(conn, key, keys.hash_secret(secret)))
        self.caller = Caller(principal=key.principal(), peer="127.0.0.1", request_id="req_1")
        domain = Domain(
            id="dom_1", tenant_id=self.tenant_id, name="acme.example", status=DomainStatus.VERIFIED, is_trusted=True, created_at=0
        )
        await self.engine.write(lambda conn: tenants.insert_domain(conn, domain))
        directory = Directory(self.engine, self.clock)
        await directory.refresh()
        self.acceptor = Acceptor(
            engine=self.engine, blobs=self.blobs, directory=directory, settings=self.settings, clock=self.clock, hostname="gw.example",
        )  # fmt: skip
        options = self.settings.bounce_messages
        self.reports = BounceMessages(
            NotifyRules(default=frozenset(options.default), delay_ms=options.delay_after_s * 1000), self.blobs, hostname="gw.example",
            full_bytes=options.full_bytes, lifetime_ms=7_200_000,
        )  # fmt: skip
        signing = Unsigned()
        signing.gateway_signers = lambda _domain: []
        self.dispatcher = Dispatcher(
            engine=self.engine, blobs=self.blobs, signing=signing, couriers={"mx": self.courier, "sandbox": self.courier}, settings=self.settings,
            clock=self.clock, ownership=Ownership(self.engine, self.clock, "node_a", "host", 1, lease_s=10**7), chance=random.Random(1), reports=self.reports,
        )  # fmt: skip
        await self.dispatcher.step()

    def answer(self, one, exchange):
        exchange = Exchange(
            route=exchange.route,
            started_at=exchange.started_at,
            finished_at=exchange.finished_at,
            host="mx.far.example",
            takes_dsn=self.takes_dsn,
        )
        fate = self.fates.get(one.address.partition("@")[0], "ok")
        if fate == "fail":
            return Failed(exchange=exchange, category=Category.INVALID_RECIPIENT, detail=str(NO_USER), reply=NO_USER)
        if fate == "later":
            return Deferred(exchange=exchange, category=Category.NETWORK, detail="4.4.1 connection timed out")
        return Delivered(exchange=exchange, reply=Reply(code=250, enhanced="2.0.0", text="ok"))

    async def send(self, *to, sender="shop@acme.example", source=Source.SMTP, content=RAW, **fields):
        """Submit; `to` are addresses or (address, NOTIFY, ORCPT)."""
        people = [one if isinstance(one, tuple) else (one, None, None) for one in to]
        recipients = tuple(
            EnvelopeRecipient(address=parse_address(address), notify=notify, orcpt=orcpt) for address, notify, orcpt in people
        )
        raw = RawSubmission(envelope_from=parse_address(sender) if sender else None, recipients=recipients, content=content, **fields)
        return (await self.acceptor.submit_raw(self.caller, raw, source)).id

    async def run(self, rounds=6, every_s=0.5):
        for _ in range(rounds):
            await self.dispatcher.step()
            await self.dispatcher.finish()
            self.clock.advance(every_s)

    async def told(self):
        """Return the reports in the store, oldest first, parsed."""
        rows = await self.engine.read(lambda conn: messages.page(conn, None, messages.Filter(), 100))
        found = []
        for row in rows[::-1]:
            if row.source == "dsn":
                encoding, data = await self.engine.read(lambda conn, row=row: messages.body_of(conn, row.id))
                found.append((row, email.message_from_bytes(self.blobs.get(encoding, data), policy=email.policy.SMTP)))
        return found

    async def events(self, message_id, kind):
        return [row for row in await self.engine.read(lambda conn: facts.events_of(conn, message_id)) if row.type == kind]


def run(make_engine, tmp_path, work, **options):
    async def main():
        house = House(make_engine, tmp_path, **options)
        await house.open()
        try:
            await work(house)
        finally:
            await house.engine.close()

    asyncio.run(main())


def fields(report):
    """Return the groups of a report's machine-readable part."""
    part = next(one for one in report.walk() if one.get_content_type() == "message/delivery-status")
    return [dict(group.items()) for group in part.get_payload()]


def test_a_failure_over_smtp_comes_back_as_mail(make_engine, tmp_path):
    """Without NOTIFY a sender over SMTP expects a bounce message: from the null sender, to the reverse-path, machine-readable, queued and sent."""

    async def work(house):
        house.fates = {"ann": "fail"}
        message_id = await house.send("ann@far.example", "bob@far.example")
        await house.run()
        ((row, report),) = await house.told()
        assert (row.envelope_from, row.tenant_id, row.route) == ("", house.tenant_id, "mx")
        assert report["To"] == "shop@acme.example"
        assert report["From"] == "Mail Delivery System <MAILER-DAEMON@gw.example>"
        assert report["Auto-Submitted"] == "auto-replied"
        assert report["References"] == "<m1@acme.example>"
        assert report.get_content_type() == "multipart/report"
        assert report.get_param("report-type") == "delivery-status"
        whole, ann = fields(report)
        assert whole["Reporting-MTA"] == "dns; gw.example"
        assert whole["X-Gatepost-Message-Id"] == message_id
        assert ann["Final-Recipient"] == "rfc822; ann@far.example"
        assert (ann["Action"], ann["Status"], ann["Remote-MTA"]) == ("failed", "5.1.1", "dns; mx.far.example")
        assert ann["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"
        parts = [one.get_content_type() for one in report.iter_parts()]
        assert parts == ["text/plain", "message/delivery-status", "text/rfc822-headers"]
        assert "Hello" not in report.as_string()
        sent = house.courier.batches[-1]
        assert (sent.message_id, sent.envelope_from, sent.recipients[0].address) == (row.id, "", "shop@acme.example")
        (event,) = await house.events(message_id, "recipient.notified")
        assert (event.n, event.data) == (0, {"action": "failed", "report_id": row.id})
        (accepted,) = await house.events(row.id, "message.accepted")
        assert accepted.data == {"source": "dsn", "recipients": 1, "about": message_id}

    run(make_engine, tmp_path, work)


def test_recipients_with_one_fate_share_one_report(make_engine, tmp_path):
    """Three failures in one delivery are one mail with three groups."""

    async def work(house):
        house.fates = dict.fromkeys(["a", "b", "c"], "fail")
        await house.send("a@far.example", "b@far.example", "c@far.example", "d@far.example")
        await house.run()
        ((_, report),) = await house.told()
        assert [group["Final-Recipient"] for group in fields(report)[1:]] == [f"rfc822; {one}@far.example" for one in "abc"]

    run(make_engine, tmp_path, work)


@pytest.mark.parametrize(
    ("fate", "notify", "source", "told"),
    [
        ("fail", None, Source.SMTP, ["failed"]),
        ("fail", None, Source.HTTP, []),
        ("fail", "NEVER", Source.SMTP, []),
        ("fail", "SUCCESS", Source.SMTP, []),
        ("fail", "FAILURE", Source.HTTP, ["failed"]),
        ("ok", None, Source.SMTP, []),
        ("ok", "FAILURE,DELAY", Source.SMTP, []),
        ("ok", "SUCCESS", Source.SMTP, ["relayed"]),
        ("ok", "SUCCESS,FAILURE", Source.SMTP, ["relayed"]),
    ],
)
def test_what_the_sender_asked_for_is_what_is_told(make_engine, tmp_path, fate, notify, source, told):
    """NOTIFY decides (RFC 3461 §4.1); where it is absent the door does."""

    async def work(house):
        house.fates = {"ann": fate}
        await house.send(("ann@far.example", notify, None), source=source)
        await house.run()
        assert [fields(report)[1]["Action"] for _, report in await house.told()] == told

    run(make_engine, tmp_path, work)


def test_the_operator_decides_about_mail_that_says_nothing(make_engine, tmp_path):
    """With an empty `bounce_messages.default` only who asks is told."""

    async def work(house):
        house.fates = {"ann": "fail", "bob": "fail"}
        await house.send("ann@far.example", ("bob@far.example", "FAILURE", None))
        await house.run()
        ((_, report),) = await house.told()
        assert [group["Final-Recipient"] for group in fields(report)[1:]] == ["rfc822; bob@far.example"]

    run(make_engine, tmp_path, work, default=[])


def test_a_next_system_that_reports_itself_is_left_to_it(make_engine, tmp_path):
    """SUCCESS goes on to hosts that announce DSN; then there is no report of ours (RFC 3461 §5.2.2)."""

    async def work(house):
        house.takes_dsn = True
        await house.send(("ann@far.example", "SUCCESS,FAILURE", "rfc822;ann+2Bx@old.example"), envid="QQ314159", ret="HDRS")
        await house.run()
        assert await house.told() == []
        batch = house.courier.batches[0]
        assert (batch.envid, batch.ret, batch.recipients[0].notify) == ("QQ314159", "HDRS", "SUCCESS,FAILURE")
        assert batch.recipients[0].orcpt == "rfc822;ann+2Bx@old.example"

    run(make_engine, tmp_path, work)


def test_envelope_id_original_recipient_and_the_whole_message_come_back(make_engine, tmp_path):
    """ENVID and ORCPT are decoded from xtext, RET=FULL returns all of the message, unless it is too large."""

    async def work(house):
        house.fates = {"ann": "fail"}
        await house.send(("ann@far.example", None, "rfc822;ann+2Bnews@old.example"), envid="a+3Db", ret="FULL")
        await house.run()
        ((_, report),) = await house.told()
        whole, ann = fields(report)
        assert whole["Original-Envelope-Id"] == "a=b"
        assert ann["Original-Recipient"] == "rfc822; ann+news@old.example"
        returned = list(report.iter_parts())[2]
        assert returned.get_content_type() == "message/rfc822"
        assert returned.get_payload(0).get_content() == "Hello\r\n"
        await house.send("ann@far.example", ret="FULL", content=HEAD + b"x" * 80 + b"\r\n" + b"y" * 80 + b"\r\n")
        await house.run()
        assert [one.get_content_type() for one in (await house.told())[1][1].iter_parts()][2] == "text/rfc822-headers"

    run(make_engine, tmp_path, work, full_bytes=300)


def test_the_null_sender_is_never_told(make_engine, tmp_path):
    """No report leads to another: neither of a message from <>, nor of a report that fails itself."""

    async def work(house):
        house.fates = {"ann": "fail", "shop": "fail"}
        await house.send("ann@far.example", sender=None)
        await house.send(("ann@far.example", "SUCCESS,FAILURE,DELAY", None), sender=None)
        await house.run()
        assert await house.told() == []
        await house.send("ann@far.example")
        await house.run(12)
        assert len(await house.told()) == 1
        assert (await house.engine.read(lambda conn: messages.counts_by_status(conn, None))) == {"bounced": 4}

    run(make_engine, tmp_path, work)


def test_a_sender_on_the_suppression_list_is_not_told(make_engine, tmp_path):
    """An address that bounces or complains gets no reports either."""

    async def work(house):
        house.fates = {"ann": "fail"}
        row = {"tenant_id": house.tenant_id, "address": "shop@acme.example", "stream": "", "id": "sup_1", "reason": "hard_bounce", "note": "", "created_at": 0,
               "expires_at": None}  # fmt: skip
        await house.engine.write(lambda conn: suppressions.put(conn, row))
        await house.send("ann@far.example")
        await house.run()
        assert await house.told() == []

    run(make_engine, tmp_path, work)


def test_a_delay_is_told_once_and_the_end_of_waiting_is_a_failure(make_engine, tmp_path):
    """After the time that is set, once for each recipient; when the message expires, the sender hears that it failed."""

    async def work(house):
        house.fates = {"ann": "later"}
        await house.send(("ann@far.example", "FAILURE,DELAY", None), ("bob@far.example", "DELAY", None))
        await house.run()
        assert await house.told() == []
        for _ in range(4):
            house.clock.advance(700)
            await house.run(3)
        ((_, report),) = await house.told()
        ann = fields(report)[1]
        assert (ann["Action"], ann["Status"], ann["Diagnostic-Code"]) == ("delayed", "4.4.1", "x-gatepost; 4.4.1 connection timed out")
        assert "Will-Retry-Until" in ann
        assert report["Subject"] == "Your mail is delayed"
        house.clock.advance(7_200)
        await house.run()
        (_, (_, last)) = await house.told()
        ann = fields(last)[1]
        assert (ann["Action"], ann["Status"]) == ("failed", "4.4.7")

    run(make_engine, tmp_path, work, delay_after_s=900)


def test_mail_over_http_that_expires_costs_no_report(make_engine, tmp_path):
    """Who sees events needs no mail: nothing is told of HTTP mail, also not when it ends before its turn."""

    async def work(house):
        house.fates = {"ann": "later"}
        await house.send("ann@far.example", source=Source.HTTP)
        await house.send("ann@far.example", source=Source.SMTP)
        await house.run()
        house.clock.advance(8_000)
        await house.run()
        assert (await house.engine.read(lambda conn: messages.counts_by_status(conn, None))) == {"expired": 2, "delivered": 1}
        assert len(await house.told()) == 1

    run(make_engine, tmp_path, work)


def test_a_group_that_is_settled_again_tells_once(make_engine, tmp_path):
    """After a commit whose outcome is unknown the same results are written again: there is still one report, with the same id."""

    async def work(house):
        message_id = await house.send("ann@far.example")
        (due,) = await house.engine.read(lambda conn: queue.of_message(conn, message_id))
        exchange = Exchange(route="mx", started_at=1, finished_at=2)
        outcome = Failed(exchange=exchange, category=Category.INVALID_RECIPIENT, detail=str(NO_USER), reply=NO_USER)
        now = house.clock.now()
        decision = decide(due, outcome, RetrySchedule(waits_s=[60], jitter=0), now, 0.5)
        epoch = house.dispatcher._ownership.epochs[due.shard]
        result = Result(
            due=due,
            epoch=epoch,
            outcome=outcome,
            decision=decision,
            event_id=new_event_id(),
            at=now,
            address="ann@far.example",
            source="smtp",
        )
        for _ in range(2):
            await house.engine.write(lambda conn: settle(conn, [result], "node_a", house.reports))
        ((row, _),) = await house.told()
        assert len(await house.events(message_id, "recipient.notified")) == 1
        late = Result(due=due, epoch=epoch - 1, outcome=outcome, decision=decision, event_id=new_event_id(), at=now, source="smtp")
        await house.engine.write(lambda conn: settle(conn, [late], "node_a", house.reports))
        assert [one.id for one, _ in await house.told()] == [row.id]

    run(make_engine, tmp_path, work)


def test_what_a_server_says_cannot_break_out_of_the_report(make_engine, tmp_path):
    """Line breaks, control characters and other alphabets in a reply stay inside their field."""

    async def work(house):
        nasty = Reply(code=550, enhanced="5.7.1", text="no\r\nAction: delivered\x00\x1b[2J \u0431 " + "x" * 950)
        house.answer = None
        house.courier.answer = lambda one, exchange: Failed(
            exchange=exchange, category=Category.POLICY_REJECTED, detail=str(nasty), reply=nasty
        )
        await house.send("ann@far.example")
        await house.run(2)
        ((_, report),) = await house.told()
        groups = fields(report)
        assert len(groups) == 2
        assert groups[1]["Action"] == "failed"
        content = report.as_bytes(policy=email.policy.SMTP)
        assert content.isascii()
        assert max(map(len, content.split(b"\r\n"))) <= 998

    run(make_engine, tmp_path, work)


def test_addresses_and_headers_in_utf8_are_told_of(make_engine, tmp_path):
    """RFC 6533: the address as utf-8 with escapes, the header as message/global-headers, 8-bit and marked so."""

    async def work(house):
        house.fates = {"jos\u00e9": "fail"}
        content = "From: Shop <shop@acme.example>\r\nSubject: Gr\u00fc\u00dfe\r\n\r\nHello\r\n".encode()
        await house.send("jos\u00e9@far.example", content=content)
        await house.run()
        ((row, report),) = await house.told()
        assert fields(report)[1]["Final-Recipient"] == r"utf-8; jos\x{E9}@far.example"
        assert [one.get_content_type() for one in report.iter_parts()][2] == "message/global-headers"
        assert row.is_8bit
        assert not row.is_smtputf8

    run(make_engine, tmp_path, work)


def test_loops_are_stopped_at_the_door(make_engine, tmp_path):
    """R14: what was delivered to a recipient before, or went to them through here, or answers a report of ours, is refused."""

    async def work(house):
        async def code(content, to="ann@far.example"):
            with pytest.raises(Refused) as caught:
                await house.send(to, content=content)
            return caught.value.code

        message_id = await house.send("ann@far.example")
        own = f"Received: by gw.example (Gatepost) with ESMTPA id {message_id};\r\n\tTue, 24 Nov 2026 02:00:00 +0000\r\n".encode()
        assert await code(own + RAW) == "mail_loop"
        assert await house.send("bob@other.example", content=own + RAW)
        assert await code(own * 3 + RAW, to="bob@other.example") == "mail_loop"
        assert await code(b"Delivered-To: ann@FAR.example\r\n" + RAW) == "mail_loop"
        assert await house.send("ann@far.example", content=b"Delivered-To: list@far.example\r\n" + RAW)
        assert await code(RAW, to="mailer-daemon@gw.example") == "mail_loop"

    run(make_engine, tmp_path, work)

"""A bounce that comes back after the delivery is told to who submitted the mail over SMTP: once, and never in a circle; on both engines."""

import pytest

from gatepost.domain.message import Source
from gatepost.domain.outcome import Category, Reply
from gatepost.domain.statement import About, Said, Statement
from gatepost.reported import Told, settle_statement
from gatepost.suppressing import Suppressing
from tests.flow.test_bounce_messages import fields, run


async def say(house, message_id, n=0, *, said=Said.BOUNCED, known_as="report/1", reply=None, by="mail"):
    statement = Statement(
        id=known_as, said=said, about=About(message_id=message_id, n=n), by=by, at=house.clock.now(),
        category=Category.INVALID_RECIPIENT if said is Said.BOUNCED else Category.COMPLAINT,
        reply=reply or Reply(code=0, enhanced="5.1.1", text="no such user here"), host="mx.far.example",
    )  # fmt: skip
    return await house.engine.write(lambda conn: settle_statement(conn, statement, Suppressing(), house.clock.now(), house.reports))


def test_the_envelope_sender_hears_of_a_bounce_that_came_later(make_engine, tmp_path):
    """Delivered, then bounced at our return path: one report to the sender, from the null sender, with what the other side said."""

    async def work(house):
        message_id = await house.send(("ann@far.example", "FAILURE", "rfc822;ann@old.example"), ret="FULL", envid="Q42")
        await house.run()
        assert not await house.told()
        assert await say(house, message_id) is Told.DONE
        ((row, report),) = await house.told()
        assert row.envelope_from == ""
        assert report["To"] == "shop@acme.example"
        assert report["Auto-Submitted"].startswith("auto-")
        about, each = fields(report)
        assert about["Original-Envelope-Id"] == "Q42"
        assert (each["Action"], each["Status"]) == ("failed", "5.1.1")
        assert each["Original-Recipient"] == "rfc822; ann@old.example"
        assert "no such user here" in each["Diagnostic-Code"]
        assert each["Remote-MTA"] == "dns; mx.far.example"
        (event,) = await house.events(message_id, "recipient.notified")
        assert event.data["report_id"] == row.id

    run(make_engine, tmp_path, work)


def test_it_is_told_once_however_often_it_is_said(make_engine, tmp_path):
    """The same report again, another report of the same bounce, and a settling that is repeated after an unsure commit."""

    async def work(house):
        message_id = await house.send("ann@far.example")
        await house.run()
        assert await say(house, message_id) is Told.DONE
        assert await say(house, message_id) is Told.REPEATED
        await say(house, message_id, known_as="report/2", by="main")
        assert len(await house.told()) == 1

    run(make_engine, tmp_path, work)


@pytest.mark.parametrize(
    ("notify", "source", "told"),
    [(None, Source.SMTP, 1), ("FAILURE,DELAY", Source.SMTP, 1), ("NEVER", Source.SMTP, 0), ("SUCCESS", Source.SMTP, 0), (None, Source.HTTP, 0)],
)  # fmt: skip
def test_only_who_wants_to_know_is_told(make_engine, tmp_path, notify, source, told):
    """NOTIFY decides; mail over HTTP has its events."""

    async def work(house):
        message_id = await house.send(("ann@far.example", notify, None), source=source)
        await house.run()
        before = len(await house.told())
        assert await say(house, message_id) is Told.DONE
        assert len(await house.told()) - before == told

    run(make_engine, tmp_path, work)


def test_the_null_sender_is_never_told_and_no_report_leads_to_another(make_engine, tmp_path):
    """Mail from <> that bounces later stays silent; so does our own report when it bounces."""

    async def work(house):
        silent = await house.send("ann@far.example", sender="")
        message_id = await house.send("bob@far.example")
        await house.run()
        await say(house, silent, known_as="report/1")
        assert not await house.told()
        await say(house, message_id, known_as="report/2")
        ((row, _),) = await house.told()
        await house.run()
        assert await say(house, row.id, known_as="report/3") is Told.DONE
        assert len(await house.told()) == 1

    run(make_engine, tmp_path, work)


def test_a_complaint_is_not_told_as_a_bounce(make_engine, tmp_path):
    """It was delivered: there is nothing to report by mail."""

    async def work(house):
        message_id = await house.send("ann@far.example")
        await house.run()
        assert await say(house, message_id, said=Said.COMPLAINED) is Told.DONE
        assert not await house.told()

    run(make_engine, tmp_path, work)

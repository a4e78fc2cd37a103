"""What is tracked is settled when mail is accepted: streams, wishes, codes, hosts; on both engines."""

import pytest

from gatepost.domain.engagement import NOTHING, Tracking, TrackingWish, tracking_of
from gatepost.domain.message import Steering
from gatepost.domain.stream import DEFAULTS
from gatepost.settings import Egress
from gatepost.settings import Tracking as Options
from gatepost.store import engagement, messages, streams
from tests.flow.test_accept import RAW, raw, refusal, run, submission

HTML = '<a href="https://x.example/?mail=ann@example.net">x</a><a href="tel:1">y</a>'
LIVE = {"egress": Egress(default_route="mx")}
HOST = {"tracking": Options(host="t.acme.example")}


def wish(**fields):
    return Steering(tracking=TrackingWish(**fields))


async def options_of(house, message_id):
    found = await house.engine.read(lambda conn: messages.materials(conn, [message_id], 10**9))
    return found[message_id].options.get("track")


async def tracked(house, **fields):
    accepted = await house.acceptor.submit(house.caller, submission(html=HTML, **fields))
    (result,) = accepted.results
    return await options_of(house, result.id), await house.engine.read(lambda conn: engagement.links_of(conn, result.id)), result.warnings


def test_nothing_is_tracked_unless_it_is_asked_for(make_engine, tmp_path):
    """Off by default, in every stream and at every door."""

    async def work(house):
        for stream in DEFAULTS:
            assert await tracked(house, steering=Steering(stream=stream)) == (None, [], [])
        stored = await house.acceptor.submit_raw(house.caller, raw())
        assert await options_of(house, stored.id) is None

    run(make_engine, tmp_path, work)


def test_a_wish_is_stored_with_where_its_links_lead(make_engine, tmp_path):
    """In the transaction of the message: whoever gets the mail can follow its links."""

    async def work(house):
        assert await tracked(house, steering=wish(opens=True, clicks=True, unsubscribe=True)) == (
            {"opens": True, "clicks": True, "unsubscribe": True}, ["https://x.example/?mail=ann@example.net"], [],
        )  # fmt: skip
        assert await tracked(house, steering=wish(opens=True)) == ({"opens": True}, [], [])
        assert await tracked(house, steering=wish(opens=False, text=True)) == (None, [], [])

    run(make_engine, tmp_path, work, **HOST)


def test_a_streams_tracking_is_all_its_mails_unless_a_message_says_otherwise(make_engine, tmp_path):
    """Per stream and per message, and the message has the last word."""

    async def work(house):
        stream = DEFAULTS["bulk"]
        changed = type(stream)(name="bulk", lane=stream.lane, tracking=Tracking(opens=True, clicks=True, unsubscribe=True))
        await house.engine.write(lambda conn: streams.write(conn, house.tenant_id, changed, house.clock.now()))
        await house.directory.refresh()
        assert (await tracked(house, steering=Steering(stream="bulk")))[0] == {"opens": True, "clicks": True, "unsubscribe": True}
        less = Steering(stream="bulk", tracking=TrackingWish(opens=False, clicks=False))
        assert (await tracked(house, steering=less))[0] == {"unsubscribe": True}
        assert (await tracked(house))[0] is None

    run(make_engine, tmp_path, work)


def test_codes_are_never_tracked_unless_a_message_insists(make_engine, tmp_path):
    """A scanner that follows a sign-in link uses it up: so it takes a second word."""

    async def work(house):
        refused = await refusal(
            house.acceptor.submit(
                house.caller, submission(html=HTML, steering=Steering(stream="codes", tracking=TrackingWish(clicks=True)))
            )
        )
        assert [(fault.pointer, fault.code) for fault in refused.faults] == [("/tracking/clicks", "conflicting")]
        forced = Steering(stream="codes", tracking=TrackingWish(clicks=True, is_forced=True))
        assert (await tracked(house, steering=forced))[0] == {"clicks": True}

    run(make_engine, tmp_path, work)


def test_mail_that_leaves_is_tracked_at_a_host_of_its_own_only(make_engine, tmp_path):
    """Without `tracking.host` a wish is refused, and a stream's is a warning: links to nowhere would be worse."""

    async def work(house):
        refused = await refusal(house.acceptor.submit(house.caller, submission(html=HTML, steering=wish(opens=True, unsubscribe=True))))
        assert [(fault.pointer, fault.code) for fault in refused.faults] == [
            ("/tracking/opens", "unsupported"),
            ("/unsubscribe", "unsupported"),
        ]
        with pytest.raises(type(refused)):
            await house.acceptor.validate(house.caller, submission(html=HTML, steering=wish(opens=True)))
        stream = type(DEFAULTS["bulk"])(name="bulk", lane=DEFAULTS["bulk"].lane, tracking=Tracking(opens=True))
        await house.engine.write(lambda conn: streams.write(conn, house.tenant_id, stream, house.clock.now()))
        await house.directory.refresh()
        options, _, warnings = await tracked(house, steering=Steering(stream="bulk"))
        assert (options, [one.code for one in warnings]) == (None, ["not_tracked"])

    run(make_engine, tmp_path, work, **LIVE)


def test_a_senders_domain_may_have_a_host_of_its_own(make_engine, tmp_path):
    """`tracking.hosts` is enough where there is no general one."""

    async def work(house):
        assert (await tracked(house, steering=wish(opens=True)))[0] == {"opens": True}

    run(make_engine, tmp_path, work, **LIVE, tracking=Options(hosts={"acme.example": "t.acme.example"}))


def test_finished_mail_asks_by_its_headers(make_engine, tmp_path):
    """Over SMTP and as raw: X-Gatepost-Track-…, which do not travel."""

    async def work(house):
        head = (
            b"X-Gatepost-Track-Opens: true\r\nX-Gatepost-Track-Clicks: TRUE\r\nX-Gatepost-Unsubscribe: true\r\nContent-Type: text/html\r\n"
        )
        stored = await house.acceptor.submit_raw(house.caller, raw(head + RAW.replace(b"Hello", HTML.encode())))
        assert await options_of(house, stored.id) == {"opens": True, "clicks": True, "unsubscribe": True}
        assert await house.engine.read(lambda conn: engagement.links_of(conn, stored.id)) == ["https://x.example/?mail=ann@example.net"]
        refused = await refusal(house.acceptor.submit_raw(house.caller, raw(b"X-Gatepost-Track-Opens: maybe\r\n" + RAW)))
        assert [fault.pointer for fault in refused.faults] == ["X-Gatepost-Track-Opens"]

    run(make_engine, tmp_path, work)


@pytest.mark.parametrize(
    ("asked", "stream", "are_codes", "settled"),
    [
        (None, NOTHING, False, NOTHING),
        (None, Tracking(opens=True), False, Tracking(opens=True)),
        (None, Tracking(opens=True), True, NOTHING),
        (TrackingWish(opens=False), Tracking(opens=True, clicks=True), False, Tracking(clicks=True)),
        (TrackingWish(text=True), NOTHING, False, NOTHING),
        (TrackingWish(text=True), Tracking(clicks=True), False, Tracking(clicks=True, text=True)),
        (TrackingWish(unsubscribe=True, is_forced=True), Tracking(opens=True), True, Tracking(unsubscribe=True)),
    ],
)
def test_wish_and_stream_are_settled_by_one_rule(asked, stream, are_codes, settled):
    """What is left open is the stream's; codes have what they are forced to have."""
    assert tracking_of(asked, stream, are_codes=are_codes) == settled

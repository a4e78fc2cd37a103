"""Streams: lane, lifetime, retries, route and hours of a kind of mail, from its making to what lies in the queue."""

import datetime as dt

import pytest

from gatepost.clock import DAY, HOUR
from gatepost.domain.access import GATEWAY
from gatepost.domain.errors import Refused
from gatepost.domain.message import Lane, Steering
from gatepost.domain.stream import DEFAULTS, Window, read_window, window_as_dict
from gatepost.settings import Egress, Relay, Settings
from gatepost.store import messages, queue
from gatepost.tenants.routing import Routing
from gatepost.tenants.streams import Streams
from tests.flow.test_accept import run, submission


def at(text, zone="UTC"):
    from zoneinfo import ZoneInfo

    return int(dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


OFFICE = Window(days=(0, 1, 2, 3, 4), opens=8 * 60, closes=18 * 60, zone="Europe/Berlin")


@pytest.mark.parametrize(
    ("moment", "opens"),
    [
        ("2026-11-24T12:00", "2026-11-24T12:00"),
        ("2026-11-24T07:59", "2026-11-24T08:00"),
        ("2026-11-24T18:00", "2026-11-25T08:00"),
        ("2026-11-27T18:00", "2026-11-30T08:00"),
        ("2026-03-29T12:00", "2026-03-30T08:00"),
    ],
)
def test_a_window_opens_at_its_hours_in_its_zone(moment, opens):
    """Inside it is open at once; outside it is the next opening, over week-ends and the change of the clocks."""
    assert OFFICE.next_at(at(moment, OFFICE.zone)) == at(opens, OFFICE.zone)


def test_a_window_may_run_over_midnight():
    """From ten in the evening to six, on Mondays: it is still open on Tuesday at five."""
    night = Window(days=(0,), opens=22 * 60, closes=6 * 60)
    assert night.next_at(at("2026-11-24T05:00")) == at("2026-11-24T05:00")
    assert night.next_at(at("2026-11-24T06:00")) == at("2026-11-30T22:00")


@pytest.mark.parametrize(
    "bad",
    [{}, [], {"from": "8", "until": "20:00"}, {"from": "08:00", "until": "08:00"}, {"from": "08:00", "until": "09:00", "zone": "Mars"}],
)
def test_what_is_no_window_is_refused(bad):
    """In words, before it is stored; and what is one is read back as it was written."""
    with pytest.raises(ValueError, match=r"window|time|zone"):
        read_window(bad)
    assert read_window(window_as_dict(OFFICE)) == OFFICE


async def made(house, name="newsletter", **values):
    streams = Streams(house.engine, house.clock, house.settings, house.directory)
    return await streams.create(house.tenant_id, name, values, by=GATEWAY, is_operator=True)


async def accepted(house, stream, **steering):
    answer = await house.acceptor.submit(house.caller, submission("ann@example.net", steering=Steering(stream=stream, **steering)))
    (result,) = answer.results
    (row,) = await house.engine.read(lambda conn: queue.of_message(conn, result.id))
    return result, row


def test_a_stream_decides_lane_lifetime_and_retries(make_engine, tmp_path):
    """What was said at its making stands in the queue; a message's own end wins; other names are unknown."""

    async def work(house):
        await made(house, lane="bulk", ttl_s=3600, retry="codes")
        result, row = await accepted(house, "newsletter")
        now = house.clock.now()
        assert (row.lane, row.expires_at) == (Lane.BULK, now + HOUR)
        kept = await house.engine.read(lambda conn: messages.get(conn, None, result.id))
        assert (kept.stream, kept.options["retry"]) == ("newsletter", "codes")
        _, own = await accepted(house, "newsletter", expires_at=now + DAY)
        assert own.expires_at == now + DAY
        with pytest.raises(Refused) as refused:
            await accepted(house, "nosuch")
        assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [("/stream", "unknown_stream")]

    run(make_engine, tmp_path, work)


def test_codes_are_worth_little_after_a_quarter_of_an_hour(make_engine, tmp_path):
    """Without a word of the sender a code is not tried for three days; the other lanes are."""

    async def work(house):
        _, code = await accepted(house, "codes")
        _, other = await accepted(house, "transactional")
        assert code.expires_at - house.clock.now() == 900_000
        assert other.expires_at - house.clock.now() == house.settings.retry.max_age_s * 1000

    run(make_engine, tmp_path, work)


def test_mail_outside_a_streams_hours_is_scheduled(make_engine, tmp_path):
    """Its time is the next opening, and so is the start of its lifetime; inside the hours it goes at once."""

    async def work(house):
        now = dt.datetime.fromtimestamp(house.clock.now() / 1000, dt.UTC)
        closed = {"from": (now + dt.timedelta(hours=2)).strftime("%H:%M"), "until": (now + dt.timedelta(hours=3)).strftime("%H:%M")}
        await made(house, lane="bulk", window=closed)
        result, row = await accepted(house, "newsletter")
        assert HOUR < row.due_at - house.clock.now() <= 2 * HOUR
        assert result.status == "scheduled"
        assert row.expires_at > row.due_at
        _, open_now = await accepted(house, "bulk")
        assert open_now.due_at == house.clock.now()

    run(make_engine, tmp_path, work)


def test_a_streams_route_is_taken(make_engine, tmp_path):
    """Its mail goes to its relay, other mail by the default."""

    async def work(house):
        await made(house, lane="bulk", route="cheap")
        house.acceptor._routing = Routing(house.engine, house.directory, house.settings, house.clock)
        _, row = await accepted(house, "newsletter")
        _, other = await accepted(house, "transactional")
        assert (row.site, other.site) == ("relay:cheap", "relay:main")

    relays = {name: Relay(url="smtp://127.0.0.1:1") for name in ("main", "cheap")}
    run(make_engine, tmp_path, work, relays=relays, egress=Egress(default_route="main"))


def test_streams_are_made_changed_and_deleted(make_engine, tmp_path):
    """Faults name their places; defaults keep their lanes and come back; one with waiting mail stays."""

    async def work(house):
        streams = Streams(house.engine, house.clock, house.settings, house.directory)
        tenant = house.tenant_id
        with pytest.raises(Refused) as refused:
            await made(house, lane="fast", ttl_s=0, retry="never", route="nowhere", window={"from": "1"})
        assert {fault.pointer for fault in refused.value.faults} == {"/lane", "/ttl_s", "/retry", "/route", "/window"}
        await made(house, lane="bulk")
        with pytest.raises(Refused, match="already"):
            await made(house, lane="bulk")
        changed = await streams.change(tenant, "codes", {"ttl_s": 60}, by=GATEWAY)
        assert house.directory.streams(tenant)["codes"] == changed
        with pytest.raises(Refused, match="lane"):
            await streams.change(tenant, "codes", {"lane": "bulk"}, by=GATEWAY)
        _, row = await accepted(house, "codes")
        assert row.expires_at - house.clock.now() == 60_000
        await accepted(house, "newsletter")
        with pytest.raises(Refused, match="still waits"):
            await streams.delete(tenant, "newsletter", by=GATEWAY)
        await streams.delete(tenant, "codes", by=GATEWAY)
        assert (await streams.get(tenant, "codes")) == DEFAULTS["codes"]
        assert {one.name for one in await streams.list(tenant)} == {*DEFAULTS, "newsletter"}

    run(make_engine, tmp_path, work)


def test_a_tenant_names_only_routes_that_may_be_asked_for(make_engine, tmp_path):
    """Roads are the operator's to name."""

    async def work(house):
        streams = Streams(house.engine, house.clock, house.settings, house.directory)
        with pytest.raises(Refused):
            await streams.create(house.tenant_id, "mine", {"route": "main"}, by=GATEWAY)
        assert (await streams.create(house.tenant_id, "mine", {"route": "sandbox"}, by=GATEWAY)).route == "sandbox"

    run(make_engine, tmp_path, work, relays={"main": Relay(url="smtp://127.0.0.1:1")})


def test_retries_of_codes_come_soon_and_stay_within_the_hours(make_engine, tmp_path):
    """The class that a message was accepted with decides when it is tried again; its hours move that."""
    from gatepost.dispatch.delivering import opens_at
    from gatepost.dispatch.waiting import Group
    from tests.store.rows import put_message

    async def work(house):
        (row,) = await house.engine.write(put_message)
        material = (await house.engine.read(lambda conn: messages.materials(conn, [row.message_id], 10**6)))[row.message_id]
        group = Group([row], 1, material._replace(options={"window": window_as_dict(OFFICE)}), {})
        assert opens_at(group, at("2026-11-28T12:00", OFFICE.zone)) == at("2026-11-30T08:00", OFFICE.zone)
        assert opens_at(Group([row], 1, material, {}), 5) == 5

    run(make_engine, tmp_path, work)
    assert Settings().retry.classes["codes"][0] < 60

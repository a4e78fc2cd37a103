"""Reports by mail: sent once across processes, deaths and restarts, in their receivers' time zones, only to who asked, and ended by one click."""

import asyncio
import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from gatepost.clock import DAY, HOUR, MINUTE
from gatepost.domain.access import GATEWAY, Role
from gatepost.domain.errors import Refused
from gatepost.domain.person import Membership, Person
from gatepost.domain.team_report import RECEIVER, TEAM
from gatepost.ids import new
from gatepost.store import people, team_reports
from gatepost.tenants.team_reports import LINK
from tests.telling.house import BEGIN, PAGES, in_house

MORNING = BEGIN + 5 * HOUR
"""7 o'clock in UTC on Tuesday, the 24th."""


async def mail_of_two_weeks(house) -> None:
    """Mail of both weeks before: the second one has more bounces."""
    for day in range(1, 16):
        at = house.clock.now() - day * DAY
        bounced = 40 if day <= 7 else 5
        await house.note(
            at, messages=900, accepted=1_000, attempted=1_000, delivered=1_000 - bounced, bounced_invalid_recipient=bounced, complained=1
        )


async def subscribed(house, kind: str = "bounces", address: str = "ann@acme.example", **values):
    return await house.register.subscribe(house.tenant_id, kind, address, values, by=GATEWAY)


async def last(house, one):
    return (await house.register.get(house.tenant_id, one.id)).last


def test_nobody_gets_anything_without_a_subscription(make_engine, tmp_path):
    """Mail, bounces, complaints, a whole week: no report goes anywhere by itself."""

    async def work(house):
        await mail_of_two_weeks(house)
        for _ in range(8):
            house.clock.advance(DAY / 1000)
            assert await house.sending().step() == 0
        assert await house.mails() == []

    in_house(make_engine, tmp_path, work)


def test_a_digest_is_a_mail_with_both_parts_and_a_way_out(make_engine, tmp_path):
    """The day's numbers against the week before, the reason, what to do, in text and HTML; one click ends it (RFC 8058)."""

    async def work(house):
        await mail_of_two_weeks(house)
        one = await subscribed(house)
        assert await house.sending().step() == 0
        house.clock.advance((MORNING - house.clock.now()) / 1000)
        assert await house.sending().step() == 1
        [(address, mail)] = await house.mails()
        assert address == "ann@acme.example"
        assert str(mail["From"]) == "Gatepost of Acme <reports@acme.example>"
        assert str(mail["Subject"]) == "default: 40 bounces (4.0 %) on 23 November"
        assert mail["Auto-Submitted"] == "auto-generated"
        text, html = mail.get_body(("plain",)).get_content(), mail.get_body(("html",)).get_content()
        for part in (text, html):
            assert "Bounces on 23 November" in part
            assert "no such mailbox" in part
            assert "take these addresses out of your list" in part.lower()
            assert "far.example" in part
            assert "points" in part
            assert PAGES + LINK in part
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        link = str(mail["List-Unsubscribe"]).strip().strip("<>")
        assert link.startswith(PAGES + LINK + one.id)
        found = await last(house, one)
        assert (found.period, found.state, found.message_id is not None) == ("2026-11-23", "sent", True)
        assert await house.sending(1).step() == 0

    in_house(make_engine, tmp_path, work)


def test_of_many_processes_one_sends(make_engine, tmp_path):
    """Six processes over two engines at once: one mail to each receiver."""

    async def work(house):
        await mail_of_two_weeks(house)
        for n in range(3):
            await subscribed(house, address=f"p{n}@acme.example")
        house.clock.advance((MORNING - house.clock.now()) / 1000)
        claimed = await asyncio.gather(*[house.sending(n).step() for n in range(6)])
        assert sum(claimed) == 3
        assert sorted(address for address, _ in await house.mails()) == [f"p{n}@acme.example" for n in range(3)]
        assert len(house.submitted) == 3

    in_house(make_engine, tmp_path, work)


def test_a_process_that_dies_while_sending_leaves_no_gap_and_no_double(make_engine, tmp_path):
    """Before its mail was stored: another one sends it later. After: the idempotency key keeps it one mail."""

    async def work(house):
        await mail_of_two_weeks(house)
        first, second = await subscribed(house, address="a@acme.example"), await subscribed(house, address="b@acme.example")
        house.clock.advance((MORNING - house.clock.now()) / 1000)
        dying = house.sending()

        async def die(*_):
            raise asyncio.CancelledError

        dying._finish = die
        with pytest.raises(asyncio.CancelledError):
            await dying.step()  # the first one's mail is stored, and nobody noted it
        assert await house.sending(1).step() == 1  # the second one
        assert len(await house.mails()) == 2
        house.clock.advance(11 * 60)
        assert await house.sending(2).step() == 1
        assert house.submitted[0] == house.submitted[2] != house.submitted[1]
        assert len(await house.mails()) == 2
        assert {(await last(house, one)).state for one in (first, second)} == {"sent"}

        house.clock.advance((DAY - 11 * MINUTE) / 1000)
        await house.note(house.clock.now() - DAY, attempted=500, bounced_mailbox_full=500)
        dying = house.sending(3)
        dying._mail = die
        with pytest.raises(asyncio.CancelledError):
            await dying.step()  # nothing is stored yet
        house.clock.advance(11 * 60)
        assert await house.sending(4).step() == 2
        assert len(await house.mails()) == 4

    in_house(make_engine, tmp_path, work)


def test_what_cannot_be_sent_is_tried_for_hours_and_then_given_up(make_engine, tmp_path):
    """While the gateway takes nothing the report waits; it is given up before its key is forgotten: rather none than two."""

    async def work(house):
        await mail_of_two_weeks(house)
        one = await subscribed(house)
        house.clock.advance((MORNING - house.clock.now()) / 1000)
        house.refuse = Refused("overloaded")
        assert await house.sending().step() == 1
        assert (await last(house, one)).state == "claimed"
        assert "overloaded" in (await last(house, one)).detail
        house.clock.advance(6 * 3_600)
        assert await house.sending(1).step() == 1
        house.clock.advance(7 * 3_600)
        house.refuse = None
        assert await house.sending(1).step() == 0
        assert (await last(house, one)).state == "failed"
        assert await house.mails() == []

    in_house(make_engine, tmp_path, work)


def test_after_days_without_a_gateway_only_the_newest_period_is_told(make_engine, tmp_path):
    """Ten days away: one digest, one weekly report."""

    async def work(house):
        for kind in ("bounces", "weekly"):
            await subscribed(house, kind)
        house.clock.advance(10 * DAY / 1000)
        await mail_of_two_weeks(house)
        for _ in range(3):
            await house.sending().step()
            house.clock.advance(60)
        subjects = sorted(str(mail["Subject"]) for _, mail in await house.mails())
        assert [subject.partition(" on ")[2] for subject in subjects if "bounces" in subject] == ["2 December"]
        assert sum("in the week of 23–29 November" in subject for subject in subjects) == 1
        assert len(subjects) == 2

    in_house(make_engine, tmp_path, work)


def test_the_hour_is_the_receivers(make_engine, tmp_path):
    """Seven o'clock in Auckland, Berlin and Los Angeles are three moments of one day; each tells of its own day."""

    async def work(house):
        zones = {"a@acme.example": "Pacific/Auckland", "b@acme.example": "Europe/Berlin", "c@acme.example": "America/Los_Angeles"}
        for address, zone in zones.items():
            await subscribed(house, address=address, zone=zone)
        await mail_of_two_weeks(house)
        sent = {}
        for _ in range(25 * 2):
            house.clock.advance(1_800)
            await house.note(house.clock.now(), attempted=10, bounced_mailbox_full=10)
            await house.sending().step()
            for address, _ in await house.mails():
                sent.setdefault(address, house.clock.now())
        assert {
            address: dt.datetime.fromtimestamp(at / 1000, ZoneInfo(zones[address])).hour for address, at in sent.items()
        } == dict.fromkeys(zones, 7)

    in_house(make_engine, tmp_path, work)


def test_a_day_without_bounces_has_no_mail(make_engine, tmp_path):
    """There is nothing to tell, and that is noted."""

    async def work(house):
        one = await subscribed(house, "complaints")
        await house.note(BEGIN - DAY, attempted=100, delivered=100)
        house.clock.advance((MORNING - house.clock.now()) / 1000)
        assert await house.sending().step() == 1
        assert (await last(house, one)).state == "empty"
        assert await house.mails() == []

    in_house(make_engine, tmp_path, work)


def test_who_moves_the_hour_is_not_told_twice(make_engine, tmp_path):
    """A report that was sent today is not sent again, nor an older one, when it is put off to the evening; tomorrow's comes."""

    async def work(house):
        await mail_of_two_weeks(house)
        one = await subscribed(house)
        house.clock.advance((MORNING - house.clock.now()) / 1000)
        assert await house.sending().step() == 1
        await house.register.change(house.tenant_id, one.id, {"hour": 20}, by=GATEWAY)
        for _ in range(40):
            house.clock.advance(1_800)
            await house.sending().step()
        assert len(await house.mails()) == 1
        await house.note(house.clock.now(), attempted=10, bounced_mailbox_full=10)
        house.clock.advance((DAY + 18 * HOUR) / 1000)
        await house.sending().step()
        assert len(await house.mails()) == 2

    in_house(make_engine, tmp_path, work)


def test_one_click_ends_a_report_and_its_word_outlives_the_teams(make_engine, tmp_path):
    """The link ends it, twice is once; the team cannot begin it again, its holder and the operator can; a forged link is nothing."""

    async def work(house):
        one = await subscribed(house)
        token = f"{one.id}.{await house.engine.read(lambda conn: team_reports.token_of(conn, one.id))}"
        other = await subscribed(house, "weekly")
        for forged in (one.id, f"{one.id}.", f"{one.id}.{'0' * 32}", f"{other.id}.{token.partition('.')[2]}", "", "é", f"{new('rps')}.x"):
            with pytest.raises(Refused, match="no such report"):
                await house.register.unsubscribe(forged, by=GATEWAY)
        assert (await house.register.find(token)).ended_at is None
        ended = await house.register.unsubscribe(token, by=GATEWAY)
        assert (ended.ended_by, await house.register.unsubscribe(token, by=GATEWAY)) == (RECEIVER, ended)
        await mail_of_two_weeks(house)
        house.clock.advance((MORNING - house.clock.now()) / 1000)
        await house.sending().step()
        assert [str(mail["Subject"]) for _, mail in await house.mails() if "bounces" in str(mail["Subject"])] == []
        with pytest.raises(Refused, match="ended this report itself"):
            await subscribed(house, address="Ann@ACME.example")
        with pytest.raises(Refused, match="stays written down"):
            await house.register.remove(house.tenant_id, one.id, by=GATEWAY)
        again = await house.register.subscribe(house.tenant_id, "bounces", "ann@acme.example", {}, by=GATEWAY, is_operator=True)
        with pytest.raises(Refused, match="no such report"):
            await house.register.find(token)
        assert (await house.register.get(house.tenant_id, again.id)).subscription.ended_at is None

    in_house(make_engine, tmp_path, work)


async def member(house, email: str, role: Role) -> Person:
    person = Person(id=new("per"), email=email, name="Ann", created_at=BEGIN)

    def write(conn):
        people.insert(conn, person, email)
        people.put_membership(conn, Membership(person_id=person.id, tenant_id=house.tenant_id, role=role, created_at=BEGIN))

    await house.engine.write(write)
    return person


def test_who_leaves_the_team_gets_no_more_reports(make_engine, tmp_path):
    """A person's report ends with their membership, before anything is sent."""

    async def work(house):
        await mail_of_two_weeks(house)
        ann = await member(house, "ann@acme.example", Role.VIEWER)
        await house.register.subscribe_oneself(house.tenant_id, ann, "bounces", {"zone": "Europe/Berlin"}, by=GATEWAY)
        await house.register.subscribe_oneself(house.tenant_id, ann, "bounces", {"hour": 8}, by=GATEWAY)
        one = (await house.register.of_person(house.tenant_id, ann.id))["bounces"]
        assert (one.zone, one.hour) == ("Europe/Berlin", 8)
        await house.engine.write(lambda conn: people.remove_membership(conn, ann.id, house.tenant_id))
        house.clock.advance((MORNING + HOUR - house.clock.now()) / 1000)
        assert await house.sending().step() == 0
        assert (await house.register.get(house.tenant_id, one.id)).subscription.ended_by == TEAM
        assert await house.mails() == []

    in_house(make_engine, tmp_path, work)


@pytest.mark.parametrize(
    ("kind", "values", "place"),
    [
        ("bounces", {"zone": "Mars/Base"}, "/zone"),
        ("bounces", {"hour": 24}, "/hour"),
        ("weekly", {"weekday": 7}, "/weekday"),
        ("weekly", {"domains": ["other.example"]}, "/domains/0"),
        ("monthly", {}, "/kind"),
    ],
)
def test_what_no_report_can_be_is_refused_with_its_place(make_engine, tmp_path, kind, values, place):
    """Nothing is stored then."""

    async def work(house):
        with pytest.raises(Refused) as refused:
            await subscribed(house, kind, **values)
        assert [fault.pointer for fault in refused.value.faults] == [place]
        assert await house.register.every(house.tenant_id) == []

    in_house(make_engine, tmp_path, work)


def test_a_report_on_some_domains_tells_of_no_others(make_engine, tmp_path):
    """Numbers of the tenant's other domains are neither counted nor named."""

    async def work(house):
        await house.domains.add(house.tenant_id, "secret.example", by=GATEWAY, is_trusted=True)
        await subscribed(house, domains=["acme.example"])
        await house.note(BEGIN - DAY, attempted=100, bounced_mailbox_full=7)
        await house.note(BEGIN - DAY, domain="secret.example", attempted=100, bounced_mailbox_full=50)
        house.clock.advance((MORNING - house.clock.now()) / 1000)
        assert await house.sending().step() == 1
        [(_, mail)] = await house.mails()
        assert str(mail["Subject"]).startswith("acme.example: 7 bounces")
        assert "secret" not in mail.as_string()

    in_house(make_engine, tmp_path, work)


def test_without_an_address_of_the_pages_there_is_no_link(make_engine, tmp_path):
    """A link to nowhere is worse than none: the mail says nothing of it."""

    async def work(house):
        await mail_of_two_weeks(house)
        await subscribed(house)
        house.clock.advance((MORNING - house.clock.now()) / 1000)
        await house.sending(pages="").step()
        [(_, mail)] = await house.mails()
        assert mail["List-Unsubscribe"] is None
        assert "http" not in mail.get_body(("plain",)).get_content()

    in_house(make_engine, tmp_path, work)

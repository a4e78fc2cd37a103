"""Sessions: how long, and what ends them."""

import pytest

from gatepost.domain.access import Role
from gatepost.domain.errors import Refused
from gatepost.settings import Dashboard
from tests.people.house import OTHER, PASSWORD, House, in_house, operator, visit
from tests.people.test_sign_in import add_totp


async def is_open(house, entered):
    """Tell whether a session still opens pages."""
    return await house.sessions.find(entered.token, is_use=False) is not None


async def twice(house):
    """Sign the first person in from two browsers."""
    return await house.set_up(), await house.sign_in.with_password("ann@acme.example", PASSWORD, visit("192.0.2.2"))


def test_a_session_ends_when_it_is_old_and_when_it_is_idle(make_engine):
    """Twelve hours after it was opened however busy it is, two after it was last used; what a page asks by itself is no use."""

    async def work(house):
        busy, idle = await twice(house)
        for _ in range(11):
            house.clock.advance(3599)
            assert await house.sessions.find(busy.token, is_use=True) is not None
            await house.sessions.find(idle.token, is_use=False)
        assert not await is_open(house, idle)
        house.clock.advance(3700)
        assert not await is_open(house, busy)

    in_house(make_engine, work)


def test_the_settings_say_how_long(make_engine):
    """Shorter, for who wants it so."""

    async def work(house):
        entered = await house.set_up()
        house.clock.advance(301)
        assert not await is_open(house, entered)

    in_house(make_engine, work, dashboard=Dashboard(session_s=300, idle_s=60))


def test_a_session_that_is_ended_is_ended_for_every_process(make_engine):
    """Another process, with its own connection, knows it at the next request."""

    async def work(house):
        other = House(make_engine(), house.tenant_id, house.settings, house.clock)
        first, second = await twice(house)
        assert await is_open(other, second)
        await house.sessions.end(await house.caller(first), second.session.id)
        assert not await is_open(other, second)
        assert await is_open(other, first)
        await other.engine.close()
        assert (await house.audited())[-1] == "session.ended"

    in_house(make_engine, work)


def test_nobody_ends_the_sessions_of_others(make_engine):
    """Their ids are not there for anybody else."""

    async def work(house):
        first, _ = await twice(house)
        bob = await house.join("bob@acme.example", Role.OWNER)
        with pytest.raises(Refused) as caught:
            await house.sessions.end(await house.caller(bob), first.session.id)
        assert caught.value.code == "not_found"
        await house.sessions.end_others(await house.caller(bob), bob.session.id)
        assert await is_open(house, first)

    in_house(make_engine, work)


@pytest.mark.parametrize("change", ["password", "totp", "all others"])
def test_what_a_person_changes_ends_their_other_sessions(make_engine, change):
    """The one that asks stays; whoever else is in must show the new credentials."""

    async def work(house):
        own, other = await twice(house)
        who = await house.changing(own)
        if change == "password":
            await house.accounts.change_password(who, OTHER)
        elif change == "totp":
            await add_totp(house, own)
        else:
            await house.sessions.end_others(who.by, own.session.id)
        assert await is_open(house, own)
        assert not await is_open(house, other)

    in_house(make_engine, work)


@pytest.mark.parametrize("change", ["role", "removed", "disabled", "reset"])
def test_what_others_change_about_a_person_ends_their_sessions(make_engine, change):
    """A lost role, a lost place, a lost account, a lost password: they are out at once."""

    async def work(house):
        ann = await house.caller(await house.set_up())
        bob = await house.join("bob@acme.example", Role.ADMIN)
        if change == "role":
            await house.people.change_role(ann, house.tenant_id, bob.person.id, Role.VIEWER)
        elif change == "removed":
            await house.people.remove(ann, house.tenant_id, bob.person.id)
        elif change == "disabled":
            await house.people.set_disabled(ann, "bob@acme.example", is_disabled=True)
        else:
            _, token = await house.links.make_reset(ann, "bob@acme.example")
            await house.links.reset(token, OTHER, visit())
        assert not await is_open(house, bob)

    in_house(make_engine, work)


def test_signing_in_ends_the_session_that_the_browser_had(make_engine):
    """One that was planted there before is worth nothing afterwards."""

    async def work(house):
        planted = await house.set_up()
        entered = await house.sign_in.with_password("ann@acme.example", PASSWORD, visit(token=planted.token))
        assert entered.token != planted.token
        assert not await is_open(house, planted)

    in_house(make_engine, work)


def test_a_person_looks_at_one_tenant_at_a_time(make_engine):
    """They switch between theirs; others are not there; and one that they lost is left at once."""

    async def work(house):
        second = await house.make_tenant("second")
        third = await house.make_tenant("third")
        entered = await house.set_up()
        made = await house.people.invite(operator(second), second, "ann@acme.example", Role.VIEWER)
        await house.links.join(made.token, await house.caller(entered))
        await house.sessions.choose_tenant(await house.signed_in(entered), second)
        signed_in = await house.signed_in(entered)
        assert signed_in.principal.tenant_id == second
        assert "messages:send" not in {scope.value for scope in signed_in.principal.scopes}
        with pytest.raises(Refused):
            await house.sessions.choose_tenant(signed_in, third)
        await house.people.remove(operator(second), second, entered.person.id, session_id=entered.session.id)
        assert (await house.signed_in(entered)).principal.tenant_id == house.tenant_id

    in_house(make_engine, work)


def test_a_recent_sign_in_is_a_quarter_of_an_hour_old_at_most(make_engine):
    """Afterwards the password is asked for again, and then it is recent once more."""

    async def work(house):
        entered = await house.set_up()
        house.clock.advance(900)
        assert house.sessions.is_recent((await house.signed_in(entered)).session)
        house.clock.advance(1)
        signed_in = await house.signed_in(entered)
        assert not house.sessions.is_recent(signed_in.session)
        with pytest.raises(Refused):
            await house.sign_in.prove(signed_in, OTHER, visit())
        assert not house.sessions.is_recent((await house.signed_in(entered)).session)
        await house.sign_in.prove(signed_in, PASSWORD, visit())
        assert house.sessions.is_recent((await house.signed_in(entered)).session)

    in_house(make_engine, work)

"""Who invites whom, who may do what, and the links that are used once."""

import asyncio

from gatepost.domain.access import Principal, PrincipalKind, Role, Scope, widened
from gatepost.domain.person import Purpose
from gatepost.domain.tenant import Caller
from gatepost.tenants.one_time_links import Joining
from tests.people.house import OTHER, PASSWORD, in_house, operator, visit
from tests.people.test_sign_in import refused


def key_with(tenant_id, *scopes):
    """Act as an API key."""
    principal = Principal(id="key_1", kind=PrincipalKind.KEY, tenant_id=tenant_id, name="k", scopes=widened(frozenset(scopes)))
    return Caller(principal=principal, peer="192.0.2.1", request_id="")


def test_the_first_link_makes_the_first_person_and_nobody_else(make_engine):
    """It works once, for a day; and when somebody is there, no such link can be made or used."""

    async def work(house):
        late = await house.links.make_setup()
        house.clock.advance(86_401)
        ann = Joining(email="ann@acme.example", name="Ann Lee", password=PASSWORD)
        assert await refused(house.links.set_up(late, ann, visit())) == "not_found"
        first, second = await house.links.make_setup(), await house.links.make_setup()
        both = await asyncio.gather(*[house.links.set_up(one, ann, visit()) for one in (first, second)], return_exceptions=True)
        assert sorted(type(one).__name__ for one in both) == ["Entered", "Refused"]
        assert await refused(house.links.set_up(first, ann, visit())) in {"not_found", "conflict"}
        assert await refused(house.links.make_setup()) == "conflict"
        person = await house.person()
        assert person.is_operator
        assert "tulip" not in repr(person)

    in_house(make_engine, work)


def test_looking_at_a_link_does_not_use_it_up_and_sending_the_form_does(make_engine):
    """Programs that follow links in mail take nothing away."""

    async def work(house):
        await house.set_up()
        made = await house.people.invite(operator(house.tenant_id), house.tenant_id, "bob@acme.example", Role.DEVELOPER)
        for _ in range(5):
            assert (await house.links.find(made.token, Purpose.INVITATION)).role is Role.DEVELOPER
        bob = Joining(name="Bob", password=PASSWORD)
        assert await refused(house.links.accept(made.token, Joining(name="Bob", password="short"), visit())) == "validation_failed"
        assert await refused(house.links.reset(made.token, OTHER, visit())) == "not_found"  # a link of another kind
        entered = await house.links.accept(made.token, bob, visit())
        assert (await house.signed_in(entered)).roles == {house.tenant_id: Role.DEVELOPER}
        assert await refused(house.links.find(made.token, Purpose.INVITATION)) == "not_found"
        assert await refused(house.links.accept(made.token, bob, visit())) == "not_found"

    in_house(make_engine, work)


def test_an_invitation_cannot_take_an_account_over(make_engine):
    """Who has an account accepts as themselves; whoever else has the link can do nothing with it."""

    async def work(house):
        ann = await house.set_up()
        bob = await house.join("bob@acme.example", Role.VIEWER)
        second = await house.make_tenant("second")
        made = await house.people.invite(operator(second), second, "ann@acme.example", Role.ADMIN)
        assert await refused(house.links.accept(made.token, Joining(name="Mallory", password=OTHER), visit())) == "conflict"
        assert await refused(house.links.join(made.token, await house.caller(bob))) == "permission_denied"
        await house.links.join(made.token, await house.caller(ann))
        assert (await house.signed_in(ann)).roles == {house.tenant_id: Role.OWNER, second: Role.ADMIN}
        await house.sign_in.with_password("ann@acme.example", PASSWORD, visit())

    in_house(make_engine, work)


def test_a_second_invitation_makes_the_first_worthless(make_engine):
    """So does withdrawing it; and who belongs already is not invited."""

    async def work(house):
        await house.set_up()
        by = operator(house.tenant_id)
        first = await house.people.invite(by, house.tenant_id, "bob@acme.example", Role.ADMIN)
        second = await house.people.invite(by, house.tenant_id, "BOB@acme.example", Role.VIEWER)
        assert await refused(house.links.find(first.token, Purpose.INVITATION)) == "not_found"
        assert [one.role for one in await house.people.invitations(house.tenant_id)] == [Role.VIEWER]
        assert await refused(house.people.withdraw(by, await house.make_tenant("other"), second.link.id)) == "not_found"
        await house.people.withdraw(by, house.tenant_id, second.link.id)
        assert await refused(house.links.find(second.token, Purpose.INVITATION)) == "not_found"
        assert await refused(house.people.invite(by, house.tenant_id, "ann@acme.example", Role.VIEWER)) == "conflict"

    in_house(make_engine, work)


def test_a_reset_link_gives_a_new_password_and_the_last_one_counts(make_engine):
    """The old password is worth nothing afterwards; the second factor stays."""

    async def work(house):
        await house.set_up()
        by = operator(house.tenant_id)
        _, first = await house.links.make_reset(by, "ann@acme.example")
        _, second = await house.links.make_reset(by, "ann@acme.example")
        assert await refused(house.links.reset(first, OTHER, visit())) == "not_found"
        assert await refused(house.links.reset(second, "password1234", visit())) == "validation_failed"
        await house.links.reset(second, OTHER, visit())
        assert await refused(house.links.reset(second, PASSWORD, visit())) == "not_found"
        assert await refused(house.sign_in.with_password("ann@acme.example", PASSWORD, visit())) == "authentication_failed"
        await house.sign_in.with_password("ann@acme.example", OTHER, visit())
        assert await refused(house.links.make_reset(by, "nobody@acme.example")) == "not_found"

    in_house(make_engine, work)


def test_nobody_gives_or_takes_more_than_they_have(make_engine):
    """An admin makes and unmakes no owners; a key with people:write alone makes nobody; only operators make operators."""

    async def work(house):
        ann = await house.set_up()
        bob = await house.join("bob@acme.example", Role.ADMIN)
        carla = await house.join("carla@acme.example", Role.OWNER)
        admin, tenant_id = await house.caller(bob), house.tenant_id
        for work in (
            house.people.invite(admin, tenant_id, "x@acme.example", Role.OWNER),
            house.people.invite(admin, tenant_id, "x@acme.example", Role.ADMIN, is_operator=True),
            house.people.change_role(admin, tenant_id, bob.person.id, Role.OWNER),
            house.people.change_role(admin, tenant_id, carla.person.id, Role.VIEWER),
            house.people.remove(admin, tenant_id, ann.person.id),
            house.people.invite(key_with(tenant_id, Scope.PEOPLE_WRITE), tenant_id, "x@acme.example", Role.VIEWER),
            house.people.invite(key_with(tenant_id, Scope.ADMIN), tenant_id, "x@acme.example", Role.VIEWER, is_operator=True),
        ):
            assert await refused(work) == "permission_denied"
        await house.people.invite(admin, tenant_id, "dan@acme.example", Role.ADMIN)
        await house.people.invite(key_with(tenant_id, Scope.ADMIN), tenant_id, "eve@acme.example", Role.OWNER)
        made = await house.people.invite(operator(tenant_id), tenant_id, "fay@acme.example", Role.OWNER)
        assert await refused(house.people.withdraw(admin, tenant_id, made.link.id)) == "permission_denied"

    in_house(make_engine, work)


def test_a_tenant_keeps_its_last_owner(make_engine):
    """Not demoted, not removed, not even by themselves; a disabled owner does not count."""

    async def work(house):
        ann = await house.set_up()
        bob = await house.join("bob@acme.example", Role.OWNER)
        await house.people.set_disabled(operator(house.tenant_id), "bob@acme.example", is_disabled=True)
        owner = await house.caller(ann)
        for work in (
            house.people.change_role(owner, house.tenant_id, ann.person.id, Role.ADMIN, session_id=ann.session.id),
            house.people.remove(owner, house.tenant_id, ann.person.id, session_id=ann.session.id),
        ):
            assert await refused(work) == "conflict"
        await house.people.set_disabled(operator(house.tenant_id), "bob@acme.example", is_disabled=False)
        await house.people.change_role(owner, house.tenant_id, ann.person.id, Role.ADMIN, session_id=ann.session.id)
        assert await refused(house.people.remove(operator(house.tenant_id), house.tenant_id, bob.person.id)) == "conflict"

    in_house(make_engine, work)


def test_two_owners_who_demote_each_other_at_once_leave_one(make_engine):
    """Whichever comes second is refused."""

    async def work(house):
        for _ in range(5):
            tenant_id = await house.make_tenant(f"t{house.clock.now()}")
            house.clock.advance(1)
            pair = [await house.join(f"{name}{house.clock.now()}@acme.example", Role.OWNER, tenant_id) for name in "ab"]
            by = operator(tenant_id)
            results = await asyncio.gather(
                *[house.people.change_role(by, tenant_id, one.person.id, Role.VIEWER) for one in pair], return_exceptions=True
            )
            assert sorted(type(one).__name__ for one in results) == ["Member", "Refused"]

    in_house(make_engine, work)


def test_another_tenants_people_are_not_there(make_engine):
    """Neither seen, nor changed, nor removed."""

    async def work(house):
        ann = await house.set_up()
        second = await house.make_tenant("second")
        other = await house.join("zoe@other.example", Role.VIEWER, second)
        owner = await house.caller(ann)
        assert [one.person.email for one in await house.people.members(house.tenant_id)] == ["ann@acme.example"]
        assert await refused(house.people.remove(owner, house.tenant_id, other.person.id)) == "not_found"
        assert await refused(house.people.change_role(owner, house.tenant_id, other.person.id, Role.ADMIN)) == "not_found"

    in_house(make_engine, work)


def test_everything_that_happens_to_people_is_in_the_audit_log(make_engine):
    """In order, and without anybody's address in full."""
    import sqlalchemy as sa

    from gatepost.store.schema import audit

    async def work(house):
        ann = await house.set_up()
        bob = await house.join("bob@acme.example", Role.VIEWER)
        owner = await house.caller(ann)
        await house.people.change_role(owner, house.tenant_id, bob.person.id, Role.ADMIN)
        await house.accounts.rename(await house.changing(ann), "Ann L. Lee")
        await house.accounts.change_password(await house.changing(ann), OTHER)
        await house.people.set_disabled(owner, "bob@acme.example", is_disabled=True)
        await house.people.remove(owner, house.tenant_id, bob.person.id)
        assert await house.audited() == [
            "person.created", "person.invited", "person.created", "person.role_changed", "person.renamed", "person.password_changed",
            "person.disabled", "person.removed",
        ]  # fmt: skip
        rows = await house.engine.read(lambda conn: conn.execute(sa.select(audit)).all())
        assert "ann@acme" not in repr(rows)
        assert "bob@acme" not in repr(rows)

    in_house(make_engine, work)

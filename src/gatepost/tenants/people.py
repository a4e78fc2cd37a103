"""
The people of a tenant: who is invited, who may do what, who goes.

Arrives: a caller with scopes, and a wish. Leaves: the change with its entry in the audit log, in one transaction.
Nobody gives away, or takes away, a role that can do more than they can themselves: so an admin makes no owners, and a key
with `people:write` alone makes nobody. A tenant keeps one owner who can sign in. Who loses a role loses their sessions.
Not here: how people come in (one_time_links, sign_in), what they change about themselves (accounts).
"""

from dataclasses import dataclass, replace

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import Clock, Instant
from gatepost.domain.access import Principal, Role
from gatepost.domain.address import Address, InvalidAddress, parse_address
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.person import Membership, OneTimeLink, Person, Purpose, scopes_of
from gatepost.domain.tenant import Caller
from gatepost.observe import maillog
from gatepost.settings import Settings
from gatepost.store import audit
from gatepost.store import people as stored
from gatepost.store import sessions as links
from gatepost.store.audit import Change
from gatepost.store.engine import Engine
from gatepost.tenants.sessions import hash_token, make_token

_MAX_OPEN_INVITATIONS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """
    One person of a tenant.

    Attributes:
        has_second_factor: A password alone does not let them in.
    """

    person: Person
    role: Role
    since: Instant
    has_second_factor: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Invited:
    """An invitation with its secret, which is shown this once."""

    link: OneTimeLink
    token: str


class People:
    """The people of all tenants."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings) -> None:
        self._engine = engine
        self._clock = clock
        self._settings = settings

    async def members(self, tenant_id: str) -> list[Member]:
        """List a tenant's people, who came first first."""
        return await self._engine.read(lambda conn: _members(conn, tenant_id))

    async def invitations(self, tenant_id: str) -> list[OneTimeLink]:
        """List a tenant's invitations that nobody has accepted yet."""
        now = self._clock.now()
        return await self._engine.read(lambda conn: links.open_links(conn, Purpose.INVITATION, now, tenant_id=tenant_id))

    async def everybody(self) -> list[tuple[Person, dict[str, tuple[Role, str]]]]:
        """List all people with their roles and tenants' names by tenant; for operators."""
        return await self._engine.read(lambda conn: [(one, stored.roles_of(conn, one.id)) for one in stored.all_people(conn)])

    async def invite(self, by: Caller, tenant_id: str, email: str, role: Role, *, is_operator: bool = False) -> Invited:
        """
        Make an invitation; an earlier one to the same address is worth nothing any more.

        Raises:
            Refused: permission_denied, validation_failed; conflict when they belong to the tenant already.
        """
        check_may_give(by.principal, role, is_operator=is_operator)
        address, token, now = read_email("/email", email), make_token(), self._clock.now()
        link = OneTimeLink(
            id=ids.new("lnk"), purpose=Purpose.INVITATION, email=str(address), is_operator=is_operator, tenant_id=tenant_id, role=role,
            created_at=now, expires_at=now + self._settings.dashboard.invitation_s * 1000,
        )  # fmt: skip

        def write(conn: Connection) -> None:
            known = stored.by_email(conn, address.key)
            if known is not None and stored.role_in(conn, known.id, tenant_id) is not None:
                raise Refused("conflict", "they belong to this tenant already; change their role instead")
            email_hash = stored.email_hash(conn, address.key)
            links.withdraw_links(conn, Purpose.INVITATION, email_hash=email_hash, tenant_id=tenant_id)
            if len(links.open_links(conn, Purpose.INVITATION, now, tenant_id=tenant_id)) >= _MAX_OPEN_INVITATIONS:
                raise Refused("conflict", "too many invitations are open; withdraw some first")
            links.insert_link(conn, link, hash_token(token), email_hash)
            after = {"email": str(address), "role": role.value, "is_operator": is_operator}
            audit.append(conn, by.actor, Change(action="person.invited", object_id=link.id, tenant_id=tenant_id, after=after), now)

        await self._engine.write(write)
        maillog.changed("person_invited", tenant_id=tenant_id, role=role.value, link_id=link.id, by=by.principal.id)
        return Invited(link=link, token=token)

    async def withdraw(self, by: Caller, tenant_id: str, link_id: str) -> None:
        """
        Make an invitation worthless.

        Raises:
            Refused: not_found, permission_denied.
        """
        now = self._clock.now()

        def write(conn: Connection) -> None:
            link = links.withdraw_link(conn, tenant_id, link_id)
            if link is None:
                raise Refused("not_found", "there is no such invitation, or it was accepted")
            check_may_give(by.principal, link.role or Role.VIEWER, is_operator=link.is_operator)
            change = Change(action="person.invitation_withdrawn", object_id=link.id, tenant_id=tenant_id, before={"email": link.email})
            audit.append(conn, by.actor, change, now)

        await self._engine.write(write)
        maillog.changed("invitation_withdrawn", tenant_id=tenant_id, link_id=link_id, by=by.principal.id)

    async def change_role(self, by: Caller, tenant_id: str, person_id: str, role: Role, *, session_id: str | None = None) -> Member:
        """
        Give a person another role; their sessions end, except the one that asks.

        Args:
            session_id: The session from which this is asked.

        Raises:
            Refused: not_found, permission_denied; conflict when the tenant would lose its last owner.
        """
        now = self._clock.now()

        def write(conn: Connection) -> Member:
            member = _member(conn, tenant_id, person_id)
            check_may_give(by.principal, member.role)
            check_may_give(by.principal, role)
            if role is member.role:
                return member
            if member.role is Role.OWNER:
                _check_not_last_owner(conn, tenant_id, person_id)
            stored.put_membership(conn, Membership(person_id=person_id, tenant_id=tenant_id, role=role, created_at=member.since))
            links.delete_of_person(conn, person_id, but=session_id)
            change = Change(
                action="person.role_changed", object_id=person_id, tenant_id=tenant_id, before={"role": member.role.value},
                after={"role": role.value},
            )  # fmt: skip
            audit.append(conn, by.actor, change, now)
            return replace(member, role=role)

        changed = await self._engine.write(write)
        maillog.changed("person_role_changed", tenant_id=tenant_id, person_id=person_id, role=role.value, by=by.principal.id)
        return changed

    async def remove(self, by: Caller, tenant_id: str, person_id: str, *, session_id: str | None = None) -> None:
        """
        Take a person out of a tenant; their sessions end, except the one that asks.

        Raises:
            Refused: not_found, permission_denied; conflict when the tenant would lose its last owner.
        """
        now = self._clock.now()

        def write(conn: Connection) -> None:
            member = _member(conn, tenant_id, person_id)
            check_may_give(by.principal, member.role)
            if member.role is Role.OWNER:
                _check_not_last_owner(conn, tenant_id, person_id)
            stored.remove_membership(conn, person_id, tenant_id)
            links.delete_of_person(conn, person_id, but=session_id)
            change = Change(action="person.removed", object_id=person_id, tenant_id=tenant_id, before={"role": member.role.value})
            audit.append(conn, by.actor, change, now)

        await self._engine.write(write)
        maillog.changed("person_removed", tenant_id=tenant_id, person_id=person_id, by=by.principal.id)

    async def set_disabled(self, by: Caller, email: str, *, is_disabled: bool) -> Person:
        """
        Keep a person out everywhere, or let them in again; an operator's business.

        Raises:
            Refused: not_found.
        """
        address, now = read_email("/email", email), self._clock.now()

        def write(conn: Connection) -> Person:
            person = stored.by_email(conn, address.key, is_locking=True)
            if person is None:
                raise Refused("not_found", "there is no person with this address")
            if (person.disabled_at is not None) is is_disabled:
                return person
            changed = replace(person, disabled_at=now if is_disabled else None)
            stored.update(conn, changed)
            if is_disabled:
                links.delete_of_person(conn, person.id)
            action = "person.disabled" if is_disabled else "person.enabled"
            audit.append(conn, by.actor, Change(action=action, object_id=person.id, tenant_id=None), now)
            return changed

        person = await self._engine.write(write)
        maillog.changed("person_disabled" if is_disabled else "person_enabled", person_id=person.id, by=by.principal.id)
        return person


def check_may_give(principal: Principal, role: Role, *, is_operator: bool = False) -> None:
    """
    Refuse to hand out, or take away, more than the caller has.

    Raises:
        Refused: permission_denied.
    """
    if not scopes_of(role, is_operator=is_operator) <= principal.scopes:
        what = "operator" if is_operator else role.value
        raise Refused("permission_denied", f"to make or unmake somebody {what} one must be able to do all that they can")


def read_email(pointer: str, text: str) -> Address:
    """
    Read a person's address.

    Raises:
        Refused: validation_failed.
    """
    try:
        return parse_address(text.strip())
    except InvalidAddress as error:
        raise invalid(Fault(pointer, "invalid_address", str(error))) from None


def _members(conn: Connection, tenant_id: str) -> list[Member]:
    rows = stored.of_tenant(conn, tenant_id)
    passkeys = stored.count_passkeys(conn, [person.id for person, _ in rows])
    return [
        Member(
            person=person,
            role=held.role,
            since=held.created_at,
            has_second_factor=person.has_totp or passkeys.get(person.id, 0) > 0,
        )
        for person, held in rows
    ]


def _member(conn: Connection, tenant_id: str, person_id: str) -> Member:
    found = next((one for one in _members(conn, tenant_id) if one.person.id == person_id), None)
    if found is None:
        raise Refused("not_found", "there is no such person in this tenant")
    return found


def _check_not_last_owner(conn: Connection, tenant_id: str, person_id: str) -> None:
    if not set(stored.active_owners(conn, tenant_id)) - {person_id}:
        raise Refused("conflict", "a tenant keeps one owner who can sign in: make somebody else an owner first")

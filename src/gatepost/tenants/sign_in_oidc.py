"""
Single sign-on: which person an OpenID provider's claims mean, and what they may do.

A person is known by issuer and subject. The first time they are found by their e-mail address, which the provider must
have verified; or they have an invitation; or the settings let everybody in. A provider stands for all factors: it is asked
instead of password and code.
Not here: whether the claims are true (oidc).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gatepost import ids
from gatepost.clock import MINUTE, Clock, Instant
from gatepost.domain.access import Role
from gatepost.domain.address import Address, InvalidAddress, parse_address
from gatepost.domain.errors import Refused
from gatepost.domain.person import Membership, OneTimeLink, Person, Purpose
from gatepost.observe import maillog
from gatepost.settings import Settings
from gatepost.store import audit, people, tenants
from gatepost.store import sessions as stored
from gatepost.store.audit import Change
from gatepost.store.engine import Engine
from gatepost.tenants.oidc import Memory, Provider
from gatepost.tenants.one_time_links import actor_of, join_tenant, make_person
from gatepost.tenants.sessions import Entered, Visit, open_session
from gatepost.tenants.sign_in import tell_sign_in
from gatepost.tenants.sign_in_tickets import Tickets

FLOW_MS = 10 * MINUTE
_RANKS = (Role.OWNER, Role.ADMIN, Role.DEVELOPER, Role.VIEWER)


class SingleSignOn:
    """Lets people in whom the provider of the settings vouches for."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings, tickets: Tickets) -> None:
        self._engine = engine
        self._clock = clock
        self._settings = settings
        self._tickets = tickets
        self.provider = Provider(settings.oidc, clock)

    @property
    def is_on(self) -> bool:
        """True when the settings name a provider."""
        return bool(self._settings.oidc.issuer)

    async def begin(self, redirect_uri: str, target: str) -> tuple[str, str]:
        """
        Return where to send the browser, and the ticket that it keeps meanwhile.

        Args:
            target: The page to show in the end.

        Raises:
            Refused: overloaded: the provider cannot be asked now.
        """
        url, memory = await self.provider.begin(redirect_uri)
        ticket = await self._tickets.make(
            "oidc", self.provider.issuer, FLOW_MS, state=memory.state, nonce=memory.nonce, verifier=memory.verifier, target=target[:1000]
        )
        return url, ticket

    async def finish(self, query: Mapping[str, str], ticket_text: str, redirect_uri: str, visit: Visit) -> tuple[Entered, str]:
        """
        Open a session for who comes back from the provider; return it with the page to show.

        Raises:
            Refused: authentication_failed; permission_denied when they may not come in; overloaded.
        """
        ticket = await self._tickets.read(ticket_text, "oidc", self.provider.issuer)
        if ticket is None:
            maillog.security("oidc_refused", peer=visit.peer, why="no such visit", request_id=visit.request_id)
            raise Refused("authentication_failed", "this sign-in was not begun here, or took too long")
        memory = Memory(state=ticket.data["state"], nonce=ticket.data["nonce"], verifier=ticket.data["verifier"])
        now = self._clock.now()

        def write(conn: Connection) -> Entered:
            if not ticket.spend(conn):
                raise Refused("authentication_failed", "this sign-in was finished already")
            person = self._person(conn, claims, visit, now)
            if person.disabled_at is not None:
                raise Refused("permission_denied", "this account is disabled")
            self._apply_role(conn, person, claims, visit, now)
            entered = open_session(conn, self._settings, person, visit, now)
            tell_sign_in(conn, person, entered.session, visit, "oidc", now)
            return entered

        try:
            claims = await self.provider.finish(query, memory, redirect_uri)
            return await self._engine.write(write), ticket.data["target"]
        except IntegrityError:  # the same visit twice at the same moment
            raise Refused("authentication_failed", "this sign-in was finished already") from None
        except Refused as refusal:
            maillog.security("oidc_refused", peer=visit.peer, why=refusal.detail, request_id=visit.request_id)
            raise

    def _person(self, conn: Connection, claims: Mapping[str, Any], visit: Visit, now: Instant) -> Person:
        subject = str(claims["sub"])
        person_id = people.person_of_identity(conn, self.provider.issuer, subject)
        person = people.get(conn, person_id) if person_id is not None else None
        if person is not None:
            self._check_domain(parse_address(person.email))
            return person
        address = self._verified_address(claims)
        found = people.by_email(conn, address.key) or self._new_person(conn, address, claims, visit, now)
        people.insert_identity(conn, self.provider.issuer, subject, found.id, now)
        change = Change(
            action="person.identity_linked", object_id=found.id, tenant_id=None, after={"issuer": self.provider.issuer, "subject": subject}
        )
        audit.append(conn, actor_of(found, visit), change, now)
        return found

    def _verified_address(self, claims: Mapping[str, Any]) -> Address:
        """Return the address that the provider vouches for: one that anybody could claim would open somebody's account."""
        email = claims.get("email")
        if not isinstance(email, str) or claims.get("email_verified") not in {True, "true"}:
            raise Refused("permission_denied", "the provider has not verified your e-mail address")
        try:
            address = parse_address(email)
        except InvalidAddress:
            raise Refused("permission_denied", "the provider gives an e-mail address that cannot be used") from None
        self._check_domain(address)
        return address

    def _check_domain(self, address: Address) -> None:
        allowed = {domain.lower() for domain in self._settings.oidc.domains}
        if allowed and address.domain not in allowed:
            raise Refused("permission_denied", "people with e-mail addresses of this domain may not come in")

    def _new_person(self, conn: Connection, address: Address, claims: Mapping[str, Any], visit: Visit, now: Instant) -> Person:
        invitations = stored.open_links(conn, Purpose.INVITATION, now, email_hash=people.email_hash(conn, address.key))
        if not invitations and self._settings.oidc.invited_only:
            raise Refused("permission_denied", "you have not been invited: ask an owner of the tenant")
        name = claims.get("name")
        person = Person(
            id=ids.new("per"), email=str(address), created_at=now,
            name=name.strip()[:100] if isinstance(name, str) and name.isprintable() and name.strip() else address.local,
        )  # fmt: skip
        if not invitations:
            tenant_id = tenants.named(conn, self._settings.oidc.tenant).id
            make_person(conn, actor_of(person, visit), person, tenant_id, Role(self._settings.oidc.role), now)
            return person
        return _accepted(conn, person, invitations, visit, now)

    def _apply_role(self, conn: Connection, person: Person, claims: Mapping[str, Any], visit: Visit, now: Instant) -> None:
        """Give the person the role that the provider says, in the tenant of the settings; a tenant keeps its last owner."""
        role = role_in(claims, self._settings.oidc.role_claim)
        if role is None:
            return
        tenant_id = tenants.named(conn, self._settings.oidc.tenant).id
        before = people.role_in(conn, person.id, tenant_id)
        if before is role:
            return
        if before is Role.OWNER and not set(people.active_owners(conn, tenant_id)) - {person.id}:
            maillog.trouble(
                "the OpenID provider would take a tenant's last owner away; they stay", tenant_id=tenant_id, person_id=person.id
            )
            return
        people.put_membership(conn, Membership(person_id=person.id, tenant_id=tenant_id, role=role, created_at=now))
        stored.delete_of_person(conn, person.id)
        change = Change(
            action="person.role_changed", object_id=person.id, tenant_id=tenant_id, before={"role": before.value if before else None},
            after={"role": role.value, "by": "oidc"},
        )  # fmt: skip
        audit.append(conn, actor_of(person, visit), change, now)


def role_in(claims: Mapping[str, Any], claim: str) -> Role | None:
    """Return the highest role that a claim names, alone or in a list; None when it names none."""
    value = claims.get(claim) if claim else None
    named = {value} if isinstance(value, str) else {one for one in value if isinstance(one, str)} if isinstance(value, list) else set()
    return next((role for role in _RANKS if role.value in named), None)


def _accepted(conn: Connection, person: Person, invitations: list[OneTimeLink], visit: Visit, now: Instant) -> Person:
    """Make the person that invitations are for, and use these up."""
    actor, (first, *others) = actor_of(person, visit), invitations
    assert first.tenant_id is not None
    assert first.role is not None
    person = replace(person, is_operator=first.is_operator)
    make_person(conn, actor, person, first.tenant_id, first.role, now)
    stored.use_link(conn, first.id, now)
    for link in others:
        join_tenant(conn, actor, person, link, now)
        stored.use_link(conn, link.id, now)
    return people.get(conn, person.id) or person

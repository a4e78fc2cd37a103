"""
Links that are used once: to set the gateway up, to accept an invitation, to choose a new password.

A link's secret is stored as a hash, expires, and is used up by the form that is sent, never by opening the page: programs
that look at links in mail must not use them up. An invitation makes an account for who has none; who has one must sign in
and accept it as themselves, so that whoever invites cannot take somebody's account over.
Not here: who may invite (people), sending links by mail.
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gatepost import ids
from gatepost.clock import DAY, Clock, Instant
from gatepost.domain.access import Actor, PrincipalKind, Role
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.person import Membership, OneTimeLink, Person, Purpose
from gatepost.domain.tenant import Caller
from gatepost.mime.checks import text_faults
from gatepost.observe import maillog
from gatepost.settings import Settings
from gatepost.store import audit, people, tenants
from gatepost.store import sessions as stored
from gatepost.store.audit import Change
from gatepost.store.engine import Engine
from gatepost.tenants.passwords import Passwords, password_faults
from gatepost.tenants.people import read_email
from gatepost.tenants.sessions import Entered, Visit, hash_token, make_token, open_session

T = TypeVar("T")

SETUP_MS = DAY
RESET_MS = DAY
_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """What somebody says who makes an account."""

    email: str = ""
    name: str
    password: str = field(repr=False)


class OneTimeLinks:
    """Makes links and honours them."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings, passwords: Passwords) -> None:
        self._engine = engine
        self._clock = clock
        self._settings = settings
        self._passwords = passwords

    async def make_setup(self) -> str:
        """
        Make the secret of a link for the first person.

        Raises:
            Refused: conflict: somebody has been set up.
        """
        token, now = make_token(), self._clock.now()
        link = OneTimeLink(id=ids.new("lnk"), purpose=Purpose.SETUP, created_at=now, expires_at=now + SETUP_MS)

        def write(conn: Connection) -> None:
            _check_nobody(conn)
            stored.insert_link(conn, link, hash_token(token), None)

        await self._engine.write(write)
        return token

    async def make_reset(self, by: Caller, email: str) -> tuple[Person, str]:
        """
        Make the secret of a link with which a person chooses a new password; earlier ones are worth nothing any more.

        Raises:
            Refused: not_found.
        """
        address, token, now = read_email("/email", email), make_token(), self._clock.now()

        def write(conn: Connection) -> Person:
            person = people.by_email(conn, address.key)
            if person is None:
                raise Refused("not_found", "there is no person with this address")
            link = OneTimeLink(
                id=ids.new("lnk"), purpose=Purpose.RESET, email=person.email, person_id=person.id, created_at=now, expires_at=now + RESET_MS
            )
            email_hash = people.email_hash(conn, address.key)
            stored.withdraw_links(conn, Purpose.RESET, email_hash=email_hash, tenant_id=None)
            stored.insert_link(conn, link, hash_token(token), email_hash)
            audit.append(conn, by.actor, Change(action="person.reset_link_made", object_id=person.id, tenant_id=None), now)
            return person

        person = await self._engine.write(write)
        maillog.changed("reset_link_made", person_id=person.id, by=by.principal.id)
        return person, token

    async def find(self, token: str, purpose: Purpose) -> OneTimeLink:
        """
        Look at a link without using it up.

        Raises:
            Refused: not_found: it is wrong, was used, or is over.
        """
        now = self._clock.now()
        link = await self._engine.read(lambda conn: stored.link_by_token(conn, hash_token(token), purpose, now))
        if link is None:
            raise _gone()
        return link

    async def is_known(self, link: OneTimeLink) -> bool:
        """Tell whether who is invited has an account already."""
        key = read_email("/email", link.email).key
        return await self._engine.read(lambda conn: people.by_email(conn, key) is not None)

    async def set_up(self, token: str, joining: Joining, visit: Visit) -> Entered:
        """
        Make the first person: operator of the gateway and owner of the tenant that exists from the start.

        Raises:
            Refused: not_found, validation_failed; conflict when somebody was faster.
        """
        await self.find(token, Purpose.SETUP)
        person = await self._made(joining, is_operator=True)

        def write(conn: Connection, link: OneTimeLink, now: Instant) -> Entered:
            tenants.bump_version(conn)  # its row is a lock: of two links at the same moment one wins
            _check_nobody(conn)
            tenant_id = tenants.ensure_default(conn, now)
            return self._enter(conn, person, tenant_id, Role.OWNER, visit, now)

        return await self._use(token, Purpose.SETUP, write)

    async def accept(self, token: str, joining: Joining, visit: Visit) -> Entered:
        """
        Accept an invitation as somebody new.

        Raises:
            Refused: not_found, validation_failed; conflict when they have an account already.
        """
        link = await self.find(token, Purpose.INVITATION)
        person = await self._made(replace(joining, email=link.email), is_operator=link.is_operator)

        def write(conn: Connection, link: OneTimeLink, now: Instant) -> Entered:
            assert link.tenant_id is not None
            assert link.role is not None
            return self._enter(conn, person, link.tenant_id, link.role, visit, now)

        return await self._use(token, Purpose.INVITATION, write)

    async def join(self, token: str, by: Caller) -> str:
        """
        Accept an invitation with the account that one has; return the tenant's id.

        Raises:
            Refused: not_found; permission_denied when it is for somebody else.
        """
        link = await self.find(token, Purpose.INVITATION)
        key = read_email("/email", link.email).key

        def write(conn: Connection, link: OneTimeLink, now: Instant) -> str:
            person = people.by_email(conn, key, is_locking=True)
            if person is None or person.id != by.principal.id:
                raise Refused("permission_denied", "this invitation is for somebody else: sign in with the address that it was sent to")
            assert link.tenant_id is not None
            join_tenant(conn, by.actor, person, link, now)
            return link.tenant_id

        return await self._use(token, Purpose.INVITATION, write)

    async def reset(self, token: str, password: str, visit: Visit) -> Person:
        """
        Give a person a new password; all their sessions end, and they sign in with it.

        Raises:
            Refused: not_found, validation_failed.
        """
        link = await self.find(token, Purpose.RESET)
        if faults := password_faults("/password", password, link.email):
            raise invalid(*faults)
        hashed = await self._passwords.hash(password)

        def write(conn: Connection, link: OneTimeLink, now: Instant) -> Person:
            person = people.get(conn, link.person_id or "", is_locking=True)
            if person is None:
                raise _gone()
            people.update(conn, replace(person, password_hash=hashed))
            stored.delete_of_person(conn, person.id)
            change = Change(action="person.password_reset", object_id=person.id, tenant_id=None)
            audit.append(conn, actor_of(person, visit), change, now)
            return person

        person = await self._use(token, Purpose.RESET, write)
        maillog.changed("password_reset", person_id=person.id, peer=visit.peer)
        return person

    async def _made(self, joining: Joining, *, is_operator: bool) -> Person:
        address = read_email("/email", joining.email)
        name = joining.name.strip()
        faults = [*text_faults("/name", name, _NAME_LENGTH), *password_faults("/password", joining.password, str(address), name)]
        if not name:
            faults.append(Fault("/name", "required", "give your name"))
        if faults:
            raise invalid(*faults)
        return Person(
            id=ids.new("per"), email=str(address), name=name, is_operator=is_operator,
            password_hash=await self._passwords.hash(joining.password), created_at=self._clock.now(),
        )  # fmt: skip

    def _enter(self, conn: Connection, person: Person, tenant_id: str, role: Role, visit: Visit, now: Instant) -> Entered:
        make_person(conn, actor_of(person, visit), person, tenant_id, role, now)
        return open_session(conn, self._settings, person, visit, now)

    async def _use(self, token: str, purpose: Purpose, work: Callable[[Connection, OneTimeLink, Instant], T]) -> T:
        now = self._clock.now()

        def write(conn: Connection) -> T:
            link = stored.link_by_token(conn, hash_token(token), purpose, now)
            if link is None or not stored.use_link(conn, link.id, now):
                raise _gone()
            return work(conn, link, now)

        try:
            return await self._engine.write(write)
        except IntegrityError:  # of two at the same moment the other was faster
            raise Refused("conflict", "somebody with this address has been added meanwhile") from None


def make_person(conn: Connection, actor: Actor, person: Person, tenant_id: str, role: Role, now: Instant) -> None:
    """
    Add a person with a role in a tenant.

    Raises:
        Refused: conflict: somebody has this address.
    """
    key = read_email("/email", person.email).key
    if people.by_email(conn, key) is not None:
        raise Refused("conflict", "somebody with this address has an account already: sign in with it")
    people.insert(conn, person, key)
    people.put_membership(conn, Membership(person_id=person.id, tenant_id=tenant_id, role=role, created_at=now))
    after = {"email": person.email, "role": role.value, "is_operator": person.is_operator}
    audit.append(conn, actor, Change(action="person.created", object_id=person.id, tenant_id=tenant_id, after=after), now)
    maillog.changed("person_created", person_id=person.id, tenant_id=tenant_id, role=role.value, is_operator=person.is_operator)


def join_tenant(conn: Connection, actor: Actor, person: Person, link: OneTimeLink, now: Instant) -> None:
    """
    Give a person who has an account what an invitation promises.

    Raises:
        Refused: conflict: they belong to the tenant already, perhaps as more than the invitation says.
    """
    assert link.tenant_id is not None
    assert link.role is not None
    if people.role_in(conn, person.id, link.tenant_id) is not None:
        raise Refused("conflict", "you belong to this tenant already")
    people.put_membership(conn, Membership(person_id=person.id, tenant_id=link.tenant_id, role=link.role, created_at=now))
    if link.is_operator and not person.is_operator:
        people.update(conn, replace(person, is_operator=True))
    after = {"role": link.role.value, "is_operator": person.is_operator or link.is_operator}
    audit.append(conn, actor, Change(action="person.joined", object_id=person.id, tenant_id=link.tenant_id, after=after), now)
    maillog.changed("person_joined", person_id=person.id, tenant_id=link.tenant_id, role=link.role.value)


def link_to(settings: Settings, purpose: Purpose, token: str, listening: Mapping[str, str] | None = None) -> str:
    """
    Return the address of a one-time link.

    Args:
        listening: Addresses that the doors really listen on; without them the settings say.
    """
    doors = listening if listening is not None else {"https": settings.https.listen, "http": settings.http.listen}
    scheme = "https" if doors.get("https") else "http"
    host, _, port = doors.get(scheme, "").rpartition(":")
    name = socket.gethostname() if host in {"0.0.0.0", "[::]", "::", "*"} else host  # noqa: S104 - nothing is bound here
    return f"{settings.dashboard.url or f'{scheme}://{name}:{port}'}/{purpose.value}/{token}"


def actor_of(person: Person, visit: Visit) -> Actor:
    """Return a person as the audit log names them."""
    return Actor(kind=PrincipalKind.PERSON, id=person.id, name=person.masked_email, peer=visit.peer, request_id=visit.request_id)


def _check_nobody(conn: Connection) -> None:
    if people.exist(conn):
        raise Refused("conflict", "the gateway has been set up: sign in, or ask for an invitation or a reset link")


def _gone() -> Refused:
    return Refused("not_found", "this link was used, is over, or is not complete: ask for a new one")

"""
Sessions of the pages: opened at sign-in, read from the store at each request, ended at any time.

The cookie holds 256 random bits; the store holds their SHA-256. A session ends twelve hours after it was opened, two
hours after it was last used (`dashboard.session_s`, `dashboard.idle_s`), and at once when it is revoked, since no process
remembers it. Its secret is new after each sign-in, so that one which was planted before is worth nothing.
Standards: OWASP ASVS 5.0 V7 (sessions).
Not here: cookies (dashboard.access), what is asked before a session opens (sign_in).
"""

import hashlib
import secrets
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import MINUTE, SECOND, Clock, Instant
from gatepost.domain.errors import Refused
from gatepost.domain.person import Person, Session, SessionState, SignedIn
from gatepost.domain.tenant import Caller
from gatepost.observe import maillog
from gatepost.settings import Settings
from gatepost.store import audit, people
from gatepost.store import sessions as stored
from gatepost.store.audit import Change
from gatepost.store.engine import Engine

SECOND_FACTOR_MS = 10 * MINUTE
"""How long somebody who gave the password may look for the second factor."""
_TOUCH_MS = MINUTE
_AGENT_LENGTH = 200


def make_token() -> str:
    """Make a secret of 256 bits for a cookie or a link."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> bytes:
    """Return what is stored of such a secret; it has too many bits to be guessed from its hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """
    Where somebody comes from who signs in.

    Attributes:
        token: Of the session that the browser has already, which the new one takes the place of; empty for none.
        devices: Id of this device for each person who has signed in with it before.
    """

    peer: str
    agent: str = ""
    request_id: str = ""
    token: str = field(default="", repr=False)
    devices: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """A session that was opened; its token is the cookie."""

    person: Person
    session: Session
    token: str = field(repr=False)

    @property
    def needs_second_factor(self) -> bool:
        """True while the session opens nothing."""
        return self.session.state is SessionState.PASSWORD


def open_session(
    conn: Connection, settings: Settings, person: Person, visit: Visit, now: Instant, *, state: SessionState = SessionState.OPEN
) -> Entered:
    """Open a session, in the transaction of the sign-in; the one that the browser had before ends."""
    token, tenants = make_token(), list(people.roles_of(conn, person.id))
    before = stored.by_token(conn, hash_token(visit.token)) if visit.token else None
    if before is not None:
        stored.delete(conn, before.id, before.person_id)
    is_same = before is not None and before.person_id == person.id and before.tenant_id in tenants
    tenant_id = before.tenant_id if is_same and before is not None else next(iter(tenants), None)
    lifetime_ms = SECOND_FACTOR_MS if state is SessionState.PASSWORD else settings.dashboard.session_s * SECOND
    session = Session(
        id=ids.new("ses"), person_id=person.id, tenant_id=tenant_id, state=state, peer=visit.peer, agent=visit.agent[:_AGENT_LENGTH],
        created_at=now, proved_at=now, seen_at=now, expires_at=now + lifetime_ms,
    )  # fmt: skip
    stored.insert(conn, session, hash_token(token))
    return Entered(person=person, session=session, token=token)


class Sessions:
    """The sessions of all people."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings) -> None:
        self._engine = engine
        self._clock = clock
        self._settings = settings

    async def find(self, token: str, *, is_use: bool) -> SignedIn | None:
        """
        Return who has a session, whichever its state; None when there is none, or it is over.

        Args:
            is_use: A person did something: the session does not become idle. What a page asks by itself is no use.
        """
        if not token:
            return None
        now = self._clock.now()
        found = await self._engine.read(lambda conn: self._read(conn, hash_token(token), now))
        if found is not None and is_use and now - found.session.seen_at > _TOUCH_MS:
            await self._engine.write(lambda conn: stored.touch(conn, found.session.id, now))
        return found

    def is_recent(self, session: Session) -> bool:
        """Tell whether who has this session has shown a password, or the like, a short time ago."""
        return self._clock.now() - session.proved_at <= self._settings.dashboard.recent_s * SECOND

    async def list(self, person_id: str) -> "list[Session]":
        """List a person's open sessions, the last used first."""
        now = self._clock.now()
        rows = await self._engine.read(lambda conn: stored.of_person(conn, person_id, now))
        return [row for row in rows if row.state is SessionState.OPEN and not self._is_idle(row, now)]

    async def choose_tenant(self, signed_in: SignedIn, tenant_id: str) -> None:
        """
        Look at another of one's tenants.

        Raises:
            Refused: not_found: it is none of theirs.
        """
        if tenant_id not in signed_in.roles:
            raise Refused("not_found", "there is no such tenant")
        await self._engine.write(lambda conn: stored.choose_tenant(conn, signed_in.session.id, tenant_id))

    async def end(self, by: Caller, session_id: str) -> None:
        """
        End one of a person's own sessions.

        Raises:
            Refused: not_found.
        """
        now, person_id = self._clock.now(), by.principal.id

        def write(conn: Connection) -> bool:
            is_there = stored.delete(conn, session_id, person_id)
            if is_there:
                audit.append(conn, by.actor, Change(action="session.ended", object_id=session_id, tenant_id=None), now)
            return is_there

        if not await self._engine.write(write):
            raise Refused("not_found", "there is no such session")
        maillog.changed("session_ended", person_id=person_id, session_id=session_id)

    async def end_others(self, by: Caller, session_id: str) -> int:
        """End all sessions of a person but one; return how many."""
        now, person_id = self._clock.now(), by.principal.id

        def write(conn: Connection) -> int:
            count = stored.delete_of_person(conn, person_id, but=session_id)
            change = Change(action="sessions.ended", object_id=person_id, tenant_id=None, after={"count": count})
            audit.append(conn, by.actor, change, now)
            return count

        count = await self._engine.write(write)
        maillog.changed("sessions_ended", person_id=person_id, count=count)
        return count

    def _read(self, conn: Connection, token_hash: bytes, now: Instant) -> SignedIn | None:
        session = stored.by_token(conn, token_hash)
        if session is None or session.expires_at <= now or self._is_idle(session, now):
            return None
        person = people.get(conn, session.person_id)
        if person is None or person.disabled_at is not None:
            return None
        held = people.roles_of(conn, person.id)
        tenant_id = session.tenant_id if session.tenant_id in held else next(iter(held), None)
        return SignedIn(
            person=person,
            session=replace(session, tenant_id=tenant_id),
            roles={tenant: role for tenant, (role, _) in held.items()},
            tenant_names={tenant: name for tenant, (_, name) in held.items()},
        )

    def _is_idle(self, session: Session, now: Instant) -> bool:
        return now - session.seen_at > self._settings.dashboard.idle_s * SECOND

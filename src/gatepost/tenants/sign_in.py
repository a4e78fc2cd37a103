"""
Signing in: a password, then a second factor where the person has one; or a passkey alone.

Arrives: what somebody typed or signed, and where they come from. Leaves: a session, or a refusal that does not tell
whether there is such a person. An unknown address, a wrong password and a disabled person cost the same work and get the
same answer; guesses are slowed down (sign_in_pace) without keeping the owner out.
Standards: OWASP ASVS 5.0 V6 (authentication).
Not here: single sign-on (sign_in_oidc), cookies (dashboard.access), what people change about themselves (accounts).
"""

import math
from dataclasses import replace

from sqlalchemy import Connection

from gatepost.clock import MINUTE, Clock, Instant
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.domain.errors import Refused
from gatepost.domain.person import Person, Session, SessionState, SignedIn
from gatepost.observe import maillog
from gatepost.settings import Settings
from gatepost.store import audit, people, sealing
from gatepost.store import sessions as stored
from gatepost.store.audit import Change
from gatepost.store.engine import Engine
from gatepost.tenants import passkeys, second_factors
from gatepost.tenants.one_time_links import actor_of
from gatepost.tenants.passkeys import Site
from gatepost.tenants.passwords import Passwords
from gatepost.tenants.sessions import Entered, Visit, open_session
from gatepost.tenants.sign_in_pace import Guess, Pacing
from gatepost.tenants.sign_in_tickets import Ticket, Tickets

PASSKEY_MS = 5 * MINUTE
_LOG_EVERY_MS = MINUTE
_MAX_LOGGED = 1_000


class SignIn:
    """Lets people in; one per process."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings, passwords: Passwords, pacing: Pacing, tickets: Tickets) -> None:
        self._engine = engine
        self._clock = clock
        self._settings = settings
        self._passwords = passwords
        self._pacing = pacing
        self._tickets = tickets
        self._logged: dict[str, Instant] = {}

    async def with_password(self, email: str, password: str, visit: Visit) -> Entered:
        """
        Open a session for a password: one that waits for the second factor, where there is one.

        Raises:
            Refused: authentication_failed; rate_limited or overloaded, with Retry-After.
        """
        account, person = await self._find(email)
        guess = self._begin(account, person, visit, is_code=False)
        if not await self._is_password(person, password, visit):
            maillog.security("sign_in_failed", peer=visit.peer, person_id=person.id if person else None, request_id=visit.request_id)
            raise Refused("authentication_failed", "address and password do not belong together")
        assert person is not None
        self._pacing.succeeded(guess)
        await self._renew_hash(person, password)

        def write(conn: Connection) -> Entered:
            needs_more = person.has_totp or bool(people.passkeys_of(conn, person.id))
            return self._open(conn, person, visit, SessionState.PASSWORD if needs_more else SessionState.OPEN, "password")

        return await self._engine.write(write)

    async def with_code(self, waiting: SignedIn, code: str, visit: Visit) -> Entered:
        """
        Open the session of somebody who gave the password, for a code of their authenticator or a recovery code.

        Raises:
            Refused: authentication_failed; rate_limited, with Retry-After.
        """
        person = waiting.person
        guess = self._begin(person.id, person, visit, is_code=True)
        now = self._clock.now()
        entered = await self._engine.write(lambda conn: self._use_code(conn, person.id, code, visit, now))
        if entered is None:
            maillog.security("second_factor_failed", peer=visit.peer, person_id=person.id, request_id=visit.request_id)
            raise Refused("authentication_failed", "this code is not right, or was used already")
        self._pacing.succeeded(guess)
        return entered

    async def ask_for_passkey(self, site: Site, binding: str, waiting: SignedIn | None) -> tuple[str, str]:
        """
        Return what to ask a browser for, as JSON, and the ticket that must come back with its answer.

        Args:
            binding: What else the browser must bring: a session's id, or a cookie.
            waiting: Who gave the password; None when the passkey is all that is asked for.
        """
        challenge = passkeys.make_challenge()
        known = await self._engine.read(lambda conn: people.passkeys_of(conn, waiting.person.id)) if waiting else []
        person_id = waiting.person.id if waiting else ""
        ticket = await self._tickets.make("passkey", binding, PASSKEY_MS, challenge=challenge, person_id=person_id)
        return passkeys.authentication_options(site, known, challenge), ticket

    async def with_passkey(self, site: Site, ticket_text: str, binding: str, answer: str, visit: Visit) -> Entered:
        """
        Open a session for what a passkey signed.

        Raises:
            Refused: authentication_failed.
        """
        ticket = await self._tickets.read(ticket_text, "passkey", binding)
        if ticket is None:
            raise Refused("authentication_failed", "this took too long: load the page again and repeat it")
        now = self._clock.now()
        try:
            return await self._engine.write(lambda conn: self._use_passkey(conn, site, ticket, answer, visit, now))
        except Refused as refusal:
            if refusal.code == "authentication_failed":
                maillog.security(
                    "passkey_refused", peer=visit.peer, person_id=ticket.data["person_id"] or None, request_id=visit.request_id
                )
            raise

    async def prove(self, signed_in: SignedIn, password: str, visit: Visit) -> None:
        """
        Check the password of somebody who is signed in, and remember the moment.

        Raises:
            Refused: authentication_failed; rate_limited or overloaded, with Retry-After.
        """
        await self.check_password(signed_in.person, password, visit)
        now = self._clock.now()
        await self._engine.write(lambda conn: stored.prove(conn, signed_in.session.id, now))

    async def check_password(self, person: Person, password: str, visit: Visit) -> None:
        """
        Check the password of somebody who is signed in.

        Raises:
            Refused: authentication_failed; rate_limited or overloaded, with Retry-After.
        """
        guess = self._begin(person.id, person, visit, is_code=False)
        if not await self._is_password(person, password, visit):
            maillog.security("password_refused", peer=visit.peer, person_id=person.id, request_id=visit.request_id)
            raise Refused("authentication_failed", "this is not your password")
        self._pacing.succeeded(guess)

    async def _find(self, email: str) -> tuple[str, Person | None]:
        """Return the account that guesses are counted for, which need not exist, and the person who has it."""
        try:
            key = parse_address(email.strip()).key
        except InvalidAddress:
            key = email.strip().lower()[:254]
        return await self._engine.read(lambda conn: (sealing.keyed_hash(conn, key), people.by_email(conn, key)))

    def _begin(self, account: str, person: Person | None, visit: Visit, *, is_code: bool) -> Guess:
        device = visit.devices.get(person.id) if person else None
        begun = self._pacing.begin(account, visit.peer, device, is_code=is_code)
        if isinstance(begun, Guess):
            return begun
        self._tell_pause(account, person, visit, begun)
        raise Refused("rate_limited", "too many attempts: wait a moment", retry_after_s=max(1, math.ceil(begun)))

    def _tell_pause(self, account: str, person: Person | None, visit: Visit, wait_s: float) -> None:
        """Tell of a pause once a minute for each account and peer: ten thousand guesses must not fill the log."""
        now, what = self._clock.now(), f"{account} {visit.peer}"
        if now - self._logged.get(what, 0) < _LOG_EVERY_MS:
            return
        if len(self._logged) >= _MAX_LOGGED:
            self._logged.clear()
        self._logged[what] = now
        person_id = person.id if person else None
        maillog.security("sign_in_paused", peer=visit.peer, person_id=person_id, wait_s=math.ceil(wait_s), request_id=visit.request_id)

    async def _is_password(self, person: Person | None, password: str, visit: Visit) -> bool:
        is_able = person is not None and person.disabled_at is None
        hashed = person.password_hash if person is not None and is_able else None
        is_known = person is not None and person.id in visit.devices
        return await self._passwords.check(hashed, password, is_known_device=is_known)

    async def _renew_hash(self, person: Person, password: str) -> None:
        old = person.password_hash
        if old is None or not self._passwords.is_outdated(old):
            return
        new = await self._passwords.hash(password)
        await self._engine.write(lambda conn: people.set_password_hash(conn, person.id, old, new))

    def _open(self, conn: Connection, person: Person, visit: Visit, state: SessionState, by: str) -> Entered:
        now = self._clock.now()
        entered = open_session(conn, self._settings, person, visit, now, state=state)
        if state is SessionState.OPEN:
            tell_sign_in(conn, person, entered.session, visit, by, now)
        return entered

    def _use_code(self, conn: Connection, person_id: str, code: str, visit: Visit, now: Instant) -> Entered | None:
        person = people.get(conn, person_id, is_locking=True)
        if person is None or person.disabled_at is not None:
            return None
        step = second_factors.totp_step(person.totp_secret, code, now) if person.has_totp else None
        if step is not None:
            return self._open(conn, person, visit, SessionState.OPEN, "totp") if people.take_totp_step(conn, person_id, step) else None
        left = second_factors.without_code(person.recovery_hashes, code)
        if left is None:
            return None
        people.update(conn, replace(person, recovery_hashes=left))
        return self._open(conn, person, visit, SessionState.OPEN, "recovery_code")

    def _use_passkey(self, conn: Connection, site: Site, ticket: Ticket, answer: str, visit: Visit, now: Instant) -> Entered:
        passkey = people.find_passkey(conn, passkeys.passkey_id_of(answer), is_locking=True)
        expected = ticket.data["person_id"]
        if passkey is None or (expected and passkey.person_id != expected):
            raise Refused("authentication_failed", "this passkey is not known here")
        count = passkeys.read_signature(site, passkey, answer, ticket.data["challenge"], is_alone=not expected)
        person = people.get(conn, passkey.person_id)
        if person is None or person.disabled_at is not None or not ticket.spend(conn):
            raise Refused("authentication_failed", "this passkey is not known here")
        people.use_passkey(conn, passkey.id, count, now)
        return self._open(conn, person, visit, SessionState.OPEN, "passkey")


def tell_sign_in(conn: Connection, person: Person, session: Session, visit: Visit, by: str, now: Instant) -> None:
    """Write a sign-in into both logs."""
    change = Change(action="person.signed_in", object_id=person.id, tenant_id=session.tenant_id, after={"by": by, "session_id": session.id})
    audit.append(conn, actor_of(person, visit), change, now)
    maillog.changed("signed_in", person_id=person.id, session_id=session.id, by=by, peer=visit.peer)

"""
What people change about themselves: name, password, second factors.

Each change that matters ends the person's other sessions: whoever else had one must show the new credentials.
Not here: that it is asked for by somebody who signed in a short time ago (dashboard.access), what tenants change (people).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gatepost.clock import Clock
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.person import Passkey, Person, SignedIn
from gatepost.domain.tenant import Caller
from gatepost.mime.checks import text_faults
from gatepost.observe import maillog
from gatepost.store import audit, people
from gatepost.store import sessions as stored
from gatepost.store.audit import Change
from gatepost.store.engine import Engine
from gatepost.tenants import passkeys, second_factors
from gatepost.tenants.passkeys import Site
from gatepost.tenants.passwords import Passwords, password_faults
from gatepost.tenants.sign_in import PASSKEY_MS
from gatepost.tenants.sign_in_tickets import Tickets

_MAX_PASSKEYS = 20
_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Everything that a person sees about themselves."""

    person: Person
    passkeys: tuple[Passkey, ...]
    issuers: tuple[str, ...]

    @property
    def has_second_factor(self) -> bool:
        """True when a password alone does not let them in."""
        return self.person.has_totp or bool(self.passkeys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changing:
    """Who changes something about themselves, and from which session."""

    by: Caller
    signed_in: SignedIn = field(repr=False)

    @property
    def person_id(self) -> str:
        """Whose account it is."""
        return self.signed_in.person.id


class Accounts:
    """The accounts of all people, each in its owner's hands."""

    def __init__(self, engine: Engine, clock: Clock, passwords: Passwords, tickets: Tickets) -> None:
        self._engine = engine
        self._clock = clock
        self._passwords = passwords
        self._tickets = tickets

    async def get(self, person: Person) -> Account:
        """Return an account."""

        def read(conn: Connection) -> Account:
            return Account(
                person=person, passkeys=tuple(people.passkeys_of(conn, person.id)), issuers=tuple(people.issuers_of(conn, person.id))
            )

        return await self._engine.read(read)

    async def rename(self, who: Changing, name: str) -> None:
        """
        Change a person's name.

        Raises:
            Refused: validation_failed.
        """
        name = name.strip()
        faults = text_faults("/name", name, _NAME_LENGTH) if name else [Fault("/name", "required", "give your name")]
        if faults:
            raise invalid(*faults)
        await self._change(who, "person.renamed", lambda _conn, person: replace(person, name=name), ends_others=False)

    async def change_password(self, who: Changing, password: str) -> None:
        """
        Change a person's password; their other sessions end.

        Raises:
            Refused: validation_failed; overloaded.
        """
        person = who.signed_in.person
        if faults := password_faults("/password", password, person.email, person.name):
            raise invalid(*faults)
        hashed = await self._passwords.hash(password)
        await self._change(who, "person.password_changed", lambda _conn, found: replace(found, password_hash=hashed))

    async def add_totp(self, who: Changing, secret: str, code: str) -> list[str]:
        """
        Ask for an authenticator's codes from now on; return new recovery codes, which are shown this once.

        Args:
            secret: What the authenticator was set up with.
            code: A code of it, which shows that it was.

        Raises:
            Refused: validation_failed: the code is not right.
        """
        step = second_factors.totp_step(secret, code, self._clock.now()) if second_factors.is_totp_secret(secret) else None
        if step is None:
            raise invalid(Fault("/code", "wrong_code", "this code is not right: is the clock of your device right?"))
        codes, hashes = _new_codes()

        def change(_conn: Connection, person: Person) -> Person:
            return replace(person, totp_secret=secret, totp_used_at=step, recovery_hashes=hashes)

        await self._change(who, "person.totp_added", change)
        return codes

    async def remove_totp(self, who: Changing) -> None:
        """Ask for no authenticator's codes any more."""

        def change(conn: Connection, person: Person) -> Person:
            left = person.recovery_hashes if people.passkeys_of(conn, person.id) else ()
            return replace(person, totp_secret="", totp_used_at=None, recovery_hashes=left)

        await self._change(who, "person.totp_removed", change)

    async def renew_recovery_codes(self, who: Changing) -> list[str]:
        """
        Make new recovery codes, which are shown this once; the old ones are worth nothing any more.

        Raises:
            Refused: conflict: there is no second factor that they could stand in for.
        """
        codes, hashes = _new_codes()

        def change(conn: Connection, person: Person) -> Person:
            if not person.has_totp and not people.passkeys_of(conn, person.id):
                raise Refused("conflict", "recovery codes stand in for a second factor: add one first")
            return replace(person, recovery_hashes=hashes)

        await self._change(who, "person.recovery_codes_made", change)
        return codes

    async def ask_for_passkey(self, who: Changing, site: Site) -> tuple[str, str]:
        """Return what to ask a browser for, as JSON, and the ticket that must come back with its answer."""
        challenge = passkeys.make_challenge()
        person = who.signed_in.person
        known = await self._engine.read(lambda conn: people.passkeys_of(conn, person.id))
        ticket = await self._tickets.make("new passkey", who.signed_in.session.id, PASSKEY_MS, challenge=challenge)
        return passkeys.registration_options(site, person, known, challenge), ticket

    async def add_passkey(self, who: Changing, site: Site, ticket_text: str, answer: str, name: str) -> list[str]:
        """
        Add a passkey; return recovery codes when it is the person's first second factor.

        Raises:
            Refused: authentication_failed, validation_failed; conflict when there are too many, or it is known already.
        """
        ticket = await self._tickets.read(ticket_text, "new passkey", who.signed_in.session.id)
        if ticket is None:
            raise Refused("authentication_failed", "this took too long: load the page again and repeat it")
        name = name.strip() or "Passkey"
        if faults := text_faults("/name", name, _NAME_LENGTH):
            raise invalid(*faults)
        now, person = self._clock.now(), who.signed_in.person
        added = passkeys.read_registration(site, person, answer, ticket.data["challenge"], name, now)
        codes, hashes = _new_codes()
        is_first = False

        def change(conn: Connection, found: Person) -> Person:
            nonlocal is_first
            known = people.passkeys_of(conn, person.id)
            if len(known) >= _MAX_PASSKEYS or not ticket.spend(conn):
                raise Refused("conflict", "you have too many passkeys, or this one was added already")
            people.insert_passkey(conn, added)
            is_first = not found.recovery_hashes
            return replace(found, recovery_hashes=hashes) if is_first else found

        try:
            await self._change(who, "person.passkey_added", change, passkey=name)
        except IntegrityError:
            raise Refused("conflict", "this passkey is known already") from None
        return codes if is_first else []

    async def remove_passkey(self, who: Changing, passkey_id: str) -> None:
        """
        Forget a passkey.

        Raises:
            Refused: not_found.
        """

        def change(conn: Connection, person: Person) -> Person:
            if not people.remove_passkey(conn, person.id, passkey_id):
                raise Refused("not_found", "there is no such passkey")
            is_last = not person.has_totp and not people.passkeys_of(conn, person.id)
            return replace(person, recovery_hashes=()) if is_last else person

        await self._change(who, "person.passkey_removed", change)

    async def _change(
        self, who: Changing, action: str, change: Callable[[Connection, Person], Person], *, ends_others: bool = True, **after: str
    ) -> None:
        now = self._clock.now()

        def write(conn: Connection) -> None:
            person = people.get(conn, who.person_id, is_locking=True)
            if person is None:
                raise Refused("not_found", "there is no such person")
            people.update(conn, change(conn, person))
            if ends_others:
                stored.delete_of_person(conn, person.id, but=who.signed_in.session.id)
            audit.append(conn, who.by.actor, Change(action=action, object_id=person.id, tenant_id=None, after=after or None), now)

        await self._engine.write(write)
        maillog.changed(action.replace(".", "_"), person_id=who.person_id, peer=who.by.peer)


def _new_codes() -> tuple[list[str], tuple[str, ...]]:
    codes = second_factors.make_recovery_codes()
    return codes, tuple(hashed for code in codes if (hashed := second_factors.recovery_hash(code)))

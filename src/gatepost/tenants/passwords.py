"""
Passwords: which are taken, how they are hashed, and how hashing is kept from eating the machine.

Argon2id with the parameters that OWASP's Password Storage Cheat Sheet names (19 MiB, two passes, one lane): some 30 ms of
one core, in a thread of its own, one at a time, so that signing in takes neither memory nor cores from the mail. There are
two rows: devices that are known come first, so that a flood of guesses does not hold their owners up. What would wait for
long is refused at once.
Standards: RFC 9106 (Argon2), NIST SP 800-63B §3.1.1.2 (length and block list instead of rules of composition).
Bugs: the block list is short; patterns stand for the rest of the common ones.
"""

import asyncio
import re
import unicodedata
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from gatepost.domain.errors import Fault, Refused
from gatepost.store.threads import roam

if TYPE_CHECKING:
    from collections.abc import Callable

    from argon2 import PasswordHasher

T = TypeVar("T")

MIN_LENGTH = 12
MAX_LENGTH = 256
_MEMORY_KIB = 19_456
_PASSES = 2
_MAX_WAITING = 12

_COMMON = frozenset(
    """
    password passw passwort pass motdepasse contrasena senha parola wachtwoord haslo salasana qwerty qwertz azerty qwertyuiop qwertzuiop
    azertyuiop asdfgh asdfghjkl asdfghjklö zxcvbn zxcvbnm yxcvbnm qazwsx qazwsxedc qweasd qweasdzxc qwe asd zxc letmein welcome willkommen
    bienvenue changeme changemeplease changethis admin administrator root superuser user test testing tester guest login signin master
    iloveyou iloveu ichliebedich jetaime teamo sunshine princess dragon monkey football baseball basketball soccer superman batman starwars
    pokemon shadow michael jordan charlie jennifer jessica ashley trustno hello hellohello helloworld hallo hallohallo bonjour abc abcdef
    abcdefg abcdefgh abcdefghijkl abcdefghijklm default secret topsecret geheim freedom whatever computer internet server mailserver email
    mail gatepost company summer winter spring autumn fall january february march april june july august september october november december
    sommer fruehling frühling herbst monday friday correcthorsebatterystaple correcthorse thisismypassword mypassword yourpassword
    passwordpassword supersecret verysecret nothing unknown temp temporary example demo
    """.split()  # noqa: SIM905 - words are easier to read and to add to
)
_LEET = str.maketrans("0134578@$!", "oleastbasi")
_KEY_ROWS = (
    "01234567890123456789",
    "qwertyuiop",
    "qwertzuiop",
    "azertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "yxcvbnm",
    "abcdefghijklmnopqrstuvwxyz",
)
_COLUMNS = "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p"


def password_faults(pointer: str, password: str, email: str, name: str = "") -> list[Fault]:
    """
    Say what keeps a password from being taken; an empty list takes it.

    Args:
        pointer: The field that holds it.
    """
    text = unicodedata.normalize("NFKC", password)
    if len(text) < MIN_LENGTH:
        return [Fault(pointer, "too_short", f"give at least {MIN_LENGTH} characters; several words are fine")]
    if len(password) > MAX_LENGTH:
        return [Fault(pointer, "too_long", f"give at most {MAX_LENGTH} characters")]
    plain = text.casefold()
    if any(part in plain for part in _own_words(email, name)):
        return [Fault(pointer, "contains_identity", "it contains your name or e-mail address: that is what is tried first")]
    if _is_common(plain):
        return [Fault(pointer, "too_common", "it is one of the passwords that are tried first; take several unrelated words")]
    return []


def _own_words(email: str, name: str) -> list[str]:
    address = email.casefold()
    words = [address, address.partition("@")[0], *name.casefold().split(), "".join(name.casefold().split())]
    return [word for word in words if len(word) >= 4]


def _is_common(plain: str) -> bool:
    """Tell whether a password is a common word with decoration, a repetition, or a walk over the keyboard."""
    if len(set(plain)) <= 4 or re.fullmatch(r"(.{1,6}?)\1+.{0,5}", plain):
        return True
    bare = re.sub(r"^[\W\d_]+|[\W\d_]+$", "", plain)
    for form in (plain, plain.translate(_LEET), bare.translate(_LEET)):
        core = re.sub(r"[\W\d_]+", "", form)
        if core and not _words_left(core):
            return True
    return _walked(plain) >= len(plain) - 3


def _words_left(core: str) -> str:
    """Take common words off the front; what is left was somebody's own."""
    found = True
    while core and found:
        found = False
        for end in range(len(core), 2, -1):
            if core[:end] in _COMMON:
                core, found = core[end:], True
                break
    return core


def _walked(plain: str) -> int:
    """Count the characters that stand in rows of at least four neighbours on a keyboard or in the alphabet."""
    rows = [direction for row in (*_KEY_ROWS, _COLUMNS) for direction in (row, row[::-1])]
    count = at = 0
    while at < len(plain):
        length = max((_common_length(plain, at, row) for row in rows), default=0)
        if length >= 4:
            count += length
        at += max(1, length if length >= 4 else 1)
    return count


def _common_length(plain: str, at: int, row: str) -> int:
    length = 0
    while at + length < len(plain) and plain[at : at + length + 1] in row:
        length += 1
    return length


class Passwords:
    """Hashes and checks; one per process."""

    def __init__(self, *, memory_kib: int = _MEMORY_KIB, passes: int = _PASSES, max_waiting: int = _MAX_WAITING) -> None:
        """
        Args:
            max_waiting: Checks that may wait for their turn, in each of the two rows.
        """
        self._memory_kib = memory_kib
        self._passes = passes
        self._max_waiting = max_waiting
        self._rows: dict[bool, deque[asyncio.Future[None]]] = {True: deque(), False: deque()}
        self._is_busy = False
        self._thread: ThreadPoolExecutor | None = None
        self._made: PasswordHasher | None = None
        self._dummy: str | None = None

    async def hash(self, password: str) -> str:
        """
        Return what is stored of a password.

        Raises:
            Refused: overloaded: too many wait for their turn.
        """
        return await self._run(True, lambda: self._hasher().hash(_form(password)))

    async def check(self, stored: str | None, password: str, *, is_known_device: bool) -> bool:
        """
        Tell whether a password is the one that is stored.

        Without a stored one as much is computed, so that time does not tell whether there is an account.

        Raises:
            Refused: overloaded: too many wait for their turn.
        """
        return await self._run(is_known_device, lambda: self._check(stored, password))

    def is_outdated(self, stored: str) -> bool:
        """Tell whether a hash was made with other parameters than are used now."""
        return self._hasher().check_needs_rehash(stored)

    def close(self) -> None:
        """Let the thread end."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    def _check(self, stored: str | None, password: str) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415 - only who signs in needs it

        if self._dummy is None:
            self._dummy = self._hasher().hash("nobody has this password")
        try:
            return self._hasher().verify(stored or self._dummy, _form(password)) and stored is not None
        except (VerificationError, InvalidHashError):
            return False

    def _hasher(self) -> "PasswordHasher":
        if self._made is None:
            from argon2 import PasswordHasher  # noqa: PLC0415 - only who signs in needs it

            self._made = PasswordHasher(time_cost=self._passes, memory_cost=self._memory_kib, parallelism=1)
        return self._made

    async def _run(self, is_known_device: bool, work: "Callable[[], T]") -> T:  # noqa: FBT001 - which of two rows
        await self._wait_for_turn(self._rows[is_known_device])
        try:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "password", initializer=roam)
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._next()

    async def _wait_for_turn(self, row: "deque[asyncio.Future[None]]") -> None:
        if not self._is_busy:
            self._is_busy = True
            return
        if len(row) >= self._max_waiting:
            raise Refused("overloaded", "too many people sign in at this moment", retry_after_s=2)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        row.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was our turn already, and is the next one's now
                self._next()
            raise

    def _next(self) -> None:
        """Give the turn away: to a known device first."""
        for row in (self._rows[True], self._rows[False]):
            while row:
                turn = row.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._is_busy = False


def _form(password: str) -> bytes:
    """Return a password's bytes: the same however a keyboard composes its letters (NIST SP 800-63B §3.1.1.2), and bounded."""
    return unicodedata.normalize("NFKC", password[: MAX_LENGTH * 2]).encode("utf-8", "surrogatepass")

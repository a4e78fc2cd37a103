"""
Mailboxes over IMAP: the few things that are asked of them, each bounded in time and size.

Arrives: an account. Leaves: a session with folders, searches, sizes, contents; `ImapTrouble` for whatever goes wrong, with no secret in it.
IMAPClient speaks the protocol, in a thread for each call; nobody waits for it beyond the session's end; its connection is ours (imap_wire),
since a server may be anyone's.
Standards: RFC 3501, RFC 4315 (UIDPLUS), RFC 6154 (SPECIAL-USE), RFC 6851 (MOVE), RFC 2177 (IDLE), RFC 4616 (PLAIN),
XOAUTH2 as Google and Microsoft have it.
Not here: what a mailbox is for (returns.mailbox, placement).
Bugs: a name that takes long to be looked up holds its thread for so long, though nobody waits for it.
"""

import asyncio
import contextlib
import datetime as dt
import imaplib
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, TypeVar

from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, LoginError

from gatepost.clock import Clock, Instant
from gatepost.net.imap_wire import BoundedImap, Bounds
from gatepost.net.tls import ClientTls

T = TypeVar("T")

SESSION_S: Final = 300.0
"""Time for one session, whatever the server does."""
_ANSWER: Final = 2 * 1024 * 1024
_HEADER: Final = 256 * 1024
_WINDOW: Final = 10_000
"""Messages that one search looks at: its answer is one line."""
_MOST_WINDOWS: Final = 200
_MOST_UID: Final = 2**32 - 1
_JUNK: Final = b"\\junk"
_JUNK_NAMES: Final = frozenset(
    {"junk", "spam", "junk e-mail", "junk email", "junk mail", "bulk", "bulk mail", "spamverdacht", "unerwünscht"}
)


class ImapTrouble(Exception):  # noqa: N818
    """
    A mailbox could not be used; the text is for an operator.

    Attributes:
        is_refused: The server does not take our name and secret.
        is_broken: The session is over; otherwise only one thing could not be done.
    """

    def __init__(self, detail: str, *, is_refused: bool = False, is_broken: bool = True) -> None:
        """Say why, on one line of printable characters."""
        super().__init__("".join(c if c.isprintable() else " " for c in detail)[:300].strip())
        self.is_refused = is_refused
        self.is_broken = is_broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A password, or an access token."""

    text: str = field(repr=False)
    is_token: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImapAccount:
    """
    A mailbox's account.

    Attributes:
        tls: From the first byte, by STARTTLS, or never.
        secret: Gives password or token; may raise `ImapTrouble`.
        forget: Is told that a token was not taken.
    """

    host: str
    port: int
    user: str
    tls: Literal["implicit", "starttls", "never"]
    secret: Callable[[], Awaitable[Secret]] = field(repr=False)
    forget: Callable[[], None] = field(default=lambda: None, repr=False)
    ca_file: str = ""
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """
    A selected folder.

    Attributes:
        uid_validity: UIDs mean the same while this stays the same (RFC 3501 §2.3.1.1).
        keeps_keywords: It takes flags of our own making.
    """

    name: str
    uid_validity: int
    messages: int
    keeps_keywords: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The header of a message, and when its server took it."""

    content: bytes = field(repr=False)
    arrived_at: Instant | None


class _Client(IMAPClient):  # type: ignore[misc]
    """IMAPClient over our connection."""

    def __init__(self, account: ImapAccount, bounds: Bounds, tls: ssl.SSLContext | None) -> None:
        self._bounds = bounds
        super().__init__(account.host, account.port, ssl=account.tls == "implicit", ssl_context=tls)
        self.normalise_times = False
        self._imap.debug = 0  # it would write every line, passwords too, for a log that is thrown away

    def _create_IMAP4(self) -> BoundedImap:  # noqa: N802 - IMAPClient's name
        return BoundedImap(self.host, self.port, self._bounds, self.ssl_context if self.ssl else None)

    def wait_for_news(self, seconds: float) -> bool:
        """Wait; see `BoundedImap.idle`."""
        connection: BoundedImap = self._imap
        return connection.idle(seconds)

    def _set_read_timeout(self) -> None:
        """Leave time to `Bounds`."""


@asynccontextmanager
async def open_mailbox(account: ImapAccount, clock: Clock, session_s: float = SESSION_S) -> "AsyncIterator[ImapSession]":
    """
    Connect, encrypt and sign in; the connection is closed at the end, whatever happened.

    Raises:
        ImapTrouble: The mailbox cannot be used.
    """
    secret = await account.secret()
    session = ImapSession(account, Bounds(clock.monotonic, timeout_s=account.timeout_s, session_s=session_s))
    try:
        await session.begin(secret)
        yield session
    finally:
        session.end()


class ImapSession:
    """One session; one thing at a time."""

    def __init__(self, account: ImapAccount, bounds: Bounds) -> None:
        """Connect to nothing yet."""
        self._account = account
        self._bounds = bounds
        self._client: Any = None

    async def begin(self, secret: Secret) -> None:
        """
        Connect and sign in.

        Raises:
            ImapTrouble: There is no connection, or the server does not take us.
        """
        try:
            await self._run(lambda: self._begin(secret))
        except ImapTrouble as trouble:
            if trouble.is_refused and secret.is_token:
                self._account.forget()
            raise

    def end(self) -> None:
        """Close the connection at once."""
        self._bounds.end()
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.socket().close()

    async def select(self, name: str, *, is_readonly: bool = False) -> Folder:
        """
        Open a folder.

        Raises:
            ImapTrouble: There is none, or it cannot be opened.
        """
        found = await self._run(lambda: self._client.select_folder(name, readonly=is_readonly))
        validity, count = found.get(b"UIDVALIDITY"), found.get(b"EXISTS", 0)
        if not isinstance(validity, int) or not 0 < validity <= _MOST_UID or not isinstance(count, int) or count < 0:
            raise ImapTrouble("the server does not tell UIDVALIDITY and the number of messages")
        keeps = b"\\*" in (found.get(b"PERMANENTFLAGS") or ())
        return Folder(name=name, uid_validity=validity, messages=count, keeps_keywords=keeps and not is_readonly)

    async def search(
        self, folder: Folder, criteria: Sequence[str], most: int, pick: Callable[[Sequence[int]], Awaitable[list[int]]]
    ) -> list[int]:
        """
        Find messages, the oldest first, window by window until there are enough.

        Args:
            pick: Leaves of a window's UIDs those that are wanted.

        Raises:
            ImapTrouble: It cannot be searched.
        """
        found: list[int] = []
        for window in range(min(-(-folder.messages // _WINDOW), _MOST_WINDOWS)):
            span = f"{window * _WINDOW + 1}:{min((window + 1) * _WINDOW, folder.messages)}"
            uids = await self._run(partial(self._client.search, [span, *criteria]))
            found += await pick(sorted({uid for uid in uids if _is_uid(uid)})[:_WINDOW])
            if len(found) >= most:
                break
        return found[:most]

    async def find(self, criteria: Sequence[str]) -> list[int]:
        """
        Find messages by what few have.

        Raises:
            ImapTrouble: It cannot be searched.
        """
        uids = await self._run(lambda: self._client.search(list(criteria)))
        return sorted({uid for uid in uids if _is_uid(uid)})[:_WINDOW]

    async def sizes(self, uids: Sequence[int]) -> dict[int, int]:
        """
        Return sizes in bytes, of those messages that are there.

        Raises:
            ImapTrouble: It does not tell.
        """
        found = await self._run(lambda: self._client.fetch(list(uids), ["RFC822.SIZE"]))
        return {uid: one[b"RFC822.SIZE"] for uid, one in found.items() if uid in uids and isinstance(one.get(b"RFC822.SIZE"), int)}

    async def content(self, uid: int, most: int) -> bytes | None:
        """
        Return a message as it came, unmarked; None when it is gone, or the server has nothing of it.

        Args:
            most: Bytes at most.

        Raises:
            ImapTrouble: It is larger, or cannot be had.
        """
        found = await self._run(lambda: self._client.fetch([uid], ["BODY.PEEK[]"]), most + _HEADER)
        content = found.get(uid, {}).get(b"BODY[]")
        if isinstance(content, bytes) and len(content) > most:
            raise ImapTrouble("the message is larger than its size")
        return content if isinstance(content, bytes) and content else None

    async def head(self, uid: int) -> Head | None:
        """
        Return the beginning of a message's header; None when it is gone.

        Raises:
            ImapTrouble: It cannot be had.
        """
        query = [f"BODY.PEEK[HEADER]<0.{_HEADER}>", "INTERNALDATE"]
        found = (await self._run(lambda: self._client.fetch([uid], query), 2 * _HEADER)).get(uid, {})
        begins = b"BODY[HEADER]"  # what follows tells where the part begins
        content = next((value for key, value in found.items() if isinstance(key, bytes) and key.startswith(begins)), None)
        at = found.get(b"INTERNALDATE")
        if not isinstance(content, bytes):
            return None
        return Head(content=content, arrived_at=_instant(at) if isinstance(at, dt.datetime) else None)

    async def junk_folders(self) -> list[str]:
        """
        List the folders of spam: by attribute, else by name.

        Raises:
            ImapTrouble: It does not list folders.
        """
        listed = await self._run(self._client.list_folders)
        marked = [_text(name) for flags, _, name in listed if any(isinstance(flag, bytes) and flag.lower() == _JUNK for flag in flags)]
        return marked[:5] or [_text(name) for _, mark, name in listed if _last(name, mark).lower() in _JUNK_NAMES][:5]

    async def can_wait(self) -> bool:
        """
        Tell whether the server offers to tell of news (RFC 2177).

        Raises:
            ImapTrouble: It does not say.
        """
        return bool(await self._run(lambda: self._client.has_capability("IDLE")))

    async def wait(self, seconds: float) -> bool:
        """
        Wait until mail comes into the folder, or a time is over; tell whether some came.

        Args:
            seconds: Less than the half hour after which servers end such a session.

        Raises:
            ImapTrouble: The server does not let us wait, or the session is over.
        """
        self._bounds.extend(seconds + SESSION_S)
        try:
            return await self._run(lambda: self._client.wait_for_news(seconds))
        finally:
            self._bounds.extend(SESSION_S)

    async def flag(self, uid: int, flags: Iterable[str]) -> None:
        """
        Set flags.

        Raises:
            ImapTrouble: They cannot be set.
        """
        await self._run(lambda: self._client.add_flags([uid], list(flags), silent=True))

    async def move(self, uid: int, folder: str) -> None:
        """
        Move a message; the folder is made where it is missing.

        Raises:
            ImapTrouble: It stays, perhaps with a copy in the other folder.
        """
        await self._run(lambda: self._move(uid, folder))

    async def delete(self, uid: int) -> None:
        """
        Delete a message; a server without UIDPLUS only marks it, since others' marked mail would go with it.

        Raises:
            ImapTrouble: It stays.
        """
        await self._run(lambda: self._delete(uid))

    def _begin(self, secret: Secret) -> None:
        account = self._account
        tls = ClientTls(account.ca_file).verified if account.tls != "never" else None
        self._bounds.allow(_ANSWER)
        self._client = _Client(account, self._bounds, tls)
        if account.tls == "starttls":
            self._client.starttls(tls)
        try:
            self._sign_in(secret)
        except LoginError as error:
            words = str(error).replace(secret.text, "…")
            raise ImapTrouble(f"the server does not take us: {words}", is_refused=True) from None

    def _sign_in(self, secret: Secret) -> None:
        user = self._account.user
        if secret.is_token:
            self._client.oauth2_login(user, secret.text)
        elif self._client.has_capability("AUTH=PLAIN"):
            self._client.plain_login(user, secret.text)
        elif self._client.has_capability("LOGINDISABLED"):
            raise ImapTrouble("the server takes no passwords (LOGINDISABLED)", is_refused=True)
        else:
            self._client.login(_quoted(user), secret.text)

    def _move(self, uid: int, folder: str) -> None:
        if not self._client.folder_exists(folder):
            self._client.create_folder(folder)
        if self._client.has_capability("MOVE"):
            self._client.move([uid], folder)
            return
        self._client.copy([uid], folder)
        self._delete(uid)

    def _delete(self, uid: int) -> None:
        self._client.add_flags([uid], ["\\Deleted"], silent=True)
        if self._client.has_capability("UIDPLUS"):
            self._client.uid_expunge([uid])

    async def _run(self, work: Callable[[], T], most: int = _ANSWER) -> T:
        """Do something in a thread; nobody waits for it beyond its time."""

        def bounded() -> T:
            self._bounds.allow(most)
            return work()

        try:
            return await _in_thread(bounded)
        except asyncio.CancelledError:
            self.end()
            raise
        except ImapTrouble:
            raise
        except Exception as error:  # noqa: BLE001 - strangers write what is parsed there; whatever breaks is the server's trouble
            raise self._trouble(error) from None

    def _trouble(self, error: Exception) -> ImapTrouble:
        match error:
            case ssl.SSLCertVerificationError():
                return ImapTrouble(f"its certificate is not valid: {error.verify_message}")
            case TimeoutError():
                return ImapTrouble("the server does not answer in time")
            case IMAPClientAbortError() | imaplib.IMAP4.abort():
                return ImapTrouble(f"the connection broke: {error}")
            case IMAPClientError() | imaplib.IMAP4.error():
                return ImapTrouble(f"the server refuses: {error}", is_broken=self._client is None)
            case OSError():
                return ImapTrouble(f"no connection: {error.strerror or error}")
        return ImapTrouble(f"the server's answer cannot be read ({type(error).__name__})")


async def _in_thread(work: Callable[[], T]) -> T:
    """Run in a thread of its own: neither the loop's other threads nor the end of the process wait for a slow server."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(finish, result, failure)

    threading.Thread(target=run, name="imap", daemon=True).start()
    return await future


def _is_uid(value: Any) -> bool:
    return isinstance(value, int) and 0 < value <= _MOST_UID


def _text(name: Any) -> str:
    return name if isinstance(name, str) else bytes(name).decode("utf-8", "replace")


def _last(name: Any, mark: Any) -> str:
    text = _text(name)
    delimiter = mark.decode("ascii", "replace") if isinstance(mark, bytes) else ""
    return text.rpartition(delimiter)[2] if delimiter else text


def _quoted(user: str) -> str:
    """Write a user's name as a string of IMAP: imaplib sends it as it is."""
    return '"' + user.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _instant(at: dt.datetime) -> Instant:
    return int((at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp() * 1000)

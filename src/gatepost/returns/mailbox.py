"""
Reads an abuse mailbox: each mail is stored as if it had come to our own door, and only then is the mailbox told.

Arrives: the options of a mailbox. Leaves: rows of store.inbound, each mail once; flags, moves or deletions in the mailbox; how it is doing.
A mail is stored in one transaction with its UID, so that a crash before the mailbox was told stores nothing twice. What is too large, or
cannot be had three times, is left there, flagged. Of several processes one reads a mailbox; after failures it is asked ever less.
Where the server offers it, the session stays open and mail is read when it comes; it is looked now and then all the same. When that ends,
for whatever reason, it is asked in time again.
Standards: RFC 3501 §2.3.1.1 (UIDs), RFC 2177 (IDLE).
Not here: whom its mail speaks of, which is for returns.letters to say: nobody but the recipient whose return path it quotes.
Bugs: a server without keywords is asked for all messages each time.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Final

from gatepost.clock import HOUR, MINUTE, SECOND, Clock, Instant
from gatepost.net.imap import Folder, ImapAccount, ImapSession, ImapTrouble, open_mailbox
from gatepost.observe import maillog, metrics
from gatepost.settings import Mailbox
from gatepost.store import health, mailboxes
from gatepost.store.engine import Engine
from gatepost.store.inbound import Arrived
from gatepost.store.mailboxes import LetterKey, MailboxState

READ: Final = "GatepostRead"
LEFT: Final = "GatepostLeft"
_AT_ONCE: Final = 100
_LEASE_MS: Final = 90 * SECOND
_RENEW_MS: Final = 20 * SECOND
_TRIES: Final = 3
_WAIT_S: Final = 50.0
"""How long one wait for news is: the lease outlives it, and no router forgets the connection."""
_LOOK_MS: Final = 15 * MINUTE
"""How often it is looked without news: flags may be gone, or news lost."""
_PAUSE_S: Final = 0.5
"""Between two looks: a server that tells of news without end keeps nobody busy."""


class AbuseMailbox:
    """One mailbox, in one process."""

    def __init__(
        self, engine: Engine, clock: Clock, name: str, options: Mailbox, account: ImapAccount, folder: str, *, most_bytes: int, owner: str
    ) -> None:
        """
        Connect to nothing yet.

        Args:
            folder: Where its mail lies.
            most_bytes: Larger mail is left there.
            owner: Name of this process.
        """
        self._engine = engine
        self._clock = clock
        self._name = name
        self._options = options
        self._account = account
        self._folder = folder
        self._most_bytes = most_bytes
        self._owner = owner
        self._id = hashlib.sha256(f"{account.host}\0{account.port}\0{account.user}\0{folder}".encode()).hexdigest()[:40]
        self._due_at: Instant = 0
        self._every_ms = options.every_s * SECOND
        self._longest_ms = max(HOUR, self._every_ms)
        self._held_at: Instant = 0
        self._unreadable: Counter[tuple[int, int]] = Counter()

    async def step(self) -> None:
        """
        Look into the mailbox when it is time for it, and this process's turn.

        Raises:
            StorageUnavailable: The database cannot be used now; nothing is lost.
        """
        await self._turn(is_patient=False)

    async def watch(self) -> None:
        """
        Do as `step`, and stay where the server tells of new mail, for as long as it does.

        Raises:
            StorageUnavailable: The database cannot be used now; nothing is lost.
        """
        await self._turn(is_patient=self._options.idle)

    async def _turn(self, *, is_patient: bool) -> None:
        now = self._clock.now()
        if now < self._due_at:
            return
        before = (await self._engine.read(mailboxes.states)).get(self._name)
        # after a start it is looked at once: its settings may be better than they were
        if self._due_at and before is not None and now < before.due_at <= now + self._longest_ms:
            self._due_at = before.due_at
            return
        self._due_at = now + self._every_ms
        if await self._is_ours():
            await self._look(before, is_patient=is_patient)

    async def _is_ours(self) -> bool:
        """Take the mailbox, or keep it."""
        now = self._clock.now()
        until = now + _LEASE_MS + int(2 * self._options.timeout_s * SECOND)
        self._held_at = now
        return await self._engine.write(lambda conn: health.hold(conn, f"mailbox {self._name}", self._owner, now, until))

    async def _keep(self) -> None:
        if self._clock.now() - self._held_at > _RENEW_MS and not await self._is_ours():
            raise ImapTrouble("another process reads it by now")

    async def _look(self, before: MailboxState | None, *, is_patient: bool) -> None:
        trouble, is_more = "", False
        try:
            async with open_mailbox(self._account, self._clock) as session:
                is_more = await self._read(session)
                if is_patient and not is_more:
                    before = await self._noted(before, "")
                    await self._stay(session, before)
                    return
        except ImapTrouble as error:
            trouble = str(error) or "it cannot be read"
        await self._noted(before, trouble, is_more=is_more)

    async def _stay(self, session: ImapSession, state: MailboxState) -> None:
        """Read what comes while the session lasts; why it ended is nobody's trouble, the next look tells what is."""
        looked_at = state.checked_at
        try:
            while await session.can_wait():
                has_news = await session.wait(_WAIT_S)
                await self._keep()
                if has_news or self._clock.now() - looked_at >= _LOOK_MS:
                    while await self._read(session):
                        pass
                    looked_at = self._clock.now()
                    await self._clock.sleep(_PAUSE_S)
                if has_news or self._clock.now() - state.checked_at >= self._every_ms:
                    state = await self._noted(state, "")
        except ImapTrouble as error:
            maillog.lifecycle("an abuse mailbox ended the session", mailbox=self._name, why=str(error))
            self._due_at = self._clock.now() + self._every_ms

    async def _noted(self, before: MailboxState | None, trouble: str, *, is_more: bool = False) -> MailboxState:
        """Write down how the mailbox is doing."""
        now = self._clock.now()
        failures = 0 if not trouble else 1 if before is None else before.failures + 1
        wait = 0 if is_more else min(self._every_ms * 2 ** min(failures, 12), self._longest_ms)
        since = None if not trouble else now if before is None or before.failing_since is None else before.failing_since
        state = MailboxState(
            name=self._name, checked_at=now, due_at=now + wait, failing_since=since, failures=failures, detail=trouble
        )  # fmt: skip
        self._due_at = state.due_at
        self._tell(before, state)
        await self._engine.write(lambda conn: mailboxes.put_state(conn, state))
        return state

    def _tell(self, before: MailboxState | None, state: MailboxState) -> None:
        metrics.mailbox_up.labels(self._name).set(0 if state.failures else 1)
        if state.failures:
            maillog.trouble("an abuse mailbox cannot be read", mailbox=self._name, error=state.detail, failures=state.failures)
        elif before is not None and before.failures:
            maillog.lifecycle("an abuse mailbox can be read again", mailbox=self._name)

    async def _read(self, session: ImapSession) -> bool:
        """Read what is new; return whether there is more."""
        folder = await session.select(self._folder)
        criteria = ["UNDELETED", "UNKEYWORD", READ, "UNKEYWORD", LEFT] if folder.keeps_keywords else ["UNDELETED"]
        untold: dict[int, str] = {}

        async def pick(uids: Sequence[int]) -> list[int]:
            await self._keep()
            states = await self._engine.read(lambda conn: mailboxes.known(conn, self._id, folder.uid_validity, uids))
            untold.update({uid: state for uid, (state, is_told) in states.items() if not is_told})
            return [uid for uid in uids if uid not in states]

        new = await session.search(folder, criteria, _AT_ONCE, pick)
        sizes = await session.sizes(new) if new else {}
        troubles = [await self._take(session, folder, uid, sizes.get(uid)) for uid in new]
        for uid, state in list(untold.items())[:_AT_ONCE]:  # who stored them did not come so far
            troubles.append(await self._told(session, folder, uid, state))
        if found := [trouble for trouble in troubles if trouble is not None]:
            raise found[0]
        return len(new) >= _AT_ONCE

    async def _take(self, session: ImapSession, folder: Folder, uid: int, size: int | None) -> ImapTrouble | None:
        """Store a message, then tell the mailbox; return what keeps only this one from it."""
        await self._keep()
        if size is None:  # it went meanwhile
            return None
        if size > self._most_bytes:
            return await self._leave(session, folder, uid, "too_large", size)
        try:
            content = await session.content(uid, self._most_bytes)
        except ImapTrouble as error:
            if self._is_hopeless(folder, uid):
                await self._note_left(folder, uid, "unreadable", size)
            if error.is_broken:
                raise
            return error
        if content is None:
            return await self._leave(session, folder, uid, "unreadable", size) if self._is_hopeless(folder, uid) else None
        details = {"sender": "", "recipients": [], "peer": "", "mailbox": self._name}
        arrived, key, now = Arrived(kind="mail", details=details, body=content), self._key(folder, uid), self._clock.now()
        result = await self._engine.write(lambda conn: mailboxes.store(conn, key, arrived, now))
        metrics.mailbox_letters.labels(self._name, result).inc()
        return await self._told(session, folder, uid, result)

    def _is_hopeless(self, folder: Folder, uid: int) -> bool:
        """One that cannot be had three times must not keep the others from being read."""
        if len(self._unreadable) > _AT_ONCE:
            self._unreadable.clear()
        self._unreadable[folder.uid_validity, uid] += 1
        return self._unreadable[folder.uid_validity, uid] >= _TRIES

    async def _leave(self, session: ImapSession, folder: Folder, uid: int, state: str, size: int) -> ImapTrouble | None:
        await self._note_left(folder, uid, state, size)
        return await self._told(session, folder, uid, state)

    async def _note_left(self, folder: Folder, uid: int, state: str, size: int) -> None:
        key, now = self._key(folder, uid), self._clock.now()
        if await self._engine.write(lambda conn: mailboxes.leave(conn, key, state, now)):
            metrics.mailbox_letters.labels(self._name, state).inc()
            maillog.trouble("a mail of an abuse mailbox is left there", mailbox=self._name, uid=uid, why=state, bytes=size)

    async def _told(self, session: ImapSession, folder: Folder, uid: int, state: str) -> ImapTrouble | None:
        """Tell the mailbox what became of a mail."""
        try:
            await self._mark(session, folder, uid, is_left=state in mailboxes.LEFT)
        except ImapTrouble as error:
            if error.is_broken:
                raise
            return error
        key, now = self._key(folder, uid), self._clock.now()
        await self._engine.write(lambda conn: mailboxes.mark(conn, key, now))
        return None

    async def _mark(self, session: ImapSession, folder: Folder, uid: int, *, is_left: bool) -> None:
        if is_left:
            await session.flag(uid, ["\\Flagged", *([LEFT] if folder.keeps_keywords else [])])
        elif self._options.when_read == "move":
            await session.move(uid, self._options.move_to)
        elif self._options.when_read == "delete":
            await session.delete(uid)
        elif folder.keeps_keywords:
            await session.flag(uid, [READ])

    def _key(self, folder: Folder, uid: int) -> LetterKey:
        return LetterKey(mailbox=self._id, uid_validity=folder.uid_validity, uid=uid)

"""
What the public endpoints ask: whose pixel, link or page is it, and may it be.

Arrives: a token as somebody's program sent it, and how the request looked. Leaves: where to go on; a visit on its way to be
written down; what a recipient decided.
Who asks is answered before the visit is on disk: a reader waits for nobody. Visits are written in groups, and those of the
last moment are lost when the process is killed. Only POST decides (RFC 8058 §3.1); looking at a page changes nothing.
Not here: HTTP and the pages (http.public), what a visit means (engaged).
Bugs: paces are counted per process.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from gatepost import engaged
from gatepost.clock import Clock
from gatepost.domain.errors import Refused
from gatepost.domain.statement import Said
from gatepost.engaged import Counting, Engaged, Preference, Seen
from gatepost.net.peer import parse_peer
from gatepost.observe import maillog, metrics
from gatepost.policy.click_targets import is_target
from gatepost.policy.visitors import Visit
from gatepost.store import engagement
from gatepost.store.engine import Engine, GroupCommit
from gatepost.store.errors import SealBroken, StorageUnavailable
from gatepost.suppressing import Suppressing
from gatepost.tracking.pace import Pace
from gatepost.wire.tracking_token import TokenKind, TrackingToken, TrackingTokens, link_id

_MOST_WAITING: Final = 5_000
_GROUP: Final = 100
_LINGER_S: Final = 0.05
_PER_RECIPIENT: Final = 30
"""Visits a minute by one recipient that are written down; what comes beyond is answered, and nothing more."""
_REMEMBERED: Final = 200
_SMALL: Final = 64 * 1024
"""Characters of a message's targets that are worth remembering: the memory for all is bounded by that."""


class NotOurs(Exception):  # noqa: N818
    """A token that is none of ours, or leads to what is not there any more."""


class Ended(Exception):  # noqa: N818
    """A token of ours whose time is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingOptions:
    """What the operator decided."""

    how: Counting
    per_minute: int = 3_000


@dataclass(slots=True)
class _Memory:
    """Where the links of the last messages lead."""

    links: OrderedDict[str, dict[bytes, str]] = field(default_factory=OrderedDict)

    def keep(self, message_id: str, targets: Sequence[str]) -> dict[bytes, str]:
        found = {link_id(target): target for target in targets}
        if sum(map(len, targets)) <= _SMALL:
            self.links[message_id] = found
        if len(self.links) > _REMEMBERED:
            self.links.popitem(last=False)
        return found


class TrackingDesk:
    """Answers for one process."""

    def __init__(self, engine: Engine, clock: Clock, tokens: TrackingTokens, suppressing: Suppressing, options: TrackingOptions) -> None:
        self._engine = engine
        self._clock = clock
        self._tokens = tokens
        self._suppressing = suppressing
        self._how = options.how
        self._memory = _Memory()
        self._by_peer = Pace(options.per_minute)
        self._by_recipient = Pace(_PER_RECIPIENT)
        self._group: GroupCommit[Seen, Engaged | None] = GroupCommit(engine, self._record, max_weight=_GROUP, linger_s=_LINGER_S)

    def opened(self, text: str, visit: Visit) -> None:
        """
        Note that a pixel was asked for.

        Raises:
            Refused: rate_limited.
            NotOurs: The token is none.
            Ended: Its time is over.
        """
        token = self._read(TokenKind.OPEN, text, visit.peer)
        self._note(token, visit)

    async def clicked(self, text: str, visit: Visit) -> str:
        """
        Return where a link leads, and note that it was followed.

        Raises:
            Refused: rate_limited.
            NotOurs: The token is none, or nobody knows any more where it leads.
            Ended: Its time is over.
            StorageUnavailable: The database cannot be used now.
        """
        token = self._read(TokenKind.CLICK, text, visit.peer)
        target = await self._target(token)
        self._note(token, visit, target)
        return target

    async def preference(self, text: str, peer: str) -> Preference:
        """
        Return what a recipient decided; changes nothing.

        Raises:
            Refused: rate_limited.
            NotOurs: The token is none.
            Ended: Its time is over.
            StorageUnavailable: The database cannot be used now.
        """
        token, now = self._read(TokenKind.UNSUBSCRIBE, text, peer), self._clock.now()
        return _known(await self._engine.read(lambda conn: engaged.preference(conn, token.message_id, token.n, now)))

    async def unsubscribe(self, text: str, peer: str, *, by: str) -> Preference:
        """
        Send no more mail of the stream; the same again changes nothing.

        Args:
            by: `one_click` or `page`.

        Raises:
            Refused: rate_limited.
            NotOurs: The token is none.
            Ended: Its time is over.
            StorageUnavailable: It is not certain; to be asked again.
        """
        token, now = self._read(TokenKind.UNSUBSCRIBE, text, peer), self._clock.now()
        return _known(
            await self._engine.write(
                lambda conn: engaged.unsubscribe(conn, token.message_id, token.n, self._suppressing, now, by=by)
            )
        )  # fmt: skip

    async def resubscribe(self, text: str, peer: str) -> Preference:
        """
        Take an unsubscription back.

        Raises:
            Refused: rate_limited.
            NotOurs: The token is none.
            Ended: Its time is over.
            StorageUnavailable: It is not certain; to be asked again.
        """
        token, now = self._read(TokenKind.UNSUBSCRIBE, text, peer), self._clock.now()
        return _known(await self._engine.write(lambda conn: engaged.resubscribe(conn, token.message_id, token.n, now)))

    async def drain(self) -> None:
        """Wait until every visit is written down."""
        await self._group.drain()

    def _read(self, kind: TokenKind, text: str, peer: str) -> TrackingToken:
        now = self._clock.now()
        try:
            known = parse_peer(peer)
        except ValueError:
            known = parse_peer("127.0.0.1")
        if not known.is_loopback and (wait := self._by_peer.take(known.group, now)):
            raise Refused("rate_limited", "too many requests from there", retry_after_s=-(-wait // 1000))
        token = self._tokens.read(kind, text, now)
        if token is None:
            raise NotOurs
        if token.has_ended:
            raise Ended
        return token

    async def _target(self, token: TrackingToken) -> str:
        known = self._memory.links.get(token.message_id)
        if known is None:
            try:
                targets = await self._engine.read(lambda conn: engagement.links_of(conn, token.message_id))
            except SealBroken as error:
                maillog.trouble("stored links cannot be opened", message_id=token.message_id, error=str(error))
                raise NotOurs from error
            known = self._memory.keep(token.message_id, targets)
        target = known.get(token.link)
        if target is None or not is_target(target):
            raise NotOurs
        return target

    def _note(self, token: TrackingToken, visit: Visit, target: str = "") -> None:
        now = self._clock.now()
        if self._by_recipient.take((token.message_id, token.n, visit.said), now):
            metrics.engagements_dropped.labels("too_often").inc()
        elif len(self._group) >= _MOST_WAITING:
            metrics.engagements_dropped.labels("overloaded").inc()
        else:
            link = token.link.hex() if visit.said is Said.CLICKED else ""
            seen = Seen(message_id=token.message_id, n=token.n, visit=visit, at=now, link=link, target=target)
            self._group.submit(seen).add_done_callback(_told)

    def _record(self, conn: Connection, seen: Sequence[Seen]) -> list[Engaged | None]:
        return engaged.record(conn, seen, self._how)


def _known(found: Preference | None) -> Preference:
    if found is None:
        raise NotOurs
    return found


def _told(done: "asyncio.Future[Engaged | None]") -> None:
    error = None if done.cancelled() else done.exception()
    if error is None:
        return
    metrics.engagements_dropped.labels("not_stored").inc()
    if not isinstance(error, StorageUnavailable):
        maillog.crashed("tracking", error)

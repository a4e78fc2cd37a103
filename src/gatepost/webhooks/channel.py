"""
What is on its way to one webhook.

Arrives: hooks whose turn it is. Leaves: calls, a bounded number at once, and how each ended, handed over to be written.
A webhook that fails gets one call at a time until one succeeds, so that a server that is down, or about to be, is not
stormed; others do not notice, since each webhook has a channel of its own.
Not here: which webhooks this process delivers (ownership), who wakes a channel (loop).
"""

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from gatepost.clock import Clock, Instant
from gatepost.domain.webhook import HookStatus, Webhook
from gatepost.observe import maillog, metrics
from gatepost.settings import Webhooks
from gatepost.store import hooks, webhooks
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable
from gatepost.store.hooks import Material, Result, Waiting
from gatepost.webhooks.payload import body_of
from gatepost.webhooks.sending import GONE, Answered, Sender

_WINDOW: Final = 400
"""Hooks of one webhook that are held in memory."""
_JITTER: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """
    What all channels share.

    Attributes:
        write_down: Hands a call's results over; returns how many hooks have their turn by that.
        is_safe: Tells whether this process still holds its webhooks for long enough to begin a call.
    """

    engine: Engine
    clock: Clock
    options: Webhooks
    sender: Sender
    node_id: str
    write_down: Callable[[Sequence[Result]], Awaitable[int]]
    is_safe: Callable[[], bool]
    chance: Callable[[], float] = random.random


class Channel:
    """
    The calls of one webhook.

    Attributes:
        webhook: As it was when last looked at.
    """

    def __init__(self, webhook: Webhook, tools: Tools) -> None:
        self.webhook = webhook
        self._tools = tools
        self._ready: deque[tuple[Waiting, Material]] = deque()
        self._held: set[str] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._sending = 0
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._is_failing = False
        self._has_news = False
        self._changed = asyncio.Event()

    @property
    def is_stopped(self) -> bool:
        """Tell whether it begins nothing any more."""
        return self._is_stopping

    @property
    def is_busy(self) -> bool:
        """Tell whether something is under way, so that it need not be woken."""
        return self._task is not None

    def wake(self) -> None:
        """Look for what is to be done."""
        self._has_news = True
        self._changed.set()
        if self._task is None and not self._is_stopping:
            self._task = asyncio.create_task(self._run(), name=f"webhook {self.webhook.id}")

    async def stop(self) -> None:
        """Begin nothing more, and wait for the calls that run."""
        self._is_stopping = True
        self._ready.clear()
        self._changed.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        try:
            while not self._is_stopping and self._tools.is_safe():
                if self._has_news and len(self._held) <= _WINDOW // 2:
                    self._has_news = await self._fill()
                self._start()
                if not (self._calls or self._has_news):
                    return
                self._changed.clear()
                if self._calls:
                    await self._changed.wait()
            if self._calls:
                await asyncio.wait(self._calls)
        except StorageUnavailable as error:
            maillog.trouble("webhooks are waiting for the database", error=str(error))
        except Exception as error:  # noqa: BLE001 - it is woken again, and reads what it held anew
            maillog.crashed("webhooks", error, webhook_id=self.webhook.id)
        finally:
            if self._calls:
                await asyncio.wait(self._calls)
            self._ready.clear()
            self._held.clear()
            self._task = None

    async def _fill(self) -> bool:
        """Make hooks of new events, and take those whose turn it is; return whether there may be more."""
        engine, now = self._tools.engine, self._tools.clock.now()
        more, newest = await engine.write(lambda conn: self._collect(conn, now))
        if newest is None or newest.disabled_at is not None:
            self._is_stopping = True
            return False
        self.webhook = newest
        held = frozenset(self._held)
        limit = _WINDOW + len(held)
        waiting = await engine.read(lambda conn: hooks.due(conn, self.webhook.id, now, limit))
        fresh = [one for one in waiting if one.event_id not in held][: _WINDOW - len(held)]
        found = await engine.read(lambda conn: hooks.materials(conn, [one.event_id for one in fresh])) if fresh else {}
        lost = [one for one in fresh if one.event_id not in found]
        for one in fresh:
            if one.event_id in found:
                self._held.add(one.event_id)
                self._ready.append((one, found[one.event_id]))
        if lost:  # the event is not kept any more
            gone = Answered(code=None, latency_ms=0, text="the event is not kept any more")
            await self._tools.write_down([self._result(one, gone, now, is_over=True) for one in lost])
        return more or len(waiting) >= limit

    def _collect(self, conn: Connection, now: Instant) -> tuple[bool, Webhook | None]:
        """Make hooks, and look whether the webhook was changed: a secret that was withdrawn signs nothing any more."""
        known = self.webhook
        newest = known if webhooks.changed_at(conn, known.id) == known.changed_at else webhooks.get(conn, known.id)
        state = webhooks.held(conn, self._tools.node_id, [known.id]).get(known.id)
        if state is None or newest is None or newest.disabled_at is not None:
            return False, newest
        return hooks.collect(conn, newest, state, _WINDOW, now), newest

    def _start(self) -> None:
        """Begin as many calls as may run at once."""
        at_once = 1 if self._is_failing else self._tools.options.concurrency
        while self._ready and self._sending < at_once and not self._is_stopping and self._tools.is_safe():
            some = [self._ready.popleft() for _ in range(min(self.webhook.batch_size, len(self._ready)))]
            self._sending += 1
            task = asyncio.create_task(self._call(some))
            self._calls.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            maillog.crashed("webhooks", error, webhook_id=self.webhook.id)
        self._changed.set()

    async def _call(self, some: Sequence[tuple[Waiting, Material]]) -> None:
        is_batch = self.webhook.batch_size > 1
        ids = [waiting.event_id for waiting, _ in some]
        body = body_of([one for _, one in some], is_batch=is_batch)
        try:
            answered = await self._tools.sender.send(self.webhook, _name(ids) if is_batch else ids[0], body)
            self._is_failing = not answered.is_success
        finally:  # the next call need not wait for the result to be written
            self._sending -= 1
            self._changed.set()
        metrics.hooks.labels("delivered" if answered.is_success else "failed").inc(len(some))
        if answered.code == GONE:
            self._is_stopping = True  # it will be switched off with these results
        now = self._tools.clock.now()
        try:
            freed = await self._tools.write_down([self._result(waiting, answered, now) for waiting, _ in some])
        except StorageUnavailable as error:
            maillog.trouble("a webhook's result cannot be written, so that it is called again", error=str(error))
            freed = 0
        finally:
            self._held.difference_update(ids)
        self._has_news = self._has_news or freed > 0

    def _result(self, waiting: Waiting, answered: Answered, now: Instant, *, is_over: bool = False) -> Result:
        attempts = waiting.attempts + 1
        due_at = None if answered.is_success or is_over else self._next_at(attempts, answered.wait_s, now)
        status = HookStatus.DELIVERED if answered.is_success else HookStatus.FAILED if due_at is None else HookStatus.WAITING
        one = self.webhook
        return Result(
            webhook_id=one.id, tenant_id=one.tenant_id, event_id=waiting.event_id, message_id=waiting.message_id, seq=waiting.seq,
            status=status, attempts=attempts, due_at=due_at, tried_at=now, code=answered.code, latency_ms=answered.latency_ms,
            answer=answered.text,
        )  # fmt: skip

    def _next_at(self, attempts: int, wait_s: int, now: Instant) -> Instant | None:
        waits = self._tools.options.retry_schedule
        if attempts > len(waits):
            return None
        seconds = waits[attempts - 1] * (1 + _JITTER * (2 * self._tools.chance() - 1))
        return now + int(max(seconds, wait_s) * 1000)


def _name(ids: Sequence[str]) -> str:
    """Name a batch: the same events have the same name, so that a repeated call is known as one."""
    return "bat_" + hashlib.sha256(" ".join(ids).encode()).hexdigest()[:32]

"""
The delivery of webhooks in one process.

Arrives: a step, some times a second. Leaves: a channel for each webhook that this process holds, awake while it has
something to do. How calls ended is written down for all channels together, and only for webhooks that are still held.
Standards: Standard Webhooks 1.0 (retries, 410).
Not here: one webhook's calls (channel), one call (sending).
Bugs: an event is told up to a fifth of a second after its commit.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import DAY, HOUR, Clock, Instant
from gatepost.domain.access import GATEWAY
from gatepost.domain.event import Event, EventType
from gatepost.net.dns import Resolver
from gatepost.observe import maillog
from gatepost.settings import Settings
from gatepost.store import audit, facts, feed, hooks, webhooks
from gatepost.store.audit import Change
from gatepost.store.engine import Engine, GroupCommit
from gatepost.store.hooks import Result
from gatepost.webhooks.channel import Channel, Tools
from gatepost.webhooks.ownership import HookOwnership
from gatepost.webhooks.sending import GONE, Sender

EVERY_S: Final = 0.2
"""How often `step` should be called."""
_GROUP: Final = 500
_NEAR: Final = 2 * DAY
"""Events whose ids are older are looked for only now and then."""
_FAR_MS: Final = 60_000
_GRACE_S: Final = 4.0
"""How long calls that run are waited for at the end."""


class HookLoop:
    """Delivers webhooks."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings, resolver: Resolver | None, node_id: str) -> None:
        """
        Set up; nothing is read or connected yet.

        Args:
            resolver: For the targets' names; None is the system's.
            node_id: Name under which the process holds webhooks; new for every start.
        """
        self._engine = engine
        self._clock = clock
        self._options = settings.webhooks
        self._sender = Sender(settings.webhooks, clock, resolver)
        self._ownership = HookOwnership(engine, clock, node_id, settings.workers.lease_s)
        self._results: GroupCommit[Sequence[Result], int] = GroupCommit(engine, self._write, weight=len, max_weight=_GROUP)
        self._channels: dict[str, Channel] = {}
        self._changed_at: dict[str, Instant] = {}
        self._stopping: dict[str, asyncio.Task[None]] = {}
        self._looked_far_at = self._purged_at = 0
        self._is_closed = self._is_numbered = False
        self._tools = Tools(
            engine=engine, clock=clock, options=settings.webhooks, sender=self._sender, node_id=node_id,
            write_down=self._results.submit, is_safe=lambda: self._ownership.is_safe,
        )  # fmt: skip

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is under way."""
        return not (self._stopping or any(channel.is_busy for channel in self._channels.values()))

    async def step(self) -> None:
        """
        Look for work, and wake the channels that have some.

        Raises:
            StorageUnavailable: The database cannot be used now; calls that run go on.
        """
        if self._is_closed:
            return
        if not self._is_numbered:
            moved = await self._engine.write(feed.renumber)
            if moved:
                maillog.lifecycle("the database comes from another server: events are numbered anew", events=moved)
            self._is_numbered = True
        self._stopping = {webhook_id: task for webhook_id, task in self._stopping.items() if not task.done()}
        if await self._ownership.step(frozenset(self._stopping) | self._busy()):
            await self._follow()
        now = self._clock.now()
        if self._channels and self._ownership.is_safe:
            busy, since, every = self._busy(), ids.lower_bound("evt", now - _NEAR), list(self._channels)
            if now - self._looked_far_at >= _FAR_MS:
                since, self._looked_far_at = "", now
            found = await self._engine.read(lambda conn: hooks.ready(conn, every, now, since))
            for webhook_id, (is_new, is_due) in found.items():
                # what a busy channel is about is due, too
                if (is_new or (is_due and webhook_id not in busy)) and webhook_id in self._channels:
                    self._channels[webhook_id].wake()
        if now - self._purged_at >= HOUR:
            self._purged_at = now
            await self._purge(now)

    async def close(self) -> None:
        """
        Finish the calls that run, and give everything back.

        Raises:
            StorageUnavailable: What was told will be told again.
        """
        self._is_closed = True
        stopping = [asyncio.create_task(channel.stop()) for channel in self._channels.values()] + list(self._stopping.values())
        if stopping:
            _, late = await asyncio.wait(stopping, timeout=_GRACE_S)
            if late:
                await self._sender.close()  # their calls fail, and are made again
                await asyncio.wait(late, timeout=_GRACE_S)
        await self._results.drain()
        await self._sender.close()
        await self._ownership.release()

    def _busy(self) -> frozenset[str]:
        return frozenset(webhook_id for webhook_id, channel in self._channels.items() if channel.is_busy)

    async def _follow(self) -> None:
        """Have a channel for each webhook that is held, and of each its newest values."""
        owned = {webhook_id: at for webhook_id, at in self._ownership.owned.items() if webhook_id not in self._ownership.draining}
        for webhook_id in list(self._channels):
            if webhook_id not in owned or self._channels[webhook_id].is_stopped:
                self._changed_at.pop(webhook_id, None)
                self._stopping[webhook_id] = asyncio.create_task(self._channels.pop(webhook_id).stop())
        owned = {webhook_id: at for webhook_id, at in owned.items() if webhook_id not in self._stopping}
        stale = [webhook_id for webhook_id, at in owned.items() if self._changed_at.get(webhook_id) != at]
        for webhook_id in stale:
            found = await self._engine.read(lambda conn, webhook_id=webhook_id: webhooks.get(conn, webhook_id))  # type: ignore[misc]
            if found is None:
                continue
            self._changed_at[webhook_id] = owned[webhook_id]
            if webhook_id in self._channels:
                self._channels[webhook_id].webhook = found
            else:
                self._channels[webhook_id] = Channel(found, self._tools)

    def _write(self, conn: Connection, groups: Sequence[Sequence[Result]]) -> list[int | Exception]:
        """Write how calls ended, in one transaction; safe to run again after a commit whose outcome is unknown."""
        now = self._clock.now()
        results = [one for group in groups for one in group]
        states = webhooks.held(conn, self._ownership.node_id, {one.webhook_id for one in results})
        mine = [one for one in results if one.webhook_id in states]
        freed = hooks.finish(conn, mine, now)
        since = webhooks.note_answers(conn, list(states.values()), {one.webhook_id for one in mine if _is_success(one)}, now)
        gone = {one.webhook_id for one in mine if one.code == GONE}
        for webhook_id, failing_since in since.items():
            if webhook_id in gone:
                self._disable(conn, webhook_id, "it answered 410 Gone", now)
            elif failing_since is not None and now - failing_since >= self._options.disable_after_s * 1000:
                self._disable(conn, webhook_id, f"every call failed for {self._options.disable_after_s // 3600} hours", now)
        return [freed] * len(groups)

    def _disable(self, conn: Connection, webhook_id: str, reason: str, now: Instant) -> None:
        """Switch a webhook off; the other webhooks of its tenant are told, and so is the audit log."""
        found = webhooks.get(conn, webhook_id)
        if found is None or not webhooks.disable(conn, webhook_id, reason, now):
            return
        data = {"webhook_id": webhook_id, "reason": reason, "description": found.description}
        told = Event(id=ids.new("evt"), type=EventType.WEBHOOK_DISABLED, tenant_id=found.tenant_id, at=now, data=data)
        facts.insert_events(conn, [told])
        change = Change(action="webhook.disabled", object_id=webhook_id, tenant_id=found.tenant_id, after={"reason": reason})
        audit.append(conn, GATEWAY, change, now)
        maillog.changed("webhook_disabled", tenant_id=found.tenant_id, webhook_id=webhook_id, reason=reason)

    async def _purge(self, now: Instant) -> None:
        before = ids.lower_bound("evt", now - self._options.keep_s * 1000)
        for webhook_id in [*self._ownership.owned, *await self._engine.read(webhooks.removed)]:
            while await self._engine.write(lambda conn, webhook_id=webhook_id: webhooks.purge(conn, webhook_id, before)):  # type: ignore[misc]
                await self._clock.sleep(0)


def _is_success(result: Result) -> bool:
    return result.code is not None and 200 <= result.code < 300

"""
A relay's rate and quota: whatever courier stands behind, no more recipients than the settings allow.

Arrives: a batch. Leaves: what the courier behind made of it; or a deferral that uses up no retry and says when there is room.
The rate is even: recipients are spread over the second, minute or hour, so that no window of that length has more than the
amount. A short wait is waited here, a longer one in the queue. One process owns a relay, so what is counted here is all.
A quota is counted in blocks that are written down before they are used: a crash can lose some of it, never exceed it.
Not here: where the blocks are kept (`Ledger`), limits of tenants and keys (tenants.limits), shaping per site.
"""

import asyncio
import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from msgspec.structs import replace

from gatepost.clock import DAY, HOUR, MINUTE, SECOND, Clock, Instant, iso
from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Outcome, Unknown
from gatepost.egress.courier import Batch, BatchRecipient, Courier, Probe

LONGEST_WAIT_S: Final = 5.0
"""A longer wait for a place is spent in the queue."""
_SPANS_MS: Final = {"second": SECOND, "minute": MINUTE, "hour": HOUR, "day": DAY}
_LARGEST_BLOCK: Final = 200


class LedgerAway(Exception):  # noqa: N818
    """The quota cannot be written down now; the text says why."""


class Ledger(Protocol):
    """Where a relay's use is kept, across processes and restarts."""

    async def take(self, relay: str, window: str, wanted: int, limit: int) -> int:
        """
        Write down that recipients of a window are taken; return how many there were, at most `wanted`.

        Raises:
            LedgerAway: It cannot be written down.
        """
        ...

    def note(self, relay: str, at: Instant, recipients: int) -> None:
        """Count what was sent, for people to see; written down a moment later."""
        ...


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many recipients per `second`, `minute`, `hour`, `day` or `month`."""

    amount: int
    per: str

    def __str__(self) -> str:
        return f"{self.amount}/{self.per}"


def parse_allowance(text: str) -> Allowance | None:
    """Read `14/second`, whose form the settings have checked; None where it is empty."""
    if not text:
        return None
    amount, _, per = text.partition("/")
    return Allowance(int(amount), per)


def window_of(per: str, now: Instant) -> tuple[str, Instant]:
    """Name the calendar hour, day or month of an instant (UTC), and say when it ends."""
    return _window_of(per, now // MINUTE * MINUTE)


@lru_cache(maxsize=64)
def _window_of(per: str, now: Instant) -> tuple[str, Instant]:
    moment = dt.datetime.fromtimestamp(now / 1000, dt.UTC)
    if per == "month":
        first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return f"{moment:%Y-%m}", int((first + dt.timedelta(days=32)).replace(day=1).timestamp()) * 1000
    span = _SPANS_MS[per]
    return f"{moment:%Y-%m-%dT%H}" if per == "hour" else f"{moment:%Y-%m-%d}", (now // span + 1) * span


class MemoryLedger:
    """Keeps it in memory: for tests, and where nothing is sent."""

    def __init__(self) -> None:
        """Start empty."""
        self.taken: dict[tuple[str, str], int] = {}
        self.used: dict[str, int] = {}

    async def take(self, relay: str, window: str, wanted: int, limit: int) -> int:
        """Take at most what is left."""
        found = self.taken.get((relay, window), 0)
        granted = max(0, min(wanted, limit - found))
        self.taken[relay, window] = found + granted
        return granted

    def note(self, relay: str, at: Instant, recipients: int) -> None:
        """Count."""
        self.used[relay] = self.used.get(relay, 0) + recipients


class _Full(Exception):  # noqa: N818
    def __init__(self, detail: str, retry_at: Instant | None) -> None:
        super().__init__(detail)
        self.retry_at = retry_at


class PacedCourier:
    """A relay's courier within its rate and quota; counts what it sent."""

    def __init__(
        self, inner: Courier, *, name: str, clock: Clock, ledger: Ledger, rate: Allowance | None = None, quota: Allowance | None = None
    ) -> None:
        """
        Args:
            inner: Delivers.
            name: The relay's.
        """
        self._inner = inner
        self._name = name
        self._clock = clock
        self._ledger = ledger
        self._rate = rate
        self._quota = quota
        self._free_at = 0.0
        self._promised_at = 0.0
        self._block: tuple[str, int] = ("", 0)
        self._lock = asyncio.Lock()

    async def deliver(self, batch: Batch) -> Mapping[int, Outcome]:
        """Deliver what there is room for, and defer the rest; one outcome per recipient number."""
        if self._rate is None and self._quota is None:
            outcomes = await self._inner.deliver(batch)
            self._count(outcomes, "")
            return outcomes
        found: dict[int, Outcome] = {}
        size = min(one.amount for one in (self._rate, self._quota, Allowance(len(batch.recipients) or 1, "")) if one is not None)
        for at in range(0, len(batch.recipients), size):
            group = batch.recipients[at : at + size]
            started_at = self._clock.now()
            try:
                window = await self._room(len(group))
            except _Full as full:
                rest = batch.recipients[at:]
                return found | self._deferred(batch, rest, str(full), full.retry_at, started_at)
            part = batch if len(group) == len(batch.recipients) else replace(batch, recipients=group)
            outcomes = await self._inner.deliver(part)
            self._count(outcomes, window)
            found.update(outcomes)
        return found

    async def probe(self) -> Probe:
        """Ask the courier behind; costs nothing of the quota."""
        return await self._inner.probe()

    async def close(self) -> None:
        """Close the courier behind."""
        await self._inner.close()

    async def _room(self, count: int) -> str:
        """Take a part of the quota, then wait for the rate's turn; return the quota's window."""
        window = await self._take(count)
        try:
            wait_s = self._turn(count)
        except _Full:
            self._give_back(window, count)
            raise
        if wait_s > 0:
            try:
                await self._clock.sleep(wait_s)
            except asyncio.CancelledError:
                self._give_back(window, count)
                raise
        return window

    def _turn(self, count: int) -> float:
        """Reserve the next places of the rate; return how long to wait for them."""
        if self._rate is None:
            return 0.0
        now = self._clock.monotonic()
        spacing = _SPANS_MS[self._rate.per] / 1000 / self._rate.amount
        wait_s = max(0.0, self._free_at - now)
        if wait_s > LONGEST_WAIT_S:
            # each that is sent away is told a time of its own, so that they do not all come back at once
            self._promised_at = max(self._free_at, self._promised_at + spacing * count)
            retry_at = self._clock.now() + math.ceil((self._promised_at - now) * 1000)
            raise _Full(f"relay {self._name} is at its rate of {self._rate}: next place {iso(retry_at)}", retry_at)
        self._free_at = max(self._free_at, now) + spacing * count
        return wait_s

    async def _take(self, count: int) -> str:
        quota = self._quota
        if quota is None:
            return ""
        async with self._lock:
            window, ends_at = window_of(quota.per, self._clock.now())
            held = self._block[1] if self._block[0] == window else 0
            if held < count:
                wanted = max(count - held, min(quota.amount // 100, _LARGEST_BLOCK))
                try:
                    held += await self._ledger.take(self._name, window, wanted, quota.amount)
                except LedgerAway as error:
                    raise _Full(f"the quota of relay {self._name} cannot be counted: {error}", None) from error
            self._block = (window, held)
            if held < count:
                detail = f"relay {self._name} has used up its quota of {quota}: the next one begins {iso(ends_at)}"
                raise _Full(detail, ends_at)
            self._block = (window, held - count)
            return window

    def _give_back(self, window: str, count: int) -> None:
        if window and self._block[0] == window:
            self._block = (window, self._block[1] + count)

    def _count(self, outcomes: Mapping[int, Outcome], window: str) -> None:
        """Count what went out, or may have; what did not is free for others."""
        sent = sum(isinstance(one, Delivered | Unknown) for one in outcomes.values())
        if sent:
            self._ledger.note(self._name, self._clock.now(), sent)
        self._give_back(window, len(outcomes) - sent)

    def _deferred(
        self, batch: Batch, rest: tuple[BatchRecipient, ...], detail: str, retry_at: Instant | None, started_at: Instant
    ) -> dict[int, Outcome]:  # fmt: skip
        exchange = Exchange(route=batch.route, started_at=started_at, finished_at=self._clock.now())
        outcome = Deferred(exchange=exchange, category=Category.RATE_LIMITED, detail=detail, counts=False, retry_at=retry_at)
        return {one.n: outcome for one in rest}

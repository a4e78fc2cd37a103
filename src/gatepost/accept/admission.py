"""
Keeps the gateway standing when more comes than it can take: what is let in, and what is told to come again later.

Arrives: measurements (`note`), messages that want in (`check`, `enter`, `leave`), bytes that doors hold (`bodies`).
Leaves: yes, or `Refused` with an honest Retry-After.
Each measured thing has a soft and a hard mark. From the soft mark on bulk mail is refused, halfway to the hard mark
transactional mail too, and codes only from the hard mark on; each level ends a fifth before the mark that began it, so
that it does not flutter. How many messages are in hand is checked at every one, against the same marks.
Standards: RFC 9110 §10.2.3 (Retry-After), RFC 3463 X.3.2 (not now).
Not here: who measures (app.pressure), what doors do with connections (http, smtpd), limits per tenant (limits).
Bugs: each door process judges for itself.
"""

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from gatepost.clock import Clock
from gatepost.domain.errors import Refused
from gatepost.domain.message import Lane
from gatepost.observe import maillog, metrics
from gatepost.settings import Admission as Marks

SMALL_BYTES: Final = 64 * 1024
"""Codes are small: what is larger may use only a part of the room for bodies."""

_LARGE_SHARE: Final = 0.8
_RELIEF: Final = 0.8
_REFUSALS_PER_S: Final = 1_000
_LONGEST_REST_S: Final = 0.5
_CALM_S: Final = 5.0
_NOTEWORTHY_S: Final = 1.0
"""Pressure that refused nobody is told of once it lasts so long."""
_MEMORY_OF_THE_SHED_S: Final = 2.0
_LONGEST_WAIT_S: Final = 30
_DISK_WAIT_S: Final = 20
_MB: Final = 1024 * 1024
_DETAILS: Final = {"connections": "too many connections are open", "bodies": "too much is being sent at once"}


class Level(IntEnum):
    """How much is refused."""

    CALM = 0
    BULK = 1
    TRANSACTIONAL = 2
    EVERYTHING = 3


_LANES: Final = tuple(Lane)


def _refuses(level: Level, lane: int) -> bool:
    return lane + level >= len(_LANES)


@dataclass(slots=True)
class Signal:
    """
    One measured thing with its marks.

    Attributes:
        says: What is wrong, for operators.
        is_falling: Less is worse, as for free disk.
    """

    name: str
    soft: float
    hard: float
    says: str
    is_falling: bool = False
    value: float = 0.0
    level: Level = Level.CALM

    def update(self, value: float) -> None:
        """Take a measurement; the level rises at a mark and falls a fifth before it."""
        self.value = value
        level = max((level for level in Level if level and self._is_at(level, value)), default=Level.CALM)
        if level is not self.level:
            self.level = level
            metrics.pressure.labels(self.name).set(level)

    def mark(self, level: Level) -> float:
        """Return the value from which a level begins."""
        return self.soft + (self.hard - self.soft) * (level - 1) / 2

    def _is_at(self, level: Level, value: float) -> bool:
        mark = self.mark(level)
        relief = _RELIEF if self.level >= level else 1.0
        return value <= mark / relief if self.is_falling else value >= mark * relief


class Bodies:
    """Bytes of requests and messages that doors hold in memory."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.used_bytes = 0

    def has_room(self, more_bytes: int) -> bool:
        """Tell whether a body of this size may come; nothing is reserved: only what has arrived counts."""
        return self.used_bytes == 0 or self.used_bytes + more_bytes <= self._share(more_bytes)

    def hold(self, before_bytes: int, now_bytes: int) -> bool:
        """
        Note that somebody holds more or fewer bytes than before; False when it must let go of all of them.

        Who holds everything there is may use all of the room: nobody else is hurt.
        """
        self.used_bytes += now_bytes - before_bytes
        share = self._limit_bytes if now_bytes == self.used_bytes else self._share(now_bytes)
        return now_bytes <= before_bytes or self.used_bytes <= share

    def _share(self, of_bytes: int) -> float:
        return self._limit_bytes if of_bytes <= SMALL_BYTES else self._limit_bytes * _LARGE_SHARE


class AdmissionControl:
    """
    The one judge of a door process; implements `accept.ports.Admission`.

    Attributes:
        bodies: Bytes held by all doors together.
        level: What is refused now, whatever is in hand.
        cause: The signal that the level comes from.
    """

    def __init__(self, marks: Marks, clock: Clock, *, disk_bytes: int = 0, chance: Callable[[], float] = random.random) -> None:
        """
        Args:
            disk_bytes: Size of the disk under the data directory; a small one has smaller marks.
            chance: Returns a number from 0 to 1; spreads the moments at which clients come again.
        """
        self._clock = clock
        self._chance = chance
        self.bodies = Bodies(marks.body_bytes)
        self.level = Level.CALM
        self._signals = {signal.name: signal for signal in _signals(marks, disk_bytes)}
        self._queue = self._signals["queue"]
        self.cause = ""
        self._in_hand = 0
        self._resting = 0
        self._left = 0
        self._rate_per_s = 0.0
        self._measured_at = clock.monotonic()
        self._shed = 0.0
        self._shed_at = 0.0
        self._shed_in_all = 0
        self._pressed_since: float | None = None
        self._troubled_since: float | None = None
        self._calm_since = 0.0
        self._shed_before = 0
        self._shed_at_start = 0

    @property
    def is_pressed(self) -> bool:
        """True when somebody may be refused now: then it is worth asking before work is done."""
        return self.level > Level.CALM or self._in_hand >= self._queue.soft

    @property
    def is_shut(self) -> bool:
        """True when nothing at all is taken."""
        return self.level is Level.EVERYTHING

    def check(self, lane: int) -> None:
        """
        Let a message of a lane in, as far as there is room now.

        Raises:
            Refused: overloaded, or storage_unavailable when the disk is the reason; with Retry-After.
        """
        if _refuses(self.level, lane):
            raise self.refusal(self.cause, lane)
        if self._in_hand >= self._room(lane):
            raise self.refusal("queue", lane)

    def enter(self, messages: int) -> None:
        """Count messages that are in hand from now on."""
        self._in_hand += messages

    def leave(self, messages: int) -> None:
        """Count messages out: they are stored, or refused for another reason."""
        self._in_hand -= messages
        self._left += messages

    def refusal(self, cause: str, lane: int | None = None) -> Refused:
        """
        Make the refusal of one request, and count it.

        Args:
            cause: A signal's name, or `connections` or `bodies`.
            lane: None where the door does not know it yet.
        """
        metrics.requests_shed.labels("unknown" if lane is None else Lane(lane).name.lower(), cause).inc()
        now = self._clock.monotonic()
        self._shed = self._fade(now) + 1
        self._shed_at = now
        self._shed_in_all += 1
        if cause == "disk":
            return Refused("storage_unavailable", "the disk is almost full", retry_after_s=self._spread(_DISK_WAIT_S))
        detail = _DETAILS.get(cause, "more comes than can be taken now")
        return Refused("overloaded", detail, retry_after_s=self.retry_after_s())

    def retry_after_s(self) -> int:
        """Estimate when there will be room: what waits, and who was sent away a moment ago, over the rate at which work gets done."""
        waiting = self._in_hand + self._fade(self._clock.monotonic())
        return self._spread(waiting / max(self._rate_per_s, 1.0))

    def rest(self, wake: Callable[[], None]) -> None:
        """
        Call back when a connection that was refused may be listened to again.

        Refusing costs time too, and who does not wait takes it from others. Few of them hardly notice; thousands at once are
        slowed to what can be borne.
        """

        def end() -> None:
            self._resting -= 1
            wake()

        self._resting += 1
        asyncio.get_running_loop().call_later(min(self._resting / _REFUSALS_PER_S, _LONGEST_REST_S), end)

    def note(self, name: str, value: float) -> Level:
        """Take a measurement of a signal; return the level that it calls for."""
        signal = self._signals[name]
        signal.update(value)
        return signal.level

    def note_waits(self, waits_s: Mapping[Lane, float]) -> None:
        """Take the longest wait of each lane; one lane's waiting makes the doors refuse that lane and those after it, no other."""
        wait = self._signals["wait"]
        wait.update(max(min(seconds, wait.mark(Level(len(_LANES) - lane))) for lane, seconds in waits_s.items()))

    def review(self) -> None:
        """Draw the conclusions from what was measured; called several times a second."""
        now = self._clock.monotonic()
        passed_s = max(now - self._measured_at, 0.001)
        self._measured_at = now
        share = 1 - 0.5**passed_s
        self._rate_per_s += share * (self._left / passed_s - self._rate_per_s)
        self._left = 0
        self._queue.update(self._in_hand)
        worst = max((signal for signal in self._signals.values() if signal is not self._queue), key=lambda signal: signal.level)
        self.level, self.cause = worst.level, worst.name
        self._tell(now)

    def problems(self) -> list[str]:
        """Say what keeps the door from taking anything; empty while codes are taken."""
        return [f"overloaded: {signal.says}" for signal in self._signals.values() if signal.level is Level.EVERYTHING]

    def _room(self, lane: int) -> float:
        return self._queue.hard - (self._queue.hard - self._queue.soft) * lane / 2

    def _fade(self, now: float) -> float:
        return self._shed * math.exp((self._shed_at - now) / _MEMORY_OF_THE_SHED_S)

    def _spread(self, wait_s: float) -> int:
        return math.ceil(min(max(wait_s, 1.0), _LONGEST_WAIT_S) * (1 + self._chance() / 2))

    def _tell(self, now: float) -> None:
        """Say once when pressure begins, and once when it has been over for a while."""
        pressing = {signal.name: round(signal.value, 3) for signal in self._signals.values() if signal.level}
        shed_before, self._shed_before = self._shed_before, self._shed_in_all
        has_shed = self._shed_in_all > shed_before
        if pressing or has_shed:
            self._calm_since = now
            if self._pressed_since is None:
                self._pressed_since = now
                if self._troubled_since is None:
                    self._shed_at_start = shed_before
            if self._troubled_since is None and (has_shed or now - self._pressed_since >= _NOTEWORTHY_S):
                self._troubled_since = self._pressed_since
                level = max(Level.BULK, *(signal.level for signal in self._signals.values()))
                maillog.trouble("more comes than can be taken", refuses=level.name.lower(), **pressing)
            return
        self._pressed_since = None
        if self._troubled_since is not None and now - self._calm_since >= _CALM_S:
            maillog.trouble(
                "everything is taken again", lasted_s=round(now - self._troubled_since, 1), shed=self._shed_in_all - self._shed_at_start
            )
            self._troubled_since = None


def _signals(marks: Marks, disk_bytes: int) -> list[Signal]:
    return [
        Signal("queue", marks.messages_soft, marks.messages_hard, "too many messages wait to be stored"),
        Signal("memory", marks.memory_soft_mb * _MB, marks.memory_hard_mb * _MB, "the process holds too much memory"),
        Signal(
            "disk",
            min(marks.disk_soft_mb * _MB, disk_bytes // 10) or -1,
            min(marks.disk_hard_mb * _MB, disk_bytes // 40) or -1,
            "the disk is almost full",
            is_falling=True,
        ),
        Signal("commit", marks.commit_soft_s, marks.commit_hard_s, "the database is slow"),
        Signal("wait", marks.wait_soft_s, marks.wait_hard_s, "messages wait too long to be stored"),
        Signal("lag", marks.lag_soft_s, marks.lag_hard_s, "the processor is too busy"),
    ]

"""
One source's mail to one site: what it may do now, and what the site's answers did to that.

Arrives: transactions that want to begin; outcomes. Leaves: permits, waits with their causes; a state to keep.
In memory of the site's owner, so that connections and rates are exact; nothing here waits or writes.
Not here: which source of a pool goes (shaping), the rules (policy.shaping), where it is kept (store.shaping).
"""

from collections.abc import Sequence

from gatepost.clock import DAY, SECOND, Instant, iso
from gatepost.dispatch.ports import Permit, Wait
from gatepost.domain.flow import FlowState
from gatepost.domain.outcome import Category, Deferred, Delivered, Failed, Outcome, Reply
from gatepost.domain.route import Source
from gatepost.policy.shaping import (
    UNREACHED,
    Action,
    Backoff,
    Limits,
    Pace,
    Signal,
    pause_ms,
    signal_of,
    step_down,
    suspension_ms,
    unreachable_ms,
)
from gatepost.store.shaping import FOREVER

_WEAK_IN_A_ROW = 3
_SOON_MS = 250
_RAMP = 0.25
_TEXT = 300
_AFTER_SUSPENSION = 0.1

SUSPENDED, BACKING_OFF, UNREACHABLE = "site_suspended", "backing_off", "site_unreachable"
WARM_UP_CAP, RATE, SLOTS, STARTING = "warm_up_cap", "rate_reached", "slots_in_use", "starting"


class Flow:
    """
    What a source sends to a site.

    Attributes:
        in_use: Transactions under way.
        begun: Transactions so far.
        width: Connections allowed now.
        rate: Messages a second, lately.
        turn: When it is the source's turn among those of its pool, in shares.
        granted: Messages of the warm-up's day that are counted on disk already.
        is_urgent: Its state should be written down now.
    """

    __slots__ = (
        "_cause", "_closed_at", "_closed_until", "_detail", "_heeded", "_is_plain", "_learned", "_ordered_until", "_pace", "_pacing",
        "_ramp", "_signal", "_signal_at", "_signal_text", "_strikes", "_unreached", "_waited", "_weak", "_widths", "begun", "cap",
        "counted_until", "granted", "in_use", "is_urgent", "limits", "order_note", "permit", "pool", "rate", "seen", "site", "source",
        "turn", "used", "weight", "width",
    )  # fmt: skip

    def __init__(self, source: Source, pool: str, site: str, limits: Limits, weight: float = 1.0) -> None:
        """Start as one that nothing is known of."""
        self.source = source
        self.pool = pool
        self.site = site
        self.limits = limits
        self.weight = weight
        self.turn = 0.0
        self.in_use = 0
        self.begun = 0
        self.seen = 0
        self.rate = 0.0
        self.is_urgent = False
        self.order_note = ""
        self._widths = Backoff()
        self._pacing = Backoff()
        self._ramp = 1.0
        self._learned: float | None = None
        self._pace: Pace | None = None
        self._closed_until: Instant = 0
        self._cause = self._detail = ""
        self._ordered_until: Instant = 0
        self._closed_at: Instant = 0
        self._strikes = self._weak = self._unreached = 0
        self._heeded = 0
        self._signal = self._signal_text = ""
        self._signal_at: Instant = 0
        self._waited: Wait | None = None
        self.cap: int | None = None
        self.used = self.granted = 0
        self.counted_until: Instant = 0
        self.refresh()

    # What a transaction needs; this is the hot path.

    def take(self, now: Instant) -> Permit | Wait:
        """Begin a transaction, or say why not."""
        if self.in_use >= self.width:
            return self._wait(now + SECOND, SLOTS, f"all {self.width} connections from {self.source.name} are in use")
        if not self._is_plain and (wait := self._hindrance(now)) is not None:
            return wait
        self.in_use += 1
        self.begun += 1
        return self.permit

    def end(self, outcomes: Sequence[Outcome], now: Instant) -> None:
        """End a transaction and learn from what the site said; without outcomes it was not begun."""
        self.in_use -= 1
        if not outcomes:
            self._take_back()
            return
        last: Outcome | None = None
        for outcome in outcomes:
            if outcome is last:
                continue
            last = outcome
            if outcome.__class__ is Delivered:
                if outcome.exchange.passed_over:
                    self._heed_all(outcome.exchange.passed_over, outcome.exchange.started_at, now)
                elif self._strikes or self._weak or self._unreached:
                    self._relax(now)
            else:
                self._learn(outcome, now)

    def slots(self) -> int:
        """Return how many transactions at once make sense: with a rate, no more than may begin soon."""
        pace = self._pace
        return self.width if pace is None else min(self.width, self.in_use + 2 + int(pace.tolerance / pace.interval))

    def _hindrance(self, now: Instant) -> Wait | None:
        if now < self._closed_until:
            return self._wait(self._closed_until, self._cause, self._detail)
        if now < self._ordered_until:
            return self._wait(self._ordered_until, SUSPENDED, self._order())
        is_counted = self.limits.warm_up is not None
        if is_counted and (wait := self._uncounted(now)) is not None:
            return wait
        pace = self._pace
        if pace is not None and (early := pace.take(now)):
            return self._wait(now + early, RATE, f"{pace.per_second:.3g} messages a second from {self.source.name} are allowed")
        if is_counted:
            self.used += 1
        return None

    def _uncounted(self, now: Instant) -> Wait | None:
        """Tell why a message of a warm-up may not go: its number is not counted on disk yet, or the day has had all of its own."""
        if now >= self.counted_until:
            return self._wait(now + _SOON_MS, STARTING, "today's messages are being counted")
        if self.cap is None or self.used < self.granted:
            return None
        if self.used >= self.cap:
            detail = f"warming up: {self.source.name} has sent the {self.cap} messages that {self.site} gets today"
            return self._wait(self.counted_until, WARM_UP_CAP, detail)
        return self._wait(now + _SOON_MS, STARTING, "today's messages are being counted")

    def _wait(self, until: Instant, cause: str, detail: str) -> Wait:
        wait = self._waited = Wait(until=until, cause=cause, detail=detail)
        return wait

    def _take_back(self) -> None:
        self.begun -= 1
        if self._pace is not None:
            self._pace.give_back()
        if self.limits.warm_up is not None and self.used:
            self.used -= 1

    # What the site's answers do.

    def _learn(self, outcome: Outcome, now: Instant) -> None:
        exchange = outcome.exchange
        if exchange.passed_over:
            self._heed_all(exchange.passed_over, exchange.started_at, now)
        reply = outcome.reply if isinstance(outcome, Deferred | Failed) else None
        if reply is not None:
            self._unreached = 0
            self._heed_all((reply,), exchange.started_at, now)
        elif isinstance(outcome, Deferred) and outcome.category is Category.NETWORK and outcome.counts and now >= self._closed_until:
            self._unreached += 1
            if (ms := unreachable_ms(self._unreached)) is not None:
                self._close(now, now + ms, UNREACHABLE, f"{self._unreached} connections in a row failed: {outcome.detail}"[:_TEXT])

    def _heed_all(self, replies: Sequence[Reply], began_at: Instant, now: Instant) -> None:
        for reply in replies:
            signal = signal_of(reply, self.site)
            if signal is not None:
                self._heed(signal, reply, began_at, now)

    def _heed(self, signal: Signal, reply: Reply, began_at: Instant, now: Instant) -> None:
        if now < self._closed_until and self._cause == SUSPENDED:
            return  # what was under way when it was suspended
        if signal.is_weak:
            self._weak += 1
            if self._weak < _WEAK_IN_A_ROW:
                return
        if signal.action is Action.SUSPEND:
            self._widths = Backoff(_AFTER_SUSPENSION, now)
            self._hold_pace(now, now, _AFTER_SUSPENSION)
            ends, cause = now + suspension_ms(signal.seconds, self._strikes), SUSPENDED
        elif self._hold_back(signal.action, began_at, now):
            ends, cause = now + pause_ms(self._strikes), BACKING_OFF
        else:
            return
        self._strikes += 1
        self._heeded = self.begun
        self._signal, self._signal_text, self._signal_at = signal.id, str(reply)[:_TEXT], now
        self._close(now, max(ends, self._closed_until), cause, f"{self.site} said: {str(reply)[:_TEXT]}")

    def _hold_back(self, action: Action, began_at: Instant, now: Instant) -> bool:
        to = step_down(self.begun - self._heeded)
        has_width = action in {Action.CONNECTIONS, Action.BOTH} and self._widths.hold_back(now, began_at, to)
        has_pace = action in {Action.RATE, Action.BOTH} and self._hold_pace(now, began_at, to)
        return has_width or has_pace

    def _hold_pace(self, now: Instant, began_at: Instant, to: float) -> bool:
        if not self._pacing.hold_back(now, began_at, to):
            return False
        if not self.limits.messages_per_second and self._learned is None:
            self._learned = max(self.rate, float(self.begun - self.seen), 1.0)
        return True

    def _close(self, now: Instant, until: Instant, cause: str, detail: str) -> None:
        self._closed_at, self._closed_until, self._cause, self._detail = now, until, cause, detail
        self.is_urgent = True
        self.refresh()

    def _relax(self, now: Instant) -> None:
        """Forget signals in a row after a delivery; what was under way when one came says nothing."""
        if now >= self._closed_until:
            was_unreached = self._unreached >= UNREACHED
            self._strikes = self._weak = self._unreached = 0
            if was_unreached:
                self.refresh()

    # What its owner does about once a second.

    @property
    def is_troubled(self) -> bool:
        """Tell whether something holds it back."""
        return bool(
            self._widths.factor < 1 or self._pacing.factor < 1 or self._ramp < 1 or self._learned or self._closed_until
            or self._ordered_until
        )  # fmt: skip

    @property
    def is_worth_keeping(self) -> bool:
        """Tell whether the next owner, or a person, should know of it."""
        return self.is_troubled or self._waited is not None or self.limits.warm_up is not None

    @property
    def is_plain(self) -> bool:
        """Tell whether nothing but the number of connections limits it: then it may be made anew at any time."""
        return self._is_plain

    @property
    def is_still(self) -> bool:
        """Tell whether time changes nothing about it, until it is used again."""
        return not (self.in_use or self.rate or self._waited or self.is_troubled or self.limits.warm_up or self.seen != self.begun)

    def tick(self, now: Instant, seconds: float) -> None:
        """
        Measure the rate, recover.

        Args:
            seconds: Since the last time.
        """
        self.rate += ((self.begun - self.seen) / seconds - self.rate) * 0.5
        if self.rate < 0.001:
            self.rate = 0.0
        self.seen = self.begun
        if self.is_troubled:
            self._recover(now)
        waited = self._waited
        if waited is not None and waited.until < now:
            self._waited = None

    def _recover(self, now: Instant) -> None:
        if self._closed_until and now >= self._closed_until:
            self._closed_until, self._cause, self._detail = 0, "", ""
        if self._ordered_until and now >= self._ordered_until:
            self._ordered_until = 0
        if self._closed_until or self._ordered_until:
            return
        self._ramp = min(self._ramp * 2, 1.0)
        self._widths.recover(now)
        has_risen = self._pacing.recover(now)
        if self._learned is not None and self._pacing.factor >= 1 and (has_risen or now - self._pacing.changed_at >= 30 * SECOND):
            self._pacing.changed_at = now
            self._learned *= 1.25
            if self._learned > 4 * self.rate:
                self._learned = None  # the limit that was found is far above what there is to send
        self.refresh()

    def refresh(self) -> None:
        """Work out what holds now."""
        limits = self.limits
        width = max(1, int(limits.connections * self._widths.factor * self._ramp + 1e-9))
        self.width = 1 if self._unreached >= UNREACHED else width
        per_second = limits.messages_per_second or self._learned
        if per_second:
            per_second *= self._pacing.factor
            if self._pace is None:
                self._pace = Pace(per_second, limits.burst)
            else:
                self._pace.set(per_second, limits.burst)
        else:
            self._pace = None
        self._is_plain = self._pace is None and not self._closed_until and not self._ordered_until and limits.warm_up is None
        self.permit = Permit(
            place=(self.pool, self.site),
            source=self.source,
            recipients=limits.recipients_per_transaction,
            messages_per_connection=limits.messages_per_connection,
            connections=self.width,
        )

    def set_limits(self, limits: Limits) -> None:
        """Take other limits from now on."""
        if limits != self.limits:
            if limits.warm_up != self.limits.warm_up:
                self.counted_until = 0
            self.limits = limits
            self.refresh()

    def order(self, until: Instant, lifted_at: Instant, note: str = "") -> None:
        """Follow an operator: nothing before `until`; what the site's own signals had suspended before `lifted_at` goes on."""
        if lifted_at > self._closed_at and self._closed_until:
            self._closed_until, self._cause, self._detail = 0, "", ""
            self._strikes = self._weak = self._unreached = 0
            self.is_urgent = True
        if until != self._ordered_until:
            self.is_urgent = True
        self._ordered_until, self.order_note = until, note
        self.refresh()

    def _order(self) -> str:
        until = "until it is resumed" if self._ordered_until >= FOREVER else f"until {iso(self._ordered_until)}"
        return f"suspended by an operator {until}" + (f": {self.order_note}" if self.order_note else "")

    def closed(self, now: Instant) -> Wait | None:
        """Tell whether nothing at all goes for now."""
        if now < self._ordered_until:
            return Wait(until=self._ordered_until, cause=SUSPENDED, detail=self._order())
        return Wait(until=self._closed_until, cause=self._cause, detail=self._detail) if now < self._closed_until else None

    def start_day(self, now: Instant, used: int) -> None:
        """
        Begin to count a day of warming up.

        Args:
            used: What is counted on disk already.
        """
        plan = self.limits.warm_up
        self.cap = plan.cap(now) if plan is not None else None
        self.used = self.granted = used
        self.counted_until = (now // DAY + 1) * DAY

    def wanted(self) -> int | None:
        """Return up to where a day's messages should be counted on disk now; None when that is so already."""
        if self.cap is None or self.counted_until == 0:
            return None
        ahead = max(10, int(self.rate * 3))
        wanted = min(self.cap, self.used + ahead)
        return wanted if wanted > self.granted and self.granted - self.used < (ahead + 1) // 2 else None

    def take_over(self, state: FlowState, now: Instant) -> None:
        """Start from what an earlier owner knew; slowly, since connections of its may still be open."""
        self._widths = Backoff(state.width, now)
        self._pacing = Backoff(state.pace, now)
        self._learned = state.learned_rate
        self._strikes = state.strikes
        self._signal, self._signal_text, self._signal_at = state.signal_id, state.signal_text, state.signal_at
        if now < state.suspended_until:
            cause = state.cause if state.cause in {BACKING_OFF, UNREACHABLE} else SUSPENDED
            detail = f"{self.site} said: {state.signal_text}" if state.ordered_until else state.detail
            self._closed_at, self._closed_until, self._cause, self._detail = state.saved_at, state.suspended_until, cause, detail
        if state.is_fresh(now):
            self._ramp = _RAMP
        self.refresh()

    def state(self, now: Instant) -> FlowState:
        """Return what there is to know, to be kept and shown."""
        closed, waited = self.closed(now), self._waited
        shown = closed or (waited if waited is not None and waited.until >= now - SECOND else None)
        per_second = self.limits.messages_per_second or self._learned
        return FlowState(
            source=self.source.name,
            site=self.site,
            pool=self.pool,
            connections=self.width,
            connections_limit=self.limits.connections,
            in_use=self.in_use,
            rate=round(self.rate, 2),
            rate_limit=None if not per_second else round(per_second * self._pacing.factor, 3),
            width=self._widths.factor,
            pace=self._pacing.factor,
            learned_rate=self._learned,
            suspended_until=self._closed_until if now < self._closed_until else 0,
            ordered_until=self._ordered_until if now < self._ordered_until else 0,
            strikes=self._strikes,
            cause=shown.cause if shown else "",
            detail=shown.detail if shown else "",
            signal_id=self._signal,
            signal_text=self._signal_text,
            signal_at=self._signal_at,
            warm_up_cap=self.cap,
            warm_up_used=self.used,
            saved_at=now,
        )

"""
The sandbox: mail is captured instead of sent, and magic recipients behave as they are named.

Arrives: a batch. Leaves: outcomes as a real host would cause them, with the exact bytes in `Delivered.captured`.
The name is the local part, or what stands before its first `+`, in any case: `bounce@…`, `bounce+order-7@…`.

| local part | what happens |
| --- | --- |
| `deliver`, and everything not named here | delivered |
| `bounce` | failed: 550 5.1.1, no such user |
| `defer` | deferred at the first attempt (451 4.7.1, greylisted), then delivered |
| `full` | deferred at every attempt: 452 4.2.2, mailbox full |
| `spam` | failed: 554 5.7.1, content looks like spam |
| `block` | failed: 550 5.7.1, our address is on a blocklist |
| `slow` | delivered after 3 seconds |
| `drop` | the connection breaks after the final dot at the first attempt (unknown), then delivered |
| `never`, `noanswer` | the host never answers: deferred at every attempt, a timeout |

Not here: showing what was captured (dashboard), complaints: nobody complains here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gatepost.clock import Clock, Instant
from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Failed, Outcome, Reply, Unknown
from gatepost.domain.route import SANDBOX
from gatepost.egress.courier import Batch, BatchRecipient, Probe

HOST: Final = "sandbox.invalid"
SLOW_S: Final = 3.0

_ACCEPTED = Reply(code=250, enhanced="2.0.0", text="Ok: captured by the sandbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """
    How a magic recipient behaves.

    Attributes:
        attempts: Attempts that fare so; later ones are delivered. None is every attempt.
        reply: What the host says; None when it says nothing.
        is_broken: The connection breaks after the final dot.
        delay_s: Seconds before anything happens.
    """

    reply: Reply | None = None
    category: Category = Category.UNDETERMINED
    attempts: int | None = None
    is_broken: bool = False
    delay_s: float = 0.0


_DELIVER = Behaviour(reply=_ACCEPTED)
_NEVER = Behaviour(category=Category.NETWORK)

BEHAVIOURS: Final[Mapping[str, Behaviour]] = {
    "deliver": _DELIVER,
    "bounce": Behaviour(reply=Reply(code=550, enhanced="5.1.1", text="No such user here"), category=Category.INVALID_RECIPIENT),
    "defer": Behaviour(
        reply=Reply(code=451, enhanced="4.7.1", text="Greylisted, try again later"), category=Category.RATE_LIMITED, attempts=1
    ),
    "full": Behaviour(reply=Reply(code=452, enhanced="4.2.2", text="Mailbox full"), category=Category.MAILBOX_FULL),
    "spam": Behaviour(reply=Reply(code=554, enhanced="5.7.1", text="Message looks like spam"), category=Category.SPAM_CONTENT),
    "block": Behaviour(reply=Reply(code=550, enhanced="5.7.1", text="Your address is on a blocklist"), category=Category.REPUTATION_BLOCK),
    "slow": Behaviour(reply=_ACCEPTED, delay_s=SLOW_S),
    "drop": Behaviour(is_broken=True, attempts=1),
    "never": _NEVER,
    "noanswer": _NEVER,
}


def behaviour_of(address: str) -> Behaviour:
    """Find how a recipient behaves by its local part."""
    local = address.rpartition("@")[0].partition("+")[0].strip('"').lower()
    return BEHAVIOURS.get(local, _DELIVER)


class SandboxCourier:
    """Capture mail; see the module's table."""

    def __init__(self, clock: Clock) -> None:
        """Set the clock that `slow` waits on."""
        self._clock = clock

    async def deliver(self, batch: Batch) -> Mapping[int, Outcome]:
        """
        Capture a batch; one outcome per recipient number.

        Raises:
            asyncio.CancelledError: The caller was cancelled.
        """
        started_at = self._clock.now()
        behaviours = [behaviour_of(recipient.address) for recipient in batch.recipients]
        if delay_s := max((behaviour.delay_s for behaviour in behaviours), default=0):
            await self._clock.sleep(delay_s)
        now = self._clock.now()
        return {
            recipient.n: _outcome(batch, recipient, behaviour, started_at, now)
            for recipient, behaviour in zip(batch.recipients, behaviours, strict=True)
        }

    async def probe(self) -> Probe:
        """The sandbox is always there."""
        return Probe(is_reachable=True, is_authenticated=None, latency_ms=0, host=HOST)

    async def close(self) -> None:
        """Nothing is open."""


def _outcome(batch: Batch, recipient: BatchRecipient, behaviour: Behaviour, started_at: Instant, now: Instant) -> Outcome:
    if behaviour.attempts is not None and recipient.attempt > behaviour.attempts:
        behaviour = _DELIVER
    dialogue = _refused if behaviour.reply is not None and behaviour.reply.code >= 400 else _accepted
    exchange = Exchange(
        route=SANDBOX,
        started_at=started_at,
        finished_at=now,
        host=HOST,
        transcript=dialogue(batch, recipient, behaviour),
    )
    return _named(batch, behaviour, exchange)


def _named(batch: Batch, behaviour: Behaviour, exchange: Exchange) -> Outcome:
    reply = behaviour.reply
    if behaviour.is_broken:
        return Unknown(exchange=exchange, detail="the connection was closed by the server after the end of the content")
    if reply is None:
        return Deferred(exchange=exchange, category=behaviour.category, detail="timed out waiting for the answer to GREETING")
    if reply.code // 100 == 2:
        return Delivered(exchange=exchange, reply=reply, captured=batch.content)
    refusal = Failed if reply.code // 100 == 5 else Deferred
    return refusal(exchange=exchange, category=behaviour.category, detail=str(reply), reply=reply)


def _envelope(batch: Batch, recipient: BatchRecipient) -> str:
    return f"C: MAIL FROM:<{batch.envelope_from}>\nS: 250 2.1.0 Ok\nC: RCPT TO:<{recipient.address}>\n"


def _refused(batch: Batch, recipient: BatchRecipient, behaviour: Behaviour) -> str:
    return f"{_envelope(batch, recipient)}S: {behaviour.reply}"


def _accepted(batch: Batch, recipient: BatchRecipient, behaviour: Behaviour) -> str:
    if behaviour.reply is None and not behaviour.is_broken:
        return "# timed out waiting for the answer to GREETING"
    end = f"S: {behaviour.reply}" if behaviour.reply is not None else "# the connection was closed by the server"
    content = f"C: <{len(batch.content)} bytes of content>"
    return f"{_envelope(batch, recipient)}S: 250 2.1.5 Ok\nC: DATA\nS: 354 Go ahead\n{content}\n{end}"

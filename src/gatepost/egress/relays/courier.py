"""
The courier to a provider's HTTP API.

Arrives: a batch. Leaves: an outcome per recipient, whatever the provider, or the way to it, does.
A broken connection before the request was sent defers; after it, nobody here knows, and only a provider that knows calls by
their keys is asked again at once. When one recipient among several is refused with the whole call, each gets a call of their
own, since nothing was sent. After trouble that all calls share the rest of a batch is not tried.
Not here: what is said to a provider and what its answers mean (its own file), rate and quota (egress.pacing).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Final

import msgspec

from gatepost.clock import SECOND, Clock, Instant
from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Failed, Outcome, Reply, Unknown
from gatepost.egress.courier import Batch, Probe
from gatepost.egress.relays.provider import Call, Provider
from gatepost.egress.relays.target import Target
from gatepost.egress.relays.verdict import Kind, Verdict
from gatepost.mime.letter import Unreadable
from gatepost.net.http_client import HttpAnswer, HttpClient, HttpFault

_CLASSES: Final[Mapping[str, str]] = {
    "ses": "Ses",
    "sendgrid": "SendGrid",
    "mailgun": "Mailgun",
    "postmark": "Postmark",
    "resend": "Resend",
    "mailjet": "Mailjet",
    "brevo": "Brevo",
}
"""Class in the module of the kind's name; a module is loaded when a relay of its kind is configured."""

_SHARED: Final = frozenset({Kind.BUSY, Kind.ACCOUNT, Kind.LATER, Kind.UNSURE})
_PERSONAL: Final = frozenset({Category.INVALID_RECIPIENT, Category.MAILBOX_INACTIVE})
_REPLIES: Final = {Kind.ACCEPTED: (250, "2.0.0"), Kind.REFUSED: (550, None)}
_MOST_TEXT: Final = 1_000
_NO_REQUIRETLS: Final = Verdict(
    kind=Kind.REFUSED, category=Category.POLICY_REJECTED, words="5.7.30 a provider's API does not promise REQUIRETLS (RFC 8689 §4.2.1)"
)


def create_provider(target: Target) -> Provider:
    """Make the provider of a target, loading its file."""
    module = import_module(f"gatepost.egress.relays.{target.kind}")
    provider: Provider = getattr(module, _CLASSES[target.kind])(target)
    return provider


@dataclass(slots=True)
class _Delivery:
    """One batch on its way."""

    batch: Batch
    started_at: Instant
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Spoken:
    """What came back, or not, from one call."""

    verdicts: Mapping[int, Verdict]
    peer: str | None
    tls: str | None

    @property
    def shared(self) -> Verdict | None:
        """The verdict, where everybody has the same."""
        found = list(self.verdicts.values())
        return found[0] if found and all(one is found[0] for one in found) else None


class HttpCourier:
    """Delivery by one provider's account."""

    def __init__(self, *, target: Target, provider: Provider, client: HttpClient, clock: Clock, connections: int) -> None:
        """
        Set up without connecting.

        Args:
            connections: Calls at once.
        """
        self._target = target
        self._provider = provider
        self._client = client
        self._clock = clock
        self._places = asyncio.Semaphore(connections)

    async def deliver(self, batch: Batch) -> Mapping[int, Outcome]:
        """
        Deliver a batch; one outcome per recipient number. Total.

        Raises:
            asyncio.CancelledError: The caller was cancelled; the call under way is cut.
        """
        delivery = _Delivery(batch, self._clock.now())
        try:
            if batch.needs_requiretls:
                self._settle_rest(delivery, _NO_REQUIRETLS)
            else:
                await self._deliver(delivery, batch)
        except Unreadable as error:
            self._settle_rest(delivery, Verdict(kind=Kind.REFUSED, category=Category.CONTENT_REJECTED, words=f"the message: {error}"))
        except Exception as error:  # noqa: BLE001 - a courier is total: a fault of ours must not lose a recipient
            self._settle_rest(delivery, Verdict(kind=Kind.ACCOUNT, words=f"internal error: {type(error).__name__}"))
        return delivery.outcomes

    async def probe(self) -> Probe:
        """Ask whether the key is good; sends no mail. Total."""
        started = self._clock.monotonic()
        request = self._provider.question(self._clock.now())
        host = self._target.host
        try:
            answer = await self._client.ask(request)
        except HttpFault as fault:
            spent = self._spent_ms(started)
            return Probe(is_reachable=False, is_authenticated=None, latency_ms=spent, detail=self._masked(str(fault)), host=host)
        standing = self._provider.standing(answer, self._clock.now())
        kind, words = standing.verdict.kind, self._masked(standing.verdict.words)
        return Probe(
            is_reachable=kind is not Kind.LATER,
            is_authenticated={Kind.ACCEPTED: True, Kind.BUSY: True, Kind.ACCOUNT: False}.get(kind),
            latency_ms=self._spent_ms(started),
            quota_left=standing.quota_left,
            detail=standing.detail if kind is Kind.ACCEPTED else f"{self._target.title} {answer.status}: {words}",
            host=host,
            peer=answer.peer,
            tls=answer.tls,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _deliver(self, delivery: _Delivery, batch: Batch) -> None:
        for call in self._provider.calls(batch, self._clock.now()):
            async with self._places:
                spoken = await self._speak(delivery, call)
            shared = spoken.shared
            if shared is not None and shared.category in _PERSONAL and shared.kind is Kind.REFUSED and len(call.recipients) > 1:
                for one in call.recipients:
                    await self._deliver(delivery, msgspec.structs.replace(batch, recipients=(one,)))
                continue
            for one in call.recipients:
                delivery.outcomes[one.n] = self._outcome(delivery, spoken.verdicts[one.n], spoken)
            if shared is not None and shared.kind in _SHARED and shared.category not in _PERSONAL:
                # the next call would hear the same; these were not sent, so nothing about them is unsure
                rest = replace(shared, kind=Kind.LATER) if shared.kind is Kind.UNSURE else shared
                self._settle_rest(delivery, rest)
                return

    async def _speak(self, delivery: _Delivery, call: Call) -> _Spoken:
        """Send a call and read what it came to; one that the provider knows by its key is sent again after a broken connection."""
        for is_last in (not self._provider.is_idempotent, True):
            delivery.lines.append(f"C: {call.request.method} {call.request.url} for {len(call.recipients)} recipients")
            try:
                answer = await self._client.ask(replace(call.request, connect_timeout_s=delivery.batch.patience_s))
            except HttpFault as fault:
                detail = self._masked(str(fault))
                delivery.lines.append(f"# {detail}")
                if is_last or not fault.is_sent or fault.is_timeout:
                    kind = Kind.UNSURE if fault.is_sent else Kind.LATER
                    verdict = Verdict(kind=kind, category=Category.NETWORK, words=detail)
                    return _Spoken({one.n: verdict for one in call.recipients}, fault.peer, fault.tls)
                continue
            return self._heard(delivery, call, answer)
        raise RuntimeError("a call without an end")

    def _heard(self, delivery: _Delivery, call: Call, answer: HttpAnswer) -> _Spoken:
        read = self._provider.read(call, answer, self._clock.now())
        verdicts = {one.n: read for one in call.recipients} if isinstance(read, Verdict) else read
        words = dict.fromkeys(self._masked(one.words) for one in verdicts.values())
        delivery.lines += [f"S: {answer.status} {text}" for text in words]
        return _Spoken(verdicts, answer.peer, answer.tls)

    def _settle_rest(self, delivery: _Delivery, verdict: Verdict) -> None:
        """Give everybody without an outcome this one."""
        for one in delivery.batch.recipients:
            if one.n not in delivery.outcomes:
                delivery.outcomes[one.n] = self._outcome(delivery, verdict, _Spoken({}, None, None))

    def _outcome(self, delivery: _Delivery, verdict: Verdict, spoken: _Spoken) -> Outcome:
        now = self._clock.now()
        exchange = Exchange(
            route=delivery.batch.route, started_at=delivery.started_at, finished_at=now, host=self._target.host, peer=spoken.peer,
            tls=spoken.tls, transcript="\n".join(delivery.lines[-40:]), provider_id=verdict.provider_id,
        )  # fmt: skip
        words = self._masked(verdict.words)
        detail = words if verdict.status is None else f"{self._target.title} {verdict.status}: {words}"
        code, enhanced = _REPLIES.get(verdict.kind, (450, None))
        reply = None if verdict.status is None else Reply(code=code, enhanced=enhanced, text=f"{verdict.status} {words}"[:_MOST_TEXT])
        match verdict.kind:
            case Kind.ACCEPTED:
                accepted = reply or Reply(code=250, enhanced="2.0.0", text=words)
                return Delivered(exchange=exchange, reply=accepted, final=False)
            case Kind.REFUSED:
                return Failed(exchange=exchange, category=verdict.category, detail=detail, reply=reply)
            case Kind.UNSURE:
                return Unknown(exchange=exchange, detail=detail)
            case _:
                counts = verdict.kind is Kind.LATER
                retry_at = None if verdict.wait_s is None else now + verdict.wait_s * SECOND
                return Deferred(
                    exchange=exchange, category=verdict.category, detail=detail, reply=reply, counts=counts, retry_at=retry_at
                )  # fmt: skip

    def _masked(self, text: str) -> str:
        for secret in self._target.secrets:
            text = text.replace(secret, "***")
        return text

    def _spent_ms(self, started: float) -> int:
        return round((self._clock.monotonic() - started) * 1000)

"""
Spam and malware: what rspamd and clamd say, turned into findings.

Arrives: a composed message. Leaves: findings, refusals for what is certain, or what passed without a verdict.
Both are asked at once. A scanner that gives no verdict lets the message pass (`on_failure = "open"`) with the warning
`not_scanned`, or refuses it for now ("closed"): scanner_unavailable, so that its sender tries again and nothing is lost.
Source: rspamd's actions ("reject", "add header", "greylist" …).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gatepost import settings as settings_of
from gatepost.clock import Clock
from gatepost.domain.errors import Fault, Refused
from gatepost.domain.message import Draft
from gatepost.domain.screening import Finding
from gatepost.domain.tenant import Caller
from gatepost.net.clamd import Clamd
from gatepost.net.rspamd import Envelope, Rspamd, Verdict
from gatepost.screening.guard import Guard
from gatepost.settings import Scanning

CERTAIN = "certain"
"""The rule of findings that no policy makes a warning of."""

UNSCANNED = "unscanned"
"""The rule of the warning that a scanner gave no verdict."""

_RETRY_AFTER_S = 30
_REJECTING = frozenset({"reject", "discard", "quarantine"})
_HARMLESS = frozenset({"no action"})

T = TypeVar("T")
Scan = Callable[[Caller, Draft], Awaitable[list[Finding]]]


@dataclass(frozen=True, slots=True)
class _Scanner:
    guard: Guard[list[Finding]]
    scan: Scan
    is_closed: bool


class Scanners:
    """The scanners that the settings name."""

    def __init__(self, settings: Scanning, clock: Clock) -> None:
        """
        Connect nothing yet.

        Raises:
            ValueError: An address is none; the text names the option.
        """
        self._settings = settings
        self._scanners: list[_Scanner] = []
        if settings.rspamd.url:
            rspamd = _made("scanning.rspamd.url", Rspamd, settings.rspamd.url)
            self._add("rspamd", settings.rspamd, clock, lambda caller, draft: _spam(rspamd, caller, draft))
        if settings.clamd.address:
            clamd = _made("scanning.clamd.address", Clamd, settings.clamd.address)
            self._add("clamd", settings.clamd, clock, lambda _caller, draft: _malware(clamd, draft))

    def _add(self, name: str, options: settings_of.Rspamd | settings_of.Clamd, clock: Clock, scan: Scan) -> None:
        guard: Guard[list[Finding]] = Guard(
            name, timeout_s=options.timeout_s, concurrency=options.concurrency, pause_s=self._settings.pause_s, clock=clock
        )
        self._scanners.append(_Scanner(guard, scan, options.on_failure == "closed"))

    def wants(self, caller: Caller, draft: Draft) -> bool:
        """Tell whether a message is to be scanned."""
        settings = self._settings
        if not self._scanners or draft.steering.stream not in settings.streams:
            return False
        return not settings.tenants or caller.tenant_id in settings.tenants

    async def examine(self, caller: Caller, draft: Draft) -> list[Finding]:
        """
        Have a message scanned.

        Raises:
            Refused: scanner_unavailable, where a scanner that fails closed gave no verdict; payload_too_large, where such a
                one cannot take the message.
        """
        if len(draft.content) > self._settings.max_bytes:
            return [self._too_large(len(draft.content))]
        answers = await asyncio.gather(*[self._ask(one, caller, draft) for one in self._scanners])
        return [finding for answer in answers for finding in answer]

    async def _ask(self, scanner: _Scanner, caller: Caller, draft: Draft) -> Sequence[Finding]:
        answer = await scanner.guard.ask(lambda: scanner.scan(caller, draft))
        if answer is not None:
            return answer[0]
        if scanner.is_closed:
            raise Refused("scanner_unavailable", f"{scanner.guard.name} gives no verdict now", retry_after_s=_RETRY_AFTER_S)
        return [Finding(UNSCANNED, Fault("", "not_scanned", f"{scanner.guard.name} gave no verdict; the message goes without one"))]

    def _too_large(self, size: int) -> Finding:
        limit = self._settings.max_bytes
        if any(one.is_closed for one in self._scanners):
            raise Refused("payload_too_large", f"the message has {size} bytes; at most {limit} can be scanned, and it must be")
        return Finding(UNSCANNED, Fault("", "not_scanned", f"messages of more than {limit} bytes are not scanned"))


def _made(option: str, kind: Callable[[str], T], address: str) -> T:
    try:
        return kind(address)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error


async def _spam(rspamd: Rspamd, caller: Caller, draft: Draft) -> list[Finding]:
    envelope = Envelope(
        message_id=draft.id,
        sender=str(draft.envelope_from or ""),
        recipients=[str(recipient.address) for recipient in draft.recipients],
        peer=caller.peer,
        user=caller.principal.id,
    )
    return _judged(await rspamd.check(draft.content, envelope))


def _judged(verdict: Verdict) -> list[Finding]:
    if verdict.action in _HARMLESS:
        return []
    reasons = f" ({', '.join(verdict.reasons[:10])})" if verdict.reasons else ""
    if verdict.action in _REJECTING:
        return [Finding(CERTAIN, Fault("", "spam", f"the content scored {verdict.score:g}, which is spam{reasons}"))]
    return [Finding("spam", Fault("", "suspected_spam", f"the content scored {verdict.score:g}, which looks like spam{reasons}"))]


async def _malware(clamd: Clamd, draft: Draft) -> list[Finding]:
    signature = await clamd.scan(draft.content)
    return [] if signature is None else [Finding(CERTAIN, Fault("", "malware_found", f"the content carries {signature[:100]}"))]

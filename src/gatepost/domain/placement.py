"""
Where mail lands: tests with mail to mailboxes of our own at providers.

`missing` and `unknown` are apart: mail that was handed over and is in no folder is missing; what could not be measured, because it was
not handed over or the mailbox could not be read, says nothing of placement and stands in no rate.
Not here: sending and looking (placement), rows (store.placement).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gatepost.clock import Instant


class Outcome(StrEnum):
    """Where a test's mail to one seed is."""

    WAITING = "waiting"
    INBOX = "inbox"
    SPAM = "spam"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementResult:
    """
    One seed of a test.

    Attributes:
        seed: Its name in the settings.
        detail: Why it is unknown, or what keeps it waiting.
        folder: Where it was found.
        found_at: When its server took it, as far as that can be believed.
        after_ms: From sending to then.
        authserv_id: Who says what follows; empty where nobody does.
        spf: The receiver's verdicts (RFC 8601 §2.7); None where it says nothing.
    """

    seed: str
    provider: str
    message_id: str | None = None
    outcome: Outcome = Outcome.WAITING
    detail: str = ""
    folder: str = ""
    found_at: Instant | None = None
    after_ms: int | None = None
    authserv_id: str = ""
    spf: str | None = None
    dkim: str | None = None
    dmarc: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementTest:
    """
    A test.

    Attributes:
        domain: The sender's.
        sender: The From mailbox as text.
        marker: Random, in a header of all its mail.
        finished_at: When the last result was there; None while it runs.
    """

    id: str
    tenant_id: str
    domain: str
    sender: str
    subject: str
    marker: str
    created_at: Instant
    deadline_at: Instant
    finished_at: Instant | None = None
    results: tuple[PlacementResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementCounts:
    """
    Results of many tests.

    Attributes:
        unknown: Not measured; in no rate.
        median_ms: Time to arrive, half of those that did.
    """

    inbox: int = 0
    spam: int = 0
    missing: int = 0
    unknown: int = 0
    median_ms: int | None = None

    @property
    def measured(self) -> int:
        """Results that rates are made of."""
        return self.inbox + self.spam + self.missing

    def rate(self, outcome: Outcome) -> float | None:
        """Return an outcome's share, 0 to 1; None while nothing was measured."""
        count = {Outcome.INBOX: self.inbox, Outcome.SPAM: self.spam, Outcome.MISSING: self.missing}[outcome]
        return count / self.measured if self.measured else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementSummary:
    """
    Where the mail of a domain landed in a span of time.

    Attributes:
        tests: That were begun then and have a result.
        providers: By provider's name, in order.
    """

    tests: int
    total: PlacementCounts
    providers: tuple[tuple[str, PlacementCounts], ...] = ()


def count_results(results: Sequence[tuple[str, Outcome, int | None]]) -> PlacementSummary:
    """
    Sum results up, by provider and together.

    Args:
        results: Provider, outcome and time to arrive (ms) of each.
    """
    names = sorted({provider for provider, _, _ in results})
    providers = tuple((name, _counted([one for one in results if one[0] == name])) for name in names)
    return PlacementSummary(tests=0, total=_counted(results), providers=providers)


def _counted(results: Sequence[tuple[str, Outcome, int | None]]) -> PlacementCounts:
    found = [outcome for _, outcome, _ in results]
    times = sorted(ms for _, _, ms in results if ms is not None)
    return PlacementCounts(
        inbox=found.count(Outcome.INBOX), spam=found.count(Outcome.SPAM), missing=found.count(Outcome.MISSING),
        unknown=found.count(Outcome.UNKNOWN), median_ms=times[len(times) // 2] if times else None,
    )  # fmt: skip

"""A change that is unusual: a rate, or a volume, that left its own history."""

from dataclasses import dataclass

from gatepost.clock import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusualChange:
    """
    One change, from when it was found until it was over.

    Attributes:
        metric: What changed: `bounces`, `blocks`, `complaints`, `deferrals`, `unsubscribes`, `opens`, `volume`.
        scope: Where: `tenant`, `domain`, `stream`, `relay`, `site` (a mail system that mail goes to).
        name: Which one; empty for the whole tenant.
        span: Over how long it is seen: `hour` or `day`.
        seen_at: When it was last seen.
        closed_at: When it was over; None while it lasts.
        expected: The rate from 0 to 1 that was usual; of a volume, recipients.
        seen: The rate, or the volume, at its worst.
        part: Recipients that it is about, at its worst.
        whole: Of so many; 0 for a volume.
    """

    id: str
    tenant_id: str
    metric: str
    scope: str
    name: str
    span: str
    opened_at: Instant
    seen_at: Instant
    closed_at: Instant | None = None
    expected: float
    seen: float
    part: int
    whole: int
    detail: str
    advice: str

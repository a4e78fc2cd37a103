"""
What one source sends to one site: the facts that owners keep, and others show.

Not here: how limits and back-off are decided (policy.shaping, dispatch.shaping).
"""

from dataclasses import dataclass, field

from gatepost.clock import Instant

FRESH_MS = 15_000
"""The owner writes what moves every few seconds; after so long, what is in use is not known any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowState:
    """
    What is known of a source at a site.

    Attributes:
        connections: Allowed at once now.
        connections_limit: Allowed when nothing holds back.
        in_use: Transactions under way.
        rate: Messages a second, lately.
        rate_limit: Messages a second at most, now; None is no limit.
        width: Factor on the connections: 1 unless the site asked for fewer.
        pace: Factor on the rate.
        learned_rate: Messages a second that `pace` is a part of, where nobody set a limit; else None.
        suspended_until: Nothing goes before, because of what the site said; 0 is now.
        ordered_until: Nothing goes before, because an operator said so.
        strikes: Signals without a delivery between.
        cause: Why mail waits, by a stable code: `site_suspended`, `backing_off`, `site_unreachable`, `warm_up_cap`, `rate_reached`,
            `slots_in_use`; empty where it does not.
        detail: The same in words.
        signal_id: The rule that found the last signal in a reply; empty where there was none.
        signal_text: The reply.
        warm_up_cap: Messages that today may have; None is as many as there are.
        warm_up_used: Messages that were counted today.
    """

    source: str
    site: str
    pool: str
    connections: int
    connections_limit: int
    in_use: int = 0
    rate: float = 0.0
    rate_limit: float | None = None
    width: float = 1.0
    pace: float = 1.0
    learned_rate: float | None = None
    suspended_until: Instant = 0
    ordered_until: Instant = 0
    strikes: int = 0
    cause: str = ""
    detail: str = ""
    signal_id: str = ""
    signal_text: str = ""
    signal_at: Instant = 0
    warm_up_cap: int | None = None
    warm_up_used: int = 0
    saved_at: Instant = 0

    def is_fresh(self, now: Instant) -> bool:
        """Tell whether its owner wrote it just now."""
        return now - self.saved_at < FRESH_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRule:
    """
    What an operator ordered for a site.

    Attributes:
        source: Empty is every source.
        site: `*` is every site.
        limits: As in `[shaping."SITE"]` of the settings; they win over those.
        suspended_until: Nothing goes before; None is now.
        lifted_at: What the gateway itself had suspended then goes on.
    """

    source: str
    site: str
    limits: dict[str, object] = field(default_factory=dict)
    suspended_until: Instant | None = None
    lifted_at: Instant = 0
    note: str = ""
    changed_at: Instant = 0

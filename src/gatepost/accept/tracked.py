"""
What is tracked of a message, settled when it is accepted.

Arrives: a draft with its wish, its stream and its routes. Leaves: what dispatch puts into it for each recipient, and where
its links lead, to be stored with it; or a refusal. A stream's wish that cannot be kept is a warning: mail is not lost for it.
Not here: how it is put in (mime.tracked), the transaction (committing).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gatepost.clock import DAY, Instant
from gatepost.domain.engagement import Tracking, TrackingWish, tracking_as_dict, tracking_of
from gatepost.domain.errors import Fault, invalid
from gatepost.domain.message import Draft, Lane
from gatepost.domain.route import SANDBOX
from gatepost.domain.stream import Stream
from gatepost.mime.tracked import find_tracked
from gatepost.settings import Tracking as TrackingSettings

OPTION: Final = "track"
"""Under which name it stands among a message's options."""

_WAITS_MS: Final = 60 * DAY
"""How long mail may wait before it leaves with links that are good for `tracking.days`: scheduled, then retried."""
_PLACES: Final = {
    "opens": "/tracking/opens", "clicks": "/tracking/clicks", "text": "/tracking/text", "unsubscribe": "/unsubscribe",
}  # fmt: skip
_NO_HOST: Final = "mail that leaves is tracked at a host of its own, and the gateway has none: tracking.host"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedDraft:
    """
    What is stored of it.

    Attributes:
        options: As dispatch reads it: domain.engagement.read_tracking.
        links: Where its links lead.
        links_end_at: Until when they are needed.
    """

    options: Mapping[str, Any]
    links: Sequence[str]
    links_end_at: Instant


def plan_tracking(
    draft: Draft, stream: Stream, routes: Collection[str], settings: TrackingSettings, now: Instant
) -> tuple[TrackedDraft | None, Sequence[Fault]]:
    """
    Settle what is tracked of a draft; also return what its sender is warned of.

    Args:
        routes: By which its recipients go.

    Raises:
        Refused: validation_failed, where the message asks for what it cannot have.
    """
    wish = draft.steering.tracking
    if wish is None and not stream.tracking:
        return None, ()
    if wish is not None:
        _check(wish, stream)
    wanted = tracking_of(wish, stream.tracking, are_codes=stream.lane is Lane.CODES)
    if not wanted:
        return None, ()
    if not settings.base_of(draft.header_from.address.domain) and any(route != SANDBOX for route in routes):
        asked = [] if wish is None else wish.wants
        if asked:
            raise invalid(*(Fault(_PLACES[name], "unsupported", _NO_HOST) for name in asked))
        return None, (Fault("/stream", "not_tracked", _NO_HOST),)
    return _found(draft, wanted, now, settings.days), ()


def _check(wish: TrackingWish, stream: Stream) -> None:
    if stream.lane is Lane.CODES and not wish.is_forced and wish.wants:
        detail = "codes are not tracked: scanners follow links, and a code is not worth it; tracking.force does it all the same"
        raise invalid(*(Fault(_PLACES[name], "conflicting", detail) for name in wish.wants))


def _found(draft: Draft, wanted: Tracking, now: Instant, days: int) -> TrackedDraft:
    links = find_tracked(draft.content, wanted).links if wanted.clicks else ()
    return TrackedDraft(options=tracking_as_dict(wanted), links=links, links_end_at=now + days * DAY + _WAITS_MS)

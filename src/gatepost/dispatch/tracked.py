"""
Pixels, links and one-click fields are put into a tracked message, for each recipient its own.

Arrives: the stored content and a recipient. Leaves: the content to sign. Untracked mail never comes here.
Not here: where they stand in the content (mime.tracked), what comes back (tracking).
"""

from dataclasses import dataclass

from gatepost.clock import Instant
from gatepost.domain.engagement import Tracking, read_tracking
from gatepost.domain.route import Road, RoadKind
from gatepost.mime.tracked import Tracked, Writing, find_tracked
from gatepost.store.messages import Material
from gatepost.wire.tracking_token import TokenKind, TrackingUrls


@dataclass(frozen=True, slots=True)
class TrackedMessage:
    """A tracked message, taken apart once for all of its recipients."""

    urls: TrackingUrls
    base: str
    message_id: str
    tracking: Tracking
    tracked: Tracked

    def content_for(self, n: int, now: Instant) -> bytes:
        """Write the content for one recipient."""

        def url(kind: TokenKind, target: str = "") -> str:
            return self.urls.url(self.base, kind, self.message_id, n, now, target)

        writing = Writing(
            link=(lambda target: url(TokenKind.CLICK, target)) if self.tracking.clicks else None,
            pixel=url(TokenKind.OPEN) if self.tracking.opens else "",
            unsubscribe=url(TokenKind.UNSUBSCRIBE) if self.tracking.unsubscribe else "",
        )
        return self.tracked.written(writing)


def take_apart(urls: TrackingUrls, material: Material, content: bytes, road: Road) -> TrackedMessage | None:
    """Find the places in a message that are written for each recipient; None where there is no host for its URLs any more."""
    base = urls.base_of(material.from_domain, is_sandbox=road.kind is RoadKind.SANDBOX)
    if not base:
        return None
    tracking = read_tracking(material.options.get("track"))
    return TrackedMessage(urls, base, material.id, tracking, find_tracked(content, tracking))

"""
Tracking, in both kinds of processes: what is written into mail, and who answers when it is asked for.

Arrives: `[tracking]`. Leaves: URLs for dispatch, a desk for the HTTP door. The key of tokens is derived from the database's
own, so every process has the same, and without the master key nobody has it.
Not here: the rules of either (dispatch.tracked, tracking.desk).
"""

from pathlib import Path

from sqlalchemy import Connection

from gatepost.app.base import Base
from gatepost.app.parts import create_suppressing
from gatepost.domain.engagement import Visitor
from gatepost.engaged import Counting
from gatepost.policy.visitors import InvalidRules, load_rules
from gatepost.settings import InvalidSettings
from gatepost.store import sealing
from gatepost.tracking.desk import TrackingDesk, TrackingOptions
from gatepost.wire.tracking_token import TrackingTokens, TrackingUrls


async def create_tracking_urls(base: Base) -> TrackingUrls:
    """
    Make what links are written with.

    Raises:
        StorageUnavailable: The key cannot be read.
    """
    options = base.settings.tracking
    return TrackingUrls(
        tokens=await _tokens(base), base=options.base_of(""), by_sender={sender: options.base_of(sender) for sender in options.hosts},
        sandbox=f"http://{base.settings.http.listen}" if base.settings.http.listen else "",
    )  # fmt: skip


async def create_tracking_desk(base: Base) -> TrackingDesk:
    """
    Make what answers for pixels, links and pages.

    Raises:
        InvalidSettings: `tracking.rules_file` cannot be used.
        StorageUnavailable: The key cannot be read.
    """
    options = base.settings.tracking
    try:
        rules = load_rules(Path(options.rules_file) if options.rules_file else None, soon_ms=int(options.soon_s * 1000))
    except InvalidRules as error:
        raise InvalidSettings(f"tracking.rules_file: {error}") from error
    counting = Counting(rules=rules, counted=frozenset(Visitor(name) for name in options.counted))
    made = TrackingOptions(how=counting, per_minute=options.requests_per_minute)
    return TrackingDesk(base.engine, base.clock, await _tokens(base), create_suppressing(base.settings), made)


async def _tokens(base: Base) -> TrackingTokens:
    return TrackingTokens(key=await base.engine.write(_key), days=base.settings.tracking.days)


def _key(conn: Connection) -> bytes:
    return sealing.keyring_of(conn).hash(conn, b"gatepost tracking")

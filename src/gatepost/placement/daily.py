"""
A placement test each day for the senders that the settings name.

A day's test of a sender has an occasion of its own in the database: whichever process comes first sends it, once.
Not here: sending (sending).
"""

import datetime as dt
from collections.abc import Sequence
from typing import Final

from gatepost.clock import DAY, HOUR, Clock, Instant
from gatepost.domain.access import KeyMode, Principal, PrincipalKind
from gatepost.domain.address import InvalidAddress, Mailbox, parse_mailbox
from gatepost.domain.errors import Refused
from gatepost.domain.message import Submission
from gatepost.domain.tenant import Caller, DomainStatus
from gatepost.observe import maillog
from gatepost.placement.sending import SUBJECT, TEXT, PlacementTests
from gatepost.settings import InvalidSettings, Settings
from gatepost.store import placement, tenants
from gatepost.store.engine import Engine

_RETRY_MS: Final = HOUR


class DailyTests:
    """The loop's work; `step` is called every minute or so."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings, tests: PlacementTests) -> None:
        """
        Read the senders.

        Raises:
            InvalidSettings: One of them is no mailbox.
        """
        self._engine = engine
        self._clock = clock
        self._hour = settings.placement.daily_hour
        self._senders = _senders(settings.placement.daily)
        self._tests = tests
        self._not_before: dict[str, Instant] = {}

    async def step(self) -> int:
        """
        Begin the tests whose time has come; return how many.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()
        if now % DAY < self._hour * HOUR:
            return 0
        day, begun = dt.datetime.fromtimestamp(now / 1000, dt.UTC).date().isoformat(), 0
        for sender in self._senders:
            occasion = f"{day}/{sender.address.key}"
            if now < self._not_before.get(occasion, 0):
                continue
            self._not_before[occasion] = now + _RETRY_MS
            if not await self._engine.read(lambda conn, occasion=occasion: placement.has_occasion(conn, occasion)):  # type: ignore[misc]
                begun += await self._begin(sender, occasion)
        self._not_before = {occasion: at for occasion, at in self._not_before.items() if occasion.startswith(day)}
        return begun

    async def _begin(self, sender: Mailbox, occasion: str) -> bool:
        found = await self._engine.read(lambda conn: tenants.domains_named(conn, sender.address.domain))
        owners = [one.tenant_id for one in found if one.status is DomainStatus.VERIFIED]
        if not owners:
            maillog.trouble("a daily placement test was not sent", domain=sender.address.domain, error="nobody has this domain")
            return False
        principal = Principal(
            id="placement", kind=PrincipalKind.LOCAL, tenant_id=owners[0], name="daily placement tests", mode=KeyMode.LIVE
        )
        caller = Caller(principal=principal, peer="", request_id=f"placement {occasion[:10]}")
        try:
            test = await self._tests.begin(caller, Submission(sender=sender, subject=SUBJECT, text=TEXT), occasion=occasion)
        except Refused as refusal:
            maillog.trouble("a daily placement test was not sent", domain=sender.address.domain, error=f"{refusal.code}: {refusal.detail}")
            return False
        return test is not None


def _senders(texts: Sequence[str]) -> tuple[Mailbox, ...]:
    try:
        return tuple(parse_mailbox(text) for text in texts)
    except InvalidAddress as error:
        raise InvalidSettings(f"placement.daily: {error}") from error

"""
The relays as people look at them: what the settings say, what was used; never a secret.

Arrives: the settings and the engine. Leaves: a `RelayFacts` for each relay, in order of name.
Not here: couriers (app.relays), health.
"""

from dataclasses import dataclass

from gatepost.clock import Clock
from gatepost.egress.pacing import parse_allowance, window_of
from gatepost.egress.relays.target import FORMS, endpoint_host, kind_of
from gatepost.settings import Relay, Settings
from gatepost.store import relay_use
from gatepost.store.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayFacts:
    """
    One relay.

    Attributes:
        kind: `smtp`, `smtps`, or the provider's scheme.
        title: The provider's name; `SMTP` for a smarthost.
        host: Whom it leads to; empty where its URL is not valid.
        rate: Such as `14/second`; empty is no limit.
        quota: Such as `50000/day`; empty is no limit.
        used_today: Recipients that were sent to since midnight UTC; it may be a second old.
        quota_left: Recipients that the quota still allows in its present window; None without one.
    """

    name: str
    kind: str
    title: str
    host: str
    price_per_1000: float
    rate: str
    quota: str
    used_today: int
    quota_left: int | None


async def list_relays(engine: Engine, settings: Settings, clock: Clock) -> list[RelayFacts]:
    """
    List the relays of the settings.

    Raises:
        StorageUnavailable: The database cannot be used now.
    """
    now = clock.now()
    day, _ = window_of("day", now)
    quotas = {name: quota for name, relay in settings.relays.items() if (quota := parse_allowance(relay.quota)) is not None}
    spans = {name: window_of(quota.per, now)[0] for name, quota in quotas.items()}
    used, taken = await engine.read(lambda conn: (relay_use.used(conn, day), relay_use.taken(conn, spans)))
    return [
        _facts(name, relay, used.get(name, 0), quotas[name].amount - taken.get(name, 0) if name in quotas else None)
        for name, relay in sorted(settings.relays.items())
    ]


def _facts(name: str, relay: Relay, used_today: int, quota_left: int | None) -> RelayFacts:
    kind = kind_of(relay.url)
    return RelayFacts(
        name=name, kind=kind, title=FORMS[kind].title if kind in FORMS else "SMTP", host=endpoint_host(relay),
        price_per_1000=relay.price_per_1000, rate=relay.rate, quota=relay.quota, used_today=used_today,
        quota_left=None if quota_left is None else max(quota_left, 0),
    )  # fmt: skip

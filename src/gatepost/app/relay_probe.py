"""
Asking one relay whether it would take mail, because a person wants to know now.

Arrives: a relay's name. Leaves: how it answered; nothing is sent. Couriers are made for this one question and closed.
Not here: probing now and then (watch.relays).
"""

import asyncio

import msgspec

from gatepost.app import parts
from gatepost.clock import Clock
from gatepost.domain.errors import Refused
from gatepost.egress.courier import Probe
from gatepost.settings import Settings


async def probe_relay(settings: Settings, clock: Clock, name: str) -> Probe:
    """
    Ask a relay.

    Args:
        settings: With sealed options opened and host names filled in.

    Raises:
        Refused: not_found: there is no relay of this name.
        InvalidSettings: The relay's options are not valid.
    """
    relay = settings.relays.get(name)
    if relay is None:
        raise Refused("not_found", f"there is no relay {name[:80]!r}")
    couriers = parts.create_couriers(msgspec.structs.replace(settings, relays={name: relay}), clock)
    try:
        return await couriers[name].probe()
    finally:
        await asyncio.gather(*[courier.close() for courier in couriers.values()])

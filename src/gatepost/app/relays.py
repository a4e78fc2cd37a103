"""
The relays of the settings, made into couriers; nothing is connected, and aiohttp is loaded by the first call.

Not here: the courier to MX hosts, the sandbox (parts).
"""

from collections.abc import Callable

from gatepost.clock import Clock
from gatepost.egress.courier import Courier
from gatepost.egress.pacing import Ledger, MemoryLedger, PacedCourier, parse_allowance
from gatepost.egress.relays.target import FORMS, kind_of, parse_target, secret_of
from gatepost.net.dns import Resolver
from gatepost.settings import InvalidSettings, Relay, Settings


def create_relay(
    name: str, relay: Relay, settings: Settings, *, clock: Clock, resolver: Resolver, ledger: Ledger | None, smtp: Callable[[str], Courier]
) -> Courier:
    """
    Make the courier of one relay.

    Args:
        ledger: Where its use is kept; None keeps it in memory.
        smtp: Makes the courier of an SMTP smarthost, given its password.

    Raises:
        InvalidSettings: An option of the relay has no valid value; the text holds no secret.
    """
    _check(name, relay)
    secret = secret_of(name, relay)
    inner = _provider(name, relay, settings, clock, resolver) if kind_of(relay.url) in FORMS else smtp(secret)
    rate, quota = parse_allowance(relay.rate), parse_allowance(relay.quota)
    return PacedCourier(inner, name=name, clock=clock, ledger=ledger or MemoryLedger(), rate=rate, quota=quota)


def _provider(name: str, relay: Relay, settings: Settings, clock: Clock, resolver: Resolver) -> Courier:
    from gatepost.egress.relays.courier import HttpCourier, create_provider  # noqa: PLC0415
    from gatepost.net.http_client import HttpClient  # noqa: PLC0415

    target = parse_target(name, relay)
    connections = settings.egress.connections_per_relay
    client = HttpClient(
        timeout_s=relay.timeout_s, connect_timeout_s=float(settings.egress.connect_timeout_s), connections=connections,
        ca_file=relay.ca_file, resolver=resolver,
    )  # fmt: skip
    return HttpCourier(target=target, provider=create_provider(target), client=client, clock=clock, connections=connections)


def _check(name: str, relay: Relay) -> None:
    """Refuse options that the relay's kind does not have: what has no effect would be believed to have one."""
    is_smtp = kind_of(relay.url) not in FORMS
    for option in ("endpoint", "ca_file", "session_token"):
        is_used = option == "session_token" and kind_of(relay.url) == "ses"
        if getattr(relay, option) and (is_smtp or (option == "session_token" and not is_used)):
            raise InvalidSettings(f"relays.{name}.{option}: this kind of relay has no use for it")
    if not is_smtp and relay.return_paths:
        raise InvalidSettings(f"relays.{name}.return_paths: only for smtp:// and smtps://")
    if not is_smtp and relay.oauth != type(relay.oauth)():
        raise InvalidSettings(f"relays.{name}.oauth: only for smtp:// and smtps://")

"""
What keeps providers' own suppression lists in step with ours, made from the settings.

Not here: the work (returns.relay_lists), what is said to a provider (egress.relays).
"""

import os
import socket

from gatepost.app.base import Base
from gatepost.app.parts import create_resolver, create_suppress_rules
from gatepost.clock import SECOND, Clock
from gatepost.domain.relay_list import Why
from gatepost.egress.relays.list_client import RelayListClient
from gatepost.egress.relays.provider_list import CLASSES, create_list
from gatepost.egress.relays.target import FORMS, kind_of, parse_target
from gatepost.net.dns import Resolver
from gatepost.net.http_client import HttpClient
from gatepost.returns.relay_lists.loop import EVERY_S, RelayListLoop
from gatepost.returns.relay_lists.rounds import Rounds, Wishes
from gatepost.settings import InvalidSettings, Relay, Settings
from gatepost.store.engine import Engine

_MOST_BYTES = 64 * 1024 * 1024
"""Postmark sends its list in one piece."""


def check_list(name: str, relay: Relay) -> None:
    """
    Refuse wishes that a relay's provider cannot fulfil.

    Raises:
        InvalidSettings: It has no list, or does not take what it shall be told.
    """
    wanted = relay.suppressions
    kind = kind_of(relay.url)
    if wanted.is_wanted and kind not in CLASSES:
        title = FORMS[kind].title if kind in FORMS else "an SMTP smarthost"
        raise InvalidSettings(f"relays.{name}.suppressions: {title} has no list that can be read or told")
    if wanted.follow_removals and not wanted.pull:
        raise InvalidSettings(f"relays.{name}.suppressions.follow_removals: it needs pull = true")


def create_rounds(name: str, settings: Settings, engine: Engine, clock: Clock, resolver: Resolver | None = None) -> Rounds:
    """
    Make what reads and tells one relay's list, whether the settings want it regularly or not.

    Raises:
        InvalidSettings: The relay has none, or its options are not valid.
    """
    relay = settings.relays[name]
    check_list(name, relay)
    if kind_of(relay.url) not in CLASSES:
        raise InvalidSettings(f"relays.{name}: its provider has no suppression list that can be read or told")
    target = parse_target(name, relay)
    provider = create_list(target)
    assert provider is not None
    wanted = relay.suppressions
    pushes = frozenset(Why(one) for one in wanted.push)
    if pushes - frozenset(provider.takes):
        names = ", ".join(sorted(provider.takes)) or "nothing"
        raise InvalidSettings(f"relays.{name}.suppressions.push: {target.title} can be told of {names}")
    http = HttpClient(
        timeout_s=relay.timeout_s, connect_timeout_s=float(settings.egress.connect_timeout_s), connections=2, ca_file=relay.ca_file,
        max_bytes=_MOST_BYTES, resolver=resolver or create_resolver(settings, clock),
    )  # fmt: skip
    wishes = Wishes(
        pulls=wanted.pull or not wanted.is_wanted, pushes=pushes, removes=wanted.remove, follows=wanted.follow_removals,
        every_ms=wanted.every_s * SECOND,
        tenants=tuple(wanted.tenants),
    )  # fmt: skip
    client = RelayListClient(target=target, provider=provider, client=http, clock=clock)
    return Rounds(engine, clock, client, wishes, create_suppress_rules(settings))


def keep_relay_lists(base: Base) -> RelayListLoop:
    """
    Keep lists in step from now on.

    Raises:
        InvalidSettings: See `create_relay_lists`.
    """
    lists = create_relay_lists(base.settings, base.engine, base.clock, f"{socket.gethostname()}:{os.getpid()}")
    base.repeat("relay lists", EVERY_S, lists.step)
    return lists


def create_relay_lists(settings: Settings, engine: Engine, clock: Clock, owner: str) -> RelayListLoop:
    """
    Make the loop over the lists that the settings want kept in step.

    Raises:
        InvalidSettings: A relay has none, or its options are not valid.
    """
    for name, relay in settings.relays.items():
        check_list(name, relay)
    wanted = [name for name, one in settings.relays.items() if one.suppressions.is_wanted]
    resolver = create_resolver(settings, clock) if wanted else None
    return RelayListLoop(engine, clock, {name: create_rounds(name, settings, engine, clock, resolver) for name in wanted}, owner)

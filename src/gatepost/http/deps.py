"""What the HTTP door works with; made by `app`, handed to every endpoint."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gatepost.accept import Acceptor
from gatepost.clock import Clock
from gatepost.control import Control
from gatepost.egress.courier import Probe
from gatepost.placement.sending import PlacementTests
from gatepost.returns.hooks.desk import HookDesk
from gatepost.settings import Settings
from gatepost.store.blobs import Blobs
from gatepost.store.engine import Engine
from gatepost.tenants.directory import Directory
from gatepost.tenants.domain_health import DomainHealth
from gatepost.tenants.domains import Domains
from gatepost.tenants.identity import Identity
from gatepost.tenants.limits import Limits
from gatepost.tenants.policies import Policies
from gatepost.tenants.routing import Routing
from gatepost.tracking.desk import TrackingDesk


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpDeps:
    """
    The house behind the door.

    Attributes:
        is_ready: Returns what keeps this process from working; an empty list is ready.
        limits: Counts requests; None does not.
        routing: Chooses roads at accept; None knows the default route only.
        hooks: Takes relays' hooks; None knows none.
        placement: Begins placement tests; None where there are no seeds.
        tracking: Answers for pixels, links and pages of recipients; None knows none.
        probe_relay: Asks a relay of this name whether it would take mail; None cannot ask.
    """

    engine: Engine
    blobs: Blobs
    acceptor: Acceptor
    control: Control
    directory: Directory
    identity: Identity
    domains: Domains
    domain_health: DomainHealth
    policies: Policies
    settings: Settings
    clock: Clock
    default_tenant_id: str
    is_ready: Callable[[], Awaitable[list[str]]]
    limits: Limits | None = None
    routing: Routing | None = None
    hooks: HookDesk | None = None
    tracking: TrackingDesk | None = None
    probe_relay: Callable[[str], Awaitable[Probe]] | None = None
    placement: PlacementTests | None = None

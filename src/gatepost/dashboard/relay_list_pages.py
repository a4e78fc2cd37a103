"""
Providers' own suppression lists on a page, for operators: how far each is read and told, what came of it, and what went wrong.

Arrives: a wish to read one now. Leaves: a page; a list that is due, with an entry in the audit log.
Not here: reading and telling (returns.relay_lists), taking what is held back, which is the command line's.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from litestar import Response
from litestar.response import Redirect

from gatepost.dashboard.access import AnyRequest, actor_of
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import Scope
from gatepost.domain.errors import Refused
from gatepost.egress.relays.provider_list import CLASSES
from gatepost.egress.relays.target import FORMS, kind_of
from gatepost.settings import Relay
from gatepost.store import audit, relay_lists, tenants
from gatepost.store.relay_lists import Stored

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps

_STATES: Final = {
    "step": ("delivered", "in step"),
    "reading": ("sent", "being read"),
    "failing": ("bounced", "failing"),
    "held": ("deferred", "held back"),
    "new": ("queued", "not read yet"),
    "off": ("cancelled", "switched off"),
    "none": ("cancelled", "has no list"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListView:
    """
    One relay's list.

    Attributes:
        wishes: What the settings want of it, in words.
        held: By tenant's name, how many entries wait for a person.
    """

    name: str
    title: str
    state: str
    wishes: tuple[str, ...]
    stored: Stored
    held: dict[str, int]


class RelayListPages:
    """The page about providers' lists."""

    def __init__(self, deps: "DashboardDeps", shell: Shell) -> None:
        self._deps = deps
        self._shell = shell

    async def listing(self, request: AnyRequest) -> Response[Any]:
        """List the relays with their providers' lists."""
        relays = self._deps.settings.relays
        known = {one.relay: one for one in await self._deps.engine.read(relay_lists.every)}
        names = {one.id: one.name for one in await self._deps.engine.read(tenants.all_tenants)}
        views = [
            _view(name, relay, known.get(name) or Stored(name, 0, relay_lists.EMPTY, ""), names) for name, relay in sorted(relays.items())
        ]
        is_asked = request.query_params.get("done") == "asked"
        return self._shell.page(
            request, "relay_lists.html", views=views, states=_STATES, done="It is read within a few seconds." if is_asked else ""
        )

    async def sync(self, request: AnyRequest) -> Response[Any]:
        """Let a list be read and told now."""
        name, deps, now = str(request.path_params["name"]), self._deps, self._deps.clock.now()
        relay = deps.settings.relays.get(name)
        if relay is None or kind_of(relay.url) not in CLASSES:
            raise Refused("not_found", "there is no such relay with a list")
        if not relay.suppressions.is_wanted:
            raise Refused("conflict", "its list is neither read nor told: [relays.NAME.suppressions] switches that on")

        def run(conn: Any) -> None:
            relay_lists.hasten(conn, name, now)
            audit.append(conn, actor_of(request), audit.Change(action="relay.suppressions_asked", object_id=name, tenant_id=None), now)

        await deps.engine.write(run)
        return Redirect("/relay-lists?done=asked", status_code=303)


def _view(name: str, relay: Relay, stored: Stored, tenant_names: dict[str, str]) -> ListView:
    kind, wanted = kind_of(relay.url), relay.suppressions
    wishes = (
        *(["read"] if wanted.pull else []), *(["followed when it forgets"] if wanted.follow_removals else []),
        *([f"told of {', '.join(wanted.push)}"] if wanted.push else []), *(["told what is lifted"] if wanted.remove else []),
    )  # fmt: skip
    held = {tenant_names.get(one, one): count for one, count in stored.state.held.items()}
    return ListView(
        name=name, title=FORMS[kind].title if kind in FORMS else "SMTP", state=_state(kind, relay, stored), wishes=wishes, stored=stored,
        held=held,
    )  # fmt: skip


def _state(kind: str, relay: Relay, stored: Stored) -> str:
    state = stored.state
    if kind not in CLASSES:
        return "none"
    if state.failures:
        return "failing"
    if not relay.suppressions.is_wanted and not state.done_at:
        return "off"
    if state.held or state.gone_held:
        return "held"
    if state.began_at:
        return "reading"
    return "step" if state.done_at or stored.due_at else "new"


PAGES = (
    Page(method="GET", path="/relay-lists", run=RelayListPages.listing, scope=Scope.OPERATOR),
    Page(method="POST", path="/relay-lists/{name:str}/sync", run=RelayListPages.sync, scope=Scope.OPERATOR),
)

"""`gatepost queue hold|release|reroute|cancel`: actions on all waiting mail that matches."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, print_json
from gatepost.clock import iso
from gatepost.domain.errors import Fault, invalid
from gatepost.domain.queue_action import Filter, Kind, QueueAction
from gatepost.net.bell import Bell
from gatepost.store import leases
from gatepost.tenants.queue_actions import QueueActions

_HELP = {
    Kind.HOLD: "Hold waiting mail that matches until it is released.",
    Kind.RELEASE: "Let held mail that matches go on.",
    Kind.REROUTE: "Send waiting mail that matches another way: gatepost queue reroute --to ROUTE …",
    Kind.CANCEL: "Cancel waiting mail that matches.",
}
_POLL_S = 0.1


def commands() -> list[click.Command]:
    """Make the commands."""
    return [_command(kind) for kind in Kind]


def _command(kind: Kind) -> click.Command:
    options: list[Callable[[Any], Any]] = [
        click.option("--site", help="Mail system, such as google, example.net or relay:main."),
        click.option("--stream", help="Only mail of this stream."),
        click.option("--tag", help="Only mail with this tag."),
        click.option("--sender", help="Only mail from this domain."),
        click.option("--recipient", help="Only mail to this domain."),
        click.option("--route", help="Only mail on this road, such as mx."),
        click.option("--older-than", type=int, metavar="SECONDS", help="Only mail that was accepted so long ago or longer."),
        click.option("--all", "is_all", is_flag=True, help="All mail; needed where nothing else is named."),
        click.option("--note", default="", help="Why, for whoever finds it."),
        click.option("--dry-run", is_flag=True, help="Only count."),
        click.option("--wait", default=30.0, show_default=True, metavar="SECONDS", help="How long to wait for its end."),
        tenant_option,
        store_options,
        json_option,
        failing_clearly,
    ]
    if kind is Kind.REROUTE:
        options.insert(0, click.option("--to", "to", required=True, help="The new route: a route's name, or roads such as main,mx."))

    def run(**given: Any) -> None:
        _run(kind, **given)

    function: Any = run
    for option in reversed(options):
        function = option(function)
    return click.command(name=kind.value, help=_HELP[kind])(function)


def _run(
    kind: Kind, *, data: Path, flags: dict[str, Any], as_json: bool, tenant: str | None, note: str, dry_run: bool, wait: float,
    is_all: bool, older_than: int | None, to: str | None = None, **wanted: str | None,
) -> None:  # fmt: skip
    async def work(store: Opened) -> dict[str, Any]:
        whose = store.tenant_id if store.is_tenant_named else None
        chosen = Filter(
            **{name: value if name in {"tag", "route"} or value is None else value.lower() for name, value in wanted.items()},
            before=None if older_than is None else store.clock.now() - older_than * 1000,
        )
        if chosen == Filter() and whose is None and not is_all:
            raise invalid(Fault("/filter", "required", "name what the mail must have, or give --all"))
        actions = QueueActions(store.engine, store.clock, store.settings)
        if dry_run:
            count, is_exact = await actions.count(whose, kind, chosen, by=store.actor)
            return {"count": count, "is_exact": is_exact}
        made = await actions.ask(whose, kind, chosen, by=store.actor, route=to, note=note, is_operator=True)
        Bell(data).ring()
        return _shown(await _follow(store, actions, made, wait))

    found = run_with_store(data, flags, work, tenant)
    if as_json:
        print_json(found)
    elif dry_run:
        click.echo(f"{found['count']} recipients{'' if found['is_exact'] else ' or more'}.")
    else:
        state = "done" if found["finished_at"] else "being done"
        click.echo(f"{found['action']} {found['id']}: {state}, {found['changed']} recipients so far.")


async def _follow(store: Opened, actions: QueueActions, made: QueueAction, wait_s: float) -> QueueAction:
    """Wait for an action's end, while somebody is there who does it."""
    until = store.clock.monotonic() + wait_s
    while made.finished_at is None and store.clock.monotonic() < until:
        if not await store.engine.read(lambda conn: leases.is_any_valid(conn, store.clock.now())):
            break
        await asyncio.sleep(_POLL_S)
        made = await actions.get(None, made.id)
    return made


def _shown(action: QueueAction) -> dict[str, Any]:
    return {
        "id": action.id,
        "action": action.kind.value,
        "tenant_id": action.tenant_id,
        "filter": action.filter.as_dict(),
        "route": action.route,
        "note": action.note,
        "changed": action.changed,
        "created_at": iso(action.created_at),
        "finished_at": iso(action.finished_at) if action.finished_at else None,
    }

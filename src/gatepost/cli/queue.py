"""`gatepost queue`: what waits, by site; sites paused and resumed."""

from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from gatepost.cli import queue_actions
from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, print_json, print_table
from gatepost.clock import Instant, iso
from gatepost.control import Control
from gatepost.domain.errors import Refused
from gatepost.explain.queued import site_views
from gatepost.net.bell import Bell
from gatepost.observe import maillog
from gatepost.store import messages
from gatepost.store import queue as store_queue


@click.group(name="queue", invoke_without_command=True)
@tenant_option
@store_options
@json_option
@click.pass_context
@failing_clearly
def command(ctx: click.Context, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Show what waits, by site and state; pause and resume sites."""
    if ctx.invoked_subcommand is not None:
        return

    async def work(store: Opened) -> dict[str, Any]:
        now, of = store.clock.now(), store.tenant_id if store.is_tenant_named else None
        return await store.engine.read(lambda conn: _overview(conn, now, of))

    found = run_with_store(data, flags, work, tenant)
    if as_json:
        print_json(found)
    else:
        _show(found)


@command.command()
@click.argument("site")
@click.option("--note", default="", help="Why, for whoever finds it paused.")
@store_options
@json_option
@failing_clearly
def pause(site: str, *, note: str, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Stop deliveries to a site, such as example.net, relay:main or sandbox; mail for it waits."""

    async def work(store: Opened) -> None:
        await Control(store.engine, store.settings, store.clock).pause_site(site.lower(), note, by=store.actor)
        maillog.changed("site_paused", site=site.lower())

    run_with_store(data, flags, work)
    _say(site.lower(), is_paused=True, as_json=as_json)


@command.command()
@click.argument("site")
@store_options
@json_option
@failing_clearly
def resume(site: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Start deliveries to a paused site again."""

    async def work(store: Opened) -> bool:
        return await Control(store.engine, store.settings, store.clock).resume_site(site.lower(), by=store.actor)

    if not run_with_store(data, flags, work):
        raise Refused("conflict", f"the site {site.lower()} is not paused")
    Bell(data).ring()
    _say(site.lower(), is_paused=False, as_json=as_json)


def _say(site: str, *, is_paused: bool, as_json: bool) -> None:
    if as_json:
        print_json({"site": site, "paused": is_paused})
    else:
        click.echo(f"Deliveries to {site} are {'paused' if is_paused else 'going on'}.")


def _overview(conn: Connection, now: Instant, tenant_id: str | None) -> dict[str, Any]:
    found = [
        {
            "site": one.site,
            "due": one.due,
            "waiting": one.later,
            "tried": one.tried,
            "next_at": None if one.first_due_at is None else iso(one.first_due_at),
            "paused_since": None if one.paused_at is None else iso(one.paused_at),
            "in_use": one.in_use,
            "limit": one.limit,
            "cause": one.cause or None,
            "sentence": one.sentence or None,
            "evidence": dict(one.evidence),
        }
        for one in site_views(conn, tenant_id, now)
    ]
    total, due, first = store_queue.depth(conn, now, tenant_id)
    age_s = max(0, now - first) / 1000 if first is not None else 0.0
    held = store_queue.held_by_tenant(conn)
    if tenant_id is not None:
        held = {one: count for one, count in held.items() if one == tenant_id}
    counts = messages.counts_by_status(conn, tenant_id)
    return {"total": total, "due": due, "oldest_due_age_s": age_s, "held": held, "recipients": counts, "sites": found}


def _show(found: dict[str, Any]) -> None:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(found["recipients"].items())) or "none yet"
    click.echo(
        f"{found['total']} in the queue, {found['due']} due, the oldest for {found['oldest_due_age_s']:.0f} s. Recipients: {counts}."
    )
    for tenant_id, count in found["held"].items():
        click.echo(f"{count} are held: the tenant {tenant_id} is suspended.")
    if found["sites"]:
        rows = [
            (one["site"], one["due"], one["waiting"], one["tried"], one["next_at"], _connections(one), one["sentence"])
            for one in found["sites"]
        ]
        print_table(("site", "due", "waiting", "tried before", "next at", "connections", "why it waits"), rows)


def _connections(one: dict[str, Any]) -> str | None:
    return None if one["limit"] is None else f"{one['in_use']} of {one['limit']}"


for _one in queue_actions.commands():
    command.add_command(_one)

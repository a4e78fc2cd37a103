"""`gatepost queue`: what waits, by site; sites paused and resumed."""

from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options
from gatepost.cli.output import failing_clearly, print_json, print_table
from gatepost.clock import Instant, iso
from gatepost.domain.errors import Refused
from gatepost.net.bell import Bell
from gatepost.observe import maillog
from gatepost.store import messages, sites
from gatepost.store import queue as store_queue


@click.group(name="queue", invoke_without_command=True)
@store_options
@json_option
@click.pass_context
@failing_clearly
def command(ctx: click.Context, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Show what waits, by site and state; pause and resume sites."""
    if ctx.invoked_subcommand is not None:
        return

    async def work(store: Opened) -> dict[str, Any]:
        now = store.clock.now()
        return await store.engine.read(lambda conn: _overview(conn, now))

    found = run_with_store(data, flags, work)
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
        now = store.clock.now()
        await store.engine.write(lambda conn: sites.pause(conn, site.lower(), now, note))
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
        return await store.engine.write(lambda conn: sites.resume(conn, site.lower()))

    if not run_with_store(data, flags, work):
        raise Refused("conflict", f"the site {site.lower()} is not paused")
    Bell(data).ring()
    _say(site.lower(), is_paused=False, as_json=as_json)


def _say(site: str, *, is_paused: bool, as_json: bool) -> None:
    if as_json:
        print_json({"site": site, "paused": is_paused})
    else:
        click.echo(f"Deliveries to {site} are {'paused' if is_paused else 'going on'}.")


def _overview(conn: Connection, now: Instant) -> dict[str, Any]:
    paused = sites.paused(conn)
    found = [
        {
            "site": site,
            "due": due,
            "waiting": waiting,
            "tried": tried,
            "next_at": iso(first),
            "paused_since": iso(paused[site]) if site in paused else None,
        }
        for site, due, waiting, tried, first in store_queue.counts_by_site(conn, now)
    ]
    known = {str(one["site"]) for one in found}
    found += [
        {"site": site, "due": 0, "waiting": 0, "tried": 0, "next_at": None, "paused_since": iso(since)}
        for site, since in paused.items()
        if site not in known
    ]
    total, due, first = store_queue.depth(conn, now)
    age_s = max(0, now - first) / 1000 if first is not None else 0.0
    return {"total": total, "due": due, "oldest_due_age_s": age_s, "recipients": messages.counts_by_status(conn, None), "sites": found}


def _show(found: dict[str, Any]) -> None:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(found["recipients"].items())) or "none yet"
    click.echo(
        f"{found['total']} in the queue, {found['due']} due, the oldest for {found['oldest_due_age_s']:.0f} s. Recipients: {counts}."
    )
    if found["sites"]:
        rows = [(one["site"], one["due"], one["waiting"], one["tried"], one["next_at"], one["paused_since"]) for one in found["sites"]]
        print_table(("site", "due", "waiting", "tried before", "next at", "paused since"), rows)

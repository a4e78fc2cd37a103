"""`gatepost site`: mail systems, what each source may do there, and orders about them."""

import datetime as dt
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.clock import Instant, iso, parse_iso
from gatepost.domain.flow import FlowState
from gatepost.net.bell import Bell
from gatepost.policy.shaping import Limits
from gatepost.settings import SiteLimits
from gatepost.store.shaping import FOREVER
from gatepost.tenants.site_orders import SiteOrders, SiteStanding

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_source_option = click.option("--source", default="", help="Only from this source; without it from every one.")


@click.group(name="site")
def command() -> None:
    """Show mail systems; suspend and resume them; set what sources may do there."""


@command.command(name="list")
@store_options
@json_option
@failing_clearly
def list_sites(*, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List the sites that anything is known or ordered of; `gatepost queue` shows what waits for which."""
    found, now = _run(data, flags, _all)
    if as_json:
        print_json([_as_json(one, now) for one in found])
        return
    rows = [row for one in found for row in _rows(one, now)]
    print_table(("site", "source", "connections", "in use", "per second", "at most", "until", "why mail waits"), rows)


@command.command()
@click.argument("site")
@store_options
@json_option
@failing_clearly
def show(site: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Show one site: limits, back-off, the last reply that asked for less, orders."""
    _finish(data, flags, lambda orders, _store: orders.standing(site.lower()), as_json=as_json)


@command.command()
@click.argument("site")
@_source_option
@click.option("--for", "duration", metavar="TIME", help="For so long, such as 30m, 6h or 2d; without it until it is resumed.")
@click.option("--until", metavar="MOMENT", help="Or until then, such as 2026-11-24T02:00:00Z.")
@click.option("--note", default="", help="Why, for whoever finds it.")
@store_options
@json_option
@failing_clearly
def suspend(
    site: str, *, source: str, duration: str | None, until: str | None, note: str, data: Path, flags: dict[str, Any], as_json: bool
) -> None:
    """Send nothing to a site for a while; mail for it waits, or takes its route's next road. `*` is every site of recipients."""
    if duration and until:
        raise click.UsageError("give either --for or --until")
    seconds = None if duration is None else _seconds(duration)
    fixed = None if until is None else _instant(until)

    async def work(orders: SiteOrders, store: Opened) -> SiteStanding:
        ends = fixed if seconds is None else store.clock.now() + seconds * 1000
        return await orders.suspend(site.lower(), source, ends, note[:200], by=store.actor)

    _finish(data, flags, work, as_json=as_json)


@command.command()
@click.argument("site")
@_source_option
@store_options
@json_option
@failing_clearly
def resume(site: str, *, source: str, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Let mail go to a site again, whoever suspended it: an operator, or the gateway after the site's own words."""
    _finish(data, flags, lambda orders, store: orders.resume(site.lower(), source, by=store.actor), as_json=as_json)
    Bell(data).ring()


@command.command()
@click.argument("site")
@_source_option
@click.option("--connections", type=click.IntRange(1, 1000), help="Connections at once, idle ones included.")
@click.option("--messages-per-connection", type=click.IntRange(1), help="Messages after which a connection is closed.")
@click.option("--messages-per-second", type=click.FloatRange(0, 100_000), help="Such as 0.5; 0 is no limit.")
@click.option("--burst", type=click.IntRange(1, 100_000), help="Messages that may go at once after a pause.")
@click.option("--recipients-per-transaction", type=click.IntRange(1, 10_000), help="Recipients in one transaction.")
@click.option("--warm-up-from", metavar="DAY", default="", help="First day of warming up (UTC), such as 2026-11-24.")
@click.option("--warm-up", metavar="N,N,…", help="Messages on each day from then on.")
@click.option("--reset", is_flag=True, help="Take back what was ordered before; the settings count again.")
@store_options
@json_option
@failing_clearly
def limit(
    site: str, *, source: str, warm_up: str | None, reset: bool, data: Path, flags: dict[str, Any], as_json: bool, **values: Any
) -> None:
    """
    Set what sources may do at a site; what is not named stays as it was ordered. `*` is every site of recipients.

    Running processes keep to it within two seconds.
    """
    given: dict[str, Any] = {name: value for name, value in values.items() if value is not None and value != ""}
    if warm_up is not None:
        given["warm_up"] = _caps(warm_up)

    async def work(orders: SiteOrders, store: Opened) -> SiteStanding:
        known = (await orders.standings([site.lower()]))[site.lower()]
        before = next((rule.limits for rule in known.rules if (rule.source, rule.site) == (source, site.lower())), {})
        limits = msgspec.convert({**({} if reset else before), **given}, SiteLimits)
        return await orders.limit(site.lower(), source, limits, by=store.actor)

    _finish(data, flags, work, as_json=as_json)


Work = Callable[[SiteOrders, Opened], Awaitable[SiteStanding]]


def _finish(data: Path, flags: dict[str, Any], work: Work, *, as_json: bool) -> None:
    found, now = _run(data, flags, work)
    if as_json:
        print_json(_as_json(found, now))
    else:
        _show(found, now)


def _run(data: Path, flags: dict[str, Any], work: Callable[[SiteOrders, Opened], Awaitable[Any]]) -> tuple[Any, Instant]:
    async def run(store: Opened) -> tuple[Any, Instant]:
        return await work(SiteOrders(store.engine, store.settings, store.clock), store), store.clock.now()

    return run_with_store(data, flags, run)


async def _all(orders: SiteOrders, _store: Opened) -> list[SiteStanding]:
    return list((await orders.standings()).values())


def _show(found: SiteStanding, now: Instant) -> None:
    print_table(("site", "source", "connections", "in use", "per second", "at most", "until", "why mail waits"), _rows(found, now))
    for flow in found.flows:
        if flow.signal_id:
            click.echo(f"{flow.source}, {moment(flow.signal_at)}, {flow.signal_id}: {flow.signal_text}")
        if flow.warm_up_cap is not None:
            click.echo(f"{flow.source} is warming up: {flow.warm_up_used} of {flow.warm_up_cap} messages today.")
    if found.paused_at is not None:
        click.echo(f"Paused since {moment(found.paused_at)}.")
    for rule in found.rules:
        of = f"from {rule.source}" if rule.source else "from every source"
        if rule.limits:
            click.echo(f"Ordered for {rule.site} {of}: " + ", ".join(f"{name} {value}" for name, value in rule.limits.items()))
        if rule.suspended_until is not None and rule.suspended_until > now:
            note = f": {rule.note}" if rule.note else ""
            click.echo(f"Suspended for {rule.site} {of} {_until(rule.suspended_until)}{note}")


def _until(at: Instant) -> str:
    return "until it is resumed" if at >= FOREVER else f"until {moment(at)}"


def _rows(found: SiteStanding, now: Instant) -> list[tuple[Any, ...]]:
    flows = {flow.source: flow for flow in found.flows}
    return [_row(found.site, name, limits, flows.get(name), now) for name, limits in found.limits.items()]


def _row(site: str, source: str, limits: Limits, flow: FlowState | None, now: Instant) -> tuple[Any, ...]:
    if flow is None:
        return site, source, limits.connections, None, None, limits.messages_per_second or None, None, None
    ends = max(flow.suspended_until, flow.ordered_until)
    until = None if ends <= now else "resumed" if ends >= FOREVER else moment(ends)
    is_fresh = flow.is_fresh(now)
    return (
        site, source, f"{flow.connections} of {limits.connections}", flow.in_use if is_fresh else None, flow.rate if is_fresh else None,
        flow.rate_limit, until, flow.detail if is_fresh or ends > now else None,
    )  # fmt: skip


def _as_json(found: SiteStanding, now: Instant) -> dict[str, Any]:
    flows = {flow.source: flow for flow in found.flows}
    return {
        "site": found.site,
        "paused_since": None if found.paused_at is None else iso(found.paused_at),
        "sources": [_source_json(name, limits, flows.get(name), now) for name, limits in found.limits.items()],
        "orders": [
            {
                "source": rule.source, "site": rule.site, "limits": rule.limits, "note": rule.note,
                "suspended_until": None if rule.suspended_until is None else iso(rule.suspended_until),
            }
            for rule in found.rules if rule.limits or rule.suspended_until is not None
        ],
    }  # fmt: skip


def _source_json(name: str, limits: Limits, flow: FlowState | None, now: Instant) -> dict[str, Any]:
    ends = 0 if flow is None else max(flow.suspended_until, flow.ordered_until)
    signal = None
    if flow is not None and flow.signal_id:
        signal = {"id": flow.signal_id, "text": flow.signal_text, "at": iso(flow.signal_at)}
    return {
        "source": name,
        "connections_limit": limits.connections,
        "messages_per_connection": limits.messages_per_connection,
        "recipients_per_transaction": limits.recipients_per_transaction,
        "messages_per_second_limit": limits.messages_per_second or None,
        "connections": limits.connections if flow is None else flow.connections,
        "in_use": 0 if flow is None else flow.in_use,
        "messages_per_second": 0.0 if flow is None else flow.rate,
        "rate_limit": (limits.messages_per_second or None) if flow is None else flow.rate_limit,
        "width": 1.0 if flow is None else flow.width,
        "pace": 1.0 if flow is None else flow.pace,
        "cause": "" if flow is None else flow.cause,
        "detail": "" if flow is None else flow.detail,
        "suspended_until": iso(ends) if ends > now else None,
        "signal": signal,
        "warm_up": None if flow is None or limits.warm_up is None else {"cap": flow.warm_up_cap, "used": flow.warm_up_used},
        "updated_at": None if flow is None else iso(flow.saved_at),
    }


def _seconds(text: str) -> int:
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if not found or not int(found[1]):
        raise click.BadParameter("give a time such as 30m, 6h or 2d", param_hint="--for")
    return int(found[1]) * _UNITS[found[2]]


def _instant(text: str) -> Instant:
    try:
        found = parse_iso(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--until") from None
    if found <= int(dt.datetime.now(dt.UTC).timestamp() * 1000):
        raise click.BadParameter("it is over already", param_hint="--until")
    return found


def _caps(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise click.BadParameter("give numbers such as 50,100,200", param_hint="--warm-up") from None

"""`gatepost report`: who of a team gets daily digests and the weekly report by mail."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gatepost import ids
from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.clock import iso
from gatepost.domain.errors import Refused
from gatepost.domain.team_report import ReportKind, ReportSubscription, TeamLetter
from gatepost.mime.team_letter import as_html, as_text
from gatepost.policy.report_periods import is_zone, latest
from gatepost.policy.team_letters import write
from gatepost.store import tenants
from gatepost.tenants.team_reports import TeamReports, View
from gatepost.upkeep import report_facts

T = TypeVar("T")
_KIND = click.Choice([one.value for one in ReportKind])


@click.group(name="report")
def command() -> None:
    """Say who gets daily digests and the weekly report by mail."""


def _times(function: Any) -> Any:
    for option in (
        click.option("--domain", "domains", multiple=True, help="Only this sender's domain. Repeatable; default all."),
        click.option("--weekday", type=click.IntRange(0, 6), help="Of the weekly report: 0 is Monday.  [0]"),
        click.option("--hour", type=click.IntRange(0, 23), help="Local hour.  [7]"),
        click.option("--zone", help="Time zone, such as Europe/Berlin.  [UTC]"),
    ):
        function = option(function)
    return function


@command.command()
@click.argument("kind", type=_KIND)
@click.argument("address")
@_times
@tenant_option
@store_options
@json_option
@failing_clearly
def subscribe(
    kind: str, address: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool, **given: Any
) -> None:  # fmt: skip
    """Send a report to an address from now on."""

    async def work(register: TeamReports, store: Opened) -> View:
        made = await register.subscribe(store.tenant_id, kind, address, _values(given), by=store.actor, is_operator=True)
        return View(subscription=made)

    _show(_with(data, flags, tenant, work), as_json=as_json)
    _warn(data, flags, as_json=as_json)


@command.command(name="list")
@tenant_option
@store_options
@json_option
@failing_clearly
def list_reports(*, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List who gets which report."""
    found = _with(data, flags, tenant, lambda register, store: register.every(store.tenant_id))
    if as_json:
        print_json([_as_json(view) for view in found])
        return
    print_table(("id", "report", "address", "when", "next", "last"), [_row(view) for view in found])


@command.command()
@click.argument("report_id")
@_times
@tenant_option
@store_options
@json_option
@failing_clearly
def change(report_id: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool, **given: Any) -> None:
    """Change when a report comes; what is not given stays."""

    async def work(register: TeamReports, store: Opened) -> View:
        await register.change(store.tenant_id, report_id, _values(given), by=store.actor)
        return await register.get(store.tenant_id, report_id)

    _show(_with(data, flags, tenant, work), as_json=as_json)


@command.command()
@click.argument("report_id")
@tenant_option
@store_options
@json_option
@failing_clearly
def remove(report_id: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """End a report."""
    _with(data, flags, tenant, lambda register, store: register.remove(store.tenant_id, report_id, by=store.actor))
    if as_json:
        print_json({"id": report_id, "removed": True})
    else:
        click.echo(f"{report_id} is removed.")


@command.command()
@click.argument("kind", type=_KIND)
@click.option("--zone", default="UTC", show_default=True, help="Time zone, such as Europe/Berlin.")
@click.option("--domain", "domains", multiple=True, help="Only this sender's domain. Repeatable; default all.")
@click.option("--html", "is_html", is_flag=True, help="As HTML.")
@tenant_option
@store_options
@json_option
@failing_clearly
def preview(
    kind: str, *, zone: str, domains: tuple[str, ...], is_html: bool, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool
) -> None:  # fmt: skip
    """Print the newest report as it would be sent; nothing is sent."""
    if not is_zone(zone):
        raise click.BadParameter("give a time zone of the IANA list, such as Europe/Berlin", param_hint="--zone")

    async def work(store: Opened) -> TeamLetter | None:
        now = store.clock.now()
        asked = ReportSubscription(
            id=ids.new("rps"), tenant_id=store.tenant_id, kind=ReportKind(kind), address="", zone=zone, hour=0, domains=domains,
            created_at=now, changed_at=now, next_at=now,
        )  # fmt: skip
        tenant_found = await store.engine.read(lambda conn: tenants.named(conn, store.tenant_id))
        return write(await store.engine.read(lambda conn: report_facts.read(conn, asked, tenant_found, latest(asked, now))))

    letter = run_with_store(data, flags, work, tenant)
    if letter is None:
        raise Refused("not_found", "there is nothing to tell of: such a report would not be sent")
    text, html = as_text(letter), as_html(letter)
    if as_json:
        print_json({"subject": letter.subject, "text": text, "html": html})
    else:
        click.echo(html if is_html else f"Subject: {letter.subject}\n\n{text}")


def _with(data: Path, flags: dict[str, Any], tenant: str | None, work: Callable[[TeamReports, Opened], Awaitable[T]]) -> T:
    return run_with_store(data, flags, lambda store: work(TeamReports(store.engine, store.clock, store.settings), store), tenant)


def _warn(data: Path, flags: dict[str, Any], *, as_json: bool) -> None:
    async def sender(store: Opened) -> str:
        return store.settings.reports.sender

    if not as_json and not run_with_store(data, flags, sender):
        click.echo("No report is sent while reports.sender is empty.", err=True)


def _values(given: dict[str, Any]) -> dict[str, Any]:
    values = {name: given[name] for name in ("zone", "hour", "weekday") if given[name] is not None}
    return values | ({"domains": list(given["domains"])} if given["domains"] else {})


_DAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


def _when(one: ReportSubscription) -> str:
    day = _DAYS[one.weekday] if one.kind is ReportKind.WEEKLY else "daily"
    return f"{day} at {one.hour:02d}:00, {one.zone}"


def _row(view: View) -> tuple[Any, ...]:
    one, last = view.subscription, view.last
    following = moment(one.next_at) if one.ended_at is None else f"ended by the {one.ended_by}"
    return one.id, one.kind.value, one.address, _when(one), following, f"{last.period}: {last.state}" if last else ""


def _show(view: View, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(view))
        return
    print_table(("", ""), [(name, ", ".join(value) if isinstance(value, list) else value) for name, value in _as_json(view).items()])


def _as_json(view: View) -> dict[str, Any]:
    one, last = view.subscription, view.last
    return {
        "id": one.id, "kind": one.kind.value, "address": one.address, "zone": one.zone, "hour": one.hour, "weekday": one.weekday,
        "domains": list(one.domains), "next_at": iso(one.next_at) if one.ended_at is None else None, "ended_by": one.ended_by or None,
        "last_period": last.period if last else None, "last_status": last.state if last else None,
    }  # fmt: skip

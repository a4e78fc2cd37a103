"""`gatepost domain`: senders' domains and their DNS records."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gatepost.app import parts, watching
from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import console, failing_clearly, moment, print_json, print_table
from gatepost.clock import iso
from gatepost.domain.tenant import Domain
from gatepost.http.v1 import deliverability as written
from gatepost.tenants.deliverability import MOST_DAYS, Deliverability, Trend
from gatepost.tenants.domains import Domains, DomainView

T = TypeVar("T")


@click.group(name="domain")
def command() -> None:
    """Add, verify and remove senders' domains."""


@command.command()
@click.argument("name")
@tenant_option
@store_options
@click.option("--trust", "is_trusted", is_flag=True, help="Vouch for it: verified at once, without a look at DNS.")
@json_option
@failing_clearly
def add(name: str, *, tenant: str | None, data: Path, flags: dict[str, Any], is_trusted: bool, as_json: bool) -> None:
    """Add a domain with its signing keys; print the DNS records to publish."""
    _show(
        _with_domains(
            data, flags, tenant, lambda domains, store: domains.add(store.tenant_id, name, by=store.actor, is_trusted=is_trusted)
        ),
        as_json=as_json,
    )


@command.command(name="list")
@tenant_option
@store_options
@json_option
@failing_clearly
def list_domains(*, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List the domains."""
    found = _with_domains(data, flags, tenant, lambda domains, store: domains.list(store.tenant_id))
    if as_json:
        print_json([_as_json(view) for view in found])
        return
    print_table(("domain", "status", "", "verified", "id"), [_row(view.domain) for view in found])


@command.command()
@click.argument("name")
@tenant_option
@store_options
@json_option
@failing_clearly
def show(name: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Show a domain with its DNS records, without asking DNS."""
    _show(_with_domains(data, flags, tenant, lambda domains, store: domains.get(store.tenant_id, name)), as_json=as_json)


@command.command()
@click.argument("name")
@tenant_option
@store_options
@click.option("--trust", "is_trusted", is_flag=True, help="Vouch for it instead of asking DNS.")
@json_option
@failing_clearly
def verify(name: str, *, tenant: str | None, data: Path, flags: dict[str, Any], is_trusted: bool, as_json: bool) -> None:
    """Look for a domain's records in DNS; exit code 1 when it is not verified then."""

    def ask(domains: Domains, store: Opened) -> Awaitable[DomainView]:
        look = domains.trust if is_trusted else domains.verify
        return look(store.tenant_id, name, by=store.actor)

    view = _with_domains(data, flags, tenant, ask)
    _show(view, as_json=as_json)
    if view.domain.status.value != "verified":
        raise SystemExit(1)


@command.command()
@click.argument("name")
@tenant_option
@store_options
@json_option
@failing_clearly
def rotate(name: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Make new signing keys. They sign when `verify` finds their records published (at once for a trusted domain)."""
    _show(
        _with_domains(data, flags, tenant, lambda domains, store: domains.rotate_dkim(store.tenant_id, name, by=store.actor)),
        as_json=as_json,
    )


@command.command()
@click.argument("name")
@tenant_option
@store_options
@json_option
@failing_clearly
def remove(name: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Remove a domain with its keys."""
    domain = _with_domains(data, flags, tenant, lambda domains, store: domains.remove(store.tenant_id, name, by=store.actor))
    if as_json:
        print_json({"id": domain.id, "name": domain.name, "removed": True})
    else:
        click.echo(f"{domain.name} is removed.")


@command.command()
@click.argument("name")
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, MOST_DAYS), help="Days that are shown, today included.")
@tenant_option
@store_options
@json_option
@failing_clearly
def score(name: str, *, days: int, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Show how well a domain's mail gets through: the score, what costs points, and why it moved."""

    async def work(store: Opened) -> Trend:
        settings = parts.with_hostnames(store.settings)
        health = watching.create_watched(settings, store.engine, store.clock).domains
        return await Deliverability(store.engine, store.clock, health, settings).trend(store.tenant_id, name, days)

    found = run_with_store(data, flags, work, tenant)
    if as_json:
        print_json(written.write(found))
        return
    shown = "not known" if found.score.score is None else f"{found.score.score} of 100, {found.direction.value}"
    click.echo(f"{found.domain.name}: {shown} ({found.score.recipients:,} recipients, {found.score.known} % of it known)\n")
    print_table(
        ("", "value", "costs", "seen", "what to do"),
        [(part.component.value, part.value, f"{part.cost:.1f}", part.reason, part.advice) for part in found.score.parts],
    )
    moved = [(one.day, one.score, change) for one in found.days for change in one.changes]
    if moved:
        click.echo()
        print_table(
            ("day", "score", "points", "why"),
            [(day, value, f"{one.points:+.1f}", f"{one.component.value}: {one.after} (before: {one.before})") for day, value, one in moved],
        )


def _with_domains(data: Path, flags: dict[str, Any], tenant: str | None, ask: Callable[[Domains, Opened], Awaitable[T]]) -> T:
    async def work(store: Opened) -> T:
        return await ask(parts.create_domains(store.loaded, store.engine, store.clock), store)

    return run_with_store(data, flags, work, tenant)


def _row(domain: Domain) -> tuple[str, ...]:
    return domain.name, domain.status.value, "trusted" if domain.is_trusted else "", moment(domain.verified_at), domain.id


def _as_json(view: DomainView) -> dict[str, Any]:
    domain = view.domain
    return {
        "id": domain.id,
        "name": domain.name,
        "status": domain.status.value,
        "is_trusted": domain.is_trusted,
        "created_at": iso(domain.created_at),
        "verified_at": None if domain.verified_at is None else iso(domain.verified_at),
        "records": view.records,
    }


def _show(view: DomainView, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(view))
        return
    domain = view.domain
    click.echo(f"{domain.name} is {domain.status.value}{' (trusted)' if domain.is_trusted else ''}. Publish these DNS records:\n")
    print_table(("purpose", "status", "type", "name"), [(one.purpose, one.status, one.type, one.name) for one in view.records])
    terminal = console()
    for record in view.records:
        terminal.print(f"\n{record.name} {record.type}", style="bold")
        terminal.print(f'"{record.value}"', markup=False, soft_wrap=True)

"""`gatepost tenant`: who may use this gateway."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.cli.tenant_limit import balance, limit
from gatepost.clock import iso
from gatepost.domain.tenant import Tenant
from gatepost.net.bell import Bell
from gatepost.tenants.tenants import Tenants


@click.group(name="tenant")
def command() -> None:
    """Make, list, suspend and resume tenants."""


command.add_command(limit)
command.add_command(balance)


@command.command()
@click.argument("name")
@store_options
@json_option
@failing_clearly
def create(name: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Make a tenant."""
    made = _with_tenants(data, flags, lambda tenants, store: tenants.create(name, store.actor))
    if as_json:
        print_json(_as_json(made))
    else:
        click.echo(f"{made.id} {made.name!r} is there; give it a key with gatepost key create --tenant {made.id}.")


@command.command(name="list")
@store_options
@json_option
@failing_clearly
def list_tenants(*, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List the tenants, the oldest first."""

    async def work(store: Opened) -> list[Tenant]:
        return await Tenants(store.engine, store.clock).list()

    found = run_with_store(data, flags, work)
    if as_json:
        print_json([_as_json(one) for one in found])
        return
    rows = [(one.id, one.name, moment(one.created_at), moment(one.suspended_at)) for one in found]
    print_table(("id", "name", "created", "suspended"), rows)


@command.command()
@click.argument("tenant")
@store_options
@json_option
@failing_clearly
def show(tenant: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Show a tenant, by id or by name."""
    _show(_with_tenants(data, flags, lambda tenants, _: tenants.get(tenant)), as_json=as_json)


@command.command()
@click.argument("tenant")
@store_options
@json_option
@failing_clearly
def suspend(tenant: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Take nothing more from a tenant, and hold its mail."""
    found = _with_tenants(data, flags, lambda tenants, store: tenants.suspend(tenant, store.actor))
    Bell(data).ring()
    _show(found, as_json=as_json)


@command.command()
@click.argument("tenant")
@store_options
@json_option
@failing_clearly
def resume(tenant: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Let a suspended tenant and its mail go on."""
    found = _with_tenants(data, flags, lambda tenants, store: tenants.resume(tenant, store.actor))
    Bell(data).ring()
    _show(found, as_json=as_json)


def _with_tenants(data: Path, flags: dict[str, Any], ask: Callable[[Tenants, Opened], Awaitable[Tenant]]) -> Tenant:
    async def work(store: Opened) -> Tenant:
        return await ask(Tenants(store.engine, store.clock), store)

    return run_with_store(data, flags, work)


def _show(found: Tenant, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(found))
    else:
        state = f"suspended since {moment(found.suspended_at)}" if found.suspended_at is not None else "active"
        click.echo(f"{found.id} {found.name!r} is {state}.")


def _as_json(found: Tenant) -> dict[str, Any]:
    return {
        "id": found.id,
        "name": found.name,
        "created_at": iso(found.created_at),
        "suspended_at": None if found.suspended_at is None else iso(found.suspended_at),
    }

"""`gatepost key`: API keys."""

from pathlib import Path
from typing import Any

import click

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import Duration, json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.cli.restricting import CIDR, check_name, restriction_options, restrictions, shown
from gatepost.clock import iso
from gatepost.domain.access import KeyMode, Network
from gatepost.domain.tenant import ApiKey
from gatepost.store.last_use import LastUse
from gatepost.tenants.key_register import LONGEST_OVERLAP, Keys, MadeKey


@click.group(name="key")
def command() -> None:
    """Make, list, rotate and revoke API keys."""


@command.command()
@store_options
@tenant_option
@click.option("--name", required=True, help="What the key is for.")
@click.option("--test", "is_test", is_flag=True, help="A test key: its mail never leaves the sandbox.")
@click.option("--trust-cidr", "trust", metavar="CIDR", type=CIDR, multiple=True, help="SMTP clients from there need no AUTH. Repeatable.")
@restriction_options
@json_option
@failing_clearly
def create(
    *,
    data: Path,
    flags: dict[str, Any],
    tenant: str | None,
    name: str,
    is_test: bool,
    trust: tuple[Network, ...],
    as_json: bool,
    **narrowing: Any,
) -> None:
    """
    Make a key and show it, this once.

    Without --scope it may do everything in its tenant (admin). The scope operator, which only keys of the default tenant
    may have, adds tenants and their limits.
    """
    name = check_name(name)

    async def work(store: Opened) -> MadeKey:
        return await _keys(store).create(
            store.tenant_id,
            name,
            KeyMode.TEST if is_test else KeyMode.LIVE,
            restrictions(narrowing, store.clock.now()),
            by=store.actor,
            maker=None,
            trust_networks=tuple(dict.fromkeys(trust)),
        )

    _show_made(run_with_store(data, flags, work, tenant), as_json=as_json)


@command.command(name="list")
@store_options
@tenant_option
@json_option
@failing_clearly
def list_keys(*, data: Path, flags: dict[str, Any], tenant: str | None, as_json: bool) -> None:
    """List a tenant's keys, without their secrets."""

    async def work(store: Opened) -> tuple[list[ApiKey], dict[str, LastUse]]:
        found = await _keys(store).list(store.tenant_id)
        return found, await _keys(store).uses(found)

    found, uses = run_with_store(data, flags, work, tenant)
    if as_json:
        print_json([_as_json(key, uses.get(key.id)) for key in found])
        return
    rows = [
        (
            key.id,
            key.name,
            key.mode.value,
            f"…{key.hint}",
            " ".join(sorted(key.scopes)),
            moment(key.created_at),
            moment(uses[key.id].used_at) if key.id in uses else "",
            moment(key.expires_at),
            moment(key.revoked_at),
        )
        for key in found
    ]
    print_table(("id", "name", "mode", "ends in", "scopes", "created", "last used", "expires", "revoked"), rows)


@command.command()
@click.argument("key_id")
@click.option(
    "--overlap", "overlap_ms", metavar="TIME", type=Duration(may_be_zero=True), default="1h", show_default=True,
    help="How long the old secret works on, such as 1h or 0s.",
)  # fmt: skip
@store_options
@tenant_option
@json_option
@failing_clearly
def rotate(key_id: str, *, data: Path, flags: dict[str, Any], tenant: str | None, overlap_ms: int, as_json: bool) -> None:
    """Give a key a new secret and show it, this once; id, limits and history stay."""
    if overlap_ms > LONGEST_OVERLAP:
        raise click.BadParameter("at most 30 days", param_hint="--overlap")

    async def work(store: Opened) -> MadeKey:
        tenant_id = await _tenant_of(store, key_id)
        return await _keys(store).rotate(tenant_id, key_id, overlap_ms, by=store.actor, maker=None)

    _show_made(run_with_store(data, flags, work, tenant), as_json=as_json)


@command.command()
@click.argument("key_id")
@store_options
@tenant_option
@json_option
@failing_clearly
def revoke(key_id: str, *, data: Path, flags: dict[str, Any], tenant: str | None, as_json: bool) -> None:
    """Revoke a key; within a second no door takes it any more."""

    async def work(store: Opened) -> None:
        await _keys(store).revoke(await _tenant_of(store, key_id), key_id, by=store.actor)

    run_with_store(data, flags, work, tenant)
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        click.echo(f"{key_id} is revoked.")


def _keys(store: Opened) -> Keys:
    return Keys(store.engine, store.clock)


async def _tenant_of(store: Opened, key_id: str) -> str:
    """Return whose key it is; a key needs no `--tenant` beside its id."""
    if store.is_tenant_named:
        return store.tenant_id
    return await _keys(store).tenant_of(key_id) or store.tenant_id


def _show_made(made: MadeKey, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": made.key.id, "key": made.secret})
        return
    click.echo(made.secret)
    until = f" The old secret works until {iso(made.key.previous_until)}." if made.key.previous_until else ""
    click.secho(f"{made.key.id} {made.key.name!r}: keep it safe, it is shown only now and only a hash is stored.{until}", err=True)


def _as_json(key: ApiKey, use: LastUse | None) -> dict[str, Any]:
    return {**shown(key, use), "trust_cidrs": [str(network) for network in key.trust_networks]}

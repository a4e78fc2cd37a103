"""`gatepost oauth-client`: programs that get access tokens (OAuth 2.0 client credentials)."""

import json
from pathlib import Path
from typing import Any

import click

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import Duration, json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.cli.restricting import check_name, restriction_options, restrictions, shown
from gatepost.clock import iso
from gatepost.domain.access import KeyMode
from gatepost.domain.tenant import OAuthClient
from gatepost.store.last_use import LastUse
from gatepost.tenants.client_register import Clients, MadeClient
from gatepost.tenants.key_register import LONGEST_OVERLAP


@click.group(name="oauth-client")
def command() -> None:
    """Make, list, rotate and revoke OAuth clients."""


@command.command()
@store_options
@tenant_option
@click.option("--name", required=True, help="What the client is for.")
@click.option("--test", "is_test", is_flag=True, help="A test client: its mail never leaves the sandbox.")
@click.option(
    "--jwks", "jwks_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with public keys (JWKS): the client signs assertions (private_key_jwt) and gets no secret.",
)  # fmt: skip
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
    jwks_file: Path | None,
    as_json: bool,
    **narrowing: Any,
) -> None:
    """
    Make a client and show its secret, this once.

    With it a program gets access tokens at POST /oauth/token. Without --scope it may do everything in its tenant (admin).
    """
    name = check_name(name)
    jwks = None if jwks_file is None else _read_keys(jwks_file)

    async def work(store: Opened) -> MadeClient:
        return await _clients(store).create(
            store.tenant_id,
            name,
            KeyMode.TEST if is_test else KeyMode.LIVE,
            restrictions(narrowing, store.clock.now()),
            by=store.actor,
            maker=None,
            jwks=jwks,
        )

    _show_made(run_with_store(data, flags, work, tenant), as_json=as_json)


@command.command(name="list")
@store_options
@tenant_option
@json_option
@failing_clearly
def list_clients(*, data: Path, flags: dict[str, Any], tenant: str | None, as_json: bool) -> None:
    """List a tenant's clients, without their secrets."""

    async def work(store: Opened) -> tuple[list[OAuthClient], dict[str, LastUse]]:
        found = await _clients(store).list(store.tenant_id)
        return found, await _clients(store).uses(found)

    found, uses = run_with_store(data, flags, work, tenant)
    if as_json:
        print_json([{**shown(one, uses.get(one.id)), "jwks": one.jwks} for one in found])
        return
    rows = [
        (
            one.id,
            one.name,
            one.mode.value,
            "signs assertions" if one.jwks is not None else f"…{one.hint}",
            " ".join(sorted(one.scopes)),
            moment(one.created_at),
            moment(uses[one.id].used_at) if one.id in uses else "",
            moment(one.expires_at),
            moment(one.revoked_at),
        )
        for one in found
    ]
    print_table(("id", "name", "mode", "ends in", "scopes", "created", "last used", "expires", "revoked"), rows)


@command.command(name="rotate-secret")
@click.argument("client_id")
@click.option(
    "--overlap", "overlap_ms", metavar="TIME", type=Duration(may_be_zero=True), default="1h", show_default=True,
    help="How long the old secret works on, such as 1h or 0s.",
)  # fmt: skip
@store_options
@tenant_option
@json_option
@failing_clearly
def rotate_secret(client_id: str, *, data: Path, flags: dict[str, Any], tenant: str | None, overlap_ms: int, as_json: bool) -> None:
    """Give a client a new secret and show it, this once; its tokens stay good."""
    if overlap_ms > LONGEST_OVERLAP:
        raise click.BadParameter("at most 30 days", param_hint="--overlap")

    async def work(store: Opened) -> MadeClient:
        tenant_id = await _tenant_of(store, client_id)
        return await _clients(store).rotate_secret(tenant_id, client_id, overlap_ms, by=store.actor, maker=None)

    _show_made(run_with_store(data, flags, work, tenant), as_json=as_json)


@command.command()
@click.argument("client_id")
@store_options
@tenant_option
@json_option
@failing_clearly
def revoke(client_id: str, *, data: Path, flags: dict[str, Any], tenant: str | None, as_json: bool) -> None:
    """Revoke a client with its tokens; within a second no door takes them any more."""

    async def work(store: Opened) -> None:
        await _clients(store).revoke(await _tenant_of(store, client_id), client_id, by=store.actor)

    run_with_store(data, flags, work, tenant)
    if as_json:
        print_json({"client_id": client_id, "revoked": True})
    else:
        click.echo(f"{client_id} is revoked.")


def _clients(store: Opened) -> Clients:
    return Clients(store.engine, store.clock)


async def _tenant_of(store: Opened, client_id: str) -> str:
    """Return whose client it is; a client needs no `--tenant` beside its id."""
    if store.is_tenant_named:
        return store.tenant_id
    return await _clients(store).tenant_of(client_id) or store.tenant_id


def _read_keys(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise click.BadParameter(f"{path} is no JSON: {error}", param_hint="--jwks") from None
    if not isinstance(found, dict):
        raise click.BadParameter(f'{path} is no key set such as {{"keys": […]}}', param_hint="--jwks")
    return found


def _show_made(made: MadeClient, *, as_json: bool) -> None:
    client = made.client
    if as_json:
        print_json({"client_id": client.id, "client_secret": made.secret})
        return
    click.echo(client.id)
    if made.secret is None:
        click.secho(f"{client.name!r} proves itself by assertions that it signs (private_key_jwt).", err=True)
        return
    click.echo(made.secret)
    until = f" The old secret works until {iso(client.previous_until)}." if client.previous_until else ""
    click.secho(f"Id and secret of {client.name!r}: the secret is shown only now and only a hash is stored.{until}", err=True)

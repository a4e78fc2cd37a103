"""`gatepost oauth-client`: programs that get access tokens (OAuth 2.0 client credentials)."""

import json
from pathlib import Path
from typing import Any

import click

from gatepost.cli.credentials import Kind, add_shared_commands, until_of
from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, print_json
from gatepost.cli.restricting import check_name, restriction_options, restrictions
from gatepost.domain.access import KeyMode
from gatepost.domain.tenant import OAuthClient
from gatepost.tenants.client_register import Clients
from gatepost.tenants.credential_register import Made


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

    async def work(store: Opened) -> Made[OAuthClient]:
        return await Clients(store.engine, store.clock).create(
            store.tenant_id,
            name,
            KeyMode.TEST if is_test else KeyMode.LIVE,
            restrictions(narrowing, store.clock.now()),
            by=store.actor,
            maker=None,
            jwks=jwks,
        )

    _show_made(run_with_store(data, flags, work, tenant), as_json)


def _read_keys(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise click.BadParameter(f"{path} is no JSON: {error}", param_hint="--jwks") from None
    if not isinstance(found, dict):
        raise click.BadParameter(f'{path} is no key set such as {{"keys": […]}}', param_hint="--jwks")
    return found


def _show_made(made: Made[OAuthClient], as_json: bool) -> None:  # noqa: FBT001
    client = made.credential
    if as_json:
        print_json({"client_id": client.id, "client_secret": made.secret})
        return
    click.echo(client.id)
    if made.secret is None:
        click.secho(f"{client.name!r} proves itself by assertions that it signs (private_key_jwt).", err=True)
        return
    click.echo(made.secret)
    click.secho(f"Id and secret of {client.name!r}: the secret is shown only now and only a hash is stored.{until_of(client)}", err=True)


add_shared_commands(
    command,
    Kind(
        register=Clients,
        noun="client",
        id_name="client_id",
        id_field="client_id",
        rotation=("rotate-secret", "its tokens stay good."),
        revocation="Revoke a client with its tokens; within a second no door takes them any more.",
        own=lambda client: {"jwks": client.jwks},
        ending=lambda client: "signs assertions" if client.jwks is not None else f"…{client.hint}",
        show_made=_show_made,
    ),
)

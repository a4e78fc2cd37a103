"""`gatepost key`: API keys."""

from pathlib import Path
from typing import Any

import click

from gatepost.cli.credentials import Kind, add_shared_commands, until_of
from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, print_json
from gatepost.cli.restricting import CIDR, check_name, restriction_options, restrictions
from gatepost.domain.access import KeyMode, Network
from gatepost.domain.tenant import ApiKey
from gatepost.tenants.credential_register import Made
from gatepost.tenants.key_register import Keys


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

    async def work(store: Opened) -> Made[ApiKey]:
        return await Keys(store.engine, store.clock).create(
            store.tenant_id,
            name,
            KeyMode.TEST if is_test else KeyMode.LIVE,
            restrictions(narrowing, store.clock.now()),
            by=store.actor,
            maker=None,
            trust_networks=tuple(dict.fromkeys(trust)),
        )

    _show_made(run_with_store(data, flags, work, tenant), as_json)


def _show_made(made: Made[ApiKey], as_json: bool) -> None:  # noqa: FBT001
    key = made.credential
    if as_json:
        print_json({"id": key.id, "key": made.secret})
        return
    click.echo(made.secret)
    click.secho(f"{key.id} {key.name!r}: keep it safe, it is shown only now and only a hash is stored.{until_of(key)}", err=True)


add_shared_commands(
    command,
    Kind(
        register=Keys,
        noun="key",
        id_name="key_id",
        id_field="id",
        rotation=("rotate", "id, limits and history stay."),
        revocation="Revoke a key; within a second no door takes it any more.",
        own=lambda key: {"trust_cidrs": [str(network) for network in key.trust_networks]},
        ending=lambda key: f"…{key.hint}",
        show_made=_show_made,
    ),
)

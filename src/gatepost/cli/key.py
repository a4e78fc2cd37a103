"""`gatepost key`: API keys."""

import ipaddress
from pathlib import Path
from typing import Any

import click

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.clock import iso
from gatepost.domain.errors import Refused
from gatepost.domain.tenant import ApiKey, KeyMode, Network
from gatepost.store import tenants
from gatepost.tenants import keys


@click.group(name="key")
def command() -> None:
    """Make, list and revoke API keys."""


@command.command()
@store_options
@click.option("--name", required=True, help="What the key is for.")
@click.option("--test", "is_test", is_flag=True, help="A test key: its mail never leaves the sandbox.")
@click.option("--trust-cidr", "trust", metavar="CIDR", multiple=True, help="SMTP clients from there need no AUTH. Repeatable.")
@json_option
@failing_clearly
def create(*, data: Path, flags: dict[str, Any], name: str, is_test: bool, trust: tuple[str, ...], as_json: bool) -> None:
    """Make a key and show it, this once."""
    if not name.strip() or len(name) > 200:
        raise click.BadParameter("give the key a name of at most 200 characters", param_hint="--name")
    networks = tuple(_network(text) for text in trust)

    async def work(store: Opened) -> tuple[ApiKey, str]:
        mode = KeyMode.TEST if is_test else KeyMode.LIVE
        secret = keys.make_secret(mode)
        key = keys.describe(secret, tenant_id=store.tenant_id, name=name.strip(), mode=mode, now=store.clock.now(), trust_networks=networks)
        await store.engine.write(lambda conn: tenants.insert_key(conn, key, keys.hash_secret(secret)))
        return key, secret

    key, secret = run_with_store(data, flags, work)
    if as_json:
        print_json({"id": key.id, "key": secret})
        return
    click.echo(secret)
    click.secho(f"{key.id} {key.name!r}: keep it safe, it is shown only now and only a hash is stored.", err=True)


@command.command(name="list")
@store_options
@json_option
@failing_clearly
def list_keys(*, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List the keys, without their secrets."""

    async def work(store: Opened) -> list[ApiKey]:
        return [key for key, _ in await store.engine.read(lambda conn: tenants.keys(conn, store.tenant_id))]

    found = run_with_store(data, flags, work)
    if as_json:
        print_json([_shown(key) for key in found])
        return
    rows = [(key.id, key.name, key.mode.value, f"…{key.hint}", moment(key.created_at), moment(key.revoked_at)) for key in found]
    print_table(("id", "name", "mode", "ends in", "created", "revoked"), rows)


@command.command()
@click.argument("key_id")
@store_options
@json_option
@failing_clearly
def revoke(key_id: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Revoke a key; within a second no door takes it any more."""

    async def work(store: Opened) -> None:
        now = store.clock.now()
        if not await store.engine.write(lambda conn: tenants.revoke_key(conn, store.tenant_id, key_id, now)):
            raise Refused("not_found", f"there is no key {key_id}")

    run_with_store(data, flags, work)
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        click.echo(f"{key_id} is revoked.")


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a network such as 10.0.0.0/8", param_hint="--trust-cidr") from None


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "mode": key.mode.value,
        "hint": key.hint,
        "trust_cidrs": [str(network) for network in key.trust_networks],
        "created_at": iso(key.created_at),
        "revoked_at": None if key.revoked_at is None else iso(key.revoked_at),
    }

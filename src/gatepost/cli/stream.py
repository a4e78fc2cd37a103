"""`gatepost stream`: how each kind of a tenant's mail is treated."""

from pathlib import Path
from typing import Any

import click
import msgspec

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, print_json, print_table
from gatepost.domain.engagement import tracking_as_dict
from gatepost.domain.stream import Stream
from gatepost.tenants.streams import Streams, as_dict

_DEFAULT = "default"
_HEAD = ("stream", "lane", "lifetime", "retries", "route", "hours", "tracking")


@click.group(name="stream")
def command() -> None:
    """Show, make and change streams: lane, lifetime, retries, route, hours and tracking of each kind of mail."""


@command.command(name="list")
@tenant_option
@store_options
@json_option
@failing_clearly
def list_streams(*, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List the streams."""

    async def work(store: Opened) -> list[Stream]:
        return await _streams(store).list(store.tenant_id)

    found = run_with_store(data, flags, work, tenant)
    if as_json:
        print_json({"streams": [as_dict(one) for one in found]})
    else:
        print_table(_HEAD, [_row(one) for one in found])


_values = [
    click.option("--lane", type=click.Choice(["codes", "transactional", "bulk"])),
    click.option("--ttl", help="Seconds after which its mail is worth nothing; `default` is the lane's."),
    click.option("--retry", help="A schedule of retry.classes; `default` is the lane's."),
    click.option("--route", help="A route's name, or roads such as main,mx; `default` is what the rules say."),
    click.option(
        "--window",
        help='Hours, such as {"days": ["mon"], "from": "08:00", "until": "20:00", "zone": "Europe/Berlin"}; `default` is always.',
    ),
    click.option("--tracking", help="What is found out about readers: some of opens,clicks,text; `default` is nothing."),
    click.option("--unsubscribe", type=click.Choice(["yes", "no"]), help="One-click unsubscription (RFC 8058) in all of its mail."),
]


def _with_values(function: Any) -> Any:
    for option in reversed(_values):
        function = option(function)
    return function


@command.command()
@click.argument("name")
@_with_values
@tenant_option
@store_options
@json_option
@failing_clearly
def create(name: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool, **given: str | None) -> None:
    """Make a stream."""

    async def work(store: Opened) -> Stream:
        return await _streams(store).create(store.tenant_id, name, _read(given), by=store.actor, is_operator=True)

    _print(run_with_store(data, flags, work, tenant), as_json=as_json)


@command.command()
@click.argument("name")
@_with_values
@tenant_option
@store_options
@json_option
@failing_clearly
def change(name: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool, **given: str | None) -> None:
    """Change a stream; what is not given stays."""

    async def work(store: Opened) -> Stream:
        return await _streams(store).change(store.tenant_id, name, _read(given), by=store.actor, is_operator=True)

    _print(run_with_store(data, flags, work, tenant), as_json=as_json)


@command.command()
@click.argument("name")
@tenant_option
@store_options
@json_option
@failing_clearly
def delete(name: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Delete a stream of which no mail waits; a default one is then as it was at first."""

    async def work(store: Opened) -> None:
        await _streams(store).delete(store.tenant_id, name, by=store.actor)

    run_with_store(data, flags, work, tenant)
    if as_json:
        print_json({"stream": name, "deleted": True})
    else:
        click.echo(f"Deleted {name}.")


def _streams(store: Opened) -> Streams:
    return Streams(store.engine, store.clock, store.settings)


def _read(given: dict[str, str | None]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in given.items():
        if text is not None:
            values["ttl_s" if name == "ttl" else name] = None if text == _DEFAULT else _value(name, text)
    return values


def _value(name: str, text: str) -> Any:
    try:
        if name == "ttl":
            return int(text)
        if name == "tracking":
            return {one.strip(): True for one in text.split(",")}
        if name == "unsubscribe":
            return text == "yes"
        return msgspec.json.decode(text) if name == "window" else text
    except ValueError as error:
        raise click.BadParameter(f"--{name}: {error}") from error


def _print(stream: Stream, *, as_json: bool) -> None:
    if as_json:
        print_json(as_dict(stream))
    else:
        print_table(_HEAD, [_row(stream)])


def _row(stream: Stream) -> tuple[str, ...]:
    shown = as_dict(stream)
    window = shown["window"]
    hours = f"{' '.join(window['days'])} {window['from']}-{window['until']} {window['zone']}" if window else ""
    lifetime = "" if stream.ttl_s is None else f"{stream.ttl_s} s"
    tracking = " ".join(tracking_as_dict(stream.tracking))
    return stream.name, shown["lane"], lifetime, stream.retry or "", stream.route or "", hours, tracking

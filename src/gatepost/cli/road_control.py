"""`gatepost relay state|disable|enable`: how a road does, and the switch that keeps mail away from it."""

from pathlib import Path
from typing import Any

import click

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options
from gatepost.cli.output import failing_clearly, moment, print_json
from gatepost.clock import iso
from gatepost.store.roads import RoadView
from gatepost.tenants.road_control import RoadControl


@click.command()
@click.argument("name")
@store_options
@json_option
@failing_clearly
def state(name: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Say how a relay, or mx, does: its breaker and its score."""
    _print(run_with_store(data, flags, lambda store: _control(store).view(name)), as_json=as_json)


@click.command()
@click.argument("name")
@click.option("--note", default="", help="Why; shown where mail waits for it.")
@store_options
@json_option
@failing_clearly
def disable(name: str, *, note: str, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Switch a relay off: its mail takes the next road, or waits."""
    _print(run_with_store(data, flags, lambda store: _control(store).disable(name, note, store.actor)), as_json=as_json)


@click.command()
@click.argument("name")
@store_options
@json_option
@failing_clearly
def enable(name: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Switch a relay on, and let it be tried at once."""
    _print(run_with_store(data, flags, lambda store: _control(store).enable(name, store.actor)), as_json=as_json)


def _control(store: Opened) -> RoadControl:
    return RoadControl(store.engine, store.clock, store.settings)


def _print(view: RoadView, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "name": view.road,
                "state": view.state,
                "since": None if view.since is None else iso(view.since),
                "reason": view.reason,
                "retry_at": None if view.retry_at is None else iso(view.retry_at),
                "score": view.score,
            }
        )
        return
    since = f" since {moment(view.since)}" if view.since is not None else ""
    until = f"; tried again at {moment(view.retry_at)}" if view.retry_at is not None and view.state == "open" else ""
    click.echo(f"{view.road} is {view.state}{since}{until}, score {view.score}" + (f": {view.reason}" if view.reason else ""))

"""`gatepost route`: which mail takes which roads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options
from gatepost.cli.output import failing_clearly, print_json, print_table
from gatepost.domain.routing import Rule, Strategy, write_choices
from gatepost.tenants.routes import Asked, Routes, told

_CONDITIONS = {
    "tenants": ("--tenant", "Only mail of this tenant (id or name). Repeatable."),
    "streams": ("--stream", "Only this stream. Repeatable."),
    "senders": ("--sender", "Only mail from this domain; *.acme.example is every domain below. Repeatable."),
    "recipients": ("--recipient", "Only mail to this domain, written in the same way. Repeatable."),
    "sites": ("--site", "Only mail to this mail system. Repeatable."),
    "tags": ("--tag", "Only messages with this tag. Repeatable."),
}


def _conditions(function: Any) -> Any:
    for name, (option, help_text) in reversed(_CONDITIONS.items()):
        function = click.option(option, name, multiple=True, help=help_text)(function)
    return function


@click.group(name="route")
def command() -> None:
    """List, make, change, order and remove routes. The first one that matches a recipient is taken."""


@command.command(name="list")
@store_options
@json_option
@failing_clearly
def list_(*, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List routes in the order in which they are asked."""

    async def work(store: Opened) -> tuple[list[Rule], str]:
        return await _routes(store).every(), store.settings.egress.default_route

    rules, default = run_with_store(data, flags, work)
    if as_json:
        print_json({"routes": [_as_json(rule) for rule in rules], "default": default})
        return
    rows = [(rule.name, write_choices(rule.choices), rule.strategy.value, _matched(rule), _notes(rule)) for rule in rules]
    print_table(("name", "roads", "strategy", "for", ""), [*rows, ("(others)", default, "ordered", "", "egress.default_route")])


@command.command()
@click.argument("route")
@store_options
@json_option
@failing_clearly
def show(route: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Show a route."""
    _print(run_with_store(data, flags, lambda store: _routes(store).get(route)), as_json=as_json)


@command.command()
@click.argument("name")
@click.argument("roads")
@click.option("--strategy", type=click.Choice([one.value for one in Strategy]), default=Strategy.ORDERED.value, show_default=True)
@_conditions
@click.option("--may-be-named", is_flag=True, help="Messages that it matches may ask for it by its name.")
@click.option("--only-named", is_flag=True, help="It is never chosen, only asked for.")
@click.option("--first", is_flag=True, help="Ask it before the others.")
@store_options
@json_option
@failing_clearly
def create(
    name: str, roads: str, *, strategy: str, may_be_named: bool, only_named: bool, first: bool, data: Path, flags: dict[str, Any],
    as_json: bool, **match: tuple[str, ...],
) -> None:  # fmt: skip
    """Make a route NAME with ROADS such as `main,mx`, or `main:80,second:20` for --strategy weighted."""
    asked = Asked(
        name=name, roads=roads, strategy=strategy, match=match, may_be_named=may_be_named or only_named, is_chosen=not only_named
    )  # fmt: skip
    _print(run_with_store(data, flags, lambda store: _routes(store).create(asked, store.actor, is_first=first)), as_json=as_json)


@command.command()
@click.argument("route")
@click.option("--name", help="A new name.")
@click.option("--roads", help="New roads.")
@click.option("--strategy", type=click.Choice([one.value for one in Strategy]))
@_conditions
@click.option("--any", "any_of", multiple=True, type=click.Choice(list(_CONDITIONS)), help="Match any of these again. Repeatable.")
@click.option("--may-be-named/--not-named", default=None, help="Whether messages may ask for it by its name.")
@store_options
@json_option
@failing_clearly
def change(
    route: str, *, name: str | None, roads: str | None, strategy: str | None, may_be_named: bool | None, any_of: tuple[str, ...],
    data: Path, flags: dict[str, Any], as_json: bool, **match: tuple[str, ...],
) -> None:  # fmt: skip
    """Change a route; what is not given stays as it is."""
    given = {"name": name, "roads": roads, "strategy": strategy, "may_be_named": may_be_named}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    changes["match"] = {key: list(values) for key, values in match.items() if values} | {key: [] for key in any_of}
    _print(run_with_store(data, flags, lambda store: _routes(store).change(route, changes, store.actor)), as_json=as_json)


@command.command()
@click.argument("routes", nargs=-1, required=True)
@store_options
@json_option
@failing_clearly
def order(routes: Sequence[str], *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Ask routes in this order; name all that are not in the settings."""
    rules = run_with_store(data, flags, lambda store: _routes(store).order(routes, store.actor))
    if as_json:
        print_json({"routes": [_as_json(rule) for rule in rules]})
    else:
        click.echo("Routes are asked in this order: " + ", ".join(rule.name for rule in rules))


@command.command()
@click.argument("route")
@store_options
@json_option
@failing_clearly
def remove(route: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Remove a route; mail that was accepted keeps its roads."""
    run_with_store(data, flags, lambda store: _routes(store).remove(route, store.actor))
    if as_json:
        print_json({"removed": route})
    else:
        click.echo(f"The route {route} is removed.")


def _routes(store: Opened) -> Routes:
    return Routes(store.engine, store.clock, store.settings)


def _print(rule: Rule, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(rule))
    else:
        click.echo(f"{rule.name}: {write_choices(rule.choices)} ({rule.strategy.value}), for {_matched(rule) or 'all mail'}")


def _as_json(rule: Rule) -> dict[str, Any]:
    return {"id": rule.id or None, **told(rule), "is_fixed": rule.is_fixed}


def _matched(rule: Rule) -> str:
    conditions = told(rule)["match"]
    return "; ".join(f"{name} {', '.join(values)}" for name, values in conditions.items() if values)


def _notes(rule: Rule) -> str:
    notes = {"in the settings": rule.is_fixed, "may be named": rule.may_be_named, "only named": not rule.is_chosen}
    return ", ".join(note for note, is_true in notes.items() if is_true)

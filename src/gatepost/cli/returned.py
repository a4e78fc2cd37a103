"""`gatepost returned`: what came back and led to nothing; read once more, or forgotten."""

from pathlib import Path
from typing import Any

import click
import msgspec

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.http.v1.returned import write
from gatepost.returns.aside import AsideRegister, heading_of
from gatepost.store.inbound import ASIDE, Aside


@click.group(name="returned", invoke_without_command=True)
@click.option("--status", type=click.Choice(ASIDE), help="Only what is here for this reason.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_500))
@store_options
@json_option
@click.pass_context
@failing_clearly
def command(ctx: click.Context, *, status: str | None, limit: int, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List what came back and led to nothing, the newest first."""
    if ctx.invoked_subcommand is not None:
        return
    rows = run_with_store(data, flags, lambda store: _register(store).list(limit, state=status))
    if as_json:
        print_json([msgspec.to_builtins(write(row)) for row in rows])
        return
    if not rows:
        click.echo("Nothing was put aside.")
        return
    print_table(("id", "why", "came", "from", "subject", "detail"), [_row(row) for row in rows])


def _row(row: Aside) -> tuple[str, ...]:
    heading = heading_of(row)
    return row.id, row.state, moment(row.received_at), heading.sender, heading.subject, row.detail


@command.command()
@click.argument("returned_id", metavar="ID")
@click.option("--raw", "is_raw", is_flag=True, help="Print it as it came; the audit log tells that you looked.")
@store_options
@json_option
@failing_clearly
def show(returned_id: str, *, is_raw: bool, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Show one."""
    if is_raw:
        found = run_with_store(data, flags, lambda store: _register(store).source(returned_id, by=store.actor))
        click.echo(found.body, nl=False)
        return
    row = run_with_store(data, flags, lambda store: _register(store).find(returned_id))
    told = msgspec.to_builtins(write(row))
    if as_json:
        print_json(told)
    else:
        print_table(("what", "is"), [(name, ", ".join(value) if isinstance(value, list) else value or "") for name, value in told.items()])


@command.command()
@click.argument("returned_id", metavar="ID")
@store_options
@json_option
@failing_clearly
def retry(returned_id: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Let one be read once more."""
    run_with_store(data, flags, lambda store: _register(store).work_again(returned_id, by=store.actor))
    _say(returned_id, "retried", "is read once more by the running gateway", as_json=as_json)


@command.command()
@click.argument("returned_id", metavar="ID")
@store_options
@json_option
@failing_clearly
def forget(returned_id: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Forget one."""
    run_with_store(data, flags, lambda store: _register(store).forget(returned_id, by=store.actor))
    _say(returned_id, "forgotten", "is forgotten", as_json=as_json)


def _say(returned_id: str, status: str, words: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": returned_id, "status": status})
    else:
        click.echo(f"{returned_id} {words}.")


def _register(store: Opened) -> AsideRegister:
    return AsideRegister(store.engine, store.clock)

"""`gatepost _child`: a child process of `serve`; not for people."""

from pathlib import Path
from typing import Any

import click

from gatepost.cli.options import store_options
from gatepost.serve.child import Order, run


@click.command(name="_child", hidden=True)
@click.argument("role", type=click.Choice(["door", "dispatch"]))
@store_options
@click.option("--report-fd", type=int, required=True)
@click.option("--parent", type=int, required=True)
@click.option("--node", default="")
@click.option("--core", type=int)
def command(*, role: str, data: Path, flags: dict[str, Any], report_fd: int, parent: int, node: str, core: int | None) -> None:
    """Run as a child of `serve`."""
    order = Order(role=role, data_dir=data, flags=flags, node_id=node, report_fd=report_fd, parent_pid=parent, core=core)
    raise SystemExit(run(order))

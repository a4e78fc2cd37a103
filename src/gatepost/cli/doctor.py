"""`gatepost doctor`: is this machine fit, and this data directory sound?"""

from pathlib import Path
from typing import Any

import click

from gatepost.cli.options import json_option, store_options
from gatepost.cli.output import failing_clearly, print_json, print_table
from gatepost.serve.checks import Finding, examine


@click.command(name="doctor")
@store_options
@json_option
@failing_clearly
def command(*, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Check libraries, database, disk, DNS, clock, TLS files, ports and limits; exit code 1 when something is wrong."""
    findings = examine(data, flags)
    if as_json:
        print_json({"ok": _is_fine(findings), "checks": findings})
    else:
        print_table(("check", "result", "what was found"), [(one.check, one.status, one.detail) for one in findings])
    if not _is_fine(findings):
        raise SystemExit(1)


def _is_fine(findings: list[Finding]) -> bool:
    return all(one.status != "failed" for one in findings)

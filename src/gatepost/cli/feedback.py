"""
`gatepost feedback`: what does mail that came back mean?

Needs no gateway, no data directory and no database, and loads nothing of them: it is quick and small enough to be called
for each mail. With `--json` it prints one object a line, one for each file.
"""

import json
import sys
from pathlib import Path
from typing import Any

import click

MAX_FILE = 1_200_000
"""Bytes of a file that are read: more than is looked at, and less than hurts."""


@click.group(name="feedback")
def command() -> None:
    """Understand bounces, complaints and automatic answers."""


@command.command(name="classify")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--rules", metavar="FILE", envvar="GATEPOST_FEEDBACK__RULES_FILE", help="Rules (TOML) to ask before those that come with it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line.")
@click.pass_context
def classify(context: click.Context, files: tuple[str, ...], *, rules: str | None, as_json: bool) -> None:
    """
    Say of each FILE, which holds one mail, what it is, whom it is about and why.

    Any mail is understood as something, however broken; the exit code is 1 when a file cannot be read. `-` is standard input.
    """
    own = _rules(rules)
    rows: list[dict[str, Any]] = []
    has_failed = False
    for name in files:
        try:
            row = _classified(name, _content(name), own)
        except OSError as error:
            has_failed = True
            row = {"file": name, "kind": "other", "recipients": [], "error": error.strerror or str(error)}
            click.echo(f"Error: {name}: {row['error']}", err=True)
            if not as_json:
                continue
        if as_json:
            click.echo(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
        else:
            rows.append(row)
    if not as_json:
        _print_table(rows)
    context.exit(1 if has_failed else 0)


def _rules(path: str | None) -> Any:
    from gatepost.policy.classify_rules import InvalidRules, load_rules  # noqa: PLC0415 - keeps `gatepost --help` quick

    if not path:
        return None
    try:
        return load_rules(path)
    except InvalidRules as error:
        raise click.BadParameter(str(error), param_hint="--rules") from error


def _content(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read(MAX_FILE)
    with Path(name).open("rb") as file:
        return file.read(MAX_FILE)


def _classified(name: str, content: bytes, rules: Any) -> dict[str, Any]:
    from gatepost.feedback.reading import read_report  # noqa: PLC0415

    report = read_report(content, rules)
    recipients = [
        {
            "address": one.address,
            "category": one.category.value,
            "severity": one.severity.value,
            "smtp_code": one.smtp_code,
            "enhanced_code": one.enhanced_code,
            "rule": one.rule,
        }
        for one in report.recipients
    ]
    return {"file": name, "kind": report.kind.value, "recipients": recipients}


_HEADINGS = ("file", "kind", "recipient", "category", "severity", "code", "status", "rule")


def _print_table(rows: list[dict[str, Any]]) -> None:
    lines: list[tuple[str, ...]] = [_HEADINGS]
    for row in rows:
        for one in row["recipients"] or [{}]:
            codes = (one.get("smtp_code") or "", one.get("enhanced_code") or "")
            found = (
                row["file"],
                row["kind"],
                one.get("address", ""),
                one.get("category", ""),
                one.get("severity", ""),
                *codes,
                one.get("rule", ""),
            )
            lines.append(tuple("".join(c if c.isprintable() else "?" for c in str(cell)) for cell in found))
    widths = [min(60, max(len(line[column]) for line in lines)) for column in range(len(_HEADINGS))]
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        click.secho(text, bold=number == 0)

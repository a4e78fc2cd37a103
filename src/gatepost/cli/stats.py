"""`gatepost stats`: numbers of mail."""

from pathlib import Path
from typing import Any

import click

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, print_json, print_table
from gatepost.clock import iso
from gatepost.domain.stats import Dimension, Step
from gatepost.store import audit
from gatepost.tenants import stats
from gatepost.tenants.stats import OFFERED, Answered, Question

_SHOWN = ("accepted", "reached", "deferred", "bounced", "complained", "delivery_rate", "bounce_rate", "complaint_rate")


@click.command(name="stats")
@store_options
@tenant_option
@click.option("--from", "first", metavar="TIME", help="The first instant or day; the default is a week before the end.")
@click.option("--to", "last", metavar="TIME", help="The first instant or day that does not count; the default is now.")
@click.option("--group-by", default="", help=f"What to divide by, with commas between: {', '.join(OFFERED)}.")
@click.option("--step", type=click.Choice([one.value for one in Step]), help="Divide time, too.")
@click.option("--time-zone", default="UTC", show_default=True, help="Zone of days, weeks and months.")
@click.option("--metrics", default="", help="What to tell, with commas between; the default is everything.")
@click.option("--mode", type=click.Choice(["all", "live", "sandbox"]), default="all", show_default=True, help="live: not the sandbox.")
@click.option("--where", "conditions", multiple=True, metavar="NAME=VALUE", help="Only these: `stream=bulk`; may be repeated.")
@click.option("--csv", "is_csv", is_flag=True, help="Print CSV; the audit log tells of it.")
@json_option
@failing_clearly
def command(
    *, data: Path, flags: dict[str, Any], tenant: str | None, first: str | None, last: str | None, is_csv: bool, as_json: bool, **asked: Any
) -> None:
    """Show numbers of a tenant's mail, or of all tenants."""
    query = {name: asked[name] or "" for name in ("group_by", "step", "time_zone", "metrics", "mode")}
    query |= {"from": first or "", "to": last or ""}
    query |= dict(_pair(one) for one in asked["conditions"])

    async def work(store: Opened) -> tuple[Question, Answered]:
        question = stats.parse(query, store.clock.now(), lambda name: f"--{name.replace('_', '-')}")
        if not store.is_tenant_named:
            question = stats.of_everybody(question, may=True)
        if not is_csv:
            return question, await store.engine.read(lambda conn: stats.answer(conn, question, store.tenant_id))
        of = store.tenant_id if store.is_tenant_named else None
        told = {"from": iso(question.start), "to": iso(question.end)}
        change = audit.Change(action="stats.exported", object_id=of or "every tenant", tenant_id=of, after=told)
        now = store.clock.now()
        await store.engine.write(lambda conn: audit.append(conn, store.actor, change, now))
        return question, await store.engine.read(lambda conn: stats.answer(conn, question, store.tenant_id))

    question, found = run_with_store(data, flags, work, tenant)
    if is_csv:
        click.echo(stats.as_csv(question, found.rows), nl=False)
    elif as_json:
        print_json(_written(question, found))
    else:
        _print(question, found)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or name not in set(Dimension) - {Dimension.TENANT}:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE with one of {', '.join(one for one in OFFERED if one != Dimension.TENANT)}")
    return name, value


def _written(question: Question, found: Answered) -> dict[str, Any]:
    names = [one.value for one in question.group_by]
    return {
        "from": iso(question.start),
        "to": iso(question.end),
        "data": [
            {
                "group": dict(zip(names, row.key, strict=True)),
                "from": None if row.at is None else iso(row.at),
                "metrics": stats.values(row.counts, question.metrics),
            }
            for row in found.rows
        ],
        "total": stats.values(found.total, question.metrics),
        "has_more": found.has_more,
    }


def _print(question: Question, found: Answered) -> None:
    shown = _SHOWN if question.metrics == stats.METRICS else [name for name in question.metrics if name not in {stats.BOUNCES, stats.TIMES}]
    head = (["from"] if question.step else []) + [one.value for one in question.group_by] + list(shown)
    rows = []
    for row in found.rows:
        values = stats.values(row.counts, shown)
        cells = [] if row.at is None else [iso(row.at)[:16]]
        rows.append((*cells, *(one or "-" for one in row.key), *(_cell(values[name]) for name in shown)))
    print_table(head, rows)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2%}" if isinstance(value, float) else f"{value:,}"

"""`gatepost audit`: who changed what; and the proof that nothing of it was altered or removed."""

import re
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Row

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import Duration, json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.clock import Instant, SystemClock, iso, parse_iso
from gatepost.store import audit
from gatepost.store.audit import Verdict, Wanted

_EXPECTED = re.compile(r"([1-9][0-9]{0,15}):([0-9a-fA-F]{64})")


class _Moment(click.ParamType):  # type: ignore[type-arg]
    """A date-time with its offset, or how long ago: `2d`; the command receives an instant."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Instant:
        if isinstance(value, int):
            return value
        try:
            return parse_iso(str(value))
        except (ValueError, OverflowError):
            return SystemClock().now() - Duration().convert(value, param, ctx)


class _Head(click.ParamType):  # type: ignore[type-arg]
    """Number and head that an earlier check printed, as `NUMBER:HEAD`."""

    name = "head"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, str]:
        if isinstance(value, tuple):
            return value
        found = _EXPECTED.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is not the number of an entry and its head, such as 42:9f86…", param, ctx)
        return int(found[1]), found[2]


@click.group(name="audit")
def command() -> None:
    """Read the audit log; prove that it is whole."""


@command.command()
@click.option(
    "--expect", "expected", type=_Head(), metavar="NUMBER:HEAD", help="What an earlier check printed: the log must still hold it."
)
@store_options
@json_option
@failing_clearly
def verify(*, expected: tuple[int, str] | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Check every entry against the chain of hashes; exit code 1 when one was altered or removed."""

    async def work(store: Opened) -> Verdict:
        return await store.engine.read(lambda conn: audit.verify(conn, expected))

    found = run_with_store(data, flags, work)
    if as_json:
        print_json(
            {
                "ok": found.problem is None,
                "entries": found.entries,
                "head": found.head,
                "bad_seq": found.bad_seq,
                "problem": found.problem,
            }
        )
    elif found.problem is None:
        click.echo(f"The log is whole: {found.entries} entries. Note this elsewhere, to prove later that none was cut off the end:")
        click.echo(f"{found.entries}:{found.head}")
    else:
        click.secho(f"The log is not what it was, from entry {found.bad_seq} on: {found.problem}.", fg="red", err=True)
    if found.problem is not None:
        raise SystemExit(1)


@command.command(name="list")
@tenant_option
@click.option("--gateway", "is_gateway", is_flag=True, help="Only what belongs to no tenant.")
@click.option("--action", help="Such as key.created, or domain. for all that happened to domains.")
@click.option("--actor", help="Id of who did it: key_…, per_…, oac_… or local.")
@click.option("--object", "object_id", help="Id of what it was done to.")
@click.option("--since", type=_Moment(), help="2026-11-24T00:00:00Z, or how long ago: 2d.")
@click.option("--until", type=_Moment(), help="Before this moment.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000))
@store_options
@json_option
@failing_clearly
def list_entries(
    *, tenant: str | None, is_gateway: bool, action: str | None, actor: str | None, object_id: str | None, since: Instant | None,
    until: Instant | None, limit: int, data: Path, flags: dict[str, Any], as_json: bool,
) -> None:  # fmt: skip
    """List entries, the newest first; of every tenant, unless one is named."""

    async def work(store: Opened) -> list[Row[Any]]:
        wanted = Wanted(
            tenant_id=store.tenant_id if store.is_tenant_named else None, is_gateway=is_gateway, action=action, actor_id=actor,
            object_id=object_id, since=since, until=until,
        )  # fmt: skip
        return await store.engine.read(lambda conn: audit.page(conn, wanted, limit))

    rows = run_with_store(data, flags, work, tenant=tenant)
    if as_json:
        print_json([_as_json(row) for row in rows])
        return
    told = [(row.seq, moment(row.at), row.action, row.object_id, f"{row.actor_name} ({row.actor_id})", row.peer) for row in rows]
    print_table(("n", "at", "action", "object", "by", "from"), told)


def _as_json(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "seq": row.seq,
        "at": iso(row.at),
        "tenant_id": row.tenant_id,
        "actor": {"kind": row.actor_kind, "id": row.actor_id, "name": row.actor_name},
        "peer": row.peer,
        "request_id": row.request_id,
        "action": row.action,
        "object_id": row.object_id,
        "before": row.before,
        "after": row.after,
    }

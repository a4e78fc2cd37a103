"""`gatepost explain`: where is my mail, and why?"""

from pathlib import Path
from typing import Any

import click
import msgspec

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.domain.errors import Refused
from gatepost.explain import Explanation, explain


@click.command(name="explain")
@click.argument("message_id")
@tenant_option
@store_options
@json_option
@failing_clearly
def command(message_id: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Say where a message is and why: state, next attempt, what the other side said, what holds it."""

    async def work(store: Opened) -> Explanation | None:
        of = store.tenant_id if store.is_tenant_named else None
        return await explain(store.engine, store.clock, of, message_id)

    found = run_with_store(data, flags, work, tenant)
    if found is None:
        raise Refused("not_found", f"there is no message {message_id}")
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    click.echo(f"{found.message_id} is {found.status}. {found.sentence}\n")
    rows = [(one.address, one.status, one.attempts, one.site, moment(one.next_attempt_at), one.sentence) for one in found.recipients]
    print_table(("recipient", "status", "attempts", "site", "next attempt", "why"), rows)

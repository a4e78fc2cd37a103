"""`gatepost relay suppressions`: a provider's own suppression list, read into ours and told of ours."""

import os
import uuid
from pathlib import Path
from typing import Any

import click
import msgspec
from sqlalchemy import Connection

from gatepost.app import parts
from gatepost.app.relay_lists import create_rounds
from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.clock import Instant, iso
from gatepost.domain.errors import Refused
from gatepost.egress.relays.provider_list import CLASSES
from gatepost.egress.relays.target import kind_of
from gatepost.returns.relay_lists.loop import Turn
from gatepost.settings import Relay
from gatepost.store import audit, relay_lists
from gatepost.store.relay_lists import Stored

_COUNTS = ("seen", "taken", "known", "nobody", "lifted", "invalid", "told", "lifted_there", "gone", "gone_held")


@click.group(name="suppressions")
def suppressions() -> None:
    """Keep a provider's own suppression list and ours in step."""


@suppressions.command()
@click.argument("name")
@click.option("--full", is_flag=True, help="Read the whole list, not only what is new.")
@click.option("--accept", is_flag=True, help="Take all of it, also what was held as more of a tenant's recipients than is likely.")
@store_options
@json_option
@failing_clearly
def sync(name: str, *, full: bool, accept: bool, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Read the list of relay NAME now, and tell its provider what the settings say. Exit code 1 when that fails."""

    async def work(store: Opened) -> Stored:
        settings = parts.with_hostnames(store.settings)
        if name not in settings.relays:
            raise Refused("not_found", f"there is no relay {name[:80]!r}")
        rounds = create_rounds(name, settings, store.engine, store.clock)
        turn = Turn(store.engine, store.clock, name, f"cli:{os.getpid()}:{uuid.uuid4()}")
        try:
            if not await turn.mine():
                raise Refused("conflict", "another process reads this list at this moment")
            before = await store.engine.read(lambda conn: relay_lists.get(conn, name))
            after = await turn.do(rounds, is_full=full, is_accepted=accept)
        finally:
            await rounds.client.close()
        now = store.clock.now()
        await store.engine.write(lambda conn: _record(conn, store, before, after, now, is_accepted=accept))
        return after

    found = run_with_store(data, flags, work)
    _print([found], as_json=as_json)
    if found.state.error:
        raise SystemExit(1)


@suppressions.command()
@click.argument("name", required=False)
@store_options
@json_option
@failing_clearly
def status(name: str | None, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Say how far each relay's list is read and told, and what went wrong."""

    async def work(store: Opened) -> list[Stored]:
        known = {one.relay: one for one in await store.engine.read(relay_lists.every)}
        relays = store.settings.relays
        if name is not None and name not in relays:
            raise Refused("not_found", f"there is no relay {name[:80]!r}")
        names = [one for one in sorted(relays) if name in {None, one} and (one in known or _has_list(relays[one]))]
        return [known[one] if one in known else await store.engine.read(lambda conn, one=one: relay_lists.get(conn, one)) for one in names]  # type: ignore[misc]

    _print(run_with_store(data, flags, work), as_json=as_json, is_list=name is None)


def _has_list(relay: Relay) -> bool:
    return kind_of(relay.url) in CLASSES


def _record(conn: Connection, store: Opened, before: Stored, after: Stored, now: Instant, *, is_accepted: bool) -> None:
    told = {name: getattr(after.state, name) for name in _COUNTS} | {"is_accepted": is_accepted, "error": after.state.error}
    change = audit.Change(
        action="relay.suppressions_synced", object_id=after.relay, tenant_id=None, before={"told": before.state.told}, after=told
    )  # fmt: skip
    audit.append(conn, store.actor, change, now)


def _as_json(one: Stored) -> dict[str, Any]:
    state = one.state
    return {
        "relay": one.relay,
        "is_under_way": state.began_at > 0,
        "last_round_at": _iso(state.done_at),
        "last_full_round_at": _iso(state.full_at),
        "next_round_at": _iso(one.due_at),
        **{name: getattr(state, name) for name in _COUNTS},
        "held": msgspec.to_builtins(state.held),
        "failures": state.failures,
        "error": state.error or None,
    }


def _iso(at: Instant) -> str | None:
    return iso(at) if at else None


def _print(found: list[Stored], *, as_json: bool, is_list: bool = False) -> None:
    if as_json:
        shown = [_as_json(one) for one in found]
        print_json({"relays": shown} if is_list else shown[0])
        return
    headings = ("relay", "last round", "next", "seen", "taken", "known", "nobody's", "told", "held", "error")
    rows = [
        (
            one.relay, moment(one.state.done_at or None), moment(one.due_at or None), one.state.seen, one.state.taken, one.state.known,
            one.state.nobody, one.state.told, sum(one.state.held.values()), one.state.error,
        )
        for one in found
    ]  # fmt: skip
    print_table(headings, rows)

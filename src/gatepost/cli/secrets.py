"""`gatepost secrets`: the master key and what is sealed under it."""

import contextlib
import socket
import sys
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa

from gatepost.app.secrets import master_keys, masters_of_options
from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, load, store_options
from gatepost.cli.output import Failure, failing_clearly, print_json, print_table
from gatepost.clock import MINUTE, Instant
from gatepost.store import audit, rotation
from gatepost.store.errors import MasterKeyRefused
from gatepost.store.key_file import KeyFile
from gatepost.store.master_key import GivenKeys, LocalMasterKey, generate, parse
from gatepost.store.rotation import State
from gatepost.store.schema import node

_BY_HAND = "put the new key in front of the old one, on every machine, restart what cannot read it by itself, and run this again"


@click.group(name="secrets")
def command() -> None:
    """Look after the master key; seal passwords for the settings."""


@command.command()
@store_options
@json_option
@failing_clearly
def status(*, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Say where the master key is, and what is sealed under which key."""

    async def work(store: Opened) -> State:
        return await store.engine.read(rotation.state)

    state = run_with_store(data, flags, work)
    loaded = load(data, flags)
    keys = master_keys(loaded)
    known = [key.id for key in keys.all]
    told = {
        "where": keys.where, "in_force": state.in_force, "known": known, "data_keys": state.counts, "to_rewrap": state.left,
        "options": masters_of_options(loaded),
    }  # fmt: skip
    if as_json:
        print_json(told)
        return
    rows = [("kept in", keys.where), ("in force", state.in_force), ("known", ", ".join(known))]
    rows += [(f"data keys under {name}", str(count)) for name, count in state.counts.items()]
    rows += [(f"option {name}", f"sealed under {master_id}") for name, master_id in masters_of_options(loaded).items()]
    print_table(("what", "is"), rows)


@command.command()
@store_options
@json_option
@failing_clearly
def seal(*, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Read a secret from standard input and print it sealed: the value of any option, such as a relay's url."""
    value = sys.stdin.read().rstrip("\n")
    if not value:
        raise Failure("nothing_to_seal", "standard input is empty", "Pipe the value in, so that it stands in no history.", as_json=as_json)
    keys = master_keys(load(data, flags))
    if keys.newest() is None:
        run_with_store(data, flags, _nothing)  # the first start makes the key, if nothing was ever sealed under another
    newest = keys.newest()
    assert newest is not None
    sealed = newest.seal_option(value)
    if as_json:
        print_json({"value": sealed})
    else:
        click.echo(sealed)


async def _nothing(_store: Opened) -> None:
    pass


@command.command()
@store_options
@click.option("--new-key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Take the new key from this file.")
@click.option("--forget-old", is_flag=True, help="Then remove old keys; backups made before cannot be read without them.")
@json_option
@failing_clearly
def rotate(*, data: Path, flags: dict[str, Any], new_key_file: Path | None, forget_old: bool, as_json: bool) -> None:
    """
    Let a new master key take over, while the gateway runs.

    An interrupted rotation is finished by the next one. Where the key is an option or the environment's, put the new key in
    front of the old one first.
    """
    given = None if new_key_file is None else _read(new_key_file)

    keys = master_keys(load(data, flags))
    sealed = masters_of_options(load(data, flags))

    async def work(store: Opened) -> dict[str, Any]:
        before = await store.engine.read(rotation.state)
        target = await _target(store, keys, before, given)
        changed = await store.engine.write(lambda conn: _take_over(conn, store, target))
        count, damaged = await _rewrap(store, target)
        after = await store.engine.read(rotation.state)
        gone = _forget(keys, target, {*sealed.values(), *after.counts}) if forget_old else []
        return {
            "master": target.id, "was": before.in_force, "rewrapped": count + changed, "damaged": damaged, "forgotten": gone,
            "options_to_seal_anew": [name for name, master_id in sealed.items() if master_id != target.id],
        }  # fmt: skip

    with keys.locked() if isinstance(keys, KeyFile) else contextlib.nullcontext():
        told = run_with_store(data, flags, work)
    if as_json:
        print_json(told)
        return
    click.echo(f"The master key {told['master']} is in force; {told['rewrapped']} data keys were wrapped anew.")
    if told["damaged"]:
        click.echo(f"These data keys cannot be opened by any master key: {', '.join(told['damaged'])}", err=True)
    if told["options_to_seal_anew"]:
        click.echo(f"Seal these options anew, with gatepost secrets seal: {', '.join(told['options_to_seal_anew'])}", err=True)


async def _rewrap(store: Opened, target: LocalMasterKey) -> tuple[int, list[str]]:
    count, damaged, last = 0, [], rotation.FIRST
    while True:
        done = await store.engine.write(lambda conn, last=last: rotation.rewrap(conn, target, last))  # type: ignore[misc]
        count += done.count
        damaged += [f"{tenant_id or 'gateway'} {day}" for tenant_id, day in done.damaged]
        if done.last is None:
            return count, damaged
        last = done.last


def _read(path: Path) -> LocalMasterKey:
    keys = parse(path.read_text("utf-8"), str(path))
    if len(keys) != 1:
        raise MasterKeyRefused(f"{path}: one key is expected, base64 of 32 random bytes")
    return keys[0]


async def _target(store: Opened, keys: GivenKeys | KeyFile, state: State, given: LocalMasterKey | None) -> LocalMasterKey:
    """Choose the key that takes over, and see to it that every process can find it before it does."""
    newest = keys.newest()
    assert newest is not None
    if given is None and (newest.id != state.in_force or await store.engine.read(lambda conn: rotation.is_unfinished(conn, newest))):
        return newest  # put there by hand, or by a rotation that was interrupted
    known = None if given is None else keys.find(given.id)
    if known is not None:
        return known
    if isinstance(keys, GivenKeys):
        raise MasterKeyRefused(f"the master key is given as {keys.where}: {_BY_HAND}")
    hosts = await store.engine.read(lambda conn: _other_hosts(conn, store.clock.now()))
    if hosts:
        raise MasterKeyRefused(f"other machines use this database ({', '.join(hosts)}), and {keys.where} is this machine's: {_BY_HAND}")
    target = given or generate()
    keys.replace([target, *keys.all])
    return target


def _other_hosts(conn: sa.Connection, now: Instant) -> list[str]:
    seen = sa.select(node.c.host).where(node.c.heartbeat_at > now - MINUTE, node.c.host != socket.gethostname())
    return sorted(set(conn.execute(seen).scalars()))


def _take_over(conn: sa.Connection, store: Opened, target: LocalMasterKey) -> bool:
    was = rotation.take_over(conn, target)
    if was is not None:
        change = audit.Change(
            action="master_key.rotated", object_id=target.id, tenant_id=None, before={"in_force": was}, after={"in_force": target.id}
        )  # fmt: skip
        audit.append(conn, store.actor, change, store.clock.now())
    return was is not None


def _forget(keys: GivenKeys | KeyFile, target: LocalMasterKey, used: AbstractSet[str | None]) -> list[str]:
    """Remove from the file the keys to which nothing refers any more."""
    if isinstance(keys, GivenKeys):
        return []
    gone = [key.id for key in keys.all if key.id not in used and key.id != target.id]
    if gone:
        keys.replace([target, *(key for key in keys.all if key.id in used and key.id != target.id)])
    return gone

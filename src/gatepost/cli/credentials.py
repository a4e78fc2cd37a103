"""What `gatepost key` and `gatepost oauth-client` share: to list, rotate and revoke, and how one is shown."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import click

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import Duration, json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.clock import Instant, iso
from gatepost.domain.tenant import Credential
from gatepost.store.last_use import LastUse
from gatepost.tenants.credential_register import LONGEST_OVERLAP, Made, Register

C = TypeVar("C", bound=Credential)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[C]):
    """
    One kind of credential, as the command line has it.

    Attributes:
        noun: In help texts.
        id_name: What the id is called among the arguments.
        id_field: And in JSON.
        rotation: Name of the command that gives a new secret, and what else its help says.
        revocation: What revoking one does.
        own: What only this kind shows, as JSON.
        ending: How its secret ends, for the table.
        show_made: Prints one with its new secret; the flag asks for JSON.
    """

    register: type[Register[C]]
    noun: str
    id_name: str
    id_field: str
    rotation: tuple[str, str]
    revocation: str
    own: Callable[[C], dict[str, Any]]
    ending: Callable[[C], str]
    show_made: Callable[[Made[C], bool], None]

    def opened(self, store: Opened) -> Register[C]:
        """Open the register."""
        return self.register(store.engine, store.clock)

    async def tenant_of(self, store: Opened, identity: str) -> str:
        """Return whose it is: its id needs no `--tenant` beside it."""
        if store.is_tenant_named:
            return store.tenant_id
        return await self.opened(store).tenant_of(identity) or store.tenant_id


def add_shared_commands(group: click.Group, kind: Kind[C]) -> None:
    """Add `list`, the command that rotates, and `revoke`."""
    rotating, about_rotation = kind.rotation

    @group.command(name="list", help=f"List a tenant's {kind.noun}s, without their secrets.")
    @store_options
    @tenant_option
    @json_option
    @failing_clearly
    def list_all(*, data: Path, flags: dict[str, Any], tenant: str | None, as_json: bool) -> None:
        async def work(store: Opened) -> tuple[list[C], dict[str, LastUse]]:
            found = await kind.opened(store).list(store.tenant_id)
            return found, await kind.opened(store).uses(found)

        found, uses = run_with_store(data, flags, work, tenant)
        if as_json:
            print_json([{**_shown(one, uses.get(one.id)), **kind.own(one)} for one in found])
            return
        headings = ("id", "name", "mode", "ends in", "scopes", "created", "last used", "expires", "revoked")
        print_table(headings, [_row(one, kind.ending(one), uses.get(one.id)) for one in found])

    @group.command(name=rotating, help=f"Give a {kind.noun} a new secret and show it, this once; {about_rotation}")
    @click.argument("identity", metavar=kind.id_name.upper())
    @click.option(
        "--overlap", "overlap_ms", metavar="TIME", type=Duration(may_be_zero=True), default="1h", show_default=True,
        help="How long the old secret works on, such as 1h or 0s.",
    )  # fmt: skip
    @store_options
    @tenant_option
    @json_option
    @failing_clearly
    def rotate(identity: str, *, data: Path, flags: dict[str, Any], tenant: str | None, overlap_ms: int, as_json: bool) -> None:
        if overlap_ms > LONGEST_OVERLAP:
            raise click.BadParameter("at most 30 days", param_hint="--overlap")

        async def work(store: Opened) -> Made[C]:
            tenant_id = await kind.tenant_of(store, identity)
            return await kind.opened(store).rotate(tenant_id, identity, overlap_ms, by=store.actor, maker=None)

        kind.show_made(run_with_store(data, flags, work, tenant), as_json)

    @group.command(help=kind.revocation)
    @click.argument("identity", metavar=kind.id_name.upper())
    @store_options
    @tenant_option
    @json_option
    @failing_clearly
    def revoke(identity: str, *, data: Path, flags: dict[str, Any], tenant: str | None, as_json: bool) -> None:
        async def work(store: Opened) -> None:
            await kind.opened(store).revoke(await kind.tenant_of(store, identity), identity, by=store.actor)

        run_with_store(data, flags, work, tenant)
        if as_json:
            print_json({kind.id_field: identity, "revoked": True})
        else:
            click.echo(f"{identity} is revoked.")


def until_of(one: Credential) -> str:
    """Say how long the old secret works, where there is one."""
    return f" The old secret works until {iso(one.previous_until)}." if one.previous_until else ""


def _row(one: Credential, ending: str, use: LastUse | None) -> tuple[str, ...]:
    return (
        one.id,
        one.name,
        one.mode.value,
        ending,
        " ".join(sorted(one.scopes)),
        moment(one.created_at),
        "" if use is None else moment(use.used_at),
        moment(one.expires_at),
        moment(one.revoked_at),
    )


def _shown(one: Credential, use: LastUse | None) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "tenant_id": one.tenant_id,
        "mode": one.mode.value,
        "hint": one.hint,
        "scopes": sorted(one.scopes),
        "domains": sorted(one.domains),
        "streams": sorted(one.streams),
        "cidrs": [str(network) for network in one.networks],
        "limits": [str(limit) for limit in one.limits],
        "created_at": iso(one.created_at),
        "expires_at": _time(one.expires_at),
        "revoked_at": _time(one.revoked_at),
        "old_secret_until": _time(one.previous_until),
        "last_used_at": None if use is None else iso(use.used_at),
        "last_used_from": None if use is None else use.peer,
    }


def _time(at: Instant | None) -> str | None:
    return None if at is None else iso(at)

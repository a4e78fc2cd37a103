"""`gatepost person`: who may sign in to the pages."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.clock import iso
from gatepost.domain.access import Principal, PrincipalKind, Role, Scope
from gatepost.domain.person import Person, Purpose
from gatepost.domain.tenant import Caller
from gatepost.tenants.one_time_links import RESET_MS, SETUP_MS, OneTimeLinks, link_to
from gatepost.tenants.passwords import Passwords
from gatepost.tenants.people import People

T = TypeVar("T")


@click.group(name="person")
def command() -> None:
    """Invite people to the pages, list them, keep them out."""


@command.command(name="setup-link")
@store_options
@json_option
@failing_clearly
def setup_link(*, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Make the one-time link for the first person: operator of the gateway, and owner of the default tenant."""

    async def work(store: Opened) -> dict[str, str]:
        token = await _links(store).make_setup()
        return {"link": link_to(store.settings, Purpose.SETUP, token), "expires_at": iso(store.clock.now() + SETUP_MS)}

    _show_link(run_with_store(data, flags, work), "Open it once within a day", as_json=as_json)


@command.command(name="list")
@store_options
@json_option
@failing_clearly
def list_people(*, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List everybody who can sign in, the oldest first."""
    found = _with_people(data, flags, lambda people, _: people.everybody())
    if as_json:
        print_json([_as_json(person, [(name, role) for role, name in roles.values()]) for person, roles in found])
        return
    rows = [
        (
            person.id, person.email, person.name, ", ".join(f"{role.value} of {name}" for role, name in roles.values()),
            "operator" if person.is_operator else "", moment(person.created_at), moment(person.disabled_at),
        )
        for person, roles in found
    ]  # fmt: skip
    print_table(("id", "e-mail", "name", "roles", "", "created", "disabled"), rows)


@command.command()
@click.argument("email")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.VIEWER.value, show_default=True, help="Their role.")
@click.option("--operator", "is_operator", is_flag=True, help="They stand above tenants, too: limits, balances, the queue.")
@tenant_option
@store_options
@json_option
@failing_clearly
def invite(email: str, *, role: str, is_operator: bool, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Make a one-time link with which somebody joins a tenant."""

    async def work(store: Opened) -> dict[str, str]:
        people = People(store.engine, store.clock, store.settings)
        made = await people.invite(_caller(store), store.tenant_id, email, Role(role), is_operator=is_operator)
        return {
            "email": made.link.email, "role": role, "tenant_id": store.tenant_id,
            "link": link_to(store.settings, Purpose.INVITATION, made.token), "expires_at": iso(made.link.expires_at),
        }  # fmt: skip

    _show_link(run_with_store(data, flags, work, tenant), f"Send it to {email}", as_json=as_json)


@command.command()
@click.argument("email")
@store_options
@json_option
@failing_clearly
def reset(email: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Make a one-time link with which a person chooses a new password."""

    async def work(store: Opened) -> dict[str, str]:
        person, token = await _links(store).make_reset(_caller(store), email)
        link = link_to(store.settings, Purpose.RESET, token)
        return {"id": person.id, "email": person.email, "link": link, "expires_at": iso(store.clock.now() + RESET_MS)}

    _show_link(run_with_store(data, flags, work), f"Send it to {email}", as_json=as_json)


@command.command()
@click.argument("email")
@store_options
@json_option
@failing_clearly
def disable(email: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Keep a person out, and end their sessions."""
    _set_disabled(email, data, flags, is_disabled=True, as_json=as_json)


@command.command()
@click.argument("email")
@store_options
@json_option
@failing_clearly
def enable(email: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Let a person in again."""
    _set_disabled(email, data, flags, is_disabled=False, as_json=as_json)


def _set_disabled(email: str, data: Path, flags: dict[str, Any], *, is_disabled: bool, as_json: bool) -> None:
    def work(people: People, store: Opened) -> Awaitable[Person]:
        return people.set_disabled(_caller(store), email, is_disabled=is_disabled)

    person = _with_people(data, flags, work)
    if as_json:
        print_json({"id": person.id, "email": person.email, "disabled": is_disabled})
    else:
        click.echo(f"{person.email} is {'kept out; their sessions have ended' if is_disabled else 'let in again'}.")


def _links(store: Opened) -> OneTimeLinks:
    return OneTimeLinks(store.engine, store.clock, store.settings, Passwords())


def _with_people(data: Path, flags: dict[str, Any], work: Callable[[People, Opened], Awaitable[T]]) -> T:
    return run_with_store(data, flags, lambda store: work(People(store.engine, store.clock, store.settings), store))


def _caller(store: Opened) -> Caller:
    """Return who sits at the machine: they may do everything."""
    actor = store.actor
    principal = Principal(
        id=actor.id, kind=PrincipalKind.LOCAL, tenant_id=store.tenant_id, name=actor.name, scopes=frozenset(Scope)
    )  # fmt: skip
    return Caller(principal=principal, peer="", request_id="")


def _show_link(made: dict[str, str], what_to_do: str, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    click.echo(made["link"])
    click.secho(f"{what_to_do}; it works once, until {made['expires_at']}. It is a secret, and is shown only now.", err=True)


def _as_json(person: Person, roles: list[tuple[str, Role]]) -> dict[str, Any]:
    return {
        "id": person.id,
        "email": person.email,
        "name": person.name,
        "is_operator": person.is_operator,
        "roles": {tenant: role.value for tenant, role in roles},
        "has_totp": person.has_totp,
        "created_at": iso(person.created_at),
        "disabled_at": None if person.disabled_at is None else iso(person.disabled_at),
    }

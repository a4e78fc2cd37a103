"""`gatepost tls-policy`: what recipients' domains ask of TLS, and which policies are kept."""

from pathlib import Path
from typing import Any

import click
import msgspec

from gatepost.app.parts import create_resolver
from gatepost.app.tls import create_outgoing_tls
from gatepost.app.tls_survey import TlsSurvey, survey
from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.clock import iso
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.store import tls_policies
from gatepost.store.tls_policies import PolicyState


@click.group(name="tls-policy")
def command() -> None:
    """Show what recipients' domains ask of TLS: DANE and MTA-STS."""


@command.command()
@click.argument("domain")
@store_options
@json_option
@failing_clearly
def show(domain: str, *, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Ask DNS and the policy host what a domain demands, and say what would happen to mail."""
    try:
        name = parse_address(f"postmaster@{domain}").domain
    except InvalidAddress as error:
        raise click.BadParameter(str(error), param_hint="DOMAIN") from None

    async def work(store: Opened) -> TlsSurvey:
        resolver = create_resolver(store.settings, store.clock)
        tls = create_outgoing_tls(store.settings, store.engine, store.clock, resolver)
        try:
            await tls.shelf.follow()
            return await survey(tls, resolver, name)
        finally:
            await tls.fetcher.close()

    found = run_with_store(data, flags, work)
    if as_json:
        print_json(_as_json(found))
        return
    click.echo(f"{found.summary}.\n")
    levels = {True: "required", False: "if offered"}
    rows = [(one.host, one.policy, levels[one.is_tls_required], one.check, one.problem or "") for one in found.hosts]
    print_table(("mail host", "policy", "TLS", "certificate checked by", "problem"), rows)
    _print_sts(found)


@command.command(name="list")
@store_options
@json_option
@failing_clearly
def list_kept(*, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List the MTA-STS policies that are kept."""

    async def work(store: Opened) -> list[PolicyState]:
        return await store.engine.read(lambda conn: tls_policies.changed_since(conn, 0))

    found = run_with_store(data, flags, work)
    if as_json:
        print_json({"policies": [_kept(state) for state in found]})
        return
    rows = [
        (state.kept.domain, state.kept.policy.mode.value, moment(state.kept.fetched_at), moment(state.kept.expires_at), state.error)
        for state in found
    ]
    print_table(("domain", "mode", "fetched", "ends", "trouble"), rows)


def _print_sts(found: TlsSurvey) -> None:
    sts = found.mta_sts
    if sts is None:
        return
    if sts.mode is not None:
        click.echo(f"\nMTA-STS: {sts.mode}, hosts {', '.join(sts.hosts) or 'none'}, until {moment(sts.expires_at)}")
    if sts.trouble:
        click.echo(f"\nMTA-STS: {sts.trouble}")


def _as_json(found: TlsSurvey) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(found)
    if told["mta_sts"] is not None:
        for name in ("fetched_at", "expires_at"):
            at = told["mta_sts"][name]
            told["mta_sts"][name] = None if at is None else iso(at)
    return told


def _kept(state: PolicyState) -> dict[str, Any]:
    kept = state.kept
    return {
        "domain": kept.domain,
        "record_id": kept.record_id,
        "mode": kept.policy.mode.value,
        "hosts": list(kept.policy.hosts),
        "max_age_s": kept.policy.max_age_s,
        "fetched_at": iso(kept.fetched_at),
        "expires_at": iso(kept.expires_at),
        "refresh_at": iso(state.refresh_at),
        "failing_since": None if state.failing_since is None else iso(state.failing_since),
        "error": state.error or None,
    }

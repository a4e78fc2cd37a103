"""`gatepost policy`: how strictly a tenant's content and recipients are looked at."""

from pathlib import Path
from typing import Any

import click

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, print_json, print_table
from gatepost.domain.screening import RULES
from gatepost.tenants.policies import Policies, PolicyView


@click.group(name="policy")
def command() -> None:
    """Show and change rules on content and recipients: off, warn or refuse."""


@command.command()
@tenant_option
@store_options
@json_option
@failing_clearly
def show(*, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Show every rule with its value."""

    async def work(store: Opened) -> PolicyView:
        return await Policies(store.engine, store.clock, store.settings.screening).get(store.tenant_id)

    _print(run_with_store(data, flags, work, tenant), as_json=as_json)


@command.command(name="set")
@click.argument("changes", metavar="RULE=VALUE…", nargs=-1, required=True)
@tenant_option
@store_options
@json_option
@failing_clearly
def set_rules(changes: tuple[str, ...], *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Change rules, such as `attachments=warn`; `default` goes back to the value of the settings."""
    wanted = dict(_parsed(text) for text in changes)

    async def work(store: Opened) -> PolicyView:
        policies = Policies(store.engine, store.clock, store.settings.screening)
        return await policies.change(store.tenant_id, wanted, by=store.actor, is_operator=True)

    _print(run_with_store(data, flags, work, tenant), as_json=as_json)


def _parsed(text: str) -> tuple[str, str]:
    rule, sign, value = text.partition("=")
    if not sign:
        raise click.BadParameter(f"{text!r}: write it as rule=value, such as attachments=warn")
    return rule.strip(), value.strip()


def _print(view: PolicyView, *, as_json: bool) -> None:
    if as_json:
        print_json({"rules": dict(view.values), "own": view.own, "operator_only": view.locked})
        return
    print_table(("rule", "value", "", ""), [_row(view, rule) for rule in RULES])


def _row(view: PolicyView, rule: str) -> tuple[str, ...]:
    return rule, view.values[rule], "its own" if rule in view.own else "", "only by the operator" if rule in view.locked else ""

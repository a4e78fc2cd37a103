"""`gatepost relay`: the providers and smarthosts of the settings, and whether they would take mail."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from gatepost.app import parts
from gatepost.app.relay_probe import probe_relay
from gatepost.app.secrets import unsealed
from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, load, store_options
from gatepost.cli.output import Failure, failing_clearly, print_json, print_table
from gatepost.cli.relay_suppressions import suppressions
from gatepost.cli.road_control import disable, enable, state
from gatepost.clock import SystemClock
from gatepost.egress.courier import Probe
from gatepost.egress.relays.target import FORMS, kind_of
from gatepost.tenants.relay_list import RelayFacts, list_relays


@click.group(name="relay")
def command() -> None:
    """Look at relays; ask one whether it would take mail; switch one off and on."""


for _one in (state, disable, enable, suppressions):
    command.add_command(_one)


@command.command(name="list")
@store_options
@json_option
@failing_clearly
def list_(*, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List the relays with what was sent today."""

    async def work(store: Opened) -> list[RelayFacts]:
        return await list_relays(store.engine, store.settings, store.clock)

    found = run_with_store(data, flags, work)
    if as_json:
        print_json({"relays": [asdict(one) for one in found]})
        return
    rows = [(one.name, one.title, one.host, one.rate, one.quota, one.used_today, one.quota_left, one.price_per_1000) for one in found]
    print_table(("name", "kind", "host", "rate", "quota", "used today", "left", "price per 1,000"), rows)


@command.command(name="test")
@click.argument("name")
@store_options
@json_option
@failing_clearly
def test(*, name: str, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Ask a relay whether it can be reached and knows our key; no mail is sent. Exit code 1 when it would take none."""
    loaded = unsealed(load(data, flags))
    relay = loaded.settings.relays.get(name)
    if relay is None:
        raise Failure("not_found", f"there is no relay {name}", "See gatepost relay list.", as_json=as_json)
    probe = asyncio.run(probe_relay(parts.with_hostnames(loaded.settings), SystemClock(), name))
    kind = kind_of(relay.url)
    if as_json:
        print_json({"name": name, "kind": kind, "is_good": probe.is_good, **asdict(probe)})
    else:
        print_table(("what", "value"), _rows(name, FORMS[kind].title if kind in FORMS else "SMTP", probe))
    if not probe.is_good:
        raise SystemExit(1)


def _rows(name: str, title: str, probe: Probe) -> list[tuple[str, Any]]:
    authenticated = {True: "yes", False: "no", None: "not asked"}[probe.is_authenticated]
    return [
        ("relay", f"{name} ({title})"),
        ("host", probe.host),
        ("status", "ok" if probe.is_good else "failed"),
        ("reachable", "yes" if probe.is_reachable else "no"),
        ("authenticated", authenticated),
        ("latency", f"{probe.latency_ms} ms"),
        ("TLS", probe.tls or "none"),
        ("quota left", "not told" if probe.quota_left is None else probe.quota_left),
        ("detail", probe.detail),
    ]

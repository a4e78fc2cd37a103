"""`gatepost doctor`: is this machine fit, and this data directory sound? `--domain`: is a sender's domain well?"""

from pathlib import Path
from typing import Any

import click

from gatepost.app.parts import with_hostnames
from gatepost.app.watching import create_watched
from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import console, failing_clearly, moment, print_json, print_table
from gatepost.clock import iso
from gatepost.domain.health import Check, CheckStatus
from gatepost.policy.compliance import Compliance
from gatepost.serve.checks import examine
from gatepost.serve.finding import Finding
from gatepost.tenants.domain_health import Health


@click.command(name="doctor")
@click.option("--domain", metavar="NAME", help="Look at a sender's domain instead: its DNS, the addresses that send, receivers' rules.")
@tenant_option
@store_options
@json_option
@failing_clearly
def command(*, domain: str | None, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """
    Check libraries, database, disk, DNS, clock, TLS files, ports, limits, addresses, relays and domains.

    The exit code is 1 when something is wrong.
    """
    if domain is not None:
        _domain(domain, tenant, data, flags, as_json=as_json)
        return
    findings = examine(data, flags)
    if as_json:
        print_json({"ok": _is_fine(findings), "checks": findings})
    else:
        print_table(("check", "result", "what was found"), [(one.check, one.status, one.detail) for one in findings])
        _print_steps([one.advice for one in findings if one.status != "ok"])
    if not _is_fine(findings):
        raise SystemExit(1)


def _is_fine(findings: list[Finding]) -> bool:
    return all(one.status != "failed" for one in findings)


def _print_steps(advice: list[str]) -> None:
    for step in dict.fromkeys(filter(None, advice)):
        console().print(f"→ {step}", markup=False, soft_wrap=True)


def _domain(name: str, tenant: str | None, data: Path, flags: dict[str, Any], *, as_json: bool) -> None:
    async def look(store: Opened) -> Health:
        watched = create_watched(with_hostnames(store.settings), store.engine, store.clock)
        await watched.sources.look()
        return await watched.domains.get(store.tenant_id, name, is_fresh=True)

    found = run_with_store(data, flags, look, tenant)
    checks = [*found.checks, *(check for one in found.sources for check in one.checks)]
    is_fine = all(check.status is not CheckStatus.FAILED for check in checks)
    if as_json:
        print_json(_as_json(found, is_fine=is_fine))
    else:
        _print_domain(found, checks)
    if not is_fine:
        raise SystemExit(1)


def _print_domain(found: Health, checks: list[Check]) -> None:
    since = f", failing since {moment(found.failing_since)}" if found.failing_since is not None else ""
    click.echo(f"{found.domain.name} is {found.domain.status.value}, its DNS is {found.state}{since} ({moment(found.checked_at)}).\n")
    print_table(("check", "result", "what was found"), [(one.id, one.status.value, one.detail) for one in checks])
    told = found.compliance
    click.echo()
    rows = [(one.rule.provider, one.rule.title, one.status.value, one.evidence) for one in told.results]
    print_table(("provider", "rule", "result", "evidence"), rows)
    score = "unknown" if told.score is None else f"{told.score} of 100"
    click.echo(f"\nScore {score}; {told.unknown} rules cannot be answered here.")
    _print_steps([told.next_step])


def _as_json(found: Health, *, is_fine: bool) -> dict[str, Any]:
    domain = found.domain
    return {
        "ok": is_fine,
        "domain": domain.name,
        "id": domain.id,
        "status": domain.status.value,
        "state": found.state,
        "checked_at": iso(found.checked_at),
        "failing_since": None if found.failing_since is None else iso(found.failing_since),
        "checks": [_check(one) for one in found.checks],
        "sources": [{"address": one.address, "checks": [_check(check) for check in one.checks]} for one in found.sources],
        "compliance": _compliance(found.compliance),
    }


def _check(one: Check) -> dict[str, str]:
    return {"check": one.id, "status": one.status.value, "detail": one.detail, "advice": one.advice}


def _compliance(found: Compliance) -> dict[str, Any]:
    rules = [
        {
            "id": one.rule.id, "provider": one.rule.provider, "applies": one.rule.applies, "title": one.rule.title, "url": one.rule.url,
            "status": one.status.value, "is_binding": one.is_binding, "evidence": one.evidence, "advice": one.advice,
        }
        for one in found.results
    ]  # fmt: skip
    return {"score": found.score, "unknown": found.unknown, "next_step": found.next_step, "rules": rules}

"""`gatepost webhook`: who is told what happens, and what became of it."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from sqlalchemy import Row

from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import Duration, json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.clock import Instant, iso, parse_iso
from gatepost.domain.errors import Fault, invalid
from gatepost.domain.webhook import HookStatus, Webhook
from gatepost.tenants.webhooks import OVERLAP_S, Range, View, WebhookRegister

T = TypeVar("T")


@click.group(name="webhook")
def command() -> None:
    """Make, list, change and try webhooks; send events again."""


def _values_options(function: Any) -> Any:
    for option in (
        click.option("--batch-size", type=click.IntRange(1, 100), help="Events in one call at most."),
        click.option("--header", "headers", multiple=True, metavar="NAME: VALUE", help="Sent with every call. Repeatable."),
        click.option("--stream", "streams", multiple=True, help="Only events of this stream's messages. Repeatable."),
        click.option("--event", "events", multiple=True, help="A type, a family such as recipient.*, or *. Repeatable; default all."),
        click.option("--description", help="For yourself."),
    ):
        function = option(function)
    return function


@command.command()
@click.argument("url")
@_values_options
@tenant_option
@store_options
@json_option
@failing_clearly
def create(url: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool, **given: Any) -> None:
    """Make a webhook; its secret is shown this once."""
    values = {"url": url, **_values(given)}
    made = _with(data, flags, tenant, lambda register, store: register.create(store.tenant_id, values, by=store.actor))
    _show_secret(made, as_json=as_json)


@command.command(name="list")
@tenant_option
@store_options
@json_option
@failing_clearly
def list_webhooks(*, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List the webhooks, the newest first."""
    found = _with(data, flags, tenant, lambda register, store: register.every(store.tenant_id))
    if as_json:
        print_json([_as_json(view) for view in found])
        return
    rows = [
        (view.id, view.webhook.url, ",".join(view.webhook.events), _state(view), view.standing.waiting, view.webhook.description)
        for view in found
    ]  # fmt: skip
    print_table(("id", "url", "events", "state", "waiting", "description"), rows)


@command.command()
@click.argument("webhook_id")
@tenant_option
@store_options
@json_option
@failing_clearly
def show(webhook_id: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Show a webhook."""
    view = _with(data, flags, tenant, lambda register, store: register.get(store.tenant_id, webhook_id))
    _show(view, as_json=as_json)


@command.command()
@click.argument("webhook_id")
@click.option("--url")
@_values_options
@tenant_option
@store_options
@json_option
@failing_clearly
def change(
    webhook_id: str, *, url: str | None, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool, **given: Any
) -> None:  # fmt: skip
    """Change a webhook; what is not given stays."""
    values = _values(given) | ({"url": url} if url is not None else {})
    _show(_change(data, flags, tenant, webhook_id, values), as_json=as_json)


@command.command()
@click.argument("webhook_id")
@tenant_option
@store_options
@json_option
@failing_clearly
def enable(webhook_id: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Switch a webhook on again: it goes on where it stopped."""
    _show(_change(data, flags, tenant, webhook_id, {"enabled": True}), as_json=as_json)


@command.command()
@click.argument("webhook_id")
@tenant_option
@store_options
@json_option
@failing_clearly
def disable(webhook_id: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Switch a webhook off; events wait."""
    _show(_change(data, flags, tenant, webhook_id, {"enabled": False}), as_json=as_json)


@command.command()
@click.argument("webhook_id")
@tenant_option
@store_options
@json_option
@failing_clearly
def remove(webhook_id: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Remove a webhook with its log."""
    _with(data, flags, tenant, lambda register, store: register.delete(store.tenant_id, webhook_id, by=store.actor))
    if as_json:
        print_json({"id": webhook_id, "removed": True})
    else:
        click.echo(f"{webhook_id} is removed.")


@command.command()
@click.argument("webhook_id")
@tenant_option
@store_options
@json_option
@failing_clearly
def test(webhook_id: str, *, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Send a webhook a test event; `deliveries` tells how it went."""
    event_id = _with(data, flags, tenant, lambda register, store: register.test(store.tenant_id, webhook_id, by=store.actor))
    if as_json:
        print_json({"event_id": event_id})
    else:
        click.echo(f"{event_id} is on its way, if the gateway runs.")


@command.command(name="rotate-secret")
@click.argument("webhook_id")
@click.option("--overlap", type=Duration(may_be_zero=True), default=OVERLAP_S * 1000, help="So long both secrets sign, such as 12h.  [1d]")
@tenant_option
@store_options
@json_option
@failing_clearly
def rotate_secret(webhook_id: str, *, overlap: int, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Give a webhook a new secret."""
    made = _with(
        data, flags, tenant, lambda register, store: register.rotate(store.tenant_id, webhook_id, overlap // 1000, by=store.actor)
    )  # fmt: skip
    _show_secret(made, as_json=as_json)


@command.command()
@click.argument("webhook_id")
@click.option("--status", type=click.Choice([one.value for one in HookStatus]))
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@tenant_option
@store_options
@json_option
@failing_clearly
def deliveries(
    webhook_id: str, *, status: str | None, limit: int, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool
) -> None:  # fmt: skip
    """List what was sent to a webhook, or waits, the newest events first."""
    wanted = HookStatus(status) if status else None
    rows: Sequence[Row[Any]] = _with(
        data, flags, tenant, lambda register, store: register.deliveries(store.tenant_id, webhook_id, limit, status=wanted)
    )  # fmt: skip
    if as_json:
        print_json([_delivery(row) for row in rows])
        return
    told = [
        (row.id, row.type, row.status, row.attempts, row.code or "", row.latency_ms, moment(row.tried_at), row.answer or "") for row in rows
    ]  # fmt: skip
    print_table(("event", "type", "status", "attempts", "code", "ms", "tried", "answer"), told)


@command.command()
@click.argument("webhook_id")
@click.option("--event", "event_id", help="Only this event.")
@click.option("--since", help="Events from then on, such as 2026-11-24T02:00:00Z.")
@click.option("--until", help="Events before then.")
@click.option("--failed", "only_failed", is_flag=True, help="Only those that were given up.")
@tenant_option
@store_options
@json_option
@failing_clearly
def replay(
    webhook_id: str, *, event_id: str | None, since: str | None, until: str | None, only_failed: bool, tenant: str | None, data: Path,
    flags: dict[str, Any], as_json: bool,
) -> None:  # fmt: skip
    """Send events again: one, those of a time range, or all that failed."""
    wanted = Range(since=_moment("since", since), until=_moment("until", until), only_failed=only_failed)
    if event_id is None and wanted == Range():
        raise click.UsageError("say which: --event, --since, --until or --failed")

    async def run(register: WebhookRegister, store: Opened) -> int:
        if event_id is not None:
            await register.replay_one(store.tenant_id, webhook_id, event_id, by=store.actor)
            return 1
        return await register.replay(store.tenant_id, webhook_id, wanted, by=store.actor)

    count = _with(data, flags, tenant, run)
    if as_json:
        print_json({"count": count})
    else:
        click.echo(f"{count} events are sent again.")


def _with(
    data: Path, flags: dict[str, Any], tenant: str | None, work: Callable[[WebhookRegister, Opened], Awaitable[T]]
) -> T:  # fmt: skip
    return run_with_store(data, flags, lambda store: work(WebhookRegister(store.engine, store.clock, store.settings), store), tenant)


def _change(data: Path, flags: dict[str, Any], tenant: str | None, webhook_id: str, values: dict[str, Any]) -> View:
    async def run(register: WebhookRegister, store: Opened) -> View:
        await register.change(store.tenant_id, webhook_id, values, by=store.actor)
        return await register.get(store.tenant_id, webhook_id)

    return _with(data, flags, tenant, run)


def _values(given: dict[str, Any]) -> dict[str, Any]:
    values = {name: given[name] for name in ("description", "batch_size") if given[name] is not None}
    values |= {name: list(given[name]) for name in ("events", "streams") if given[name]}
    if given["headers"]:
        pairs = [text.partition(":") for text in given["headers"]]
        if any(not colon for _, colon, _ in pairs):
            raise click.UsageError("write a header as NAME: VALUE")
        values["headers"] = {name.strip(): value.strip() for name, _, value in pairs}
    return values


def _moment(name: str, text: str | None) -> Instant | None:
    try:
        return None if text is None else parse_iso(text)
    except ValueError as error:
        raise invalid(Fault(name, "invalid_time", str(error))) from None


def _state(view: View) -> str:
    if view.webhook.disabled_at is not None:
        return f"off: {view.webhook.disabled_reason}"
    return "on" if view.standing.failing_since is None else f"failing since {moment(view.standing.failing_since)}"


def _show_secret(made: Webhook, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": made.id, "secret": made.secrets[0].text, "url": made.url})
    else:
        click.echo(f"{made.id}\nsecret: {made.secrets[0].text}\nIt is shown this once.")


def _show(view: View, *, as_json: bool) -> None:
    shown = _as_json(view)
    if as_json:
        print_json(shown)
        return
    print_table(("", ""), [(name, ", ".join(value) if isinstance(value, list) else value) for name, value in shown.items()])


def _as_json(view: View) -> dict[str, Any]:
    webhook, standing = view.webhook, view.standing
    return {
        "id": webhook.id, "url": webhook.url, "description": webhook.description, "events": list(webhook.events),
        "streams": list(webhook.streams), "header_names": sorted(webhook.headers), "batch_size": webhook.batch_size,
        "enabled": webhook.disabled_at is None, "disabled_reason": webhook.disabled_reason or None,
        "failing_since": _iso(standing.failing_since), "answered_at": _iso(standing.answered_at), "waiting": standing.waiting,
        "created_at": iso(webhook.created_at),
    }  # fmt: skip


def _delivery(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id, "type": row.type, "message_id": row.message_id, "status": row.status, "attempts": row.attempts,
        "tried_at": _iso(row.tried_at), "status_code": row.code, "latency_ms": row.latency_ms, "answer": row.answer,
    }  # fmt: skip


def _iso(at: Instant | None) -> str | None:
    return None if at is None else iso(at)

"""`gatepost placement`: where mail lands, measured with mailboxes of our own."""

import asyncio
from pathlib import Path
from typing import Any

import click
import msgspec

from gatepost.app.parts import with_hostnames
from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import Duration, json_option, store_options, tenant_option
from gatepost.cli.output import failing_clearly, moment, print_json, print_table
from gatepost.cli.send import create_acceptor, local_caller
from gatepost.domain.address import InvalidAddress, Mailbox, parse_mailbox
from gatepost.domain.errors import Fault, invalid
from gatepost.domain.message import Steering, Submission
from gatepost.domain.placement import PlacementTest
from gatepost.http.v1.placement import answer_of, summary_answer
from gatepost.placement.sending import SUBJECT, TEXT, PlacementTests
from gatepost.store import placement

_LOOK_S = 1.0


@click.group(name="placement")
def command() -> None:
    """Test whether mail lands in inboxes; show what was found."""


@command.command()
@click.option("--from", "sender", required=True, metavar="MAILBOX", help="Such as 'Acme <news@acme.example>'.")
@click.option("--subject", default=SUBJECT, show_default=True)
@click.option("--text", help="The text; a short one of its own when neither --text nor --html is given.")
@click.option("--html")
@click.option("--stream", default="transactional", show_default=True)
@click.option("--seed", "seeds", multiple=True, metavar="NAME", help="Only this one. Repeatable.")
@click.option("--wait", is_flag=True, help="Wait for the results; gatepost serve has to run.")
@tenant_option
@store_options
@json_option
@failing_clearly
def run(
    *, sender: str, subject: str, text: str | None, html: str | None, stream: str, seeds: tuple[str, ...], wait: bool, tenant: str | None,
    data: Path, flags: dict[str, Any], as_json: bool,
) -> None:  # fmt: skip
    """Send a test to the seeds; the running gateway looks where it lands."""

    async def work(store: Opened) -> PlacementTest:
        submission = Submission(
            sender=_mailbox(sender), subject=subject, text=TEXT if text is None and html is None else text, html=html,
            steering=Steering(stream=stream),
        )  # fmt: skip
        tests = PlacementTests(store.engine, store.clock, with_hostnames(store.settings), await create_acceptor(store, data))
        test = await tests.begin(local_caller(store), submission, seeds or None)
        assert test is not None
        return await _awaited(store, test) if wait else test

    test = run_with_store(data, flags, work, tenant)
    if as_json:
        print_json(answer_of(test))
    else:
        _print([test])


@command.command(name="list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1_000))
@click.option("--domain", metavar="NAME", help="Only of this sender's domain.")
@tenant_option
@store_options
@json_option
@failing_clearly
def list_(*, limit: int, domain: str | None, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List tests, the newest first."""

    async def work(store: Opened) -> list[PlacementTest]:
        return await store.engine.read(
            lambda conn: placement.page(conn, store.tenant_id, limit, domains=None if domain is None else [domain])
        )

    tests = run_with_store(data, flags, work, tenant)
    if as_json:
        print_json({"placement_tests": [answer_of(one) for one in tests]})
    else:
        _print(tests)


@command.command()
@click.option("--last", default="30d", show_default=True, type=Duration(), help="Of tests of the last so long.")
@click.option("--domain", metavar="NAME", help="Only of this sender's domain.")
@tenant_option
@store_options
@json_option
@failing_clearly
def summary(*, last: int, domain: str | None, tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Sum up where mail landed, by provider."""

    async def work(store: Opened) -> Any:
        end = store.clock.now() + 1
        found = await store.engine.read(
            lambda conn: placement.summary(conn, store.tenant_id, None if domain is None else [domain], end - last, end)
        )
        return summary_answer(found, domain, end - last, end)

    found = msgspec.to_builtins(run_with_store(data, flags, work, tenant))
    if as_json:
        print_json(found)
        return
    rows = [(name, *_shares(one)) for name, one in (*found["providers"].items(), ("all", found["total"]))]
    print_table(("provider", "inbox", "spam", "missing", "unknown", "half arrive within"), rows)


async def _awaited(store: Opened, test: PlacementTest) -> PlacementTest:
    test_id = test.id
    while test.finished_at is None:
        await asyncio.sleep(_LOOK_S)
        found = await store.engine.read(lambda conn: placement.get(conn, store.tenant_id, test_id))
        if found is None:
            break
        test = found
    return test


def _mailbox(text: str) -> Mailbox:
    try:
        return parse_mailbox(text)
    except InvalidAddress as error:
        raise invalid(Fault("/from", "invalid_address", str(error))) from None


def _shares(one: dict[str, Any]) -> tuple[str, ...]:
    shares = [
        f"{one[name]} ({one[f'{name}_rate']:.1%})" if one[f"{name}_rate"] is not None else "0" for name in ("inbox", "spam", "missing")
    ]
    return (*shares, str(one["unknown"]), "" if one["median_s"] is None else f"{one['median_s']:.0f} s")


def _print(tests: list[PlacementTest]) -> None:
    rows = [
        (test.id, moment(test.created_at), test.domain, one.seed, one.outcome.value, one.detail or one.folder, one.spf, one.dkim, one.dmarc)
        for test in tests
        for one in test.results
    ]
    print_table(("test", "begun", "domain", "seed", "outcome", "where", "SPF", "DKIM", "DMARC"), rows)

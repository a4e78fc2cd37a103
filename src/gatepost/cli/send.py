"""
`gatepost send`: one message.

Through the HTTP door when a key or a URL is given; else straight into the store of a data directory.
"""

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec

from gatepost.accept import Accepted, AcceptedMessage, Acceptor
from gatepost.app.parts import create_blobs, with_hostnames
from gatepost.cli.opening import Opened, run_with_store
from gatepost.cli.options import json_option, store_options, tenant_option
from gatepost.cli.output import Failure, failing_clearly, print_json
from gatepost.domain.address import InvalidAddress, Mailbox, parse_mailbox
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.message import Submission
from gatepost.domain.tenant import ApiKey, Caller, KeyMode
from gatepost.net.bell import Bell
from gatepost.store import tenants
from gatepost.tenants.directory import Directory
from gatepost.tenants.routing import Routing

_TIMEOUT_S = 30


@click.command(name="send")
@click.option("--from", "sender", required=True, metavar="MAILBOX", help="Such as 'Acme <shop@acme.example>'.")
@click.option("--to", "to", required=True, multiple=True, metavar="MAILBOX", help="Repeatable.")
@click.option("--subject", required=True)
@click.option("--text", help="The text; read from standard input when neither --text nor --html is given.")
@click.option("--html")
@click.option("--key", envvar="GATEPOST_KEY", help="API key: send through the HTTP door.")
@click.option("--url", default="http://127.0.0.1:8025", show_default=True, help="The HTTP door, used with --key.")
@click.option("--test", "is_test", is_flag=True, help="Without --key: keep the message in the sandbox, whatever the route.")
@tenant_option
@store_options
@json_option
@failing_clearly
def command(
    *, sender: str, to: tuple[str, ...], subject: str, text: str | None, html: str | None, key: str | None, url: str, is_test: bool,
    tenant: str | None, data: Path, flags: dict[str, Any], as_json: bool,
) -> None:  # fmt: skip
    """Send one message."""
    if key and tenant:
        raise click.UsageError("the key says whose message it is: give --key or --tenant, not both")
    if text is None and html is None:
        text = sys.stdin.read()
    if key:
        fields = {"from": sender, "to": list(to), "subject": subject, "text": text, "html": html}
        answer = _post(url, key, {name: value for name, value in fields.items() if value is not None}, as_json=as_json)
    else:
        submission = _submission(sender, to, subject, text, html)
        accepted = run_with_store(data, flags, lambda store: _accept(store, data, submission, is_test=is_test), tenant)
        answer = msgspec.to_builtins(accepted)
    _show(answer, as_json=as_json)


def _submission(sender: str, to: tuple[str, ...], subject: str, text: str | None, html: str | None) -> Submission:
    faults: list[Fault] = []
    mailboxes = [
        _mailbox(value, pointer, faults) for pointer, value in [("/from", sender), *[(f"/to/{n}", one) for n, one in enumerate(to)]]
    ]
    read = [one for one in mailboxes if one is not None]
    if faults:
        raise invalid(*faults)
    return Submission(sender=read[0], to=tuple(read[1:]), subject=subject, text=text, html=html)


def _mailbox(text: str, pointer: str, faults: list[Fault]) -> Mailbox | None:
    try:
        return parse_mailbox(text)
    except InvalidAddress as error:
        faults.append(Fault(pointer, "invalid_address", str(error)))
        return None


async def _accept(store: Opened, data: Path, submission: Submission, *, is_test: bool) -> AcceptedMessage:
    acceptor = await create_acceptor(store, data)
    accepted: Accepted = await acceptor.submit(local_caller(store, is_test=is_test), submission)
    message = accepted.results[0]
    assert isinstance(message, AcceptedMessage)
    return message


async def create_acceptor(store: Opened, data: Path) -> Acceptor:
    """
    Make what accepts messages for a command.

    Raises:
        Refused: tenant_suspended.
    """
    if (await store.engine.read(lambda conn: tenants.named(conn, store.tenant_id))).suspended_at is not None:
        raise Refused("tenant_suspended")
    settings = with_hostnames(store.settings)
    directory = Directory(store.engine, store.clock)
    await directory.refresh()
    routing = Routing(store.engine, directory, settings, store.clock)
    await routing.refresh()
    return Acceptor(
        engine=store.engine, blobs=create_blobs(store.loaded), directory=directory, settings=settings, clock=store.clock,
        hostname=settings.egress.hostname, on_committed=Bell(data).ring, routing=routing,
    )  # fmt: skip


def local_caller(store: Opened, *, is_test: bool = False) -> Caller:
    """Return who sends from the command line."""
    mode = KeyMode.TEST if is_test else KeyMode.LIVE
    key = ApiKey(id="cli", tenant_id=store.tenant_id, name="command line", mode=mode, hint="", created_at=store.clock.now())
    return Caller(principal=key.principal(), peer="cli", request_id="cli")


def _post(url: str, key: str, fields: dict[str, Any], *, as_json: bool) -> Any:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter("give an http:// or https:// URL", param_hint="--url")
    request = urllib.request.Request(url.rstrip("/") + "/v1/messages", json.dumps(fields).encode(), headers, method="POST")  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310 - checked above
            return json.load(response)
    except urllib.error.HTTPError as error:
        _refuse(error, as_json=as_json)
    except urllib.error.URLError as error:
        raise Failure("no_answer", f"{url} does not answer: {error.reason}", "Is gatepost serve running there?", as_json=as_json) from None


def _refuse(error: urllib.error.HTTPError, *, as_json: bool) -> NoReturn:
    try:
        problem = json.load(error)
        raise Failure(problem["code"], problem.get("detail") or problem["title"], "", problem.get("errors", []), as_json=as_json) from None
    except (ValueError, KeyError, TypeError):
        raise Failure("unexpected_answer", f"the door answered with status {error.code}", as_json=as_json) from None


def _show(answer: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    click.echo(f"{answer['id']} is {answer['status']}.")
    for recipient in answer["recipients"]:
        reason = f" ({recipient['reason']})" if recipient.get("reason") else ""
        click.echo(f"  {recipient['address']}: {recipient['status']}{reason}")

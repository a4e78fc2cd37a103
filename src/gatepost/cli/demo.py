"""`gatepost demo`: see it work."""

import signal

import click

from gatepost.cli.output import Failure, console, failing_clearly
from gatepost.demo import report, samples
from gatepost.demo.house import DemoFailed, House, running_house


@click.command(name="demo")
@click.option("--once", is_flag=True, help="End when all is shown; exit code 1 if anything is not as it should be.")
@failing_clearly
def command(*, once: bool) -> None:
    """Start a throw-away gateway, send sample messages to its sandbox, show what became of each."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the house is cleared up then, too
    terminal = console()
    terminal.print("Starting a gateway in a throw-away directory …", style="dim")
    try:
        with running_house(is_ephemeral=once) as house:
            faults = _run(house)
            if not once:
                _stay(house)
    except DemoFailed as error:
        raise Failure("demo_failed", str(error)) from error
    if faults and once:
        raise Failure("demo_failed", f"{len(faults)} things were not as they should be")


def _run(house: House) -> list[str]:
    terminal, api = console(), samples.Api(house)
    terminal.print(f"HTTP on http://{house.http}, SMTP on {house.smtp}. Sending …\n", style="dim", markup=False)
    sent = samples.send_all(house, api)
    report.wait_until_over(api, sent)
    rows, faults = report.look(house, api, sent)
    report.show(terminal, api, rows, sent, faults)
    if not faults:
        terminal.print(
            f"\nAll {len(rows)} recipients are where they should be, and every captured message's signatures hold.", style="green"
        )
    return faults


def _stay(house: House) -> None:
    click.echo(f"\nThe inbox is on http://{house.http} until you press Ctrl-C. Try:\n")
    click.echo(f"  curl http://{house.http}/v1/messages -H 'Authorization: Bearer {house.key}' -H 'Content-Type: application/json' \\")
    click.echo('    -d \'{"from": "shop@acme.example", "to": ["defer@example.net"], "subject": "Hello", "text": "Hi"}\'\n')
    try:
        signal.pause()
    except KeyboardInterrupt:
        click.echo("Stopping.")

"""`gatepost serve`: run the gateway."""

import asyncio
from pathlib import Path
from typing import Any

import click

from gatepost.cli.options import load, store_options
from gatepost.cli.output import Failure, failing_clearly
from gatepost.observe import maillog
from gatepost.serve.lock import AlreadyServed
from gatepost.serve.nursery import Nursery, open_nursery
from gatepost.serve.supervisor import CannotServe, Supervisor
from gatepost.settings import Loaded


@click.command(name="serve")
@store_options
@failing_clearly
def command(*, data: Path, flags: dict[str, Any]) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    loaded = load(data, flags)
    log = loaded.settings.log
    maillog.configure(level=log.level, mask_addresses=log.mask_addresses, process="supervisor")
    nursery = open_nursery(loaded.data_dir, flags)
    try:
        asyncio.run(_serve(loaded, flags, nursery))
    except AlreadyServed as error:
        raise Failure("already_served", str(error)) from None
    except CannotServe as error:
        raise Failure("cannot_serve", str(error)) from None
    finally:
        if nursery is not None:
            nursery.close()


async def _serve(loaded: Loaded, flags: dict[str, Any], nursery: Nursery | None) -> None:
    await Supervisor(loaded, written(flags), _announce, nursery).run()


def written(flags: dict[str, Any]) -> list[str]:
    """Write flags so that a child reads the same values."""
    return [f"{name}={_toml(value)}" for name, value in flags.items()]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' if isinstance(value, str) else str(value)


def _announce(lines: list[str]) -> None:
    click.echo("Gatepost is ready.\n" + "\n".join(f"  {line}" for line in lines))

"""The options that most commands share: `--data`, `--set`, `--json`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gatepost import settings

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_DATA = "gatepost-data"


def store_options(function: F) -> F:
    """Add `--data` and `--set`; the command receives `data: Path` and `flags: dict`."""
    help_of_set = "Set an option, such as http.listen=127.0.0.1:8080. Repeatable."
    function = click.option("--set", "flags", metavar="OPTION=VALUE", multiple=True, callback=_parse_flags, help=help_of_set)(function)
    folder = click.Path(file_okay=False, path_type=Path)
    return click.option("--data", envvar="GATEPOST_DATA", default=DEFAULT_DATA, show_default=True, type=folder, help="Data directory.")(
        function
    )


def json_option(function: F) -> F:
    """Add `--json`; the command receives `as_json: bool`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def load(data: Path, flags: dict[str, Any]) -> settings.Loaded:
    """
    Read the settings of a command.

    Raises:
        InvalidSettings: An option is unknown or has no valid value.
    """
    return settings.load(data, flags=flags)


def _parse_flags(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    flags = {}
    for text in values:
        name, sign, value = text.partition("=")
        if not sign or "." not in name:
            raise click.BadParameter(f"{text!r}: write it as section.option=value")
        flags[name.strip()] = settings.parse_value(value)
    return flags

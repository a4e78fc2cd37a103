"""The options that most commands share: `--data`, `--set`, `--json`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gatepost import settings
from gatepost.domain.access import Limit, parse_limit

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


def tenant_option(function: F) -> F:
    """Add `--tenant`; the command receives `tenant: str | None`, an id or a name."""
    help_of_tenant = "Id or name of the tenant; the default is the tenant that exists from the start."
    return click.option("--tenant", metavar="TENANT", help=help_of_tenant)(function)


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A span of time such as `30d`, `12h`, `15m` or `90s`; the command receives milliseconds."""

    name = "duration"

    def __init__(self, *, may_be_zero: bool = False) -> None:
        self._may_be_zero = may_be_zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the text."""
        if isinstance(value, int):
            return value
        found = _DURATION.fullmatch(str(value).strip().lower())
        if found is None or not (int(found[1]) or self._may_be_zero):
            self.fail(f"{value!r} is not a span of time such as 30d, 12h or 15m", param, ctx)
        return int(found[1]) * _UNIT_MS[found[2]]


_DURATION = re.compile(r"([0-9]{1,6})([dhms])")
_UNIT_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000}


class LimitText(click.ParamType):  # type: ignore[type-arg]
    """A limit such as `messages=1000/day`; the command receives a `Limit`."""

    name = "limit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Limit:
        """Read the text."""
        if isinstance(value, Limit):
            return value
        try:
            return parse_limit(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


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

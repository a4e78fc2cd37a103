"""
What commands print: tables for people, JSON for scripts, one line for errors.

With `--json` standard output holds exactly one JSON document, a refusal included.
"""

import datetime as dt
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click
import msgspec

from gatepost.clock import Instant
from gatepost.domain.errors import CATALOGUE, Refused
from gatepost.settings import InvalidSettings
from gatepost.store.errors import KeyLost, MasterKeyRefused, SchemaOutdated, SealBroken, StorageUnavailable, UnsafeDurability
from gatepost.store.sqlite import LibraryTooOld

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")
R = TypeVar("R")

STATUS_STYLE = {
    "delivered": "green", "sent": "blue", "deferred": "yellow", "queued": "bright_black", "scheduled": "cyan", "bounced": "red",
    "expired": "red", "suppressed": "magenta", "cancelled": "bright_black", "verified": "green", "pending": "yellow",
    "published": "green", "missing": "red", "different": "red", "unknown": "yellow", "ok": "green", "warning": "yellow", "failed": "red",
    "passed": "green", "not_applicable": "bright_black",
}  # fmt: skip


class Failure(click.ClickException):
    """A command that could not do what it was asked for; exit code 1."""

    exit_code = 1

    def __init__(self, code: str, detail: str, advice: str = "", errors: Sequence[dict[str, str]] = (), *, as_json: bool = False) -> None:
        """
        Args:
            code: Stable, snake_case.
            errors: The places of faults, as the API names them.
        """
        super().__init__(detail)
        self.code = code
        self.advice = advice
        self.errors = list(errors)
        self.as_json = as_json

    def show(self, file: Any = None) -> None:
        """Print the line, or the JSON object."""
        if self.as_json:
            print_json({"error": {"code": self.code, "detail": self.message, "advice": self.advice, "errors": self.errors}})
            return
        places = "; ".join(f"{one['pointer']}: {one['detail']}" for one in self.errors)
        text = f"{self.code}: {self.message}" + (f" ({places})" if places else "")
        click.secho(f"Error: {text.rstrip('.')}." + (f" {self.advice}" if self.advice else ""), fg="red", err=True)


def failing_clearly(function: Callable[P, R]) -> Callable[P, R]:
    """Turn what a command may run into into one clear line. The command's `as_json` argument decides the form."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            failure = failure_of(error, as_json=bool(kwargs.get("as_json")))
            if failure is None:
                raise
            raise failure from error

    return run


def failure_of(error: BaseException, *, as_json: bool = False) -> Failure | None:
    """Put an error into words; None for one that is our own fault and deserves a trace."""
    match error:
        case Failure():
            return error
        case Refused():
            places = [{"pointer": fault.pointer, "code": fault.code, "detail": fault.detail} for fault in error.faults]
            return Failure(error.code, error.detail or error.kind.title, error.kind.advice, places, as_json=as_json)
        case InvalidSettings():
            return Failure("invalid_settings", str(error), as_json=as_json)
        case StorageUnavailable():
            return Failure("storage_unavailable", str(error), CATALOGUE["storage_unavailable"].advice, as_json=as_json)
        case SchemaOutdated():
            return Failure("schema_outdated", str(error), as_json=as_json)
        case MasterKeyRefused() | KeyLost():
            return Failure("master_key_refused", str(error), as_json=as_json)
        case SealBroken():
            return Failure("seal_broken", str(error), as_json=as_json)
        case LibraryTooOld() | UnsafeDurability():
            return Failure("unsafe_database", str(error), as_json=as_json)
        case OSError():
            return Failure("system_error", str(error), as_json=as_json)
        case _:
            return None


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(headings: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Print a table; words that are statuses get their colour."""
    from rich.table import Table  # noqa: PLC0415 - most commands print none

    table = Table(*headings, title=title, title_justify="left", header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*[_cell(value) for value in row])
    console().print(table)


def console() -> "Console":
    """Return the terminal; output into a pipe is not cut to a width."""
    from rich.console import Console  # noqa: PLC0415 - see print_table

    found = Console(highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(highlight=False, width=200)


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    style = STATUS_STYLE.get(text)
    escaped = text.replace("[", r"\[")
    return f"[{style}]{escaped}[/]" if style else escaped


def moment(at: Instant | None) -> str:
    """Write an instant for a person, in UTC."""
    return "" if at is None else f"{dt.datetime.fromtimestamp(at / 1000, dt.UTC):%Y-%m-%d %H:%M:%S}Z"

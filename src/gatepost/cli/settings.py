"""`gatepost settings`: every option, and where its value came from."""

import re
from pathlib import Path
from typing import Any

import click

from gatepost import settings
from gatepost.cli.options import json_option, load, store_options
from gatepost.cli.output import failing_clearly, print_json, print_table
from gatepost.domain.masking import MASK, is_secret_name

_PASSWORD = re.compile(r"(?<=://)([^/:@]*):.*@")
_KEY = re.compile(r"^((?:sendgrid|mailgun|postmark|resend|brevo)://)[^:@]+@", re.IGNORECASE)
"""A provider's key that stands where others have a user."""


@click.command(name="settings")
@store_options
@click.option("--example", is_flag=True, help="Print a gatepost.toml with every option and its default.")
@json_option
@failing_clearly
def command(*, data: Path, flags: dict[str, Any], example: bool, as_json: bool) -> None:
    """Show every option, its value, its default and where the value came from."""
    if example:
        click.echo(example_file(), nl=False)
        return
    found = settings.options(load(data, flags))
    if as_json:
        print_json([_as_json(option) for option in found])
    else:
        print_table(("option", "value", "default", "origin", "meaning"), [_row(option) for option in found])


def _as_json(option: settings.Option) -> dict[str, Any]:
    return {
        "name": option.name,
        "value": masked(option.value, option.name),
        "default": option.default,
        "origin": option.origin,
        "help": option.help,
    }


def _row(option: settings.Option) -> tuple[str, ...]:
    return option.name, _text(masked(option.value, option.name)), _text(option.default), option.origin, option.help


def masked(value: Any, name: str = "") -> Any:
    """Hide a secret, and the password inside a URL."""
    if value and isinstance(value, str) and is_secret_name(name):
        return MASK
    return _KEY.sub(rf"\1{MASK}@", _PASSWORD.sub(r"\1:***@", value)) if isinstance(value, str) else value


_HEAD = """\
# Gatepost's options with their defaults. Remove the # in front of an option to change it.
# The environment wins over this file: GATEPOST_HTTP__LISTEN for http.listen.
"""

_RELAYS = """
# A relay; with egress.default_route = "main" mail goes there. Other providers: docs/relays.md.
# [relays.main]
# url = "smtp://user@smtp.example.net:587?tls=must"
# secret_file = "/run/secrets/smtp-password"
# rate = "14/second"
# quota = "50000/day"
"""

_SOURCES = """
# Addresses to send from, in pools: mx goes from the pool default, mx:bulk from the pool bulk. Without them the system chooses.
# [sources.one]
# address = "192.0.2.10"
# hostname = "out1.example.com"
# [pools.default]
# sources = ["one"]
# What a site gets from each source at most; * is every site.
# [shaping."example.net"]
# connections = 5
# messages_per_second = 2
"""


def example_file() -> str:
    """Write a commented `gatepost.toml` that holds every option with its default."""
    text, section = _HEAD, ""
    for option in settings.options(settings.Loaded(settings=settings.Settings(), origins={}, data_dir=Path())):
        head, _, leaf = option.name.rpartition(".")
        if head != section:
            section = head
            text += f"\n[{section}]\n"
        text += f"# {option.help}\n#{leaf} = {_text(option.default)}\n"
    return text + _RELAYS + _SOURCES


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_text(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(one) for one in value) + "]"
    return str(value)

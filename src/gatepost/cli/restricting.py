"""The options that narrow a key or an OAuth client, shared by `gatepost key create` and `gatepost oauth-client create`."""

import ipaddress
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gatepost.cli.options import Duration, LimitText
from gatepost.clock import Instant
from gatepost.domain.access import Network, Restrictions, Scope
from gatepost.tenants import grants

F = TypeVar("F", bound=Callable[..., Any])

LONGEST_NAME = 200


class _Cidr(click.ParamType):  # type: ignore[type-arg]
    """A network such as `10.0.0.0/8`; host bits may be set."""

    name = "cidr"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Network:
        """Read the text."""
        try:
            return ipaddress.ip_network(value, strict=False)
        except ValueError:
            self.fail(f"{value!r} is not a network such as 10.0.0.0/8", param, ctx)


CIDR = _Cidr()


def restriction_options(function: F) -> F:
    """Add `--scope`, `--domain`, `--stream`, `--cidr`, `--limit` and `--expires`; the command receives them by these names."""
    for option in reversed(
        (
            click.option(
                "--scope", "scopes", type=click.Choice([scope.value for scope in Scope]), multiple=True,
                help="What it may do; without any it is admin: everything in the tenant. Repeatable.",
            ),
            click.option("--domain", "domains", metavar="DOMAIN", multiple=True, help="Sender's domain that it may use. Repeatable."),
            click.option("--stream", "streams", metavar="STREAM", multiple=True, help="Stream that it may use. Repeatable."),
            click.option("--cidr", "cidrs", metavar="CIDR", type=CIDR, multiple=True, help="Network that it may come from. Repeatable."),
            click.option(
                "--limit", "limits", metavar="LIMIT", type=LimitText(), multiple=True,
                help="Its own limit, such as messages=10/minute. Repeatable.",
            ),
            click.option("--expires", "expires_ms", metavar="TIME", type=Duration(), help="How long it lives, such as 30d or 12h."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def restrictions(narrowing: dict[str, Any], now: Instant) -> Restrictions:
    """
    Read what the options of `restriction_options` ask for.

    Raises:
        Refused: validation_failed.
    """
    expires_ms = narrowing["expires_ms"]
    asked = grants.Asked(
        scopes=narrowing["scopes"] or None,
        domains=narrowing["domains"],
        streams=narrowing["streams"],
        networks=[str(network) for network in narrowing["cidrs"]],
        limits=[str(limit) for limit in narrowing["limits"]],
        expires_at=None if expires_ms is None else now + expires_ms,
    )
    return grants.read(asked, now)


def check_name(name: str) -> str:
    """
    Return a name without white space around it.

    Raises:
        BadParameter: It is empty or too long.
    """
    if not name.strip() or len(name) > LONGEST_NAME:
        raise click.BadParameter(f"give it a name of at most {LONGEST_NAME} characters", param_hint="--name")
    return name.strip()

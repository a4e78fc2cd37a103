"""The options that narrow a key or an OAuth client, shared by `gatepost key create` and `gatepost oauth-client create`."""

import ipaddress
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gatepost.cli.options import Duration, LimitText
from gatepost.clock import Instant, iso
from gatepost.domain.access import Network, Scope
from gatepost.domain.tenant import ApiKey, OAuthClient
from gatepost.store.last_use import LastUse
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


def restrictions(narrowing: dict[str, Any], now: Instant) -> grants.Restrictions:
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


def shown(one: ApiKey | OAuthClient, use: LastUse | None) -> dict[str, Any]:
    """Write what keys and clients have in common as JSON."""
    return {
        "id": one.id,
        "name": one.name,
        "tenant_id": one.tenant_id,
        "mode": one.mode.value,
        "hint": one.hint,
        "scopes": sorted(one.scopes),
        "domains": sorted(one.domains),
        "streams": sorted(one.streams),
        "cidrs": [str(network) for network in one.networks],
        "limits": [str(limit) for limit in one.limits],
        "created_at": iso(one.created_at),
        "expires_at": _time(one.expires_at),
        "revoked_at": _time(one.revoked_at),
        "old_secret_until": _time(one.previous_until),
        "last_used_at": None if use is None else iso(use.used_at),
        "last_used_from": None if use is None else use.peer,
    }


def _time(at: Instant | None) -> str | None:
    return None if at is None else iso(at)

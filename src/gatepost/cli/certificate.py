"""`gatepost certificate`: what the doors show, until when, and fresh ones from the authority."""

from pathlib import Path
from typing import Any

import click

from gatepost.app.encryption import certificate_places, create_renewal, ordered
from gatepost.certificates.renewal import Past, Renewal, Result
from gatepost.certificates.shelf import Busy
from gatepost.cli.options import json_option, load, store_options
from gatepost.cli.output import Failure, failing_clearly, moment, print_json, print_table
from gatepost.clock import DAY, Instant, SystemClock, iso
from gatepost.net.certificate import Facts, Place, read_facts
from gatepost.settings import Loaded

_MOMENTS = frozenset({"starts_at", "ends_at", "renew_at"})


@click.group(name="certificate")
def command() -> None:
    """Look at the certificates of the doors; order them from the authority."""


@command.command(name="list")
@store_options
@json_option
@failing_clearly
def list_(*, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """List the certificates; those with `acme` are renewed by the gateway."""
    found = _described(load(data, flags))
    if as_json:
        print_json({"certificates": [_as_json(one) for one in found]})
        return
    rows = [(one["name"], one["status"], ", ".join(one["names"]), moment(one["ends_at"]), one["detail"]) for one in found]
    print_table(("name", "status", "valid for", "ends", "note"), rows)


@command.command(name="show")
@click.argument("name")
@store_options
@json_option
@failing_clearly
def show(*, name: str, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """Show one certificate."""
    found = next((one for one in _described(load(data, flags)) if one["name"] == name), None)
    if found is None:
        raise Failure("not_found", f"there is no certificate {name}", "See gatepost certificate list.", as_json=as_json)
    if as_json:
        print_json(_as_json(found))
        return
    print_table(("what", "value"), [(key, moment(value) if key in _MOMENTS else _text(value)) for key, value in found.items()])


@command.command(name="renew")
@click.argument("names", nargs=-1)
@click.option("--force", is_flag=True, help="Order even while the certificate is fresh.")
@store_options
@json_option
@failing_clearly
def renew(*, names: tuple[str, ...], force: bool, data: Path, flags: dict[str, Any], as_json: bool) -> None:
    """
    Order certificates that are due from the authority; a running gateway answers its questions and uses what comes.

    Without NAMES all of acme.domains.
    """
    loaded = load(data, flags)
    results = _renew(create_renewal(loaded, SystemClock()), _chosen(loaded, names, as_json=as_json), force=force, as_json=as_json)
    if as_json:
        print_json({"certificates": results})
    else:
        print_table(("name", "status", "note"), [(one.name, one.status, one.detail) for one in results])
    if any(one.status == "failed" for one in results):
        raise SystemExit(1)


def _chosen(loaded: Loaded, names: tuple[str, ...], *, as_json: bool) -> list[str]:
    acme = ordered(loaded.settings)
    if not acme.directory_url:
        raise Failure("no_authority", "acme.directory_url is not set: certificates in files are yours to renew", as_json=as_json)
    for name in names:
        if name not in acme.domains:
            raise Failure("not_found", f"{name} is not in acme.domains", as_json=as_json)
    return list(names) or acme.domains


def _renew(renewal: Renewal, names: list[str], *, force: bool, as_json: bool) -> list[Result]:
    try:
        return renewal.renew(names, is_forced=force)
    except Busy:
        raise Failure("busy", "certificates are being ordered right now", "Try again in a minute.", as_json=as_json) from None


def _described(loaded: Loaded) -> list[dict[str, Any]]:
    past = create_renewal(loaded, SystemClock()).past()
    return [_describe(place, past.get(place.name), SystemClock().now()) for place in certificate_places(loaded)]


def _describe(place: Place, past: Past | None, now: Instant) -> dict[str, Any]:
    facts, trouble = _read(place)
    if past is not None and past.error and place.is_awaited:
        trouble = f"the last order failed: {past.error}"
    return {
        "name": place.name,
        "source": "acme" if place.is_awaited else "file",
        "status": _status(place, facts, now),
        "names": facts.names if facts else (),
        "starts_at": facts.not_before if facts else None,
        "ends_at": facts.not_after if facts else None,
        "renew_at": (past.renew_at or None) if past is not None and place.is_awaited else None,
        "issuer": facts.issuer if facts else None,
        "fingerprint_sha256": facts.fingerprint if facts else None,
        "cert": str(place.cert),
        "key": str(place.key),
        "detail": trouble,
    }


def _as_json(found: dict[str, Any]) -> dict[str, Any]:
    return {key: iso(value) if key in _MOMENTS and value is not None else value for key, value in found.items()}


def _read(place: Place) -> tuple[Facts | None, str]:
    if place.is_awaited and not place.cert.exists():
        return None, "not ordered yet"
    try:
        return read_facts(place.cert), ""
    except (OSError, ValueError) as error:
        return None, str(error)


def _status(place: Place, facts: Facts | None, now: Instant) -> str:
    if facts is None:
        return "pending" if place.is_awaited and not place.cert.exists() else "failed"
    if facts.not_after <= now:
        return "expired"
    return "warning" if facts.not_after - now < 14 * DAY else "ok"


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value if value is not None else "")

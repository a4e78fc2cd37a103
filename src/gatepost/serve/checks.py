"""
What `gatepost doctor` looks at.

Arrives: a data directory. Leaves: one finding for each check; a check that cannot be made is a finding too.
Not here: repairing anything.
"""

import asyncio
import importlib.metadata
import ipaddress
import json
import os
import platform
import resource
import shutil
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gatepost import __version__, settings
from gatepost.app.database import create_engine
from gatepost.app.encryption import certificate_places, create_certificates
from gatepost.app.listening import CannotListen, bind
from gatepost.app.parts import create_resolver, listen_address, with_hostnames
from gatepost.app.secrets import master_keys, unsealed
from gatepost.clock import DAY, SystemClock
from gatepost.domain.route import RoadKind, roads_of
from gatepost.net.certificate import Place, read_facts
from gatepost.net.dns import ResolverFailed
from gatepost.serve import outside_checks
from gatepost.serve.finding import Finding
from gatepost.settings import InvalidSettings, Loaded
from gatepost.store import opening
from gatepost.store.errors import MasterKeyRefused, StorageUnavailable, UnsafeDurability
from gatepost.store.master_key import GivenKeys
from gatepost.store.schema import REVISION
from gatepost.store.sqlite import LibraryTooOld, check_library, library_version

_LIBRARIES = ("sqlalchemy", "asyncpg", "litestar", "uvicorn", "uvloop", "msgspec", "cryptography", "dnspython")
_LITTLE_SPACE = 1 << 30
_NO_SPACE = 100 << 20
_SLOW_FSYNC_S = 0.05
_FEW_FILES = 4096
_RENEW_BEFORE_DAYS = 14


def examine(data_dir: Path, flags: dict[str, Any]) -> list[Finding]:
    """Make all checks; never fails itself."""
    findings = [_versions()]
    try:
        loaded = settings.load(data_dir, flags=flags)
    except InvalidSettings as error:
        return [*findings, Finding("settings", "failed", str(error))]
    findings.append(Finding("settings", "ok", f"egress.default_route is {loaded.settings.egress.default_route}"))
    checks: list[Callable[[Loaded], Finding]] = [
        _sqlite,
        _database,
        _secrets,
        _rights,
        _space,
        _durability,
        _dns,
        _clock,
        _tls,
        _exposure,
        _ports,
        _names,
        _files,
        outside_checks.sources,
        outside_checks.domains,
    ]
    return findings + [_safely(check, loaded) for check in checks] + _relays(loaded) + _mailboxes(loaded)


def _relays(loaded: Loaded) -> list[Finding]:
    try:
        return outside_checks.relays(loaded)
    except Exception as error:  # noqa: BLE001 - as below
        return [Finding("relays", "failed", f"{type(error).__name__}: {error}")]


def _mailboxes(loaded: Loaded) -> list[Finding]:
    if not (loaded.settings.mailboxes or loaded.settings.seeds):
        return []
    try:
        from gatepost.serve import mailbox_checks  # noqa: PLC0415 - most gateways have none

        return mailbox_checks.examine(loaded)
    except Exception as error:  # noqa: BLE001 - as below
        return [Finding("mailboxes", "failed", f"{type(error).__name__}: {error}")]


def _safely(check: Callable[[Loaded], Finding], loaded: Loaded) -> Finding:
    try:
        return check(loaded)
    except Exception as error:  # noqa: BLE001 - a doctor who faints helps nobody
        return Finding(check.__name__.strip("_"), "failed", f"{type(error).__name__}: {error}")


def _versions() -> Finding:
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES if _is_installed(name))
    return Finding("versions", "ok", f"gatepost {__version__}, Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, {libraries}")


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _sqlite(loaded: Loaded) -> Finding:
    try:
        check_library()
    except LibraryTooOld as error:
        return Finding("sqlite", "warning" if loaded.settings.database.url else "failed", str(error))
    return Finding("sqlite", "ok", f"SQLite {library_version()}")


def _database(loaded: Loaded) -> Finding:
    if not loaded.settings.database.url and not (loaded.data_dir / "gatepost.db").exists():
        return Finding("database", "ok", "not made yet; the first command that needs it makes it")
    try:
        revision = asyncio.run(_revision(loaded))
    except (StorageUnavailable, UnsafeDurability) as error:
        return Finding("database", "failed", str(error))
    if revision == REVISION:
        return Finding("database", "ok", f"schema {revision}")
    advice = "run gatepost migrate" if loaded.settings.database.url else "the next start brings it up to date"
    return Finding("database", "warning", f"schema is {revision or 'empty'}, this release needs {REVISION}: {advice}")


async def _revision(loaded: Loaded) -> str | None:
    engine = create_engine(loaded)
    try:
        return await engine.read(opening.current_revision)
    finally:
        await engine.close()


def _rights(loaded: Loaded) -> Finding:
    if not loaded.data_dir.exists():
        return Finding("data directory", "ok", f"{loaded.data_dir} is made at the first start")
    facts = loaded.data_dir.stat()
    if facts.st_mode & 0o077:
        return Finding(
            "data directory", "warning", f"{loaded.data_dir} is open to other users: it holds mail and private keys; chmod 700 it"
        )
    return Finding("data directory", "ok", f"{loaded.data_dir}, only for its owner")


def _secrets(loaded: Loaded) -> Finding:
    """Where the key is under which everything private is sealed."""
    try:
        unsealed(loaded)
        keys = master_keys(loaded)
        newest = keys.newest()
    except (InvalidSettings, MasterKeyRefused) as error:
        return Finding("master key", "failed", str(error))
    if isinstance(keys, GivenKeys):
        return Finding("master key", "ok", f"given as {keys.where}")
    if newest is None and loaded.settings.secrets.master_key_file:
        return Finding("master key", "failed", f"{keys.where} does not exist")
    if newest is not None and keys.path.stat().st_mode & 0o077:
        return Finding("master key", "warning", f"{keys.where} can be read by other users: chmod 600 it")
    if keys.path.parent.resolve() == loaded.data_dir.resolve():
        found = f"{keys.where} lies beside the data" if newest else f"the first start makes {keys.where}, beside the data"
        advice = "who copies the disk has both, and who loses it has neither; set secrets.master_key_file, and keep a copy elsewhere"
        return Finding("master key", "warning", f"{found}: {advice}")
    return Finding("master key", "ok", f"in {keys.where}")


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _space(loaded: Loaded) -> Finding:
    free = shutil.disk_usage(_existing(loaded.data_dir)).free
    status = "failed" if free < _NO_SPACE else "warning" if free < _LITTLE_SPACE else "ok"
    return Finding("disk space", status, f"{free / (1 << 30):.1f} GiB free")


def _durability(loaded: Loaded) -> Finding:
    path = _existing(loaded.data_dir) / f".doctor-{os.getpid()}"
    started = time.monotonic()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, b"x" * 4096)
        os.fsync(handle)
    finally:
        os.close(handle)
        path.unlink()
    took_s = time.monotonic() - started
    return Finding("disk write", "warning" if took_s > _SLOW_FSYNC_S else "ok", f"4 KiB written and fsync'd in {took_s * 1000:.1f} ms")


def _goes_to_mx(loaded: Loaded) -> bool:
    return any(road.kind is RoadKind.MX for road in roads_of(loaded.settings.egress.default_route))


def _dns(loaded: Loaded) -> Finding:
    answer = asyncio.run(create_resolver(loaded.settings, SystemClock()).mx("example.com"))
    if isinstance(answer, ResolverFailed):
        is_needed = _goes_to_mx(loaded)
        return Finding("dns", "failed" if is_needed else "warning", f"the resolver does not answer: {answer.detail}")
    return Finding("dns", "ok", "the resolver answers")


def _clock(loaded: Loaded) -> Finding:
    now = SystemClock().now()
    newest = max((int(path.stat().st_mtime * 1000) for path in [Path(__file__), *loaded.data_dir.glob("gatepost.db*")]), default=0)
    if now < newest - DAY:
        return Finding("clock", "failed", "the clock is more than a day behind the newest file here")
    if now < newest - 60_000:
        return Finding("clock", "warning", "the clock is behind the newest file here: is time synchronised?")
    return Finding("clock", "ok", "not behind anything seen here")


def _tls(loaded: Loaded) -> Finding:
    create_certificates(loaded, SystemClock())
    places = certificate_places(loaded)
    if not places:
        return Finding("tls", "ok", "no certificate is configured: keys and mail are taken without TLS from this machine only")
    findings = [_certificate(place) for place in places]
    worst = min((one.status for one in findings), key=("failed", "warning", "ok").index)
    return Finding("tls", worst, "; ".join(one.detail for one in findings if one.status == worst))


def _certificate(place: Place) -> Finding:
    if place.is_awaited and not place.cert.exists():
        return Finding("tls", "ok", f"{place.name} is ordered when the gateway runs")
    facts, now = read_facts(place.cert), SystemClock().now()
    days = (facts.not_after - now) / DAY
    if days < 0:
        return Finding("tls", "failed", f"{place.cert} expired {-days:.0f} days ago")
    if facts.not_before > now:
        return Finding("tls", "failed", f"{place.cert} is not valid yet")
    if place.key.stat().st_mode & 0o077:
        return Finding("tls", "warning", f"{place.key} can be read by other users: chmod 600 it")
    return Finding("tls", "warning" if days < _RENEW_BEFORE_DAYS else "ok", f"{place.cert} is valid for {days:.0f} more days")


def _exposure(loaded: Loaded) -> Finding:
    """What stands open to the network without TLS."""
    options, told = loaded.settings, []
    if _is_open(options.smtp.listen) and not certificate_places(loaded):
        told.append("smtp.listen is open to the network, but without a certificate nobody there may send: set tls.cert, or [acme]")
    if _is_open(options.http.listen) and options.http.allow_plain:
        told.append("http.listen takes keys and passwords unencrypted from the network (http.allow_plain)")
    return Finding("encryption", "warning" if told else "ok", "; ".join(told) or "nothing secret is taken unencrypted from the network")


def _is_open(listen: str) -> bool:
    """Tell whether others can reach an address."""
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return bool(listen) and host != "localhost" and not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def _ports(loaded: Loaded) -> Finding:
    ours = _listening(loaded.data_dir)
    told, is_free = [], True
    for door in ("http", "https", "smtp", "smtps"):
        text = getattr(loaded.settings, door).listen
        if not text:
            continue
        host, port = listen_address(f"{door}.listen", text)
        if ours.get(door) == text:
            told.append(f"{text} is served by this gateway")
            continue
        try:
            bind(f"{door}.listen", host, port).close()
            told.append(f"{text} is free")
        except CannotListen as error:
            told.append(str(error))
            is_free = False
    return Finding("ports", "ok" if is_free else "failed", "; ".join(told))


def _listening(data_dir: Path) -> dict[str, str]:
    try:
        known = json.loads((data_dir / "run" / "serve.json").read_text("utf-8"))
        os.kill(known["pid"], 0)
    except (OSError, ValueError, KeyError):
        return {}
    listening: dict[str, str] = known["listening"]
    return listening


def _names(loaded: Loaded) -> Finding:
    name = with_hostnames(loaded.settings).egress.hostname
    if _goes_to_mx(loaded) and "." not in name:
        return Finding("host name", "warning", f"{name!r} is no full name; receivers of mail want one: set egress.hostname")
    return Finding("host name", "ok", f"{name} (machine: {socket.gethostname()})")


def _files(_loaded: Loaded) -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FEW_FILES:
        return Finding("open files", "warning", f"the limit is {hard}; raise it for more than some hundred connections")
    return Finding("open files", "ok", f"the limit is {hard}")

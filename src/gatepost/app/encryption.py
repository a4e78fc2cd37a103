"""
The certificates of a process's doors: made from the settings, kept fresh while the doors are open.

Arrives: `[tls]`, `[https]` and `[acme]`. Leaves: contexts for the doors, and orders to the authority in their time.
Orders block, so they run in a thread; it is a daemon, for a stop must not wait for an authority.
Not here: reading and choosing certificates (net.server_tls), ordering them (certificates).
"""

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from gatepost.app.base import Base
from gatepost.certificates import renewal
from gatepost.certificates.renewal import Renewal
from gatepost.certificates.shelf import Busy, Shelf
from gatepost.clock import Clock
from gatepost.net.server_tls import Place, ServerCertificates, UnusableCertificate
from gatepost.net.tls_policy import ClientCheck
from gatepost.observe import maillog
from gatepost.settings import Acme, InvalidSettings, Loaded, Settings

T = TypeVar("T")

_LOOK_S: Final = 60.0
"""How often it is asked whether a certificate should be renewed."""


def certificate_places(loaded: Loaded) -> list[Place]:
    """Name where the certificates of the doors lie; the first one is for clients that ask for no name."""
    tls = loaded.settings.tls
    found = [Place(name="default", cert=Path(tls.cert), key=Path(tls.key))] if tls.cert else []
    found += [Place(name=name, cert=Path(files.cert), key=Path(files.key)) for name, files in tls.certificates.items()]
    return found + renewal.places(ordered(loaded.settings), Shelf(loaded.data_dir))


def ordered(settings: Settings) -> Acme:
    """Return `[acme]` with the hosts of tracking among its domains."""
    acme = settings.acme
    return msgspec.structs.replace(acme, domains=list(dict.fromkeys([*acme.domains, *settings.tracking.names])))


def create_certificates(loaded: Loaded, clock: Clock) -> ServerCertificates | None:
    """
    Load the certificates of the doors; None when there are none and none will come.

    Raises:
        InvalidSettings: Files cannot be read or do not belong together, or a door lacks what it needs.
    """
    settings = loaded.settings
    places = certificate_places(loaded)
    _check_doors(settings, has_certificates=bool(places))
    if not places:
        return None
    https = settings.https
    is_required = https.client_certificates == "required"
    clients = ClientCheck(ca_file=Path(https.client_ca), is_required=is_required) if https.client_certificates != "off" else None
    try:
        return ServerCertificates(places, clock, clients=clients, find_challenge=Shelf(loaded.data_dir).find_certificate).load()
    except UnusableCertificate as error:
        raise InvalidSettings(f"tls: {error}") from error


def create_renewal(loaded: Loaded, clock: Clock) -> Renewal:
    """Make what orders certificates."""
    return Renewal(ordered(loaded.settings), Shelf(loaded.data_dir), clock, chance=random.SystemRandom().random)


def keep_certificates(base: Base, certificates: ServerCertificates) -> None:
    """Look at the files every few seconds, and order certificates in their time; call it when the doors are open."""
    base.repeat("certificates", base.settings.tls.check_every_s, lambda: asyncio.to_thread(certificates.refresh))
    if base.settings.acme.directory_url:
        keeper = _Keeper(create_renewal(base.loaded, base.clock), certificates)
        base.repeat("acme", _LOOK_S, keeper.step)
        base.tasks.append(asyncio.create_task(keeper.step(), name="acme at the start"))


class _Keeper:
    """Orders what is due."""

    def __init__(self, due: Renewal, certificates: ServerCertificates) -> None:
        self._renewal = due
        self._certificates = certificates
        self._is_ordering = False

    async def step(self) -> None:
        """Order what is due, unless that is being done."""
        if self._is_ordering:
            return
        self._is_ordering = True
        try:
            if names := self._renewal.due():
                await _in_thread(lambda: self._renewal.renew(names))
                await asyncio.to_thread(self._certificates.refresh)
        except Busy:
            pass  # a command is at it; the files will tell
        except OSError as error:
            maillog.trouble("certificates cannot be kept", error=str(error))
        except Exception as error:  # noqa: BLE001 - the doors stay open
            maillog.crashed("acme", error)
        finally:
            self._is_ordering = False


def _check_doors(settings: Settings, *, has_certificates: bool) -> None:
    for door in ("https", "smtps"):
        if getattr(settings, door).listen and not has_certificates:
            raise InvalidSettings(f"{door}.listen: needs a certificate, set tls.cert and tls.key, or [acme]")
    if settings.acme.directory_url:
        door = "http" if settings.acme.challenge == "http-01" else "https"
        if not getattr(settings, door).listen:
            raise InvalidSettings(f"acme.challenge: {settings.acme.challenge} is answered at {door}.listen, which is off")


async def _in_thread(work: Callable[[], T]) -> T:
    """Run something that blocks for long in a thread that ends with the process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # it is a T when there is no error

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=run, name="acme", daemon=True).start()
    return await done

"""
When to order a certificate: in time, not all at once, and not again and again.

Arrives: the names of `[acme]`, what the shelf holds, the time. Leaves: fresh certificates on the shelf.
A certificate is renewed when a third of its life is left, a little earlier by chance, so that many do not end together. After a
failure the next try waits 10 minutes, then twice as long each time, at most 12 hours; and no name is ordered more than three
times an hour, whoever asks for it. What was tried is written down, so a gateway that restarts does not forget it.
Standards: RFC 8555 §6.6 (limits of authorities).
Not here: the conversation (order), use of certificates (net.server_tls).
Bugs: an authority's own wish for when to renew (RFC 9773) is not asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from gatepost.certificates.shelf import Shelf, write_private
from gatepost.clock import HOUR, MINUTE, Clock, Instant
from gatepost.net.certificate import Place, read_facts
from gatepost.observe import maillog
from gatepost.settings import Acme

_FIRST_WAIT: Final = 10 * MINUTE
_LONGEST_WAIT: Final = 12 * HOUR
_TRIES_PER_HOUR: Final = 3
_SHARE_LEFT: Final = 1 / 3
_JITTER: Final = 1 / 30


class Past(msgspec.Struct, kw_only=True):
    """
    What is known of a name's orders.

    Attributes:
        tries: When it was ordered within the last hour.
        renew_at: When its certificate should be renewed.
        error: Why the last order failed; empty when it did not.
    """

    tries: list[Instant] = msgspec.field(default_factory=list)
    failures: int = 0
    next_try_at: Instant = 0
    renew_at: Instant = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a name: `renewed`, `current`, `waiting` or `failed`."""

    name: str
    status: str
    detail: str = ""


class Order(Protocol):
    """Gets one certificate; see `order.order`."""

    def __call__(self, acme: Acme, name: str, shelf: Shelf) -> bytes:
        """Get it."""
        ...


def places(acme: Acme, shelf: Shelf) -> list[Place]:
    """Name where the certificates will be that `[acme]` asks for."""
    if not acme.directory_url:
        return []
    return [Place(name=name, cert=path, key=path, is_awaited=True) for name in acme.domains for path in (shelf.certificate(name),)]


class Renewal:
    """Keeps the certificates of one shelf fresh."""

    def __init__(self, acme: Acme, shelf: Shelf, clock: Clock, *, chance: Callable[[], float], order: Order | None = None) -> None:
        """
        Args:
            chance: Returns a number from 0 to 1.
            order: Who gets certificates; None is the `acme` package.
        """
        self._acme = acme
        self._shelf = shelf
        self._clock = clock
        self._chance = chance
        self._order = order

    def due(self) -> list[str]:
        """List the names to order now."""
        past, now = self.past(), self._clock.now()
        return [name for name in self._acme.domains if self._judge(name, past.get(name, Past()), now).status == "renewed"]

    def renew(self, names: list[str], *, is_forced: bool = False) -> list[Result]:
        """
        Order certificates for names that need one; blocks until all is done.

        Args:
            is_forced: Order even while the certificate is fresh; the limit of orders an hour stays.

        Raises:
            Busy: Another process is ordering now.
        """
        with self._shelf.locked():
            self._shelf.forget_answers()
            return [self._renew(name, is_forced=is_forced) for name in names]

    def past(self) -> dict[str, Past]:
        """Read what is known of earlier orders."""
        try:
            return msgspec.json.decode((self._shelf.folder / "orders.json").read_bytes(), type=dict[str, Past])
        except (OSError, msgspec.MsgspecError):
            return {}

    def _renew(self, name: str, *, is_forced: bool) -> Result:
        all_past = self.past()
        past = all_past.setdefault(name, Past())
        verdict = self._judge(name, past, self._clock.now(), is_forced=is_forced)
        if verdict.status != "renewed":
            return verdict
        past.tries.append(self._clock.now())
        self._keep(all_past)  # before the order: one that kills the process counts too
        result = self._try(name, past)
        self._keep(all_past)
        return result

    def _judge(self, name: str, past: Past, now: Instant, *, is_forced: bool = False) -> Result:
        past.tries = [at for at in past.tries if now - HOUR < at <= now]
        if len(past.tries) >= _TRIES_PER_HOUR:
            return Result(name=name, status="waiting", detail=f"it was ordered {len(past.tries)} times within the last hour")
        if is_forced:
            return Result(name=name, status="renewed")
        if past.failures and now < past.next_try_at:
            return Result(name=name, status="waiting", detail=f"the last order failed: {past.error}")
        try:
            facts = read_facts(self._shelf.certificate(name))
        except (OSError, ValueError):
            return Result(name=name, status="renewed")
        life = facts.not_after - facts.not_before
        renew_at = past.renew_at or facts.not_after - int(life * _SHARE_LEFT)
        return Result(name=name, status="renewed" if now >= renew_at else "current")

    def _try(self, name: str, past: Past) -> Result:
        from gatepost.certificates.order import OrderFailed, order  # noqa: PLC0415 - a door that needs no order loads none of it

        try:
            pem = (self._order or order)(self._acme, name, self._shelf)
        except OrderFailed as error:
            return self._failed(name, past, str(error))
        path = self._shelf.certificate(name)
        write_private(path, pem)
        facts = read_facts(path)
        past.failures, past.error = 0, ""
        life = facts.not_after - facts.not_before
        past.renew_at = facts.not_after - int(life * (_SHARE_LEFT + _JITTER * self._chance()))
        maillog.changed("certificate", name=name, issuer=facts.issuer, ends_at=facts.not_after, fingerprint=facts.fingerprint)
        return Result(name=name, status="renewed")

    def _failed(self, name: str, past: Past, why: str) -> Result:
        past.failures += 1
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(past.failures - 1, 10))
        past.next_try_at = self._clock.now() + int(wait * (1 + 0.1 * self._chance()))
        past.error = why
        maillog.trouble("a certificate could not be had", name=name, error=why, failures=past.failures, next_try_at=past.next_try_at)
        return Result(name=name, status="failed", detail=why)

    def _keep(self, past: dict[str, Past]) -> None:
        self._shelf.write_json(self._shelf.folder / "orders.json", past)

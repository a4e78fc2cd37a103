"""
Senders' domains: add, look up, verify in DNS, give new signing keys, remove.

Arrives: a tenant and a name. Leaves: the domain with the DNS records to publish and what is known of each.
A signing key starts as `pending` and signs only once its record was seen in DNS, since a signature that nobody can check
is worse than none; a domain is verified while one of its signing keys is published. For a trusted domain the operator
answers instead of DNS: it is verified and its keys sign at once.
A domain belongs to the tenant that verified it first: another tenant may add it, but is refused when it verifies, unless
the operator trusts it for both. Two tenants' keys for one domain never share a selector.
Standards: RFC 8463 (Ed25519).
Not here: the records and their checks (dns_records), the signatures (wire.dkim), which keys sign a message (tenants.directory).
Records that break later are domain_health's business.
Bugs: none known.
"""

import asyncio
import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gatepost import ids
from gatepost.clock import Clock, Instant
from gatepost.domain.access import GATEWAY, Actor
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.event import Event, EventType
from gatepost.domain.tenant import DkimKey, Domain, DomainStatus
from gatepost.net.dns import TextResolver
from gatepost.observe import maillog
from gatepost.store import audit, facts, tenants
from gatepost.store.engine import Engine
from gatepost.tenants.directory import Directory
from gatepost.tenants.dns_records import Answers, DnsRecord, RecordStatus, look_up, records, status_of
from gatepost.wire.dkim import ED25519_SHA256, RSA_SHA256, generate_key

_SELECTOR_MARK = {RSA_SHA256: "a", ED25519_SHA256: "e"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainView:
    """A domain as people see it."""

    domain: Domain
    records: list[DnsRecord]


class Domains:
    """The domains of all tenants."""

    def __init__(
        self, engine: Engine, clock: Clock, resolver: TextResolver, directory: Directory | None = None, *, hostname: str = "",
        algorithms: Sequence[str] = (RSA_SHA256, ED25519_SHA256),
    ) -> None:  # fmt: skip
        """
        Args:
            directory: Told at once what changed; other processes look every second.
            hostname: The name that the gateway sends from, for the SPF record that is advised.
            algorithms: What new keys are for, one key each.
        """
        self._engine = engine
        self._clock = clock
        self._resolver = resolver
        self._directory = directory
        self._hostname = hostname
        self._algorithms = algorithms

    async def add(self, tenant_id: str, name: str, *, by: Actor, is_trusted: bool = False) -> DomainView:
        """
        Add a domain with one signing key for each algorithm.

        Args:
            is_trusted: The operator vouches for it: verified at once, without a look at DNS.

        Raises:
            Refused: validation_failed when it is no domain name; conflict when the tenant has it already.
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()
        status = DomainStatus.VERIFIED if is_trusted else DomainStatus.PENDING
        added = Domain(
            id=ids.new("dom"), tenant_id=tenant_id, name=canonical_name(name), status=status, is_trusted=is_trusted,
            created_at=now, verified_at=now if is_trusted else None,
        )  # fmt: skip
        taken = await self._engine.read(lambda conn: tenants.selectors_of(conn, added.name))
        keys = await asyncio.to_thread(_make_keys, self._algorithms, added.id, taken, now, "active" if is_trusted else "pending")
        try:
            await self._engine.write(lambda conn: _insert(conn, added, keys, by, now))
        except IntegrityError:
            raise Refused("conflict", f"the domain {added.name} is there already") from None
        await self._tell("domain_added", added, by)
        return self._view(added, keys)

    async def list(self, tenant_id: str) -> list[DomainView]:
        """
        List a tenant's domains by name; no DNS is asked.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        found, keys = await self._engine.read(lambda conn: _load_all(conn, tenant_id))
        return [self._view(domain, [key for key in keys if key.domain_id == domain.id]) for domain in found]

    async def get(self, tenant_id: str, id_or_name: str) -> DomainView:
        """
        Return a domain; no DNS is asked.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        domain, keys = await self._engine.read(lambda conn: _load(conn, tenant_id, id_or_name))
        return self._view(domain, keys)

    async def verify(self, tenant_id: str, id_or_name: str, *, by: Actor) -> DomainView:
        """
        Look for the domain's records in DNS; let published keys sign, and update the domain's status.

        When the resolver fails, nothing changes. A trusted domain stays verified whatever DNS says.

        Raises:
            Refused: not_found; conflict when another tenant verified this domain before.
            StorageUnavailable: The database cannot be used now.
        """
        domain, keys = await self._engine.read(lambda conn: _load(conn, tenant_id, id_or_name))
        answers = await look_up(self._resolver, domain, keys)
        seen = {key.id: status_of(key, domain.name, answers) for key in keys}
        if domain.status is not DomainStatus.VERIFIED and RecordStatus.PUBLISHED in seen.values():
            await self._check_others(domain)
        now = self._clock.now()
        domain, keys = await self._engine.write(lambda conn: _settle(conn, tenant_id, domain.id, seen, by, now))
        await self._tell("domain_checked", domain, by)
        return self._view(domain, keys, answers)

    async def _check_others(self, domain: Domain) -> None:
        """Look whether who verified this domain before still publishes its records: names change hands."""
        for other in await self._engine.read(lambda conn: tenants.domains_named(conn, domain.name)):
            if other.tenant_id != domain.tenant_id and other.status is DomainStatus.VERIFIED and not other.is_trusted:
                await self.verify(other.tenant_id, other.id, by=GATEWAY)

    async def trust(self, tenant_id: str, id_or_name: str, *, by: Actor) -> DomainView:
        """
        Record that the operator vouches for a domain that is there already.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()
        domain, keys = await self._engine.write(lambda conn: _trust(conn, tenant_id, id_or_name, by, now))
        await self._tell("domain_trusted", domain, by)
        return self._view(domain, keys)

    async def rotate_dkim(self, tenant_id: str, id_or_name: str, *, by: Actor) -> DomainView:
        """
        Make a new pair of signing keys.

        They sign, and the old ones retire, when `verify` finds their records; at once for a trusted domain. Retired
        records stay to be published until the mail signed with them has arrived.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        domain, _ = await self._engine.read(lambda conn: _load(conn, tenant_id, id_or_name))
        taken = await self._engine.read(lambda conn: tenants.selectors_of(conn, domain.name))
        now = self._clock.now()
        status = "active" if domain.is_trusted else "pending"
        made = await asyncio.to_thread(_make_keys, self._algorithms, domain.id, taken, now, status)
        try:
            keys = await self._engine.write(lambda conn: _rotate(conn, tenant_id, domain.id, made, by, now))
        except IntegrityError:
            raise Refused("conflict", "somebody else rotates the keys of this domain at this moment") from None
        await self._tell("domain_keys_rotated", domain, by)
        return self._view(domain, keys)

    async def remove(self, tenant_id: str, id_or_name: str, *, by: Actor) -> Domain:
        """
        Remove a domain with its keys; mail that waits goes out unsigned.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()
        domain = await self._engine.write(lambda conn: _remove(conn, tenant_id, id_or_name, by, now))
        await self._tell("domain_removed", domain, by)
        return domain

    async def _tell(self, what: str, domain: Domain, by: Actor) -> None:
        maillog.changed(what, tenant_id=domain.tenant_id, domain_id=domain.id, name=domain.name, status=domain.status.value, by=by.id)
        if self._directory is not None:
            await self._directory.refresh()

    def _view(self, domain: Domain, keys: Iterable[DkimKey], answers: Answers | None = None) -> DomainView:
        return DomainView(domain=domain, records=records(domain, keys, self._hostname, answers))


def canonical_name(name: str) -> str:
    """
    Bring a domain's name to lower-case A-labels.

    Raises:
        Refused: validation_failed when it is no domain name.
    """
    try:
        return parse_address(f"postmaster@{name.strip().rstrip('.')}").domain
    except InvalidAddress as error:
        why = str(error).rpartition("address: ")[2]
        shown = name if len(name) <= 80 else name[:77] + "..."
        raise invalid(Fault("/name", "invalid_domain", f"{shown!r} is not a domain name: {why}")) from None


def _make_keys(algorithms: Sequence[str], domain_id: str, taken: Sequence[str], now: Instant, status: str) -> list[DkimKey]:
    made = []
    for algorithm in algorithms:
        private_pem, public = generate_key(algorithm)
        selector = _selector(algorithm, taken, now)
        key_id = ids.new("dkim")
        made.append(
            DkimKey(
                id=key_id,
                domain_id=domain_id,
                selector=selector,
                algorithm=algorithm,
                private_pem=private_pem,
                public=public,
                status=status,
                created_at=now,
            )
        )
    return made


def _selector(algorithm: str, taken: Sequence[str], now: Instant) -> str:
    """Name a key by month and kind, such as `gp202611a`; a second one of the month gets a number."""
    first = f"gp{dt.datetime.fromtimestamp(now / 1000, dt.UTC):%Y%m}{_SELECTOR_MARK[algorithm]}"
    selector, number = first, 1
    while selector in taken:
        number += 1
        selector = f"{first}{number}"
    return selector


def _insert(conn: Connection, added: Domain, keys: Sequence[DkimKey], by: Actor, now: Instant) -> None:
    tenants.insert_domain(conn, added)
    tenants.insert_dkim_keys(conn, keys)
    if added.status is DomainStatus.VERIFIED:
        facts.insert_events(conn, [_event(EventType.DOMAIN_VERIFIED, added, now)])
    _record(conn, by, "domain.added", None, (added, keys), now)


def _event(kind: EventType, domain: Domain, now: Instant) -> Event:
    data = {"domain_id": domain.id, "name": domain.name, "is_trusted": domain.is_trusted}
    return Event(id=ids.new("evt"), type=kind, tenant_id=domain.tenant_id, at=now, data=data)


_Loaded = tuple[Domain, Sequence[DkimKey]]


def _record(conn: Connection, by: Actor, action: str, before: _Loaded | None, after: _Loaded | None, now: Instant) -> None:
    """Add the audit log's entry, when anything changed."""
    was, is_now = _told(before), _told(after)
    if was == is_now:
        return
    of = (after or before)[0]  # type: ignore[index]  # a change has one of them
    audit.append(conn, by, audit.Change(action=action, object_id=of.id, tenant_id=of.tenant_id, before=was, after=is_now), now)


def _told(loaded: _Loaded | None) -> dict[str, Any] | None:
    if loaded is None:
        return None
    domain, keys = loaded
    signing = {key.selector: key.status for key in keys}
    return {"name": domain.name, "status": domain.status.value, "is_trusted": domain.is_trusted, "selectors": signing}


def _load_all(conn: Connection, tenant_id: str) -> tuple[list[Domain], list[DkimKey]]:
    found = tenants.domains(conn, tenant_id)
    return found, tenants.dkim_keys(conn, [domain.id for domain in found])


def _load(conn: Connection, tenant_id: str, id_or_name: str) -> tuple[Domain, list[DkimKey]]:
    wanted = id_or_name if ids.is_valid(id_or_name, "dom") else canonical_name(id_or_name)
    domain = tenants.find_domain(conn, tenant_id, wanted)
    if domain is None:
        raise Refused("not_found", f"there is no domain {wanted}")
    return domain, tenants.dkim_keys(conn, [domain.id])


def _settle(
    conn: Connection, tenant_id: str, domain_id: str, seen: dict[str, RecordStatus], by: Actor, now: Instant
) -> tuple[Domain, list[DkimKey]]:
    before = domain, keys = _load(conn, tenant_id, domain_id)
    _activate(conn, keys, {key_id for key_id, status in seen.items() if status is RecordStatus.PUBLISHED})
    domain, keys = _load(conn, tenant_id, domain_id)
    signing = [seen[key.id] for key in keys if key.status == "active" and key.id in seen]
    if not domain.is_trusted and RecordStatus.PUBLISHED in signing:
        _check_free(conn, domain)
        _change(conn, domain, DomainStatus.VERIFIED, EventType.DOMAIN_VERIFIED, now)
    elif not domain.is_trusted and RecordStatus.UNKNOWN not in signing:
        _change(conn, domain, DomainStatus.PENDING, EventType.DOMAIN_FAILING, now)
    after = _load(conn, tenant_id, domain_id)
    _record(conn, by, "domain.checked", before, after, now)
    return after


def _check_free(conn: Connection, domain: Domain) -> None:
    """Refuse a domain that is another tenant's, safe from both verifying at once."""
    same = tenants.domains_named(conn, domain.name, is_locking=True)
    if any(other.tenant_id != domain.tenant_id and other.status is DomainStatus.VERIFIED for other in same):
        raise Refused("conflict", f"another tenant of this gateway verified {domain.name}; its operator can trust it for you as well")


def _activate(conn: Connection, keys: Sequence[DkimKey], published: set[str]) -> None:
    """Let pending keys sign whose records are published, each in place of the older ones of its kind."""
    for algorithm in (RSA_SHA256, ED25519_SHA256):
        same = [key for key in keys if key.algorithm == algorithm]
        ready = [key for key in same if key.status == "pending" and key.id in published]
        if ready:
            tenants.retire_dkim_keys(conn, [key.id for key in same if key.id < ready[-1].id and key.status != "retired"])
            tenants.activate_dkim_keys(conn, [ready[-1].id])


def _change(conn: Connection, domain: Domain, status: DomainStatus, kind: EventType, now: Instant) -> None:
    if domain.status is not status:
        tenants.set_domain_status(conn, domain.id, status, now)
        facts.insert_events(conn, [_event(kind, domain, now)])


def _trust(conn: Connection, tenant_id: str, id_or_name: str, by: Actor, now: Instant) -> tuple[Domain, list[DkimKey]]:
    before = domain, keys = _load(conn, tenant_id, id_or_name)
    _activate(conn, keys, {key.id for key in keys})
    tenants.trust_domain(conn, domain.id, now)
    if domain.status is not DomainStatus.VERIFIED:
        facts.insert_events(conn, [_event(EventType.DOMAIN_VERIFIED, domain, now)])
    after = _load(conn, tenant_id, domain.id)
    _record(conn, by, "domain.trusted", before, after, now)
    return after


def _rotate(conn: Connection, tenant_id: str, domain_id: str, made: Sequence[DkimKey], by: Actor, now: Instant) -> list[DkimKey]:
    before = _, keys = _load(conn, tenant_id, domain_id)
    # A trusted domain's new keys sign at once. A pending key that never signed is replaced by the new one.
    gone = [key.id for key in keys if key.status == "pending" or (key.status == "active" and made[0].status == "active")]
    if gone:
        tenants.retire_dkim_keys(conn, gone)
    tenants.insert_dkim_keys(conn, made)
    after = _load(conn, tenant_id, domain_id)
    _record(conn, by, "domain.keys_rotated", before, after, now)
    return after[1]


def _remove(conn: Connection, tenant_id: str, id_or_name: str, by: Actor, now: Instant) -> Domain:
    before = domain, _ = _load(conn, tenant_id, id_or_name)
    tenants.remove_domain(conn, domain.id)
    _record(conn, by, "domain.removed", before, None, now)
    return domain

"""
The health of senders' domains: looked at, written down, and told when it changes.

Arrives: a domain whose turn it is, or about which somebody asks. Leaves: its checks in the store; `domain.failing` when records of a
verified domain break, `domain.verified` when they are back.
A domain that waits for its records is verified as soon as they are there. One whose DKIM records are gone keeps sending for
`watch.grace_s`, since a slip in DNS must not stop all mail at once; then it is asked again whether it is verified.
An answer that DNS does not give changes nothing.
Not here: the checks (policy.domain_checks), providers' rules (policy.compliance), when to look (watch).
"""

import asyncio
import datetime as dt
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import DAY, SECOND, Clock, Instant
from gatepost.domain.access import GATEWAY
from gatepost.domain.errors import Refused
from gatepost.domain.event import Event, EventType
from gatepost.domain.health import Check, CheckStatus
from gatepost.domain.route import SANDBOX
from gatepost.domain.stats import Counts, Dimension
from gatepost.domain.tenant import DkimKey, Domain, DomainStatus
from gatepost.net.lookup import Lookup
from gatepost.observe import maillog
from gatepost.policy import compliance
from gatepost.policy.alignment import Standing, standing_of
from gatepost.policy.compliance import Complaints, Compliance, Traffic
from gatepost.policy.domain_checks import examine
from gatepost.settings import Settings
from gatepost.store import facts, health, rollups, tenants, usage
from gatepost.store.engine import Engine
from gatepost.store.health import DomainRow
from gatepost.tenants.domain_survey import Policies, Registry, survey, ways_of
from gatepost.tenants.domains import Domains, canonical_name
from gatepost.tenants.source_health import SourceHealth, SourceReport

_PATIENCE_S: Final = 60.0
_WAITING: Final = 7 * DAY
"""A domain that waited longer for its records is looked at once a day only."""
_SPREAD: Final = 0.1
_NO_SOURCE: Final = Check(
    id="source_ptr", status=CheckStatus.UNKNOWN, detail="it is not known here from which addresses mail leaves",
    advice="set watch.addresses to the public addresses that mail leaves from",
)  # fmt: skip
_COMPLAINT_DAYS: Final = (7, 30)
_LEAST_PAUSE: Final = 30 * SECOND
"""Whoever asks again sooner gets what is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """
    What is known of a domain.

    Attributes:
        state: `ok`, `broken`, or `unknown` when DNS did not answer.
        failing_since: Since when a verified domain is broken.
        checks: Of the domain.
        sources: Of the addresses that mail leaves from.
    """

    domain: Domain
    checked_at: Instant
    state: str
    failing_since: Instant | None
    checks: list[Check]
    sources: list[SourceReport]
    compliance: Compliance


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A domain in a list; what nobody looked at yet has no state, no score and no instant."""

    domain: Domain
    state: str = ""
    checked_at: Instant | None = None
    score: int | None = None
    next_step: str = ""


class DomainHealth:
    """The health of all tenants' domains."""

    def __init__(
        self, engine: Engine, clock: Clock, lookup: Lookup, domains: Domains, sources: SourceHealth, settings: Settings, *,
        registry: Registry | None = None, policies: Policies | None = None, chance: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        """
        Args:
            settings: With host names filled in.
            policies: Fetches MTA-STS policies; None fetches none.
            chance: From 0 to 1: spreads the looks over time.
        """
        self._engine = engine
        self._clock = clock
        self._lookup = lookup
        self._domains = domains
        self._sources = sources
        self._settings = settings
        self._registry = registry
        self._policies = policies
        self._chance = chance

    async def get(self, tenant_id: str, id_or_name: str, *, is_fresh: bool = False, has_complaints: bool = True) -> Health:
        """
        Return what is known of a domain; look when nobody did yet.

        Args:
            is_fresh: Look again, unless somebody did half a minute ago.
            has_complaints: Whoever asks may know how many complain, of all streams together.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        domain, _ = await self._engine.read(lambda conn: _load(conn, tenant_id, id_or_name))
        row = await self._engine.read(lambda conn: health.domain_row(conn, domain.id))
        if row is None or (is_fresh and self._clock.now() - row.checked_at >= _LEAST_PAUSE):
            row = await self.look(tenant_id, domain.id)
            domain, _ = await self._engine.read(lambda conn: _load(conn, tenant_id, domain.id))
        checks = _checks_of(row)
        traffic = (await self._traffic(tenant_id, [domain.name], has_complaints=has_complaints))[domain.name]
        told = compliance.evaluate([*checks, *await self._of_sources()], traffic)
        return Health(
            domain=domain, checked_at=row.checked_at, state=row.state, failing_since=row.failing_since, checks=checks,
            sources=await self._sources.known(), compliance=told,
        )  # fmt: skip

    async def overview(self, tenant_id: str, names: frozenset[str] | None = None) -> list[Overview]:
        """
        Return what is known of a tenant's domains, by name; nobody looks.

        Args:
            names: Only these; None is all.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        domains = await self._engine.read(lambda conn: tenants.domains(conn, tenant_id))
        rows = await self._engine.read(lambda conn: health.tenant_rows(conn, tenant_id))
        of_sources = await self._of_sources()
        wanted = [domain for domain in domains if names is None or domain.name in names]
        traffic = await self._traffic(tenant_id, [domain.name for domain in wanted])
        return [_overview(domain, rows.get(domain.id), of_sources, traffic[domain.name]) for domain in wanted]

    async def _of_sources(self) -> list[Check]:
        """Return what is known of the addresses that this mail leaves from; by relays it leaves from theirs."""
        if not ways_of(self._settings, ()).has_direct_road:
            return [Check(id="source_ptr", status=CheckStatus.NOT_APPLICABLE, detail="mail does not leave from addresses of ours")]
        return [check for one in await self._sources.known() for check in one.checks] or [_NO_SOURCE]

    async def _traffic(self, tenant_id: str, names: Sequence[str], *, has_complaints: bool = True) -> dict[str, Traffic]:
        """Return what is known of what each domain sends."""
        now = self._clock.now()

        def read(conn: Connection) -> dict[str, Traffic]:
            per_day = _most_per_day(conn, tenant_id, now)
            complaints = _complaints(conn, tenant_id, names, now) if has_complaints else {}
            return {name: Traffic(per_day=per_day, complaints=complaints.get(name, ())) for name in names}

        return await self._engine.read(read) if names else {}

    async def look(self, tenant_id: str, domain_id: str) -> DomainRow:
        """
        Look at a domain, write down what was found, and tell what changed.

        Raises:
            Refused: not_found: it was removed.
            StorageUnavailable: The database cannot be used now.
        """
        domain, keys = await self._engine.read(lambda conn: _load(conn, tenant_id, domain_id))
        if not domain.is_trusted and (domain.status is DomainStatus.PENDING or any(key.status == "pending" for key in keys)):
            await self._verify(domain)
            domain, keys = await self._engine.read(lambda conn: _load(conn, tenant_id, domain_id))
        report = await self._report(domain, keys)
        now = self._clock.now()
        row = await self._engine.write(lambda conn: _write_down(conn, domain, report, now, self._due_at(domain, now)))
        if row.failing_since is not None and now - row.failing_since >= self._settings.watch.grace_s * SECOND and not domain.is_trusted:
            await self._verify(domain)
        return row

    async def _verify(self, domain: Domain) -> None:
        try:
            await self._domains.verify(domain.tenant_id, domain.id, by=GATEWAY)
        except Refused as refusal:  # another tenant's domain, or removed meanwhile: whoever asks by hand hears it
            maillog.refused(source="watch", code=refusal.code, domain_id=domain.id)

    async def _report(self, domain: Domain, keys: Sequence[DkimKey]) -> tuple[list[Check], Standing | None]:
        signing = [key for key in keys if key.status == "active"] or [key for key in keys if key.status == "pending"]
        try:
            async with asyncio.timeout(_PATIENCE_S):
                found = await survey(
                    self._lookup, domain, signing, now=self._clock.now(), registry=self._registry, policies=self._policies,
                    ways=ways_of(self._settings, self._sources.senders),
                )  # fmt: skip
        except TimeoutError:
            return [Check(id="dkim", status=CheckStatus.UNKNOWN, detail=f"DNS answers too slowly about {domain.name}")], None
        return examine(found), standing_of(found)

    def _due_at(self, domain: Domain, now: Instant) -> Instant:
        every_s = self._settings.watch.domains_every_s
        if domain.status is DomainStatus.PENDING and now - domain.created_at > _WAITING:
            every_s = max(every_s, DAY // SECOND)
        return now + int(every_s * SECOND * (1 - _SPREAD * self._chance()))


def _load(conn: Connection, tenant_id: str, id_or_name: str) -> tuple[Domain, list[DkimKey]]:
    wanted = id_or_name if ids.is_valid(id_or_name, "dom") else canonical_name(id_or_name)
    domain = tenants.find_domain(conn, tenant_id, wanted)
    if domain is None:
        raise Refused("not_found", f"there is no domain {wanted}")
    return domain, tenants.dkim_keys(conn, [domain.id])


def _checks_of(row: DomainRow) -> list[Check]:
    return msgspec.convert(row.report["checks"], list[Check])


def _overview(domain: Domain, row: DomainRow | None, of_sources: Sequence[Check], traffic: Traffic) -> Overview:
    if row is None:
        return Overview(domain=domain)
    told = compliance.evaluate([*_checks_of(row), *of_sources], traffic)
    return Overview(domain=domain, state=row.state, checked_at=row.checked_at, score=told.score, next_step=told.next_step)


def _complaints(conn: Connection, tenant_id: str, names: Sequence[str], now: Instant) -> dict[str, tuple[Complaints, ...]]:
    """Count each domain's complaints of the last days, the sandbox's aside."""
    found: dict[str, tuple[Complaints, ...]] = dict.fromkeys(names, ())
    for days in _COMPLAINT_DAYS:
        rows = rollups.read(
            conn, tenant=tenant_id, start=now - days * DAY, end=now + rollups.FINEST, group_by=(Dimension.DOMAIN,),
            where={Dimension.DOMAIN.value: names, rollups.MODE: ("live",)}, has_bounces=False, has_waits=False,
        )  # fmt: skip
        counts = {row.key[0]: row.counts for row in rows}
        for name in names:
            one = counts.get(name, Counts())
            found[name] += (Complaints(days=days, count=one.complained, reached=one.reached),)
    return found


def _most_per_day(conn: Connection, tenant_id: str, now: Instant) -> int:
    """Return the most recipients that a tenant's mail had in one of the last thirty days, the sandbox's aside."""
    first, last = (f"{dt.datetime.fromtimestamp(at / 1000, dt.UTC):%Y-%m-%d}" for at in (now - 30 * DAY, now))
    per_day: dict[str, int] = {}
    for row in usage.by_day(conn, first, last, tenant_id):
        if row.route == SANDBOX:
            continue
        per_day[row.day] = per_day.get(row.day, 0) + int(row.recipients)
    return max(per_day.values(), default=0)


def state_of(checks: Sequence[Check]) -> str:
    """Sum a domain's checks up: `broken`, `unknown` when DNS does not tell whether our signatures can be verified, else `ok`."""
    if any(check.is_broken for check in checks):
        return "broken"
    return "unknown" if any(check.id == "dkim" and check.status is CheckStatus.UNKNOWN for check in checks) else "ok"


def change(before: DomainRow | None, state: str, domain: Domain, now: Instant) -> tuple[Instant | None, EventType | None]:
    """
    Decide since when a domain fails, and what is to be told.

    Only a verified domain can fail. That a trusted one was never set up is no news: the operator answers for it.
    """
    since = None if before is None else before.failing_since
    if domain.status is not DomainStatus.VERIFIED:
        return None, None
    if state == "unknown":
        return since, None
    if state == "ok":
        return None, EventType.DOMAIN_VERIFIED if since is not None else None
    if since is not None or (domain.is_trusted and before is None):
        return since, None
    is_news = not domain.is_trusted or (before is not None and before.state == "ok")
    return (now, EventType.DOMAIN_FAILING) if is_news else (None, None)


def _write_down(
    conn: Connection, domain: Domain, report: tuple[list[Check], Standing | None], now: Instant, due_at: Instant
) -> DomainRow:  # fmt: skip
    checks, standing = report
    before = health.domain_row(conn, domain.id, is_locking=True)
    state = state_of(checks)
    since, kind = change(before, state, domain, now)
    row = DomainRow(
        domain_id=domain.id, tenant_id=domain.tenant_id, checked_at=now, due_at=due_at, state=state, failing_since=since,
        report={"checks": msgspec.to_builtins(checks), "standing": msgspec.to_builtins(standing)},
    )  # fmt: skip
    health.put_domain(conn, row)
    if kind is not None:
        broken = [check for check in checks if check.is_broken]
        data = {
            "domain_id": domain.id, "name": domain.name, "is_trusted": domain.is_trusted,
            "checks": [check.id for check in broken], "detail": "; ".join(check.detail for check in broken),
        }  # fmt: skip
        facts.insert_events(conn, [Event(id=ids.new("evt"), type=kind, tenant_id=domain.tenant_id, at=now, data=data)])
        maillog.changed(
            "domain_failing" if kind is EventType.DOMAIN_FAILING else "domain_recovered",
            tenant_id=domain.tenant_id, domain_id=domain.id, name=domain.name, detail=data["detail"],
        )  # fmt: skip
    return row

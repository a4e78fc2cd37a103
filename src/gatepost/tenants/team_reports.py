"""
Who of a sender's team gets which report by mail: subscribed, changed and ended by API, page, command line, and by the mail itself.

An address that ended a report by the link in it is not subscribed again by anybody but the person whose it is, or the operator.
Not here: what a report says (policy.team_letters), sending it (upkeep.team_reports).
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import Clock, Instant
from gatepost.domain.access import Actor, Restrictions
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.person import Person
from gatepost.domain.team_report import RECEIVER, TEAM, ReportKind, ReportSubscription
from gatepost.observe import maillog
from gatepost.policy.report_periods import is_zone, next_due
from gatepost.settings import Settings
from gatepost.store import audit, team_reports, tenants
from gatepost.store.audit import Change
from gatepost.store.engine import Engine
from gatepost.store.team_reports import Sent
from gatepost.tenants import narrowing
from gatepost.tenants.domains import canonical_name
from gatepost.tenants.people import read_email

_MOST_DOMAINS: Final = 100
LINK: Final = "/reports/unsubscribe/"
"""Path of the page that ends a report; the token follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A subscription, and what became of its last report."""

    subscription: ReportSubscription
    last: Sent | None = None

    @property
    def id(self) -> str:
        """The subscription's."""
        return self.subscription.id


class TeamReports:
    """The subscriptions of all tenants."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings) -> None:
        self._engine = engine
        self._clock = clock
        self._options = settings.reports

    async def subscribe(
        self, tenant_id: str, kind: str, address: str, values: Mapping[str, Any], *, by: Actor, is_operator: bool = False,
        who: Restrictions | None = None,
    ) -> ReportSubscription:  # fmt: skip
        """
        Let an address have a report; one that had been ended by the team begins anew.

        Args:
            values: `zone`, `hour`, `weekday`, `domains`, where they are not the usual ones.
            is_operator: May subscribe an address that ended the report itself, such as on its holder's word.
            who: What narrows whoever asks; here and elsewhere they see, make and change reports of their own domains only.

        Raises:
            Refused: validation_failed; conflict when the address has it already, ended it, or there are too many; permission_denied.
            StorageUnavailable: The database cannot be used now.
        """
        return await self._subscribe(tenant_id, kind, address, values, by=by, person_id=None, may_return=is_operator, who=who)

    async def subscribe_oneself(self, tenant_id: str, person: Person, kind: str, values: Mapping[str, Any], *, by: Actor) -> None:
        """
        Let a person have a report, or change theirs.

        Raises:
            Refused: validation_failed; conflict when there are too many.
            StorageUnavailable: The database cannot be used now.
        """
        key = read_email("/address", person.email).key
        wanted = _kind(kind)
        known = await self._engine.read(lambda conn: team_reports.of_address(conn, tenant_id, wanted, key))
        if known is None or known.ended_at is not None:
            await self._subscribe(tenant_id, kind, person.email, values, by=by, person_id=person.id, may_return=True)
        else:
            await self.change(tenant_id, known.id, values, by=by, person_id=person.id)

    async def every(self, tenant_id: str, who: Restrictions | None = None) -> list[View]:
        """
        List a tenant's subscriptions, the newest first.

        Raises:
            Refused: permission_denied.
            StorageUnavailable: The database cannot be used now.
        """

        def run(conn: Connection) -> list[View]:
            found = [one for one in team_reports.of_tenant(conn, tenant_id) if _is_seen(one, who)]
            last = team_reports.last_sent(conn, [one.id for one in found])
            return [View(subscription=one, last=last.get(one.id)) for one in found]

        _check_streams(who)
        return await self._engine.read(run)

    async def of_person(self, tenant_id: str, person_id: str) -> dict[str, ReportSubscription]:
        """
        Return what a person has, by kind.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        found = await self._engine.read(lambda conn: team_reports.of_person(conn, person_id, tenant_id))
        return {one.kind.value: one for one in found if one.ended_at is None}

    async def get(self, tenant_id: str, subscription_id: str, who: Restrictions | None = None) -> View:
        """
        Return a subscription.

        Raises:
            Refused: not_found; permission_denied.
            StorageUnavailable: The database cannot be used now.
        """

        def run(conn: Connection) -> View:
            found = _found(conn, tenant_id, subscription_id, who)
            return View(subscription=found, last=team_reports.last_sent(conn, [found.id]).get(found.id))

        return await self._engine.read(run)

    async def change(
        self, tenant_id: str, subscription_id: str, values: Mapping[str, Any], *, by: Actor, person_id: str | None = None,
        who: Restrictions | None = None,
    ) -> ReportSubscription:  # fmt: skip
        """
        Change when a report comes, and of which domains it tells.

        Args:
            values: `zone`, `hour`, `weekday`, `domains`; what is not among them stays.
            person_id: It becomes this person's own.

        Raises:
            Refused: not_found; validation_failed; conflict when it has ended; permission_denied.
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()

        def run(conn: Connection) -> ReportSubscription:
            before = _found(conn, tenant_id, subscription_id, who, is_locking=True)
            if before.ended_at is not None:
                raise Refused("conflict", "this report has ended")
            changed = _with(conn, before, values, who)
            if person_id is not None:
                changed = replace(changed, person_id=person_id)
            if changed == before:
                return before
            changed = replace(changed, changed_at=now, next_at=next_due(changed, now))
            team_reports.update(conn, changed)
            told = Change(action="report.changed", object_id=changed.id, tenant_id=tenant_id, before=_told(before), after=_told(changed))
            audit.append(conn, by, told, now)
            return changed

        changed = await self._engine.write(run)
        maillog.changed("report_changed", tenant_id=tenant_id, subscription_id=subscription_id, by=by.id)
        return changed

    async def remove(
        self, tenant_id: str, subscription_id: str, *, by: Actor, person_id: str | None = None, who: Restrictions | None = None
    ) -> None:  # fmt: skip
        """
        End a report. The row stays where the receiver ended it: their word outlives the team's.

        Args:
            person_id: It must be this person's own.

        Raises:
            Refused: not_found; permission_denied.
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()

        def run(conn: Connection) -> None:
            before = _found(conn, tenant_id, subscription_id, who, is_locking=True)
            if person_id is not None and before.person_id != person_id:
                raise _missing()
            if before.ended_by == RECEIVER:
                raise Refused("conflict", "its receiver ended it; that stays written down, so that nobody subscribes them again")
            team_reports.delete(conn, subscription_id)
            audit.append(conn, by, Change(action="report.removed", object_id=before.id, tenant_id=tenant_id, before=_told(before)), now)

        await self._engine.write(run)
        maillog.changed("report_removed", tenant_id=tenant_id, subscription_id=subscription_id, by=by.id)

    async def find(self, token: str) -> ReportSubscription:
        """
        Return the subscription that a mail's link is about.

        Raises:
            Refused: not_found: the link is not ours, or its subscription is gone.
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: _by_token(conn, token))

    async def unsubscribe(self, token: str, *, by: Actor) -> ReportSubscription:
        """
        End a report by the link in its mail; doing it twice is doing it once.

        Raises:
            Refused: not_found: the link is not ours, or its subscription is gone.
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()

        def run(conn: Connection) -> tuple[ReportSubscription, bool]:
            before = _by_token(conn, token, is_locking=True)
            if before.ended_at is not None and before.ended_by == RECEIVER:
                return before, False
            ended = replace(before, ended_at=now, changed_at=now, ended_by=RECEIVER)
            team_reports.update(conn, ended)
            told = Change(action="report.unsubscribed", object_id=ended.id, tenant_id=ended.tenant_id, before=_told(before))
            audit.append(conn, by, told, now)
            return ended, True

        ended, is_news = await self._engine.write(run)
        if is_news:
            maillog.changed("report_unsubscribed", tenant_id=ended.tenant_id, subscription_id=ended.id)
        return ended

    async def _subscribe(
        self, tenant_id: str, kind: str, address: str, values: Mapping[str, Any], *, by: Actor, person_id: str | None, may_return: bool,
        who: Restrictions | None = None,
    ) -> ReportSubscription:  # fmt: skip
        _check_streams(who)
        receiver, wanted, now = read_email("/address", address), _kind(kind), self._clock.now()

        def run(conn: Connection) -> ReportSubscription:
            known = team_reports.of_address(conn, tenant_id, wanted, receiver.key)
            if known is not None:
                if known.ended_at is None:
                    raise Refused("conflict", "this address has this report already")
                if known.ended_by == RECEIVER and not may_return:
                    raise Refused("conflict", "this address ended this report itself; only its holder, or the operator, can begin it again")
                team_reports.delete(conn, known.id)
            if len(team_reports.of_tenant(conn, tenant_id)) >= self._options.max_per_tenant:
                raise Refused("conflict", f"a tenant has at most {self._options.max_per_tenant} subscriptions")
            empty = ReportSubscription(
                id=ids.new("rps"), tenant_id=tenant_id, kind=wanted, address=str(receiver), person_id=person_id, created_at=now,
                changed_at=now, next_at=now, told_until=known.told_until if known is not None else 0,
            )  # fmt: skip
            made = _with(conn, empty, values, who)
            made = replace(made, next_at=next_due(made, now))
            team_reports.insert(conn, made, receiver.key)
            audit.append(conn, by, Change(action="report.subscribed", object_id=made.id, tenant_id=tenant_id, after=_told(made)), now)
            return made

        made = await self._engine.write(run)
        maillog.changed("report_subscribed", tenant_id=tenant_id, subscription_id=made.id, kind=made.kind.value, by=by.id)
        return made


def end_for_lack_of_right(conn: Connection, one: ReportSubscription, now: Instant, by: Actor) -> None:
    """End the report of a person who may not look at the tenant's numbers any more."""
    team_reports.update(conn, replace(one, ended_at=now, changed_at=now, ended_by=TEAM))
    audit.append(conn, by, Change(action="report.ended", object_id=one.id, tenant_id=one.tenant_id, before=_told(one)), now)


def unsubscribe_path(conn: Connection, subscription_id: str) -> str:
    """Return the path of the page that ends a report, for its mail."""
    return f"{LINK}{subscription_id}.{team_reports.token_of(conn, subscription_id)}"


def _by_token(conn: Connection, token: str, *, is_locking: bool = False) -> ReportSubscription:
    subscription_id, _, shown = token.partition(".")
    if not ids.is_valid(subscription_id, "rps") or not shown.isascii():
        raise _missing()
    if not hmac.compare_digest(shown, team_reports.token_of(conn, subscription_id)):
        raise _missing()
    found = team_reports.get(conn, subscription_id, is_locking=is_locking)
    if found is None:
        raise _missing()
    return found


def _found(
    conn: Connection, tenant_id: str, subscription_id: str, who: Restrictions | None = None, *, is_locking: bool = False
) -> ReportSubscription:  # fmt: skip
    _check_streams(who)
    found = team_reports.get(conn, subscription_id, tenant_id, is_locking=is_locking)
    if found is None or not _is_seen(found, who):
        raise _missing()
    return found


def _check_streams(who: Restrictions | None) -> None:
    if who is not None:
        narrowing.check_every_stream(who, "a report")


def _is_seen(one: ReportSubscription, who: Restrictions | None) -> bool:
    """Tell whether a report is about somebody's own domains only."""
    return who is None or not who.domains or (bool(one.domains) and who.domains.issuperset(one.domains))


def _missing() -> Refused:
    return Refused("not_found", "there is no such report")


def _kind(text: str) -> ReportKind:
    if text not in set(ReportKind):
        raise invalid(Fault("/kind", "unknown_kind", f"there are {', '.join(ReportKind)}"))
    return ReportKind(text)


def _with(
    conn: Connection, before: ReportSubscription, values: Mapping[str, Any], who: Restrictions | None = None
) -> ReportSubscription:  # fmt: skip
    """
    Put new values in; who has some domains only means these where they name none.

    Raises:
        Refused: validation_failed with every place; permission_denied.
    """
    given = {name: values[name] for name in ("zone", "hour", "weekday") if values.get(name) is not None}
    if values.get("domains") is not None:
        given["domains"] = tuple(dict.fromkeys(canonical_name(name) for name in values["domains"]))
    own = {one.name for one in tenants.domains(conn, before.tenant_id)}
    if who is not None and who.domains:
        if not given.get("domains", before.domains):
            given["domains"] = tuple(sorted(own & who.domains)) or tuple(sorted(who.domains))
        for n, name in enumerate(given.get("domains", ())):
            narrowing.check_domain(who, name, f"/domains/{n}")
    made = replace(before, **given)
    faults = []
    if not is_zone(made.zone):
        faults.append(Fault("/zone", "unknown_zone", "give a time zone of the IANA list, such as Europe/Berlin"))
    if not 0 <= made.hour <= 23:
        faults.append(Fault("/hour", "out_of_range", "from 0 to 23"))
    if not 0 <= made.weekday <= 6:
        faults.append(Fault("/weekday", "out_of_range", "from 0, Monday, to 6, Sunday"))
    if len(made.domains) > _MOST_DOMAINS:
        faults.append(Fault("/domains", "too_many", f"at most {_MOST_DOMAINS}"))
    faults += [
        Fault(f"/domains/{n}", "unknown_domain", "this is none of the tenant's domains")
        for n, name in enumerate(made.domains)
        if name not in own
    ]
    if faults:
        raise invalid(*faults)
    return made


def _told(one: ReportSubscription) -> dict[str, Any]:
    """Describe a subscription for the audit log."""
    return {
        "kind": one.kind.value, "address": one.address, "zone": one.zone, "hour": one.hour, "weekday": one.weekday,
        "domains": list(one.domains),
    }  # fmt: skip

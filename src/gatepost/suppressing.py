"""
The suppression list as the world writes it: dead addresses, complaints, inactive mailboxes; and what is our own fault.

Arrives: facts about recipients that are being settled: refusals at delivery, and what came back later. Leaves: suppressions
with their events, counts, and where another system blocks us an event, a line in the log and a rest for the source there;
all in the transaction of the fact.
A block never suppresses the recipient. A source rests only after several addresses of a site say so, and briefly: what a
single recipient writes into a report must not stop the mail of others. A relay rests as a whole, so addresses of several
domains have to say so: that one of them blocks the provider does not concern the others' mail.
Not here: the rules (policy.suppressing), whom to believe (returns), owners' changes (tenants.suppressions).
"""

from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import DAY, HOUR, Instant
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.domain.event import Event, EventType
from gatepost.domain.outcome import Category
from gatepost.domain.route import Road, RoadKind, roads_of
from gatepost.domain.severity import Severity
from gatepost.domain.statement import Said
from gatepost.domain.tenant import DEFAULT_TENANT
from gatepost.observe import maillog, metrics
from gatepost.policy.suppressing import BLOCKS_HOLD, UNSUBSCRIBED, Act, SuppressRules, act_on, is_for_every_stream
from gatepost.store import facts, relay_listed, reports, sealing, shaping, suppressions, tenants

_SEVERAL_DOMAINS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """
    What happened to a recipient.

    Attributes:
        stream: Its message's; empty where only what concerns every stream can follow.
        source: Which source the mail came from; None for a relay.
        road: The road that it went by.
        is_told_later: It came back as a report; the site's owner did not hear it with the delivery.
        told_by: Who says so: empty is a refusal at delivery, `relay:NAME` a relay's hook; else such as `mail`.
    """

    tenant_id: str
    message_id: str
    n: int
    address: str = field(repr=False)
    said: Said
    category: Category | None
    at: Instant
    severity: Severity | None = None
    stream: str = ""
    site: str = ""
    road: str = ""
    source: str | None = None
    is_told_later: bool = False
    told_by: str = ""


class Suppressing:
    """Acts on facts, for one process."""

    def __init__(self, rules: SuppressRules | None = None) -> None:
        self._rules = rules or SuppressRules()

    def act(self, conn: Connection, fact: Fact) -> None:
        """Do what a fact asks for, in its transaction."""
        match act_on(fact.said, fact.category, fact.severity):
            case Act.SUPPRESS:
                self._suppress(conn, fact, _reason(fact))
            case Act.COUNT:
                self._count(conn, fact)
            case Act.TELL_BLOCK:
                self._tell_block(conn, fact)
            case Act.NOTHING:
                pass

    def _count(self, conn: Connection, fact: Fact) -> None:
        key = _key(fact)
        if key is None:
            return
        subject = f"inactive/{fact.tenant_id}/{sealing.keyed_hash(conn, key)}"
        since = fact.at - self._rules.inactive_days * DAY
        if reports.count(conn, subject, f"{fact.message_id}/{fact.n}", fact.at, since) >= self._rules.inactive_count:
            reports.forget(conn, subject)
            self._suppress(conn, fact, Category.MAILBOX_INACTIVE.value)

    def _suppress(self, conn: Connection, fact: Fact, reason: str) -> None:
        key = _key(fact)
        if key is None:
            return
        stream = suppressions.EVERY_STREAM if is_for_every_stream(fact.said) else fact.stream
        row = {
            "tenant_id": fact.tenant_id, "address": key, "stream": stream, "id": ids.new("sup"), "reason": reason, "note": "",
            "source": fact.told_by, "created_at": fact.at, "expires_at": self._rules.expires_at(reason, fact.at),
        }  # fmt: skip
        if not suppressions.put_found(conn, row):
            # our own mail says so by now: a provider's list that has it no more does not lift it
            relay_listed.keep(conn, fact.tenant_id, sealing.keyed_hash(conn, key), stream)
            return
        data = {"address": key, "stream": stream or None, "reason": reason, "message_id": fact.message_id, "recipient_id": _recipient(fact)}
        facts.insert_events(
            conn, [Event(id=ids.new("evt"), type=EventType.SUPPRESSION_ADDED, tenant_id=fact.tenant_id, at=fact.at, data=data)]
        )  # fmt: skip
        metrics.suppressions_found.labels(reason).inc()
        maillog.suppressed(
            address=key, tenant_id=fact.tenant_id, reason=reason, stream=stream or None, message_id=fact.message_id, n=fact.n
        )  # fmt: skip

    def _tell_block(self, conn: Connection, fact: Fact) -> None:
        assert fact.category is not None
        where = f"{fact.tenant_id}/{fact.source or fact.road}/{fact.site}/{fact.category}"
        if reports.claim(conn, f"block/{where}/{reports.hour_of(fact.at)}", fact.at):
            told = {"site": fact.site, "route": fact.road, "source": fact.source, "category": fact.category.value}
            event = Event(
                id=ids.new("evt"), type=EventType.SENDING_BLOCKED, tenant_id=fact.tenant_id, at=fact.at, message_id=fact.message_id,
                n=fact.n, data=told,
            )  # fmt: skip
            facts.insert_events(conn, [event])
            maillog.blocked(tenant_id=fact.tenant_id, message_id=fact.message_id, n=fact.n, **told)
        if fact.is_told_later and fact.category in BLOCKS_HOLD:
            if fact.source:
                self._rest(conn, fact, fact.source)
            elif fact.road and (road := roads_of(fact.road)[0]).kind is RoadKind.RELAY:
                self._rest_relay(conn, fact, road)

    def _rest(self, conn: Connection, fact: Fact, source: str) -> None:
        """Let a source rest at a site: what the owner of the site learns from replies, it has to be told of reports."""
        key = _key(fact) or fact.message_id
        subject = f"block/{source}/{fact.site}"
        if reports.count(conn, subject, sealing.keyed_hash(conn, key), fact.at, fact.at - HOUR) < self._rules.block_count:
            return
        reports.forget(conn, subject)
        rule, until = shaping.rule(conn, source, fact.site), fact.at + self._rules.block_rest_ms
        if (rule.suspended_until or 0) < until:
            note = f"reports say that {fact.site} blocks {source}: {fact.category}"
            shaping.set_rule(conn, replace(rule, suspended_until=until, note=note, changed_at=fact.at))
            maillog.blocked(site=fact.site, source=source, category=str(fact.category), rests_until=until)

    def _rest_relay(self, conn: Connection, fact: Fact, road: Road) -> None:
        """Let a relay rest: what its provider says later, no reply at delivery has told its breaker."""
        key = _key(fact) or fact.message_id
        subject, domains = f"block/{road.name}", f"block/{road.name}/domains"
        since = fact.at - HOUR
        addresses = reports.count(conn, subject, sealing.keyed_hash(conn, key), fact.at, since)
        several = reports.count(conn, domains, sealing.keyed_hash(conn, key.rpartition("@")[2]), fact.at, since)
        if addresses < self._rules.block_count or several < _SEVERAL_DOMAINS:
            return
        reports.forget(conn, subject)
        reports.forget(conn, domains)
        site = road.site_of("")
        rule, until = shaping.rule(conn, "", site), fact.at + self._rules.block_rest_ms
        if (rule.suspended_until or 0) >= until:
            return
        note = f"its provider says that {several} domains block it: {fact.category}"
        shaping.set_rule(conn, replace(rule, suspended_until=until, note=note, changed_at=fact.at))
        maillog.blocked(relay=road.name, category=str(fact.category), rests_until=until)
        operator = tenants.by_name(conn, DEFAULT_TENANT)
        if operator is not None:
            told = {
                "route": road.name, "source": None, "site": site, "category": str(fact.category), "rests_until": until,
                "addresses": addresses, "domains": several,
            }  # fmt: skip
            event = Event(id=ids.new("evt"), type=EventType.SENDING_BLOCKED, tenant_id=operator, at=fact.at, data=told)
            facts.insert_events(conn, [event])


def _reason(fact: Fact) -> str:
    if fact.said is Said.UNSUBSCRIBED:
        return UNSUBSCRIBED
    return (fact.category or Category.COMPLAINT).value


def _key(fact: Fact) -> str | None:
    try:
        return parse_address(fact.address).key
    except InvalidAddress:
        return None


def _recipient(fact: Fact) -> str | None:
    try:
        return ids.recipient_id(fact.message_id, fact.n)
    except (ValueError, KeyError, IndexError):
        return None

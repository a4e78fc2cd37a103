"""What the pages of webhooks, suppressions, streams, routes, relays, sites, actions, reports and returned mail show: one of each and more."""

import json

from gatepost import ids
from gatepost.clock import DAY, HOUR, MINUTE
from gatepost.domain.access import GATEWAY
from gatepost.domain.address import parse_address
from gatepost.domain.event import Event, EventType
from gatepost.domain.flow import FlowState
from gatepost.domain.placement import Outcome, PlacementResult, PlacementTest
from gatepost.domain.queue_action import Filter, Kind
from gatepost.domain.relay_list import ListState
from gatepost.domain.route import SHARDS
from gatepost.domain.webhook import HookStatus
from gatepost.settings import Relay, RelaySuppressions, Seed
from gatepost.store import domain_reports, facts, health, hooks, inbound, placement, queue_actions, relay_lists, roads, shaping
from gatepost.store.health import RelayRow
from gatepost.store.inbound import Arrived
from gatepost.tenants.queue_actions import QueueActions
from gatepost.tenants.routes import Asked, Routes
from gatepost.tenants.site_orders import SiteOrders
from gatepost.tenants.streams import Streams
from gatepost.tenants.suppressions import Suppression, Suppressions
from gatepost.tenants.webhooks import WebhookRegister
from gatepost.wire.dmarc_report import parse_aggregate_report
from gatepost.wire.tls_report_reading import parse_tls_report
from tests.dashboard.site import Site
from tests.store.rows import put_message

HOSTILE = '"><script>alert(1)</script>'
"""Stands wherever strangers write: pages show it as text."""
RELAYS = {
    "main": Relay(url="sendgrid://:k@", rate="14/second", quota="50000/day", price_per_1000=0.4, suppressions=RelaySuppressions(pull=True)),
    "second": Relay(url="smtp://mail.example.net:587"),
    "failing": Relay(url="ses://AKID:k@eu-west-1", suppressions=RelaySuppressions(pull=True, follow_removals=True)),
    "held": Relay(url="postmark://:k@", suppressions=RelaySuppressions(pull=True, push=["bounces"], remove=True)),
    "plain": Relay(url="brevo://:k@"),
}
SEEDS = {
    "ann": Seed(address="seed@gmail.example", url="imaps://seed@127.0.0.1/", secret="x", provider="gmail"),
    "bob": Seed(address="seed@outlook.example", url="imaps://seed@127.0.0.1/", secret="x"),
}

_RECORD = """<record><row><source_ip>{ip}</source_ip><count>{count}</count><policy_evaluated><disposition>{disposition}</disposition>
<dkim>{dkim}</dkim><spf>{spf}</spf></policy_evaluated></row><identifiers><header_from>{domain}</header_from></identifiers>
<auth_results>{auth}</auth_results></record>"""


def dmarc_report(domain: str) -> bytes:
    """Write an aggregate report: our own mail passes, a provider that signs in its own name fails, so does a stranger's."""
    own = f"<dkim><domain>{domain}</domain><selector>s1</selector><result>pass</result></dkim><spf><domain>{domain}</domain><result>pass</result></spf>"
    other = "<dkim><domain>esp.example</domain><result>pass</result></dkim><spf><domain>esp.example</domain><result>pass</result></spf>"
    none = "<spf><domain>evil.example</domain><result>fail</result></spf>"
    rows = [
        _RECORD.format(ip="192.0.2.10", count=1840, disposition="none", dkim="pass", spf="pass", domain=domain, auth=own),
        _RECORD.format(ip="198.51.100.7", count=212, disposition="none", dkim="fail", spf="fail", domain=domain, auth=other),
        _RECORD.format(ip="203.0.113.99", count=37, disposition="quarantine", dkim="fail", spf="fail", domain=domain, auth=none),
    ]
    metadata = (
        "<report_metadata><org_name>google.com</org_name><report_id>1</report_id><date_range><begin>1764000000</begin><end>1764086400</end>"
    )
    policy = f"</date_range></report_metadata><policy_published><domain>{domain}</domain><p>none</p></policy_published>"
    return f'<?xml version="1.0"?><feedback>{metadata}{policy}{"".join(rows)}</feedback>'.encode()


def tls_report(domain: str) -> bytes:
    """Write a TLS report with sessions that failed."""
    failure = {"result-type": "certificate-expired", "receiving-mx-hostname": f"mx1.{domain}", "failed-session-count": 12}
    summary = {"total-successful-session-count": 4210, "total-failure-session-count": 12}
    policy = {"policy": {"policy-type": "sts", "policy-domain": domain}, "summary": summary, "failure-details": [failure]}
    times = {"start-datetime": "2026-11-23T00:00:00Z", "end-datetime": "2026-11-23T23:59:59Z"}
    return json.dumps({"organization-name": "Google Inc.", "date-range": times, "report-id": "r1", "policies": [policy]}).encode()


def furnish(site: Site) -> None:
    """Fill the rooms; ids of what was made stand in `site.ids`."""
    _webhooks(site)
    _suppressions(site)
    _delivery(site)
    _queue(site)
    _returned(site)
    _reports(site)
    _placement(site)
    _relay_lists(site)


def _webhooks(site: Site) -> None:
    deps, now = site.deps, site.deps.clock.now()
    register = WebhookRegister(deps.engine, deps.clock, deps.settings)
    values = {
        "url": "https://app.acme.example/hooks/gatepost",
        "description": "orders service",
        "events": ["recipient.*", "suppression.added"],
    }
    made = site.run(register.create(deps.default_tenant_id, values, by=GATEWAY))
    site.ids["webhook"] = made.id
    site.run(register.create(deps.default_tenant_id, {"url": "https://bi.acme.example/in?kind=mail", "events": ["*"]}, by=GATEWAY))
    off = site.run(register.create(deps.default_tenant_id, {"url": "https://old.acme.example/", "description": "the old one"}, by=GATEWAY))
    site.run(register.change(deps.default_tenant_id, off.id, {"enabled": False}, by=GATEWAY))

    def fill(conn):
        kinds = (EventType.DELIVERED, EventType.BOUNCED, EventType.DEFERRED, EventType.SUPPRESSION_ADDED, EventType.DELIVERED)
        told = [
            Event(
                id=ids.new("evt"), type=kind, tenant_id=deps.default_tenant_id, at=now - n * MINUTE, message_id=site.ids.get("receipt"), n=0
            )
            for n, kind in enumerate(kinds)
        ]
        facts.insert_events(conn, told)
        for one in told:
            hooks.add(conn, made, one.id, one.type.value, now)
        answers = [
            (HookStatus.DELIVERED, 204, ""),
            (HookStatus.FAILED, 500, f"oops {HOSTILE}"),
            (HookStatus.FAILED, None, "no answer within 15 s"),
        ]
        for status, code, answer in answers:
            waiting = hooks.due(conn, made.id, now, 1)[0]
            result = hooks.Result(
                webhook_id=made.id,
                tenant_id=deps.default_tenant_id,
                event_id=waiting.event_id,
                message_id=waiting.message_id,
                seq=waiting.seq,
                status=status,
                attempts=1 if code == 204 else 9,
                due_at=None,
                tried_at=now - MINUTE,
                code=code,
                latency_ms=84,
                answer=answer,
            )
            hooks.finish(conn, [result], now)
            site.ids["event"] = waiting.event_id

    site.write(fill)


def _suppressions(site: Site) -> None:
    deps, now = site.deps, site.deps.clock.now()
    wanted = [
        ("ann.with.a.rather.long.address@department.example.net", "complaint", None, "", None),
        ("bob@example.net", "invalid_recipient", None, "550 5.1.1 no such user", None),
        ("carla@example.org", "unsubscribed", "bulk", "", None),
        ("dan@example.com", "inactive", None, HOSTILE, now + 30 * DAY),
        ("eve@example.com", "manual", None, "asked by phone", now - HOUR),
    ]
    for text, reason, stream, note, expires_at in wanted:
        one = Suppression(address=parse_address(text), reason=reason, stream=stream, note=note, expires_at=expires_at)
        site.run(Suppressions(deps.engine, deps.clock).add(deps.default_tenant_id, [one], by=GATEWAY))


def _delivery(site: Site) -> None:
    deps, now = site.deps, site.deps.clock.now()
    streams = Streams(deps.engine, deps.clock, deps.settings, deps.directory)
    window = {"from": "08:00", "until": "20:00", "zone": "Europe/Berlin", "days": ["mon", "tue", "wed", "thu", "fri"]}
    values = {"lane": "bulk", "ttl_s": 3 * 86_400, "window": window, "tracking": {"opens": True, "clicks": True}, "unsubscribe": True}
    site.run(streams.create(deps.default_tenant_id, "newsletter", values, by=GATEWAY, is_operator=True))
    routes = Routes(deps.engine, deps.clock, deps.settings)
    site.ids["route"] = site.run(
        routes.create(Asked(name="newsletters", roads="second:80,mx:20", strategy="weighted", match={"streams": ["newsletter"]}), GATEWAY)
    ).id
    site.ids["second_route"] = site.run(
        routes.create(Asked(name="germany", roads="main,mx", match={"recipients": ["*.shop.example", "web.example"]}), GATEWAY)
    ).id
    counts = {"attempts": 412, "failures": 3, "deferrals": 9, "complaints": 0, "latency_ms": 380}
    flat = {"source": "", "machine": "", "openings": 0, "updated_at": now, "counts": counts}
    states = [
        {"road": "main", "state": "closed", "since": now - DAY, "reason": "", "retry_at": None, "score": 97, **flat},
        {
            "road": "second",
            "state": "open",
            "since": now - 4 * MINUTE,
            "reason": "connection: refused",
            "retry_at": now + MINUTE,
            "score": 31,
            **flat,
        },
    ]
    site.write(lambda conn: roads.write(conn, states))
    probe = {
        "is_reachable": True,
        "is_authenticated": True,
        "latency_ms": 142,
        "detail": "",
        "quota_left": 41_000,
        "host": "api.sendgrid.com",
        "peer": None,
        "tls": None,
    }
    report = {"probe": probe, "provider": None, "certificate": None}
    site.write(
        lambda conn: health.put_relay(conn, RelayRow(relay="main", checked_at=now - 20_000, is_ok=True, failing_since=None, report=report))
    )


def _queue(site: Site) -> None:
    deps, now = site.deps, site.deps.clock.now()
    base = {"pool": "default", "source": "default", "connections_limit": 20, "saved_at": now}
    flows = [
        FlowState(site="google", connections=10, in_use=10, cause="slots_in_use", detail="all 10 connections are in use", rate=42.5, width=0.5, **base),
        FlowState(
            site="microsoft", connections=10, in_use=0, cause="site_suspended", suspended_until=now + 15 * MINUTE, detail="microsoft asked for less",
            signal_id="ms_rp001", signal_text=f"421 RP-001 The mail server IP has exceeded the rate limit {HOSTILE}", signal_at=now - MINUTE, **base,
        ),
        FlowState(site="yahoo", connections=5, in_use=1, cause="warm_up_cap", detail="day 3 of warming up: today's 200 messages were sent", warm_up_cap=200, warm_up_used=200, **base),
    ]  # fmt: skip

    def write(conn):
        for domain, count in (("google", 5), ("microsoft", 3), ("yahoo", 2)):
            for _ in range(count):
                put_message(
                    conn, route="mx", domains=(domain,), tenant_id=deps.default_tenant_id, due_at=now - 5000, expires_at=now + 10**9
                )
        shaping.save(conn, list(enumerate(flows, 1)))

    site.write(write)
    orders = SiteOrders(deps.engine, deps.settings, deps.clock)
    site.run(orders.suspend("example.net", "", now + 3 * HOUR, f"they asked us to {HOSTILE}", by=GATEWAY))
    actions = QueueActions(deps.engine, deps.clock, deps.settings)
    site.ids["action"] = site.run(
        actions.ask(deps.default_tenant_id, Kind.HOLD, Filter(recipient="example.net"), by=GATEWAY, note="their host is down")
    ).id
    done = site.run(actions.ask(deps.default_tenant_id, Kind.REROUTE, Filter(site="google"), by=GATEWAY, route="main", is_operator=True))
    site.write(
        lambda conn: [queue_actions.advance(conn, done.id, shard, queue_actions.START, 5 * (shard == 7), now) for shard in range(SHARDS)]
    )
    site.write(lambda conn: queue_actions.finish(conn, done.id, now))


def _returned(site: Site) -> None:
    now = site.deps.clock.now()
    mails = [
        ("unread", "it is neither a bounce nor a complaint nor an automatic answer that is known", f"Why do you write to me? {HOSTILE}"),
        ("unmatched", "it is a bounce and does not say of which of our messages", "Undelivered Mail Returned to Sender"),
        ("quarantined", "it was begun 3 times and never ended", "Delivery Status Notification (Failure)"),
    ]

    def write(conn):
        for n, (state, detail, subject) in enumerate(mails):
            body = f"From: Postmaster <postmaster@far{n}.example>\r\nTo: abuse@bounces.example\r\nSubject: {subject}\r\n\r\nHello {HOSTILE}\r\n".encode()
            details = {"sender": f"postmaster@far{n}.example", "recipients": ["abuse@bounces.example"], "peer": "192.0.2.7"}
            made = inbound.put(conn, Arrived(kind="mail", details=details, body=body), now - n * HOUR)
            if state == "quarantined":
                inbound.quarantine(conn, made, detail)
            else:
                inbound.set_aside(conn, made, state, detail)
            site.ids[state] = made
        hook = inbound.put(conn, Arrived(kind="hook", source="main", details={}, body=b'{"event": "bounce"}'), now - DAY)
        inbound.set_aside(conn, hook, "unmatched", "it speaks of mail that nobody here knows, or knows no more")

    site.write(write)


def _reports(site: Site) -> None:
    deps, now = site.deps, site.deps.clock.now()
    view = site.run(deps.domains.add(deps.default_tenant_id, "reported.example", by=GATEWAY, is_trusted=True))
    site.ids["domain"] = view.domain.id
    site.ids["quiet_domain"] = site.run(deps.domains.add(deps.default_tenant_id, "quiet.example", by=GATEWAY, is_trusted=True)).domain.id
    aggregate, tls = parse_aggregate_report(dmarc_report("reported.example")), parse_tls_report(tls_report("reported.example"))
    site.write(lambda conn: domain_reports.put(conn, "dmarc", "reported.example", "d1", aggregate, now))
    site.write(lambda conn: domain_reports.put(conn, "tls", "reported.example", "t1", tls, now))


def _placement(site: Site) -> None:
    deps, now = site.deps, site.deps.clock.now()

    def test(n: int, outcomes: str) -> PlacementTest:
        found = {"i": Outcome.INBOX, "s": Outcome.SPAM, "m": Outcome.MISSING, "u": Outcome.UNKNOWN, "w": Outcome.WAITING}
        results = [
            PlacementResult(
                seed=seed, provider=provider, outcome=found[one], message_id=site.ids["receipt"] if n == 0 else None,
                detail="the mailbox cannot be opened" if one == "u" else "", folder="Junk" if one == "s" else "INBOX" if one == "i" else "",
                after_ms=4_200 if one in "is" else None, spf="pass" if one in "is" else None, dkim="fail" if one == "s" else "pass",
                dmarc="pass" if one == "i" else None,
            )
            for (seed, provider), one in zip((("ann", "gmail"), ("bob", "outlook"), ("carla", "a.rather.long.provider.example.net")), outcomes, strict=True)
        ]  # fmt: skip
        at = now - n * 2 * DAY
        return PlacementTest(
            id=ids.new("plc"), tenant_id=deps.default_tenant_id, domain="acme.example", sender="Acme <news@acme.example>",
            subject=f"Autumn sale {HOSTILE}" if n == 0 else f"Newsletter {n}", marker=f"{n}", created_at=at, deadline_at=at + HOUR,
            finished_at=None if "w" in outcomes else at + MINUTE, results=tuple(results),
        )  # fmt: skip

    def write(conn):
        for n, outcomes in reversed(list(enumerate(("iws", "iis", "ims", "iiu", "iii")))):
            made = test(n, outcomes)
            placement.insert(conn, made)
            site.ids["placement"] = made.id

    site.write(write)


def _relay_lists(site: Site) -> None:
    deps, now = site.deps, site.deps.clock.now()
    calm = ListState(
        done_at=now - 20 * MINUTE, full_at=now - 3 * DAY, seen=412, taken=7, known=390, nobody=12, lifted=3, told=58, lifted_there=2, gone=4
    )
    failing = ListState(done_at=now - 5 * HOUR, failures=3, error=f"401: the key is not valid {HOSTILE}")
    held = ListState(done_at=now - HOUR, full_at=now - HOUR, seen=9_120, held={deps.default_tenant_id: 840}, gone_held=120)

    def write(conn):
        for name, state in (("main", calm), ("failing", failing), ("held", held)):
            relay_lists.put(conn, name, state, "", now + 40 * MINUTE, now)

    site.write(write)

"""What is kept for how long: nothing of what comes back, is told or tracked grows without bound, and nothing goes that is of use."""

import asyncio

import msgspec
import pytest
import sqlalchemy as sa

from gatepost import ids
from gatepost.clock import DAY
from gatepost.domain.placement import Outcome, PlacementResult, PlacementTest
from gatepost.domain.stats import Labels
from gatepost.settings import Feedback, Inbound, Settings, Stats, Tracking
from gatepost.store import counting, engagement, inbound, placement, relay_listed, reports, schema, suppressions
from gatepost.store.inbound import Arrived
from gatepost.store.opening import open_store
from gatepost.testing.fake_clock import FakeClock
from gatepost.upkeep import retention
from gatepost.upkeep.rollups import Rollups
from tests.store.rows import NOW

CONFIGURATION = "changed by people: as many rows as they made"
ONE_EACH = "one row for each tenant, domain, relay, source, mailbox or road"
LIVE = "work that is going on: gone when it is done"
MAIL = "mail and what happened to it: kept until there is a retention of mail"
FORGOTTEN = "forgotten after its time"
KEPT = "kept on purpose: one small row a day, or one for each act of a person"

BOUNDS = {
    **dict.fromkeys(
        ("tenant", "tenant_limit", "api_key", "oauth_client", "person", "membership", "person_identity", "passkey", "domain", "dkim_key",
         "stream", "route", "road_override", "site_rule", "webhook", "report_subscription"), CONFIGURATION,
    ),
    **dict.fromkeys(
        ("last_use", "audit_head", "relay_list", "shard_lease", "node", "site_state", "config_version", "road_state", "watch_lease",
         "domain_health", "source_health", "relay_health", "webhook_state", "rollup_kept", "mailbox"), ONE_EACH,
    ),
    **dict.fromkeys(("suppression_due", "queue", "rollup_delta"), LIVE),
    **dict.fromkeys(("message", "message_tag", "body", "recipient", "attempt", "event", "capture"), MAIL),
    **dict.fromkeys(("usage", "balance_entry", "audit", "data_key", "queue_action", "queue_action_shard"), KEPT),
    **dict.fromkeys(
        ("quota", "token_key", "spent_token", "session", "one_time_link", "suppression", "suppression_lift", "relay_listed", "idempotency",
         "flow_state", "warm_up_count", "relay_minute", "relay_use", "mta_sts_policy", "tls_result", "tls_report", "mail_system", "hook",
         "report_seen", "tally", "inbound", "domain_report", "rollup", "deliverability_score", "unusual_change", "report_sending",
         "mailbox_letter", "placement_test", "placement_result", "message_links", "engagement"), FORGOTTEN,
    ),
}  # fmt: skip
"""Whoever adds a table says here what keeps it from growing for ever."""


def test_every_table_has_a_bound():
    """A new table cannot be forgotten."""
    assert set(BOUNDS) == set(schema.metadata.tables)


def house(make_engine, work):
    async def main():
        engine, clock = make_engine(), FakeClock(NOW)
        tenant_id = await open_store(engine, clock)
        await work(engine, clock, tenant_id)
        await engine.close()

    asyncio.run(main())


async def count(engine, table):
    return await engine.read(lambda conn: conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


SETTINGS = Settings(
    inbound=Inbound(keep_days=10),
    feedback=Feedback(keep_reports_days=20, keep_ended_days=5, keep_lifted_days=40),
    tracking=Tracking(days=30),
)


def put_all(conn, tenant_id, at):
    """One of everything that is forgotten by its age."""
    aside = inbound.put(conn, Arrived(kind="mail", details={}, body=b"x"), at)
    inbound.set_aside(conn, aside, "unread", "why")
    for name, expires_at in ((f"ended{at}@example.net", at), (f"ever{at}@example.net", None)):
        suppressions.put_found(conn, {
            "tenant_id": tenant_id, "address": name, "stream": "", "id": ids.new("sup"), "reason": "mailbox_inactive", "note": "",
            "source": "relay:main", "created_at": at, "expires_at": expires_at,
        })  # fmt: skip
        key = suppressions.sealing.keyed_hash(conn, name)
        relay_listed.note(conn, "main", [(tenant_id, key, "", "mailbox_inactive")], at)
    suppressions.note_lifted(conn, tenant_id, f"lifted{at}@example.net", at)
    message_id = f"msg_{ids.lower_bound('msg', at)[4:]}"
    engagement.put_links(conn, [(tenant_id, message_id, ["https://x.example/"], at + SETTINGS.tracking.days * DAY)])
    row = {"message_id": message_id, "n": 0, "kind": "opened", "visitor": "human", "link": "", "first_at": at, "last_at": at, "total": 1}
    conn.execute(sa.insert(schema.engagement), [row])
    reports.claim(conn, f"report {at}", at)
    placement.insert(conn, PlacementTest(
        id=ids.new("plc"), tenant_id=tenant_id, domain="acme.example", sender="a@acme.example", subject="x", marker=str(at),
        created_at=at, deadline_at=at, finished_at=at, results=(PlacementResult(seed="a", provider="p", outcome=Outcome.SPAM),),
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("table", "kept_days", "gone_days"),
    [
        (schema.inbound, 9, 11), (schema.suppression_lift, 39, 41), (schema.message_links, 29, 31),
        (schema.engagement, 29, 30 + retention.MAIL_WAITS_DAYS + 1), (schema.report_seen, 44, 46), (schema.placement_test, 399, 401),
    ],
    ids=lambda one: getattr(one, "name", None),
)  # fmt: skip
def test_what_is_old_goes_and_what_is_of_use_stays(make_engine, table, kept_days, gone_days):
    """A day before its time it is there, a day after it is not; what is young stays whatever goes beside it."""

    async def work(engine, clock, tenant_id):
        await engine.write(lambda conn: put_all(conn, tenant_id, NOW))
        await engine.write(lambda conn: retention.forget(conn, SETTINGS, NOW + kept_days * DAY))
        assert await count(engine, table) == 1
        await engine.write(lambda conn: put_all(conn, tenant_id, NOW + gone_days * DAY))
        await engine.write(lambda conn: retention.forget(conn, SETTINGS, NOW + gone_days * DAY))
        assert await count(engine, table) == 1

    house(make_engine, work)


def test_a_suppression_goes_after_its_end_and_never_before(make_engine):
    """Those for good stay for ever; of those that ended nothing is left in the end, neither that it came from a provider's list."""

    async def work(engine, clock, tenant_id):
        await engine.write(lambda conn: put_all(conn, tenant_id, NOW))
        for days, left in ((4, 2), (6, 1), (4_000, 1)):
            await engine.write(lambda conn, days=days: retention.forget(conn, SETTINGS, NOW + days * DAY))
            assert (await count(engine, schema.suppression), await count(engine, schema.relay_listed)) == (left, left)

    house(make_engine, work)


def test_a_lifting_that_counts_still_stays(make_engine):
    """As long as a provider's list says the opposite, a person's word is needed."""

    async def work(engine, clock, tenant_id):
        await engine.write(lambda conn: put_all(conn, tenant_id, NOW))
        for days in range(0, 400, 7):
            at = NOW + days * DAY
            await engine.write(
                lambda conn, at=at: suppressions.use_lifts(
                    conn, [(tenant_id, suppressions.sealing.keyed_hash(conn, f"lifted{NOW}@example.net"))], at
                )
            )
            await engine.write(lambda conn, at=at: retention.forget(conn, SETTINGS, at))
        assert await count(engine, schema.suppression_lift) == 1
        await engine.write(lambda conn: retention.forget(conn, SETTINGS, NOW + 450 * DAY))
        assert await count(engine, schema.suppression_lift) == 0

    house(make_engine, work)


def test_counts_of_days_go_after_their_years(make_engine):
    """Five minutes, hours, days and weeks: each is gone after its own time, and the younger ones are told exactly."""

    async def work(engine, clock, tenant_id):
        deltas = counting.Deltas()
        for days in (0, 500):
            at = NOW + days * DAY
            deltas.add(tenant_id, Labels("acme.example", "bulk", "", "", at), "mx", "", "", at, ("accepted",), 3)
        await engine.write(deltas.write)
        clock.advance(500 * 86_400)
        rollups = Rollups(engine, clock, Stats(keep_days=450), "one")
        for _ in range(3):
            await rollups.step()
            clock.advance(3_601)
        spans = await engine.read(lambda conn: conn.execute(sa.select(schema.rollup.c.span, schema.rollup.c.at)).all())
        assert {row.at for row in spans if row.at < NOW + 400 * DAY} == set()
        assert {row.span for row in spans} == {0, 1, 2, 3}

    house(make_engine, work)


def test_the_usual_times_fit_together():
    """A setting alone can never let something go that another one needs."""
    usual = Settings()
    assert usual.feedback.keep_lifted_days >= 30, "two whole readings of a list that is read once a week"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"keep_lifted_days": 29}, Feedback)
    assert usual.inbound.keep_days >= 1

"""What accept counts while it stores: caps per recipient, balances, usage; on both engines."""

import asyncio
import random

import pytest
import sqlalchemy as sa

from gatepost.accept import AcceptedMessage, Idempotency, RefusedMessage
from gatepost.clock import DAY
from gatepost.domain.access import KeyMode, Per, parse_limit
from gatepost.store import audit, suppressions
from gatepost.store.errors import StorageUnavailable
from gatepost.tenants.metering import COLUMNS, Metering, Span, as_csv, cell_of, micros_of, money, span_of
from tests.limits.house import BY, Node, count_passed, play, refusal_of, submission


async def rows(house, sql):
    return [tuple(row) for row in await house.engine.read(lambda conn: conn.execute(sa.text(sql)).all())]


async def suppress(house, address):
    row = {
        "tenant_id": house.tenant_id, "address": address, "stream": "", "id": f"sup_{address}", "reason": "manual", "note": "",
        "created_at": 0, "expires_at": None,
    }  # fmt: skip
    await house.engine.write(lambda conn: suppressions.put(conn, row))


def test_a_password_form_is_no_mail_bomb(make_engine, tmp_path):
    """THREATS 34: a thousand codes to one person, over many tenants, keys, plus-tags and two processes: ten arrive."""

    async def work(house):
        tenants = [(house.tenant_id, "acme.example"), *[(await house.add_tenant(f"t{n}"), f"t{n}.example") for n in range(4)]]
        nodes = [house.node, await house.new_node()]
        for node in nodes:
            await node.refresh()

        def send(n):
            tenant_id, domain = tenants[n % len(tenants)]
            to = random.choice([f"v.ictim+{n}@gmail.com", "Victim@googlemail.com", f"vic.tim+a+{n}@GMAIL.com"])
            who = house.caller(tenant_id=tenant_id, key_id=f"key_{n % 40}")
            return nodes[n % 2].acceptor.submit(who, submission(to, stream="codes", sender=f"shop@{domain}"))

        assert await count_passed([send(n) for n in range(1000)]) == (10, {"rate_limited"})
        assert (await rows(house, "SELECT count(*) FROM message"))[0] == (10,)
        stored = await rows(house, "SELECT subject FROM quota")
        assert len(stored) == 1
        assert "victim" not in stored[0][0]

    play(make_engine, tmp_path, work)


def test_a_cap_survives_a_restart_and_yields_again_with_time(make_engine, tmp_path):
    """Ten an hour: after a restart still none, six minutes later one more."""

    async def work(house):
        who = house.caller()
        assert (await count_passed([house.node.acceptor.submit(who, submission(stream="codes")) for _ in range(12)]))[0] == 10
        await house.node.crash()
        house.nodes.clear()
        node = await house.new_node()
        refused = await refusal_of(node.acceptor.submit(who, submission(stream="codes")))
        assert (refused.code, refused.retry_after_s) == ("rate_limited", 360)
        assert refused.faults[0].pointer == "/to/0"
        house.clock.advance(360)
        await node.acceptor.submit(who, submission(stream="codes"))
        assert await refusal_of(node.acceptor.submit(who, submission(stream="codes"))) is not None

    play(make_engine, tmp_path, work)


def test_each_lane_has_its_own_cap_and_each_person_too(make_engine, tmp_path):
    """Newsletters do not use up the codes; whom nobody bombed gets their mail."""

    async def work(house):
        who = house.caller()
        for stream, cap in (("codes", 10), ("transactional", 30), ("bulk", 4)):
            assert (await count_passed([house.node.acceptor.submit(who, submission(stream=stream)) for _ in range(40)]))[0] == cap
            await house.node.acceptor.submit(who, submission("bob@example.net", stream=stream))

    play(make_engine, tmp_path, work)


def test_a_refused_message_uses_nothing_of_its_other_recipients_caps(make_engine, tmp_path):
    """All or nothing: Bob's hour is not used up by messages that Ann's cap kept back."""

    async def work(house):
        who, send = house.caller(), house.node.acceptor.submit
        for _ in range(4):
            await send(who, submission("ann@example.net", stream="bulk"))
        both = [send(who, submission("bob@example.net", "ann@example.net", stream="bulk")) for _ in range(20)]
        assert (await count_passed(both))[0] == 0
        assert (await count_passed([send(who, submission("bob@example.net", stream="bulk")) for _ in range(9)]))[0] == 4

    play(make_engine, tmp_path, work)


def test_a_permissive_batch_loses_only_the_capped_ones_and_a_strict_one_all(make_engine, tmp_path):
    """The cap counts inside a batch, too."""

    async def work(house):
        who = house.caller("messages=100/day")
        messages = [submission("ann@example.net", stream="bulk") for _ in range(6)] + [submission("bob@example.net", stream="bulk")]
        refused = await refusal_of(house.node.acceptor.submit_batch(who, messages, "strict"))
        assert (refused.code, refused.faults[0].pointer) == ("rate_limited", "/messages/4/to/0")
        results = (await house.node.acceptor.submit_batch(who, messages, "permissive")).results
        assert [type(one) for one in results] == [AcceptedMessage] * 4 + [RefusedMessage] * 2 + [AcceptedMessage]
        assert results[4].code == "rate_limited"
        (left,) = await house.node.limits.remaining(who, [])
        assert left.remaining == 95

    play(make_engine, tmp_path, work)


def test_suppressed_recipients_and_test_keys_and_simulators_use_no_cap(make_engine, tmp_path):
    """Only what would reach a person counts: not suppressed addresses, not a test key's mail, not the sandbox's magic names."""

    async def work(house):
        await suppress(house, "gone@example.net")
        send, who = house.node.acceptor.submit, house.caller()
        for n in range(4):
            await send(who, submission(f"u{n}@example.net", "gone@example.net", stream="bulk"))
        for _ in range(6):
            await send(house.caller(mode=KeyMode.TEST), submission(stream="bulk"))
            await send(who, submission("bounce+order@example.net", stream="bulk"))
        assert (await rows(house, "SELECT count(*) FROM quota"))[0] == (4,)

    play(make_engine, tmp_path, work)


def test_caps_can_be_switched_off(make_engine, tmp_path):
    """Zero is no cap."""

    async def work(house):
        sent = [house.node.acceptor.submit(house.caller(), submission(stream="bulk")) for _ in range(50)]
        assert (await count_passed(sent))[0] == 50
        assert await rows(house, "SELECT * FROM quota") == []

    play(make_engine, tmp_path, work, bulk_per_recipient=0)


def test_a_hundred_messages_at_once_at_quota_minus_one_give_exactly_one(make_engine, tmp_path):
    """THREATS 35 with the real acceptor and two processes."""

    async def work(house):
        other = await house.new_node()
        who = house.caller("messages=5/day")
        for n in range(4):
            await house.node.acceptor.submit(who, submission(f"u{n}@example.net"))
        sent = [node.acceptor.submit(who, submission(f"v{n}@example.net")) for n in range(50) for node in (house.node, other)]
        assert await count_passed(sent) == (1, {"quota_exceeded"})
        assert (await rows(house, "SELECT count(*) FROM message"))[0] == (5,)

    play(make_engine, tmp_path, work)


def test_a_replay_is_answered_although_the_quota_is_used_up(make_engine, tmp_path):
    """The first answer again, nothing counted; another request with that key, and a new one, are refused."""

    async def work(house):
        who, send = house.caller("messages=2/day"), house.node.acceptor.submit
        first = await send(who, submission(), Idempotency(key="k", request_hash=b"one"))
        again = await send(who, submission(), Idempotency(key="k", request_hash=b"one"))
        await send(who, submission())
        late = await send(who, submission(), Idempotency(key="k", request_hash=b"one"))
        assert first.results[0].id == again.results[0].id == late.results[0].id
        assert again.is_replay
        assert late.is_replay
        assert (await refusal_of(send(who, submission(), Idempotency(key="k", request_hash=b"two")))).code == "idempotency_key_reused"
        assert (await refusal_of(send(who, submission(), Idempotency(key="new", request_hash=b"one")))).code == "quota_exceeded"

    play(make_engine, tmp_path, work)


def test_what_a_commit_did_not_store_is_given_back(make_engine, tmp_path):
    """Suppressed recipients, and messages refused in the commit, use nothing of the quota."""

    async def work(house):
        await suppress(house, "gone@example.net")
        who = house.caller("recipients=10/day", "messages=10/day")
        for _ in range(8):
            assert (await refusal_of(house.node.acceptor.submit(who, submission("gone@example.net")))).code == "all_recipients_suppressed"
        await house.node.acceptor.submit(who, submission("ann@example.net", "gone@example.net"))
        left = {one.limit.resource: one.remaining for one in await house.node.limits.remaining(who, [])}
        assert left == {"recipients": 9, "messages": 9}

    play(make_engine, tmp_path, work)


def test_usage_is_counted_exactly_with_the_messages(make_engine, tmp_path):
    """By tenant, day, route and node; replays and refusals count nothing, and only recipients that mail is queued for."""

    async def work(house):
        await suppress(house, "gone@example.net")
        other = await house.new_node()
        who = house.caller()
        for n in range(30):
            node = (house.node, other)[n % 2]
            await node.acceptor.submit(who, submission(f"a{n}@example.net", "gone@example.net"), Idempotency(key=f"k{n}", request_hash=b""))
            await node.acceptor.submit(who, submission(f"a{n}@example.net", "gone@example.net"), Idempotency(key=f"k{n}", request_hash=b""))
        await refusal_of(house.node.acceptor.submit(who, submission("gone@example.net")))
        await house.node.acceptor.submit(house.caller(mode=KeyMode.TEST), submission())
        house.clock.advance(DAY / 1000)
        await house.node.acceptor.submit(who, submission("b@example.net", "c@example.net"))
        assert {row[0] for row in await rows(house, "SELECT node FROM usage")} == {"node0", "node1"}
        found = await house.metering.usage(Span(first="2025-11-24", last="2025-11-25"), house.tenant_id)
        (size,) = (await rows(house, "SELECT sum(size_bytes) FROM message"))[0]
        assert [(row.day, row.route, row.messages, row.recipients) for row in found] == [
            ("2025-11-24", "sandbox", 31, 31),
            ("2025-11-25", "sandbox", 1, 2),
        ]
        assert sum(row.bytes for row in found) == size

    play(make_engine, tmp_path, work)


def test_a_hundred_at_once_never_overdraw_a_balance(make_engine, tmp_path):
    """With money for exactly 37 recipients, 37 messages pass on two processes, the balance ends at nothing, and the books agree."""

    async def work(house):
        await house.metering.change_account(house.tenant_id, BY, add_micros=37 * 280, price_micros=280_000, note="first")
        other = await house.new_node()
        await house.node.refresh()
        who = house.caller()
        sent = [node.acceptor.submit(who, submission(f"u{n}@example.net")) for n in range(50) for node in (house.node, other)]
        assert await count_passed(sent) == (37, {"insufficient_balance"})
        _, account, entries = await house.metering.account(house.tenant_id)
        assert account.balance_micros == 0
        (cost,) = (await rows(house, "SELECT sum(cost_micros) FROM usage"))[0]
        assert sum(entry.micros for entry in entries) - cost == 0
        await house.metering.change_account(house.tenant_id, BY, add_micros=280)
        await house.node.acceptor.submit(who, submission("late@example.net"))
        await house.node.acceptor.submit(house.caller(mode=KeyMode.TEST), submission("free@example.net"))
        assert (await refusal_of(house.node.acceptor.submit(who, submission()))).code == "insufficient_balance"

    play(make_engine, tmp_path, work)


def test_what_is_not_prepaid_is_metered_at_its_price(make_engine, tmp_path):
    """A price without a balance refuses nobody and says what it would cost; a started millionth counts."""

    async def work(house):
        await house.metering.change_account(house.tenant_id, BY, price_micros=100)
        await house.node.refresh()
        await house.node.acceptor.submit(house.caller(), submission("a@example.net", "b@example.net"))
        (row,) = await house.metering.usage(Span(first="2025-11-24", last="2025-11-24"), None)
        assert row.cost_micros == 1

    play(make_engine, tmp_path, work)


def test_a_changed_account_and_an_export_stand_in_the_audit_log(make_engine, tmp_path):
    """Who changed limits and balances, and who took usage away."""

    async def work(house):
        await house.set_limits("messages=5/day", "bytes=9/month")
        await house.set_limits("messages=6/day")
        await house.set_limits("messages=6/day")
        await house.metering.change_account(house.tenant_id, BY, add_micros=5, price_micros=1)
        await house.metering.export(Span(first="2025-11-24", last="2025-11-24"), None, BY)
        actions = [row[0] for row in await rows(house, "SELECT action FROM audit ORDER BY seq")]
        assert actions[-4:] == ["tenant.limits_changed", "tenant.limits_changed", "tenant.balance_changed", "usage.exported"]

    play(make_engine, tmp_path, work)


def test_changes_at_the_same_moment_follow_one_another(make_engine, tmp_path):
    """None fails or is lost, and in the audit log each begins where the one before ended."""

    async def work(house):
        others = [await house.new_node() for _ in range(5)]
        metering = [Metering(node.engine, house.clock) for node in others]
        wanted = [parse_limit(f"messages={n}/day") for n in range(1, 6)]
        await asyncio.gather(
            *[one.change_limits(house.tenant_id, [limit], BY) for one, limit in zip(metering, wanted, strict=True)],
            *[one.change_limits(house.tenant_id, [parse_limit(f"bytes=9/{per}")], BY) for one, per in zip(metering, Per, strict=True)],
            *[one.change_account(house.tenant_id, BY, add_micros=1) for one in metering],
        )
        _, found = await house.metering.limits(house.tenant_id)
        assert len(found) == 6
        assert (await house.metering.account(house.tenant_id))[1].balance_micros == 5
        told = await house.engine.read(lambda conn: audit.page(conn, audit.Wanted(action="tenant."), 50))
        for action in ("tenant.limits_changed", "tenant.balance_changed"):
            entries = [row for row in reversed(told) if row.action == action]
            assert len(entries) == (10 if action == "tenant.limits_changed" else 5)
            assert [row.before for row in entries[1:]] == [row.after for row in entries[:-1]]

    play(make_engine, tmp_path, work)


def test_a_spreadsheet_computes_nothing_of_an_export():
    """THREATS 58: cells that begin like a formula are quoted; numbers stay numbers."""

    class Row:
        day, tenant_id, route, messages, recipients, bytes, cost_micros = "2026-11-24", "ten_a", '=cmd|"/C calc"!A0', 3, 4, 5, -280_000

    text = as_csv([Row])
    assert text.splitlines()[0] == ",".join(COLUMNS)
    assert text.splitlines()[1] == '2026-11-24,ten_a,"\'=cmd|""/C calc""!A0",3,4,5,-0.28'
    for cell in ("=1", "+1+1", "-x", "@x", "\tx", "\rx"):
        assert cell_of(cell) == f"'{cell}"
    assert cell_of(-5) == "-5"


@pytest.mark.parametrize(
    ("text", "micros"), [("10.00", 10_000_000), ("0.28", 280_000), ("-3", -3_000_000), ("0.000001", 1), ("+1.5", 1_500_000)]
)
def test_money_is_read_and_written_without_rounding(text, micros):
    """Millionths are whole numbers; what is written reads back as the same."""
    assert micros_of(text, "x") == micros
    assert micros_of(money(micros), "x") == micros


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1e99", "1e999999", "-1e999999", "1e-999999", "0.0000001", "10000000000", "1,5"])
def test_what_is_no_money_is_refused(text):
    """No silent guess about an amount."""

    async def read():
        micros_of(text, "/add")

    assert asyncio.run(refusal_of(read())).faults[0].pointer == "/add"


def test_a_span_is_this_month_unless_named():
    """Days are real days, in order, and not too many."""
    now = 1_764_000_000_000
    assert span_of(None, None, now) == Span(first="2025-11-01", last="2025-11-24")
    assert span_of("2025-10-31", None, now) == Span(first="2025-10-31", last="2025-11-24")
    for first, last in (("2025-02-29", None), ("20251124", None), ("2025-11-24", "2025-11-23"), ("2020-01-01", None)):

        async def read(first=first, last=last):
            span_of(first, last, now)

        assert asyncio.run(refusal_of(read())).code == "validation_failed"


def test_a_database_that_is_away_is_no_free_ride(make_engine, tmp_path):
    """Limits that cannot be counted refuse: never is anything unlimited."""

    async def work(house):
        async def away(_):
            raise StorageUnavailable("away")

        for node, limit in ((await house.new_node(), "requests=9/day"), (Node(house), "requests=9/minute")):
            node.engine.read = node.engine.write = away
            assert (await refusal_of(node.limits.count_request(house.caller(limit)))).code == "storage_unavailable"
            await node.engine.close()

    play(make_engine, tmp_path, work)

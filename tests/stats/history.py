"""Random histories of mail, and what the facts say of them: numbers are compared with a recount, never with themselves."""

import random
from collections import Counter

import sqlalchemy as sa

from gatepost.clock import DAY, HOUR, MINUTE
from gatepost.control import Control
from gatepost.domain.access import GATEWAY
from gatepost.domain.errors import Refused
from gatepost.domain.message import Steering
from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Failed, Reply, Unknown
from gatepost.domain.recipient import Status
from gatepost.domain.statement import About, Said, Statement
from gatepost.domain.tenant import KeyMode
from gatepost.policy.retry import RetrySchedule
from gatepost.reported import settle_statement
from gatepost.settle import Result, decide, expire, new_event_id, settle
from gatepost.store import facts, folding, leases, messages
from gatepost.store.queue import Due
from gatepost.store.schema import attempt, event, message, queue, recipient
from gatepost.suppressing import Suppressing
from tests.flow.test_accept import submission

SCHEDULE = RetrySchedule(waits_s=[60], jitter=0)
CATEGORIES = (Category.INVALID_RECIPIENT, Category.SPAM_CONTENT, Category.MAILBOX_FULL)


class History:
    """Things that happen to a tenant's mail, in any order, some of them at the same time."""

    def __init__(self, house, seed):
        self.house, self.engine, self.clock, self.chance = house, house.engine, house.clock, random.Random(seed)
        self.control = Control(house.engine, house.settings, house.clock)
        self.names, self.running, self.numbers = folding.Names(), [], iter(range(10_000))

    async def start(self):
        self.callers = [self.house.caller, await self.house.new_caller(KeyMode.TEST)]

    async def step(self):
        kind = self.chance.choice(
            [self.accept, self.accept, self.begin, self.begin, self.end, self.end, self.end, self.say, self.control_it, self.fold]
        )
        self.clock.advance(self.chance.choice([0, 0.2, 5, 100, 1_000, 20_000]))
        await kind()

    async def accept(self):
        to = [f"p{self.chance.randrange(60)}@far{self.chance.randrange(3)}.example" for _ in range(self.chance.randint(1, 3))]
        tags = tuple(self.chance.sample(["order", "news", "ünïcode", '=cmd"'], self.chance.randint(0, 2)))
        stream = self.chance.choice(["transactional", "bulk"])
        try:
            await self.house.acceptor.submit(
                self.chance.choice(self.callers), submission(*dict.fromkeys(to), steering=Steering(tags=tags, stream=stream))
            )
        except Refused as refused:
            assert refused.code == "all_recipients_suppressed"

    async def _waiting(self):
        def read(conn):
            return [Due._make(row) for row in conn.execute(sa.select(*[queue.c[name] for name in Due._fields]))]

        return [row for row in await self.engine.read(read) if (row.message_id, row.n, row.attempt) not in {one[0] for one in self.running}]

    async def begin(self):
        """A delivery begins; whatever happens before it ends, it does not know of."""
        waiting = sorted(await self._waiting())
        for row in self.chance.sample(waiting, min(len(waiting), self.chance.randint(1, 4))):
            self.running.append(((row.message_id, row.n, row.attempt), row))

    async def end(self):
        """Deliveries end, in one group; sometimes it is written twice, since the commit's answer was lost."""
        group = [self.running.pop() for _ in range(min(len(self.running), self.chance.randint(1, 4)))]
        if not group:
            return
        known = await self.engine.read(lambda conn: messages.materials(conn, [row.message_id for _, row in group], 1_000_000))
        results = [self._result(row, known) for _, row in group]

        def work(conn):
            leases.heartbeat(conn, "node_a", "host", 1, self.clock.now())
            shards = sorted({row.shard for _, row in group})
            leases.take(conn, "node_a", shards, self.clock.now(), self.clock.now() + 1_000 * DAY)
            epochs = leases.fenced(conn, "node_a", shards)
            settle(conn, [self._with_epoch(one, epochs) for one in results], "node_a", None, Suppressing())

        for _ in range(self.chance.choice([1, 1, 2])):
            await self.engine.write(work)

    def _with_epoch(self, make, epochs):
        return make(epochs)

    def _result(self, row, known):
        now, chance = self.clock.now(), self.chance
        road = "sandbox" if row.site == "sandbox" else chance.choice(["mx", "main"])
        exchange = Exchange(route=road, started_at=now, finished_at=now, source="ip1" if road == "mx" else None)
        category = chance.choice(CATEGORIES)
        outcome = chance.choice(
            [
                Delivered(exchange=exchange, reply=Reply(code=250, enhanced=None, text="ok"), final=road != "main"),
                Deferred(exchange=exchange, category=category, detail="later"),
                Failed(exchange=exchange, category=category, detail="no"),
                Unknown(exchange=exchange, detail="broken"),
                None,
            ]
        )
        decision = expire(row) if outcome is None else decide(row, outcome, SCHEDULE, now, 0.5)
        labels = known[row.message_id].labels if chance.random() < 0.7 and outcome is not None else None
        event_id = new_event_id()
        return lambda epochs: Result(
            due=row, epoch=epochs[row.shard], outcome=outcome, decision=decision, event_id=event_id, at=now, address="a@far.example", labels=labels
        )  # fmt: skip

    async def _some_recipient(self):
        rows = await self.engine.read(
            lambda conn: conn.execute(
                sa.select(recipient.c.message_id, recipient.c.n).order_by(recipient.c.message_id, recipient.c.n)
            ).all()
        )
        return self.chance.choice(rows) if rows else None

    async def say(self):
        """Somebody says something afterwards; perhaps twice, perhaps long ago."""
        found = await self._some_recipient()
        if found is None:
            return
        said = self.chance.choice(list(Said))
        statement = Statement(
            id=f"r{next(self.numbers)}", said=said, about=About(message_id=found.message_id, n=found.n), by="mail", at=self.clock.now(),
            category=self.chance.choice(CATEGORIES) if said is Said.BOUNCED else None,
        )  # fmt: skip
        for _ in range(self.chance.choice([1, 2])):
            await self.engine.write(lambda conn: settle_statement(conn, statement, Suppressing(), self.clock.now()))

    async def control_it(self):
        found = await self._some_recipient()
        if found is None:
            return
        change = self.chance.choice([self.control.cancel, self.control.retry])
        try:
            await change(None, found.message_id, by=GATEWAY)
        except Refused as refused:
            assert refused.code == "conflict"

    async def fold(self):
        await self.engine.write(lambda conn: folding.fold(conn, self.names, self.chance.randint(1, 50)))


COUNTED_EVENTS = {
    "recipient.suppressed": "suppressed", "recipient.sent": "sent", "recipient.delivered": "delivered", "recipient.deferred": "deferred",
    "recipient.expired": "expired", "message.cancelled": "cancelled", "message.retried": "retried", "recipient.complained": "complained",
    "recipient.opened": "opens", "recipient.clicked": "clicks", "recipient.unsubscribed": "unsubscribed",
}  # fmt: skip


class Recount:
    """What the facts say."""

    def __init__(self, conn, tenant_id):
        self.messages = {row.id: row for row in conn.execute(sa.select(message).where(message.c.tenant_id == tenant_id))}
        self.recipients = conn.execute(
            sa.select(recipient.c.message_id, recipient.c.n, recipient.c.status, recipient.c.site, recipient.c.route)
        ).all()
        self.recipients = [row for row in self.recipients if row.message_id in self.messages]
        self.events = [
            one
            for one in facts.opened_events(conn, sa.select(event).where(event.c.tenant_id == tenant_id).order_by(event.c.id))
            if one.message_id
        ]
        self.attempts = conn.execute(
            sa.select(attempt.c.message_id, attempt.c.n, attempt.c.number, attempt.c.outcome, attempt.c.finished_at)
        ).all()

    def of(self, key_of, at_of=lambda at: None):
        """Count by what `key_of` makes of a message, and of the time: counters by key."""
        found = {}

        def add(message_id, at, name):
            for key in key_of(self.messages[message_id]):
                found.setdefault((key, at_of(at)), Counter())[name] += 1

        for one in self.messages.values():
            add(one.id, one.created_at, "messages")
        for one in self.recipients:
            add(one.message_id, self.messages[one.message_id].created_at, "accepted")
        seen = set()
        for one in self.events:
            if one.type in COUNTED_EVENTS and one.n is not None:
                add(one.message_id, one.at, COUNTED_EVENTS[one.type])
            if one.type == "recipient.deferred" and one.data.get("attempt") == 1 and "reported_by" not in one.data:
                add(one.message_id, one.at, "deferred_first")
            if one.type == "recipient.bounced":
                add(one.message_id, one.at, "bounced")
                add(one.message_id, one.at, one.data["category"])
            if one.type in {"recipient.opened", "recipient.clicked"} and (one.type, one.message_id, one.n) not in seen:
                seen.add((one.type, one.message_id, one.n))
                add(one.message_id, one.at, one.type.removeprefix("recipient."))
        for one in self.attempts:
            if one.number == 1 and one.message_id in self.messages:
                add(one.message_id, one.finished_at, "attempted")
        return found

    def statuses(self):
        return Counter(row.status for row in self.recipients)


NAMES = (
    "messages", "accepted", "suppressed", "attempted", "sent", "delivered", "deferred", "deferred_first", "bounced", "expired", "cancelled", "retried",
    "complained", "opened", "opens", "clicked", "clicks", "unsubscribed",
)  # fmt: skip


def counted(rows):
    """Write what was read as a recount writes it."""
    found = {}
    for row in rows:
        counter = Counter({name: getattr(row.counts, name) for name in NAMES if getattr(row.counts, name)}) + Counter(row.counts.bounces)
        if counter:
            found[row.key[0] if row.key else None, row.at] = counter
    return found


def standing(counts):
    """Tell how many stand in each final state, by what came and went."""
    return {
        Status.SENT: counts.sent - counts.left_sent, Status.DELIVERED: counts.delivered - counts.left_delivered,
        Status.BOUNCED: counts.bounced - counts.left_bounced, Status.EXPIRED: counts.expired - counts.left_expired,
        Status.CANCELLED: counts.cancelled - counts.left_cancelled, Status.SUPPRESSED: counts.suppressed,
    }  # fmt: skip


FIVE, WHOLE = 5 * MINUTE, HOUR

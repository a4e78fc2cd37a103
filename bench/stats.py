"""
`python -m bench.stats`: how quickly numbers are answered when ten million events were counted.

The rollups are written directly, as folding would have written them: 30 days of mail from ten tenants of different sizes.
Each question is asked through the API's own read. Printed are the median and the slowest of seven, and the processor time of
one: a machine that does other things answers later. `--postgres URL` uses an empty database there, the default is SQLite.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from bisect import bisect
from collections import Counter, defaultdict
from itertools import accumulate
from pathlib import Path

import sqlalchemy as sa

from gatepost.clock import DAY, HOUR, SystemClock
from gatepost.domain.stats import Step
from gatepost.store import folding, rollups
from gatepost.store.folding import BY_SITE, BY_TAG, PLAIN, SHORT, SPANS, Place
from gatepost.store.opening import create_engine, migrate, open_store

DAYS = 30
END = 1_764_028_800_000
SITES = ["google", "microsoft", "yahoo", "apple", "gmx", "proton", *(f"mail{n}.example" for n in range(74))]
STREAMS = (("transactional", 6), ("bulk", 3), ("codes", 1))
ROADS = (("mx", "ip1", 5), ("mx", "ip2", 3), ("main", "", 2))
TAGS = [f"tag-{n}" for n in range(20)]
NAMES = (
    "messages", "accepted", "attempted", "delivered", "deferred", "deferred_first", "bounced", "bounced_invalid_recipient", "bounced_spam_content",
    "opened", "opens", "clicked", "clicks", "complained", *(f"wait_{n}" for n in range(1, 12)),
)  # fmt: skip


def _keys() -> tuple[list[tuple[str, ...]], list[float]]:
    """Every combination of tenant, domain, stream, road, source and site, with how much mail it has."""
    found, weights = [], []
    for tenant in range(10):
        for domain in range(2):
            for stream, often in STREAMS:
                for road, source, much in ROADS:
                    for rank, site in enumerate(SITES):
                        found.append((f"ten_{tenant}", f"d{domain}.t{tenant}.example", stream, road, source, site))
                        weights.append(often * much / (tenant + 1) / (domain + 1) / (rank + 1) ** 1.1)
    return found, list(accumulate(weights))


def _counted(n: int, chance: random.Random) -> dict[str, int]:
    """Divide what was sent by a way; each message has some four events."""
    draws = [chance.random() for _ in range(n)]
    bounced, spam, deferred = sum(x < 0.01 for x in draws), sum(0.01 <= x < 0.015 for x in draws), sum(0.015 <= x < 0.05 for x in draws)
    delivered = n - bounced - spam
    opened, clicked = int(delivered * 0.4 + chance.random()), int(delivered * 0.1 + chance.random())
    waits = Counter(f"wait_{1 + bisect((0.3, 0.6, 0.8, 0.9, 0.93, 0.96, 0.98, 0.985, 0.99, 0.995), x)}" for x in draws[:delivered])
    return {
        "attempted": n, "delivered": delivered, "deferred": deferred, "deferred_first": deferred, "bounced": bounced + spam, "bounced_invalid_recipient": bounced,
        "bounced_spam_content": spam, "opened": opened, "opens": int(opened * 1.4), "clicked": clicked, "clicks": clicked, "complained": 0, **waits,
    }  # fmt: skip


def _merge(sums: dict[Place, dict[str, int]], place: Place, counts: dict[str, int]) -> None:
    row = sums[place]
    for name, n in counts.items():
        row[name] = row.get(name, 0) + n


def _bucket(sums: dict[Place, dict[str, int]], at: int, keys, weights, messages: int, chance: random.Random) -> int:
    """Count five minutes; return how many events they have."""
    events = 0
    for key, n in Counter(chance.choices(keys, cum_weights=weights, k=messages)).items():
        tenant, domain, stream, road, source, site = key
        counts = _counted(n, chance)
        accepted = {"messages": n, "accepted": n}
        events += n + sum(counts[name] for name in ("delivered", "deferred", "bounced", "opens", "clicks"))
        tag = chance.choice(TAGS)
        for span, length in enumerate(SPANS):
            start = at - at % length
            if at < END - (10 * DAY if span == 0 else 100 * DAY if span == 1 else 10_000 * DAY):
                continue
            for cube, label in ((PLAIN, ""), (BY_SITE, site)):
                _merge(sums, Place(cube, span, tenant, start, domain, stream, road, source, label), counts)
                _merge(sums, Place(cube, span, tenant, start, domain, stream, road, "", ""), accepted)
                _merge(sums, Place(cube + SHORT, span, tenant, start, "", "", "", "", label), counts)
                _merge(sums, Place(cube + SHORT, span, tenant, start, "", "", "", "", ""), accepted)
            _merge(sums, Place(BY_TAG, span, tenant, start, domain, stream, "", "", tag), counts | accepted)
            _merge(sums, Place(BY_TAG + SHORT, span, tenant, start, "", "", "", "", tag), counts | accepted)
    return events


def _insert(conn, sums: dict[Place, dict[str, int]]) -> None:
    columns = (*Place._fields, *NAMES)
    table = sa.table("rollup", *(sa.column(name) for name in columns))
    text = str(sa.insert(table).compile(dialect=conn.dialect))
    rows = [(*place, *(counts.get(name) for name in NAMES)) for place, counts in sorted(sums.items())]
    for first in range(0, len(rows), 20_000):
        conn.exec_driver_sql(text, rows[first : first + 20_000])


async def _fill(engine, wanted: int) -> tuple[int, int]:
    """Write the rollups day by day, until so many events are counted."""
    chance, (keys, weights) = random.Random(1), _keys()
    per_bucket = round(wanted / 2.5 / (DAYS * DAY // SPANS[0])) + 1
    events = rows = 0
    weeks: dict[Place, dict[str, int]] = defaultdict(dict)
    for day in range(DAYS):
        sums: dict[Place, dict[str, int]] = defaultdict(dict)
        first = END - (DAYS - day) * DAY
        for at in range(first, first + DAY, SPANS[0]):
            events += _bucket(sums, at, keys, weights, per_bucket, chance)
        for place in [one for one in sums if one.span == 3]:  # they last longer than a day
            _merge(weeks, place, sums.pop(place))
        rows += len(sums)
        await engine.write(lambda conn, sums=sums: _insert(conn, sums))
    await engine.write(lambda conn: _insert(conn, weeks))
    rows += len(weeks)
    since = {0: END - 10 * DAY, 1: END - 100 * DAY}
    await engine.write(lambda conn: folding.shorten(conn, since))
    await engine.write(lambda conn: conn.execute(sa.text("ANALYZE")))
    return events, rows


def _questions():
    month, week, day = END - 30 * DAY, END - 7 * DAY, END - DAY
    for tenant in ("ten_0", None):
        who = "a tenant" if tenant else "everybody"
        for what, fields in (
            ("24 hours, one sum", {"start": day + HOUR // 3, "end": END}),
            ("30 days, one sum", {"start": month, "end": END}),
            ("30 days by day", {"start": month, "step": Step.DAY}),
            ("30 days by day, Berlin", {"start": month, "step": Step.DAY, "zone": "Europe/Berlin"}),
            ("7 days by hour", {"start": week, "step": Step.HOUR}),
            ("24 hours by 5 minutes", {"start": day, "step": Step.FIVE_MINUTES}),
            ("30 days by stream", {"start": month, "group_by": ["stream"]}),
            ("30 days by domain", {"start": month, "group_by": ["domain"]}),
            ("30 days by relay and source", {"start": month, "group_by": ["relay", "source"]}),
            ("30 days by site", {"start": month, "group_by": ["site"]}),
            ("30 days by site and day", {"start": month, "group_by": ["site"], "step": Step.DAY}),
            ("30 days by tag", {"start": month, "group_by": ["tag"]}),
            ("30 days by tenant", {"start": month, "group_by": ["tenant"]}),
            ("30 days of one site by day", {"start": month, "where": {"site": ["google"]}, "step": Step.DAY}),
        ):
            yield f"{who}: {what}", {"tenant": tenant, "end": END, **fields}


async def _main(url: str, wanted: int) -> None:
    with tempfile.TemporaryDirectory(prefix="gatepost-bench-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        engine = create_engine(url, Path(folder))
        await engine.write(migrate)
        await open_store(engine, SystemClock())
        await engine.write(
            lambda conn: conn.execute(
                sa.text("INSERT INTO tenant (id, name, created_at, policy, price_micros) VALUES (:id, :id, 0, '{}', 0)"),
                [{"id": f"ten_{n}"} for n in range(10)],
            )
        )
        started = time.perf_counter()
        events, rows = await _fill(engine, wanted)
        print(f"{engine.dialect}: {events:,} events in {rows:,} rows, written in {time.perf_counter() - started:.0f} s\n")
        print(f"{'question':<52}{'rows':>7}{'median ms':>11}{'slowest ms':>12}{'CPU ms':>9}")
        worst = 0.0
        for name, fields in _questions():
            times, used = [], time.process_time()
            for _ in range(7):
                begin = time.perf_counter()
                found = await engine.read(lambda conn, fields=fields: rollups.read(conn, **fields))
                times.append((time.perf_counter() - begin) * 1000)
            worst = max(worst, statistics.median(times))
            print(
                f"{name:<52}{len(found):>7}{statistics.median(times):>11.1f}{max(times):>12.1f}{(time.process_time() - used) / 7 * 1000:>9.1f}"
            )
        print(f"\nslowest median: {worst:.0f} ms; the goal is 200 ms")
        await engine.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres", default="", metavar="URL", help="an empty database")
    parser.add_argument("--events", type=int, default=10_000_000)
    options = parser.parse_args()
    asyncio.run(_main(options.postgres, options.events))

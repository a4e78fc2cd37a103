"""The queries behind the pages, on both databases."""

import asyncio
import dataclasses
from pathlib import Path

from gatepost.clock import DAY, SystemClock
from gatepost.dashboard import reads
from gatepost.dashboard.content import Found, Hidden
from gatepost.explain.queued import site_views
from gatepost.store import partitions, sites
from gatepost.store.blobs import LocalBlobs
from gatepost.store.engine import Engine
from gatepost.store.messages import Filter
from gatepost.store.opening import open_store
from tests.dashboard.seed import mails, seed


async def filled(engine: Engine, tmp_path: Path) -> tuple[dict[str, str], int]:
    """Store the sample messages, all of the last minute."""
    now = SystemClock().now()
    tenant_id = await open_store(engine, SystemClock())
    await engine.write(lambda conn: partitions.create_ahead(conn, now - DAY))
    recent = [dataclasses.replace(mail, ago_s=n + 1) for n, mail in enumerate(mails())]
    return await seed(engine, LocalBlobs(tmp_path / "blobs"), tenant_id, now, recent), now


def test_both_databases_show_the_same_list(make_engine, tmp_path: Path) -> None:
    """Order, filters, cursors and counts of the inbox."""

    async def run() -> None:
        engine = make_engine()
        try:
            ids, _ = await filled(engine, tmp_path)
            order = list(ids.values())
            page = await engine.read(lambda conn: reads.listing(conn, None, Filter()))
            assert [row.id for row in page.rows] == order
            assert (page.has_newer, page.has_older) == (False, False)
            again = await engine.read(lambda conn: reads.listing(conn, None, Filter(), after=reads.from_top(order[3])))
            assert [row.id for row in again.rows] == order[3:]
            assert again.has_newer
            upwards = await engine.read(lambda conn: reads.listing(conn, None, Filter(), before=order[3]))
            assert [row.id for row in upwards.rows] == order[:3]
            assert await engine.read(lambda conn: reads.count_newer(conn, None, Filter(), order[3])) == 3
            found = await engine.read(lambda conn: reads.listing(conn, None, Filter(status="bounced")))
            assert [row.id for row in found.rows] == [ids["receipt"], ids["bounced"]]
            found = await engine.read(lambda conn: reads.listing(conn, None, Filter(sender="MONITORING", subject="annex")))
            assert [row.id for row in found.rows] == [ids["long"]]
        finally:
            await engine.close()

    asyncio.run(run())


def test_both_databases_show_the_same_message_and_queue(make_engine, tmp_path: Path) -> None:
    """Rows of one message, what is shown of it, sites with their counts, and the mark that pages watch."""

    async def run() -> None:
        engine = make_engine()
        try:
            ids, now = await filled(engine, tmp_path)
            rows = await engine.read(lambda conn: reads.message_rows(conn, None, ids["receipt"], show_content=False))
            assert rows is not None
            assert (len(rows.recipients), len(rows.attempts)) == (3, 3)
            assert isinstance(rows.content, Found)
            assert rows.content.is_exact
            assert isinstance(await engine.read(lambda conn: reads.content_of(conn, None, ids["real"], show_content=False)), Hidden)
            before = await engine.read(lambda conn: reads.mark(conn, None))
            assert before.newest == ids["code"]
            await engine.write(lambda conn: sites.pause(conn, "idle.example", now))
            waiting = {row.site: row for row in await engine.read(lambda conn: site_views(conn, None, now))}
            assert (waiting["sandbox"].due, waiting["sandbox"].later) == (1, 3)
            assert waiting["idle.example"].paused_at == now
        finally:
            await engine.close()

    asyncio.run(run())

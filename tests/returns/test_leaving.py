"""What mail leaves with: a return path of ours for each recipient where roads take it, the sender's own elsewhere."""

import asyncio
import random

from gatepost.dispatch.loop import Dispatcher
from gatepost.dispatch.ownership import Ownership
from gatepost.settings import Relay, Retry, Settings
from gatepost.store.blobs import LocalBlobs
from gatepost.store.opening import open_store
from gatepost.testing.fake_clock import FakeClock
from gatepost.wire.return_path import ReturnPaths, ReturnToken
from tests.flow.test_dispatcher import ToldCourier, Unsigned
from tests.store.rows import NOW, put_message

PATHS = ReturnPaths(key=b"k" * 16, domain="bounces.example", by_sender={"acme.example": "bounces.acme.example"})
RELAYS = {"main": Relay(url="smtp://relay.example"), "willing": Relay(url="smtp://relay.example", return_paths=True)}


def left(make_engine, tmp_path, paths, **fields):
    """Deliver one message; return its batches."""

    async def main():
        engine, clock = make_engine(), FakeClock(NOW)
        await open_store(engine, clock)
        courier = ToldCourier(clock)
        dispatcher = Dispatcher(
            engine=engine, blobs=LocalBlobs(tmp_path / "blobs"), signing=Unsigned(), couriers=dict.fromkeys(("mx", "sandbox", *RELAYS), courier),
            settings=Settings(relays=RELAYS, retry=Retry(schedule=[60])), clock=clock, ownership=Ownership(engine, clock, "node_a", "host", 1, lease_s=15),
            chance=random.Random(1), return_paths=paths,
        )  # fmt: skip
        await engine.write(lambda conn: put_message(conn, domains=("far.example", "far.example", "far.example"), **fields))
        for _ in range(5):
            await dispatcher.step()
            await dispatcher.finish()
        await engine.close()
        return courier.batches

    return asyncio.run(main())


def test_each_recipient_has_a_return_path_of_its_own(make_engine, tmp_path):
    """One transaction a recipient, each token says which; the domain is the one for the sender."""
    batches = left(make_engine, tmp_path, PATHS)
    assert [len(batch.recipients) for batch in batches] == [1, 1, 1]
    for batch in batches:
        local, _, domain = batch.envelope_from.partition("@")
        assert domain == "bounces.acme.example"
        assert PATHS.read(local, NOW) == ReturnToken(batch.message_id, batch.recipients[0].n)


def test_without_a_domain_nothing_changes(make_engine, tmp_path):
    """Switched off, recipients of one site travel together with the sender's own return path."""
    [batch] = left(make_engine, tmp_path, None)
    assert (batch.envelope_from, len(batch.recipients)) == ("a@acme.example", 3)


def test_a_relay_keeps_the_senders_own_unless_told_otherwise(make_engine, tmp_path):
    """Many providers take only verified reverse-paths; the sandbox shows what the sender gave."""
    assert {batch.envelope_from for batch in left(make_engine, tmp_path, PATHS, route="main")} == {"a@acme.example"}
    assert {batch.envelope_from for batch in left(make_engine, tmp_path / "other", PATHS, route="sandbox")} == {"a@acme.example"}


def test_a_relay_that_takes_return_paths_gets_them(make_engine, tmp_path):
    """relays.NAME.return_paths."""
    assert len({batch.envelope_from for batch in left(make_engine, tmp_path, PATHS, route="willing")}) == 3

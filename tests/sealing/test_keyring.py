"""Data keys: made with the first value, shared by processes, lost with a transaction, useless without the master key."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from gatepost.clock import DAY, SystemClock
from gatepost.store import keyring, sealing
from gatepost.store.errors import KeyLost, MasterKeyRefused, SealBroken, StorageUnavailable
from gatepost.store.key_file import KeyFile
from gatepost.store.master_key import GivenKeys, generate
from gatepost.store.opening import create_engine, open_store
from gatepost.store.schema import data_key, site_state

NOW = 1_764_000_000_000
PLACE = "person.sealed/per_1"


def seal(conn, data=b"secret", tenant_id="ten_a", place=PLACE, at=NOW):
    return sealing.seal(conn, data, tenant_id=tenant_id, place=place, at=at)


def unseal(conn, sealed, tenant_id="ten_a", place=PLACE):
    return sealing.unseal(conn, sealed, tenant_id=tenant_id, place=place)


def run(make_engine, work):
    async def main():
        engine = make_engine()
        try:
            await open_store(engine, SystemClock())
            await work(engine)
        finally:
            await engine.close()

    asyncio.run(main())


def test_a_sealed_value_opens_in_its_place_and_shows_nothing(make_engine):
    """What was sealed comes back, twice sealed looks different, and the text is not in it."""

    async def work(engine):
        one, two = await engine.write(lambda conn: (seal(conn, b"swordfish"), seal(conn, b"swordfish")))
        assert one != two
        assert b"swordfish" not in one
        assert await engine.read(lambda conn: unseal(conn, one)) == b"swordfish"

    run(make_engine, work)


def test_altered_moved_and_foreign_values_do_not_open(make_engine):
    """Any flipped bit, another row's place, another tenant: each is noticed."""

    async def work(engine):
        sealed = await engine.write(lambda conn: (seal(conn, tenant_id="ten_b"), seal(conn))[1])
        for at in range(len(sealed)):
            for bit in (1, 128):
                broken = bytearray(sealed)
                broken[at] ^= bit
                with pytest.raises(SealBroken):
                    await engine.read(lambda conn, broken=broken: unseal(conn, bytes(broken)))
        for other in ({"tenant_id": "ten_b"}, {"place": "person.sealed/per_2"}, {"tenant_id": ""}):
            with pytest.raises(SealBroken):
                await engine.read(lambda conn, other=other: unseal(conn, sealed, **other))
        for short in (b"", sealed[:20], b"plain text that never was sealed by anyone"):
            with pytest.raises(SealBroken):
                await engine.read(lambda conn, short=short: unseal(conn, short))

    run(make_engine, work)


def test_each_tenant_and_day_has_a_key_of_its_own(make_engine):
    """Two tenants on two days use four keys; a value opens as long as its own key is there."""

    async def work(engine):
        def fill(conn):
            return [seal(conn, tenant_id=tenant, at=at) for tenant in ("ten_a", "ten_b") for at in (NOW, NOW + DAY)]

        values = await engine.write(fill)
        rows = await engine.read(lambda conn: conn.execute(sa.select(data_key.c.tenant_id, data_key.c.day, data_key.c.wrapped)).all())
        assert sorted(row[:2] for row in rows) == [
            ("", "search"), ("ten_a", "2025-11-24"), ("ten_a", "2025-11-25"), ("ten_b", "2025-11-24"), ("ten_b", "2025-11-25"),
        ]  # fmt: skip
        assert len({row.wrapped for row in rows}) == 5
        await engine.write(lambda conn: conn.execute(sa.delete(data_key).where(data_key.c.day == "2025-11-25")))
        other = make_engine()
        try:
            assert await other.read(lambda conn: unseal(conn, values[0])) == b"secret"
            with pytest.raises(KeyLost):
                await other.read(lambda conn: unseal(conn, values[1]))
        finally:
            await other.close()

    run(make_engine, work)


def test_a_key_of_a_failed_transaction_is_never_used_again(make_engine):
    """Nothing is sealed under a key that the database does not hold."""

    async def work(engine):
        def fail(conn):
            assert unseal(conn, seal(conn)) == b"secret"
            raise RuntimeError("taken back")

        with pytest.raises(RuntimeError):
            await engine.write(fail)
        sealed = await engine.write(seal)
        other = make_engine()
        try:
            assert await other.read(lambda conn: unseal(conn, sealed)) == b"secret"
        finally:
            await other.close()

    run(make_engine, work)


def test_a_key_that_a_failover_lost_is_never_used_again(postgres_url, tmp_path):
    """Another server may lack the newest commits: with new connections, keys are looked up anew."""

    def make_engine():
        return create_engine(postgres_url, tmp_path / "data")

    async def work(engine):
        lost = await engine.write(seal)
        assert await engine.read(lambda conn: unseal(conn, lost)) == b"secret"
        other = make_engine()
        try:
            await other.write(lambda conn: conn.execute(sa.delete(data_key).where(data_key.c.tenant_id == "ten_a")))
            cut = sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
            await other.write(lambda conn: conn.execute(cut))

            def store(conn):
                sealed = seal(conn)
                conn.execute(sa.text("SELECT 1"))
                return sealed

            with pytest.raises(StorageUnavailable):
                await engine.write(store)
            sealed = await engine.write(store)
            assert await other.read(lambda conn: unseal(conn, sealed)) == b"secret"
        finally:
            await other.close()

    run(make_engine, work)


def test_processes_that_seal_at_once_agree_on_one_key(make_engine):
    """Ten writers that meet a new tenant at the same moment leave one key, and each reads what the others sealed."""

    async def work(engine):
        others = [make_engine() for _ in range(3)]
        try:
            writers = [engine, *others] * 3
            values = await asyncio.gather(
                *[one.write(lambda conn: [seal(conn, tenant_id=f"ten_{n}") for n in range(5)]) for one in writers]
            )
            assert await engine.read(lambda conn: conn.execute(sa.select(sa.func.count()).select_from(data_key)).scalar_one()) == 6
            for one in writers:
                for n in range(5):
                    for value in values:
                        assert await one.read(lambda conn, n=n, value=value: unseal(conn, value[n], tenant_id=f"ten_{n}")) == b"secret"
        finally:
            for one in others:
                await one.close()

    run(make_engine, work)


def test_hashes_are_the_same_in_every_process_and_need_the_master_key(make_engine, tmp_path):
    """An address is found by its hash from another process; another database's hash of it is another one."""

    async def work(engine):
        mine = await engine.write(lambda conn: sealing.keyed_hash(conn, "ann@example.net"))
        assert len(mine) == 32
        assert mine != await engine.read(lambda conn: sealing.keyed_hash(conn, "bob@example.net"))
        again = make_engine()
        strange = create_engine("", tmp_path / "strange")
        try:
            assert await again.read(lambda conn: sealing.keyed_hash(conn, "ann@example.net")) == mine
            await open_store(strange, SystemClock())
            assert await strange.read(lambda conn: sealing.keyed_hash(conn, "ann@example.net")) != mine
        finally:
            await again.close()
            await strange.close()

    run(make_engine, work)


@pytest.mark.parametrize("how", ["wrong", "missing", "not a key", "empty"])
def test_a_wrong_or_missing_master_key_is_refused_at_the_start(make_engine, database_url, tmp_path: Path, how):
    """With data there, no other key is taken and none is made; the message names the key that is wanted."""

    async def work(engine):
        path = tmp_path / "data" / "master.key"
        kept = path.read_text()
        wanted = KeyFile(path).newest()
        if how == "missing":
            path.unlink()
        else:
            path.write_text({"not a key": "hello\n", "empty": "", "wrong": f"{generate().text}\n"}[how])
        other = make_engine()
        try:
            with pytest.raises(MasterKeyRefused, match={"not a key": "32 random bytes", "empty": "no key in it"}.get(how, wanted.id)):
                await open_store(other, SystemClock())
            with pytest.raises((MasterKeyRefused, KeyLost)):
                await other.write(lambda conn: [conn.execute(sa.insert(site_state), [{"site": "x", "note": ""}]), seal(conn)])
        finally:
            await other.close()
        assert path.exists() == (how != "missing")
        # the process that runs already goes on
        assert await engine.write(lambda conn: unseal(conn, seal(conn))) == b"secret"
        path.write_text(kept)

    run(make_engine, work)


def test_an_empty_file_is_no_master_key_and_is_not_filled(tmp_path: Path):
    """On a database that is new: what somebody put there is theirs, and the message says what is wrong with it."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "master.key").touch()

    async def main():
        engine = create_engine("", data)
        with pytest.raises(MasterKeyRefused, match="no key in it"):
            await open_store(engine, SystemClock())
        await engine.close()

    asyncio.run(main())
    assert (data / "master.key").read_bytes() == b""


def test_the_first_master_key_is_made_for_its_owner_only(make_engine, tmp_path: Path):
    """The file that the first start makes can be read by nobody else."""

    async def work(engine):
        facts = (tmp_path / "data" / "master.key").stat()
        assert facts.st_mode & 0o777 == 0o600

    run(make_engine, work)


def test_old_master_keys_still_open_what_they_wrapped(database_url, tmp_path: Path):
    """A new key put in front of the old one takes over nothing by itself, and loses nothing."""

    async def main():
        old, new = generate(), generate()
        one = create_engine(database_url, tmp_path / "data", masters=GivenKeys(old.text, "test"))
        await open_store(one, SystemClock())
        sealed = await one.write(seal)
        await one.close()
        two = create_engine(database_url, tmp_path / "data", masters=GivenKeys(f"{new.text} {old.text}", "test"))
        await open_store(two, SystemClock())
        assert await two.write(lambda conn: (seal(conn, at=NOW + DAY), unseal(conn, sealed))[1]) == b"secret"
        assert await two.read(keyring.master_ids) == [old.id]
        await two.close()

    asyncio.run(main())

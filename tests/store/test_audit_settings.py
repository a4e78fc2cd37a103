"""The settings in the audit log: a changed file is a change, too; secrets are marks that change when the secret does."""

import asyncio

import msgspec

from gatepost.settings import Egress, Http, Loaded, Log, Oidc, Settings
from gatepost.store import audit
from gatepost.store.audit import Wanted
from gatepost.store.opening import open_store
from gatepost.tenants.audit import ACTION, record_settings
from gatepost.testing.fake_clock import FakeClock
from tests.store.rows import NOW


def test_changed_settings_are_recorded_at_the_next_start(make_engine, tmp_path):
    """The first start records all; an unchanged one nothing; a changed one the names and both values; each machine for itself."""

    async def main():
        engine = make_engine()
        await open_store(engine, FakeClock(NOW))

        async def start(host="a", **sections):
            loaded = Loaded(settings=Settings(**sections), origins={}, data_dir=tmp_path)
            return await engine.write(lambda conn: record_settings(conn, loaded, host, NOW))

        async def entries():
            return await engine.read(lambda conn: audit.page(conn, Wanted(is_gateway=True, action=ACTION), 100))

        secret = Oidc(client_secret="hunter2-one")
        assert await start(oidc=secret) == []
        assert await start(oidc=secret) == []
        assert len(await entries()) == 1
        assert await start(oidc=secret, http=Http(listen="0.0.0.0:80"), log=Log(level="debug")) == ["http.listen", "log.level"]
        newest = (await entries())[0]
        assert newest.before == {"http.listen": Http().listen, "log.level": "info"}
        assert newest.after["changed"] == {"http.listen": "0.0.0.0:80", "log.level": "debug"}
        assert await start("b", egress=Egress(default_route="mx")) == []
        changed = msgspec.structs.replace(secret, client_secret="hunter2-two")
        assert await start(oidc=changed, http=Http(listen="0.0.0.0:80"), log=Log(level="debug")) == ["oidc.client_secret"]
        told = repr([(row.before, row.after) for row in await entries()])
        assert "hunter2" not in told
        assert (await engine.read(audit.verify)).problem is None
        await engine.close()

    asyncio.run(main())

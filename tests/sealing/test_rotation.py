"""A new master key takes over while the gateway runs; options sealed under it; nothing is lost on the way."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from gatepost.cli import main
from gatepost.clock import DAY, SystemClock
from gatepost.store import audit, rotation, sealing
from gatepost.store.errors import KeyLost, MasterKeyRefused
from gatepost.store.key_file import KeyFile
from gatepost.store.master_key import GivenKeys, generate
from gatepost.store.opening import create_engine, open_store
from gatepost.store.schema import data_key
from tests.flow.serving import Serving, prepare, until
from tests.sealing.test_keyring import NOW, seal, unseal


def command(data: Path, *arguments: str, typed: str = "", fails: bool = False, **environ: str):
    """Run a command in this process; return its JSON."""
    done = CliRunner(env=environ).invoke(main, [*arguments, "--data", str(data), "--json"], input=typed)
    assert (done.exit_code != 0) == fails, done.output
    return json.loads(done.stdout)


def options(url: str) -> list[str]:
    return ["--set", f"database.url={url}"] if url else []


def test_a_rotation_wraps_every_key_anew_and_changes_no_value(make_engine, database_url, tmp_path: Path):
    """Processes that run go on without a restart, hashes stay, and afterwards the old key opens nothing."""

    async def work(engine, other):
        await open_store(engine, SystemClock())
        values = await engine.write(lambda conn: [seal(conn, tenant_id=f"ten_{n % 7}", at=NOW + n * DAY) for n in range(30)])
        hashed = await engine.read(lambda conn: sealing.keyed_hash(conn, "a"))
        await other.read(lambda conn: unseal(conn, values[0], tenant_id="ten_0"))
        old = KeyFile(tmp_path / "data" / "master.key").newest()
        before = await engine.read(lambda conn: conn.execute(sa.select(data_key.c.wrapped)).scalars().all())
        told = await asyncio.to_thread(command, tmp_path / "data", "secrets", "rotate", *options(database_url))
        assert (told["was"], told["damaged"], told["forgotten"]) == (old.id, [], [])
        assert told["rewrapped"] >= 31
        after = await engine.read(lambda conn: conn.execute(sa.select(data_key.c.wrapped)).scalars().all())
        assert not {bytes(one) for one in before} & {bytes(one) for one in after}
        # both processes read what was, and make new keys under the new master
        for one in (engine, other):
            for n, value in enumerate(values):
                assert await one.read(lambda conn, n=n, value=value: unseal(conn, value, tenant_id=f"ten_{n % 7}")) == b"secret"
        await other.write(lambda conn: seal(conn, tenant_id="ten_new"))
        state = await engine.read(rotation.state)
        assert (state.in_force, state.left) == (told["master"], 0)
        assert await engine.read(lambda conn: sealing.keyed_hash(conn, "a")) == hashed
        (entry,) = await engine.read(lambda conn: audit.page(conn, audit.Wanted(action="master_key.rotated"), 5))
        assert (entry.object_id, entry.before) == (told["master"], {"in_force": old.id})
        late = create_engine(database_url, tmp_path / "data", masters=GivenKeys(old.text, "test"))
        with pytest.raises(MasterKeyRefused, match=told["master"]):
            await open_store(late, SystemClock())
        await late.close()

    async def run():
        engine, other = make_engine(), make_engine()
        try:
            await work(engine, other)
        finally:
            await engine.close()
            await other.close()

    asyncio.run(run())


def test_an_interrupted_rotation_is_finished_by_the_next(make_engine, database_url, tmp_path: Path):
    """Stopped after the file, or after some of the keys: nothing is unreadable in between, and no third key appears."""

    async def work(engine):
        await open_store(engine, SystemClock())
        values = await engine.write(lambda conn: [seal(conn, at=NOW + n * DAY) for n in range(20)])
        keys = KeyFile(tmp_path / "data" / "master.key")
        old, new = keys.newest(), generate()
        keys.replace([new, old])
        await engine.write(lambda conn: seal(conn, at=NOW - DAY))
        assert (await engine.read(rotation.state)).counts.keys() == {old.id}  # nobody told the database yet
        await engine.write(lambda conn: rotation.take_over(conn, new))
        done = await engine.write(lambda conn: rotation.rewrap(conn, new, limit=5))
        assert done.count == 5
        await engine.write(lambda conn: seal(conn, at=NOW - 2 * DAY))
        fresh = make_engine()
        for value in values:
            assert await fresh.read(lambda conn, value=value: unseal(conn, value)) == b"secret"
        await fresh.close()
        told = await asyncio.to_thread(command, tmp_path / "data", "secrets", "rotate", "--forget-old", *options(database_url))
        assert (told["master"], told["forgotten"]) == (new.id, [old.id])
        assert [key.id for key in keys.all] == [new.id]
        assert (await engine.read(rotation.state)).counts.keys() == {new.id}

    async def run():
        engine = make_engine()
        try:
            await work(engine)
        finally:
            await engine.close()

    asyncio.run(run())


def test_a_damaged_data_key_does_not_stop_a_rotation(tmp_path: Path):
    """It is named; every other key is wrapped anew, by this rotation and by the next."""

    async def fill():
        engine = create_engine("", tmp_path)
        await open_store(engine, SystemClock())
        values = await engine.write(lambda conn: [seal(conn, at=NOW + n * DAY) for n in range(3)])
        is_second = data_key.c.day == "2025-11-25"
        await engine.write(lambda conn: conn.execute(sa.update(data_key).where(is_second).values(wrapped=b"x" * 60)))
        await engine.close()
        return values

    values = asyncio.run(fill())
    told = command(tmp_path, "secrets", "rotate", "--forget-old")
    assert told["damaged"] == ["ten_a 2025-11-25"]
    assert told["forgotten"] == []  # the old key still stands beside a row: perhaps a backup has that row whole

    async def read():
        engine = create_engine("", tmp_path)
        assert [await engine.read(lambda conn, n=n: unseal(conn, values[n])) for n in (0, 2)] == [b"secret"] * 2
        with pytest.raises(KeyLost):
            await engine.read(lambda conn: unseal(conn, values[1]))
        await engine.close()

    asyncio.run(read())
    again = command(tmp_path, "secrets", "rotate")
    assert (again["was"], again["rewrapped"], again["damaged"]) == (told["master"], 3, ["ten_a 2025-11-25"])
    assert again["master"] != told["master"]


def test_a_given_key_is_changed_by_hand_and_never_silently(tmp_path: Path):
    """From the environment: the new key goes in front of the old one, then it takes over; alone, neither is made or replaced."""
    data, old, new = tmp_path / "d", generate(), generate()
    first = command(data, "secrets", "status", GATEPOST_SECRETS__MASTER_KEY=old.text)
    assert (first["in_force"], first["where"]) == (old.id, "secrets.master_key")
    assert not (data / "master.key").exists()
    refused = command(data, "secrets", "rotate", fails=True, GATEPOST_SECRETS__MASTER_KEY=old.text)
    assert refused["error"]["code"] == "master_key_refused"
    both = f"{new.text} {old.text}"
    assert command(data, "secrets", "rotate", GATEPOST_SECRETS__MASTER_KEY=both)["master"] == new.id
    assert command(data, "secrets", "status", GATEPOST_SECRETS__MASTER_KEY=new.text)["to_rewrap"] == 0
    for wrong in ({}, {"GATEPOST_SECRETS__MASTER_KEY": old.text}, {"GATEPOST_SECRETS__MASTER_KEY": "short"}):
        answer = command(data, "key", "list", fails=True, **wrong)
        assert answer["error"]["code"] == "master_key_refused"
    assert not (data / "master.key").exists()


def test_a_key_in_a_credential_or_a_file_of_its_own_is_used(tmp_path: Path):
    """Systemd's credential, the option for a file, and the environment's file all name the same key."""
    key, data = generate(), tmp_path / "d"
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "gatepost-master-key").write_text(key.text)
    assert command(data, "secrets", "status", CREDENTIALS_DIRECTORY=str(folder))["in_force"] == key.id
    path = folder / "gatepost-master-key"
    assert command(data, "secrets", "status", GATEPOST_SECRETS__MASTER_KEY_FILE=str(path))["where"] == str(path)
    assert command(data, "secrets", "status", "--set", f"secrets.master_key_file={path}")["in_force"] == key.id
    assert not (data / "master.key").exists()


def test_a_new_key_can_be_brought_along_and_two_rotations_do_not_meet(tmp_path: Path):
    """The key of a file is taken as it is; while one rotation runs, another is refused."""
    command(tmp_path / "d", "secrets", "status")
    brought, path = generate(), tmp_path / "new.key"
    path.write_text(brought.text)
    assert command(tmp_path / "d", "secrets", "rotate", "--new-key-file", str(path))["master"] == brought.id
    with KeyFile(tmp_path / "d" / "master.key").locked():
        assert "another rotation" in command(tmp_path / "d", "secrets", "rotate", fails=True)["error"]["detail"]


def test_a_sealed_option_is_opened_where_it_is_used_and_shown_nowhere(tmp_path: Path):
    """`gatepost settings` shows the sealed value; altered, or without its key, it is refused by its name."""
    url = "smtp://user:opensesame@127.0.0.1:9?tls=never"
    sealed = command(tmp_path, "secrets", "seal", typed=url)["value"]
    config = tmp_path / "gatepost.toml"
    config.write_text(f'[relays.main]\nurl = "{sealed}"\n')
    shown = {one["name"]: one["value"] for one in command(tmp_path, "settings")}
    assert shown["relays.main.url"] == sealed
    assert command(tmp_path, "secrets", "status")["options"] == {"relays.main.url": KeyFile(tmp_path / "master.key").newest().id}

    from gatepost import settings
    from gatepost.app.secrets import unsealed

    loaded = settings.load(tmp_path, environ={})
    assert unsealed(loaded).settings.relays["main"].url == url
    assert loaded.settings.relays["main"].url == sealed
    told = command(tmp_path, "secrets", "rotate", "--forget-old")
    assert told["options_to_seal_anew"] == ["relays.main.url"]
    assert told["forgotten"] == []  # a sealed option still needs the old one
    assert unsealed(loaded).settings.relays["main"].url == url
    altered = sealed[:-6] + ("A" if sealed[-6] != "A" else "B") + sealed[-5:]
    config.write_text(f'[relays.main]\nurl = "{altered}"\n')
    assert "relays.main.url" in command(tmp_path, "key", "list", fails=True)["error"]["detail"]


def test_a_running_gateway_takes_mail_through_a_rotation(tmp_path: Path):
    """Mail before, during and after: all accepted, all delivered, all readable; a wrong key is refused at the next start."""
    data = tmp_path / "data"
    data.mkdir()
    key = prepare(data)
    mail = {"from": "a@acme.example", "to": ["b@example.net"], "subject": "Hello", "text": "x"}
    with (
        Serving(data) as gateway,
        httpx.Client(base_url=f"http://{gateway.listening['http']}", headers={"Authorization": f"Bearer {key}"}) as client,
    ):
        ids = []
        for _ in range(2):
            for _ in range(5):
                answer = client.post("/v1/messages", json=mail)
                assert answer.status_code == 202, answer.text
                ids.append(answer.json()["id"])
            command(data, "secrets", "rotate", "--forget-old")
        for message_id in ids:
            shown = until(
                lambda message_id=message_id: (one := client.get(f"/v1/messages/{message_id}").json())["status"] == "delivered" and one
            )
            assert shown["subject"] == "Hello"
    kept = (data / "master.key").read_text()
    (data / "master.key").write_text(generate().text)
    with Serving(data, is_ready=False) as refused:
        assert refused.process.wait(30) == 1
        assert "master_key_refused" in refused.log.rsplit("stopped", 1)[-1]
    (data / "master.key").write_text(kept)

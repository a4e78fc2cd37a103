"""
The promise of encryption at rest: who has the disk reads nothing.

A real gateway takes mail, keeps it, delivers it. Then every file that it left (and PostgreSQL's own) is searched for what
went in, in the forms in which it could stand there.
"""

import asyncio
import base64
import email
import json
import os
import smtplib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from click.testing import CliRunner

from gatepost.cli import main
from gatepost.clock import SystemClock
from gatepost.store import tenants
from gatepost.store.opening import create_engine, open_store
from gatepost.store.schema import body, capture, dkim_key
from tests.flow.serving import Serving, prepare, until

SECRETS = {
    "subject": "Subjectmark7301",
    "body": "Bodymark7302",
    "attachment": "Attachmark7303",
    "attachment's name": "namemark7304.bin",
    "recipient": "rcptmark7305@domainmark7306.example",
    "recipient's domain": "domainmark7306",
    "sandboxed recipient": "sandboxmark7307",
    "sender's name": "Namemark7308",
    "bounce address": "bouncemark7309",
    "metadata": "metamark7310",
    "idempotency key": "idemmark7311",
    "suppressed address": "suppmark7312",
    "suppression's note": "notemark7313",
    "relay's password": "passmark7314",
    "relay's words": "replymark7315",
    "message id": "msgidmark7316",
    "PEM key": "PRIVATE KEY",
}  # fmt: skip
WORDS, PASSWORD = SECRETS["relay's words"], SECRETS["relay's password"]
CONTROL = "controlmark7399"


class Sink:
    """A relay that wants a password and quotes the recipient in its answer."""

    def __init__(self, port: int) -> None:
        self.contents: list[bytes] = []
        self.passwords: list[bytes] = []
        self._controller = Controller(
            self, hostname="127.0.0.1", port=port, authenticator=self._check, auth_require_tls=False, auth_required=True, decode_data=False
        )

    def _check(self, _server, _session, _envelope, _mechanism, data) -> AuthResult:
        self.passwords.append(data.password)
        return AuthResult(success=True)

    async def handle_DATA(self, _server, _session, envelope) -> str:  # noqa: N802 - its name there
        self.contents.append(envelope.content)
        return f"250 2.0.0 {WORDS} {envelope.rcpt_tos[0]} queued"

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()


def forms(text: str) -> Iterator[bytes]:
    """Every way in which a text could stand in a file."""
    plain = text.encode()
    yield from {plain, plain.lower(), plain.hex().encode(), text.lower().encode("utf-16-le"), text.lower().encode("utf-16-be")}
    for shift in range(3):  # inside of base64, a text looks differently at each of three places
        encoded = base64.b64encode(b"\0" * shift + plain)
        yield encoded[-(-shift * 4 // 3) : (shift + len(plain)) // 3 * 4]


_CORE = list(forms("mark73"))
"""What every marked text contains: it saves searching for each of them where there is none."""


def found_in(folders: list[Path], wanted: dict[str, list[bytes]], since: float = 0) -> list[str]:
    """Search all files but the master key; name what was found, and where. A domain may stand in the log, behind a shortened name."""
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "master.key" and path.stat().st_mtime >= since:
                content = path.read_bytes()
                lower = content.lower()
                is_marked = any(text in lower or text in content for text in _CORE)
                hits = [what for what in wanted if is_marked or "mark" not in SECRETS.get(what, "")]
                hits = [what for what in hits if any(text in content or text in lower for text in wanted[what])]
                found += [f"{what} in {path}" for what in hits if not (what == "recipient's domain" and path.name == "serve.log")]
    return found


@pytest.fixture
def disks(database_url: str, tmp_path: Path) -> list[Path]:
    """Every folder that the gateway and its database write to."""
    if not database_url:
        return [tmp_path / "data"]

    async def ask() -> str:
        import asyncpg

        connection = await asyncpg.connect(database_url)
        folder = await connection.fetchval("SHOW data_directory")
        await connection.close()
        return folder

    return [tmp_path / "data", Path(asyncio.run(ask()))]


@pytest.fixture
def free_port() -> int:
    """A port where nothing listens yet."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def test_who_has_the_disk_finds_nothing_while_mail_waits_and_after_it_was_delivered(database_url, disks, tmp_path: Path, free_port):
    """Not one of the marked texts stands in database, log of the database, blob store or log; a text that is not sealed is found."""
    started, data = time.time() - 1, tmp_path / "data"
    data.mkdir(exist_ok=True)
    flags = {"database__url": database_url} if database_url else {}
    sets = [f"database.url={database_url}"] if database_url else []
    options = [part for one in sets for part in ("--set", one)]
    key = prepare(data, **flags)
    relay = f"smtp://user:{PASSWORD}@127.0.0.1:{free_port}?tls=never"
    sealed = command(data, "secrets", "seal", *options, typed=relay).strip()
    (data / "gatepost.toml").write_text(
        f'[relays.main]\nurl = "{sealed}"\n[egress]\ndefault_route = "main"\n[retry]\nschedule = [1]\n[log]\nlevel = "debug"\n'
    )
    test_key = json.loads(command(data, "key", "create", "--name", "t", "--test", "--json", *options))["key"]
    wanted = {what: list(forms(text)) for what, text in SECRETS.items()} | asyncio.run(keys_of(database_url, data))
    with Serving(data, *sets) as gateway:
        send(gateway, key, test_key)
        until(lambda: state(gateway, key, "deferred"))
        assert "\n".join(found_in(disks, wanted, started)) == ""
        with Sink(free_port) as sink:
            until(lambda: state(gateway, key, "sent"))
            assert set(sink.passwords) == {SECRETS["relay's password"].encode()}  # probes give it too
            mail = email.message_from_bytes(sink.contents[0])
            assert mail["DKIM-Signature"]
            assert SECRETS["attachment"].encode() in mail.get_payload()[1].get_payload(decode=True)
        until(lambda: state(gateway, test_key, "delivered"))
        shown = gateway_text(gateway, key)
        for what in ("subject", "recipient", "metadata", "relay's words"):
            assert SECRETS[what] in shown, what
        assert "\n".join(found_in(disks, wanted, started)) == ""
    asyncio.run(flush(database_url, data))
    assert "\n".join(found_in(disks, wanted, started)) == ""
    assert any((data / "blobs").rglob("*"))
    assert found_in(disks, {"control": [CONTROL.encode()]}) != []
    assert PASSWORD not in command(data, "settings", *options)


def command(data: Path, *arguments: str, typed: str | None = None) -> str:
    """Run a command in this process; return what it printed."""
    done = CliRunner().invoke(main, [*arguments, "--data", str(data)], input=typed)
    assert done.exit_code == 0, done.output
    return done.stdout


def send(gateway: Serving, key: str, test_key: str) -> None:
    """Send marked mail, and suppress a marked address."""
    large = os.urandom(150_000) + SECRETS["attachment"].encode() + os.urandom(150_000)
    mail = {
        "from": {"email": "shop@acme.example", "name": SECRETS["sender's name"]},
        "to": [SECRETS["recipient"]],
        "subject": f"Your {SECRETS['subject']}",
        "text": f"Your code is {SECRETS['body']}.",
        "metadata": {"order": SECRETS["metadata"]},
        "attachments": [{"filename": SECRETS["attachment's name"], "content": base64.b64encode(large).decode()}],
    }
    with httpx.Client(base_url=f"http://{gateway.listening['http']}", headers={"Authorization": f"Bearer {key}"}) as client:
        for _ in range(2):
            answer = client.post("/v1/messages", json=mail, headers={"Idempotency-Key": SECRETS["idempotency key"]})
            assert answer.status_code == 202, answer.text
        row = {"address": f"{SECRETS['suppressed address']}@example.net", "reason": "manual", "note": SECRETS["suppression's note"]}
        answer = client.post("/v1/suppressions", json=row)
        assert answer.status_code in {200, 201}, answer.text
        raw = (
            f"From: shop@acme.example\r\nTo: {SECRETS['sandboxed recipient']}@example.net\r\nSubject: Also {SECRETS['subject']}\r\n"
            f"Message-ID: <{SECRETS['message id']}@acme.example>\r\n\r\nAnd {SECRETS['body']}.\r\n"
        )
    host, port = gateway.listening["smtp"].rsplit(":", 1)
    with smtplib.SMTP(host, int(port)) as smtp:
        smtp.login("api", test_key)
        smtp.sendmail(f"{SECRETS['bounce address']}@acme.example", [f"{SECRETS['sandboxed recipient']}@example.net"], raw)


def state(gateway: Serving, key: str, status: str) -> bool:
    """Tell whether some message has a status."""
    answer = httpx.get(f"http://{gateway.listening['http']}/v1/messages?status={status}", headers={"Authorization": f"Bearer {key}"})
    return bool(answer.json()["data"])


def gateway_text(gateway: Serving, key: str) -> str:
    """All that the API tells of the newest message: to its owner everything is readable."""
    with httpx.Client(base_url=f"http://{gateway.listening['http']}", headers={"Authorization": f"Bearer {key}"}) as client:
        messages = client.get("/v1/messages").json()["data"]
        return "".join(
            client.get(f"/v1/messages/{one['id']}{part}").text for one in messages for part in ("", "/events", "/attempts")
        )  # fmt: skip


async def keys_of(url: str, data: Path) -> dict[str, list[bytes]]:
    """Return what the private DKIM keys look like: lines of their PEM form, and the bytes in it."""
    engine = create_engine(url, data)
    tenant_id = await open_store(engine, SystemClock())

    def read(conn):
        names = [domain.id for domain in tenants.domains(conn, tenant_id)]
        return [key.private_pem for key in tenants.dkim_keys(conn, names)]

    pems = await engine.read(read)
    assert len(pems) == 2
    await engine.close()
    lines = [[line for line in pem.splitlines() if line and "-" not in line] for pem in pems]
    longest = [max(one, key=len) for one in lines]
    raw = [base64.b64decode("".join(one))[-40:-4] for one in lines]
    return {"DKIM key": [text.encode() for text in longest] + raw}


async def flush(url: str, data: Path) -> None:
    """Let the databases write everything down and tidy up; leave one text unsealed, to see that the search finds it."""
    engine = create_engine(url, data)
    await open_store(engine, SystemClock())
    await engine.write(lambda conn: conn.execute(sa.text(f"INSERT INTO site_state (site, note) VALUES ('x', '{CONTROL}')")))

    def bare(conn):
        texts = [bytes(row[0]) for table in (body, capture) for row in conn.execute(sa.select(table.c.data))]
        return texts + [bytes(row[0]) for row in conn.execute(sa.select(dkim_key.c.private_sealed))]

    assert all(not one.startswith(b"\x28\xb5\x2f\xfd") for one in await engine.read(bare))
    await engine.close()
    if not url:
        import pysqlite3

        connection = pysqlite3.connect(data / "gatepost.db")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute("VACUUM FULL")
    await connection.execute("ANALYZE")
    await connection.execute("CHECKPOINT")
    await connection.close()

"""Parts of `serve` that need no process: flags for children, what is announced, the lock, the stand-ins."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.flow.serving import environment

from gatepost.app.listening import CannotListen, StandIns, address_of, bind
from gatepost.app.parts import listen_address, with_hostnames
from gatepost.cli.serve import written
from gatepost.serve.cores import dispatch_count, keep_to, shares, usable
from gatepost.serve.lock import AlreadyServed, DataLock
from gatepost.serve.notify import notify, watchdog_s
from gatepost.serve.supervisor import announcement
from gatepost.settings import Egress, InvalidSettings, Loaded, Relay, Settings, Tls, Workers, parse_value


@pytest.mark.parametrize("value", ["127.0.0.1:8025", 'a "quoted" \\ text', "12345", "true", 25, 0.5, True, [1, 5], ["a", "b"]])
def test_a_flag_reaches_a_child_unchanged(value: Any) -> None:
    """What `serve` was given is what its children read, a password of digits included."""
    (text,) = written({"section.option": value})
    name, _, rest = text.partition("=")
    assert (name, parse_value(rest)) == ("section.option", value)


@pytest.mark.parametrize(
    ("egress", "said"),
    [("sandbox", "nothing leaves this machine"), ("mx", "straight to the recipients' mail servers"), ("main", "to the relay main")],
)
def test_the_announcement_says_where_mail_goes(tmp_path: Path, egress: str, said: str) -> None:
    """An operator sees at the start whether mail leaves the house."""
    settings = Settings(egress=Egress(default_route=egress), relays={"main": Relay(url="smtp://h:25")}, tls=Tls(cert="c", key="k"))
    lines = announcement(
        Loaded(settings=settings, origins={}, data_dir=tmp_path), {"http": "127.0.0.1:1", "smtp": "127.0.0.1:2", "smtps": "127.0.0.1:3"}
    )
    assert said in "\n".join(lines)
    assert [line.split()[0] for line in lines] == ["HTTP", "SMTP", "SMTPS", "Mail", "Data"]
    assert "STARTTLS" in lines[1]


def test_there_is_always_a_dispatch_process() -> None:
    """One per core beyond the first, at least one, or as many as were asked for."""
    assert [dispatch_count(Workers(), cores) for cores in (1, 2, 8)] == [1, 1, 7]
    assert dispatch_count(Workers(dispatch=3), 2) == 3


@pytest.mark.parametrize(
    ("workers", "cores", "expected"),
    [
        (Workers(), [0, 1], [0, 1]),
        (Workers(), [2, 5, 7], [2, 5, 7]),
        (Workers(), [0], [None, None]),
        (Workers(dispatch=3), [0, 1], [None] * 4),
        (Workers(dispatch=1), [0, 1, 2, 3], [None, None]),
        (Workers(keep_cores=False), [0, 1], [None, None]),
    ],
)
def test_each_process_keeps_to_a_core_only_where_there_is_one_for_each(
    workers: Workers, cores: list[int], expected: list[int | None]
) -> None:
    """Two on one core, or all of them on the first few, would wait for each other beside cores that do nothing."""
    assert shares(workers, cores) == expected


def test_a_core_that_is_gone_keeps_nobody_from_starting() -> None:
    """What the machine had when `serve` began, a container may have lost since."""
    before = usable()
    keep_to(max(before) + 4096)
    keep_to(None)
    assert usable() == before


def test_the_lock_is_held_by_whoever_inherited_it(tmp_path: Path) -> None:
    """A child that outlives its supervisor keeps the data directory locked."""
    with DataLock(tmp_path) as lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock.handle,), env=environment())
    with pytest.raises(AlreadyServed, match=rf"process {os.getpid()}"), DataLock(tmp_path):
        pass
    child.communicate(b"\n")
    with DataLock(tmp_path):
        pass


def test_notifying_without_systemd_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket, or a dead one: a service manager is never a reason to fail."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/socket")
    notify("READY=1")


def test_the_watchdog_is_only_fed_when_it_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the interval that systemd asks for; another process's watchdog is not ours."""
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert watchdog_s() == 1.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_s() is None
    monkeypatch.delenv("WATCHDOG_USEC")
    assert watchdog_s() is None


@pytest.mark.parametrize(
    ("text", "expected"), [("127.0.0.1:25", ("127.0.0.1", 25)), ("[::1]:25", ("::1", 25)), ("localhost:0", ("localhost", 0))]
)
def test_an_address_to_listen_on_is_read(text: str, expected: tuple[str, int]) -> None:
    """host:port, with brackets around IPv6."""
    assert listen_address("http.listen", text) == expected


@pytest.mark.parametrize("text", ["8025", ":8025", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"])
def test_an_address_that_is_none_names_its_option(text: str) -> None:
    """The operator reads which option is wrong."""
    with pytest.raises(InvalidSettings, match=r"http\.listen"):
        listen_address("http.listen", text)


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    """The sentence names the option and the address."""
    with pytest.raises(CannotListen, match=r"smtp.listen: cannot listen on 192.0.2.1:25"):
        bind("smtp.listen", "192.0.2.1", 2525)


def test_names_are_filled_in_only_where_they_are_missing() -> None:
    """A name that was set stays; else it is this machine's, which must be fit for EHLO."""
    settings = with_hostnames(Settings(egress=Egress(hostname="mail.acme.example")))
    assert settings.egress.hostname == "mail.acme.example"
    assert settings.smtp.hostname


def test_stand_ins_answer_and_leave_the_socket_open() -> None:
    """While the database is away a client is told so; afterwards the real door listens on the same socket."""

    async def main() -> None:
        sock = bind("http.listen", "127.0.0.1", 0)
        stand_ins = StandIns("mail.acme.example")
        await stand_ins.start_http(sock)
        status, body = await _get(sock, "/v1/messages?x=1")
        assert status == 503
        assert (json.loads(body)["code"], json.loads(body)["instance"]) == ("storage_unavailable", "/v1/messages")
        assert (await _get(sock, "/livez"))[0] == 200
        await stand_ins.close()
        assert sock.fileno() != -1
        server = await asyncio.start_server(lambda _r, w: w.close(), sock=sock)
        server.close()

    asyncio.run(main())


def test_a_client_that_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in does not wait for a request that never comes."""
    monkeypatch.setattr("gatepost.app.listening._AWAY_PATIENCE_S", 0.05)

    async def main() -> None:
        with bind("http.listen", "127.0.0.1", 0) as sock:
            stand_ins = StandIns("x")
            await stand_ins.start_http(sock)
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            writer.write(b"GET")
            async with asyncio.timeout(2):
                assert await reader.read() == b""
            writer.close()
            await stand_ins.close()

    asyncio.run(main())


async def _get(sock: socket.socket, target: str) -> tuple[int, bytes]:
    host, _, port = address_of(sock).rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body

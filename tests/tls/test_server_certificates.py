"""The certificates of the doors on real sockets: which one a client gets, and how they are exchanged while it runs."""

import asyncio
import contextlib
import os
import ssl
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from gatepost.net.server_tls import HTTPS, SMTP, Place, ServerCertificates, UnusableCertificate
from gatepost.net.tls_policy import ClientCheck
from gatepost.observe import maillog
from gatepost.testing.fake_clock import FakeClock

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture
def told(monkeypatch):
    """What the mail log was told."""
    lines: list[str] = []
    for kind in ("trouble", "lifecycle"):
        monkeypatch.setattr(maillog, kind, lambda what, **fields: lines.append(f"{what} {fields}"))
    return lines


@pytest.fixture
def house(authority, tmp_path):
    """Certificates in files: of the shop, of everything under mail.example, and one that nobody asks for by name."""
    places = []
    for stem, names in {"default": ("gate.example",), "shop": ("shop.example",), "wild": ("*.mail.example",)}.items():
        cert, key = authority.issue(*names).write(tmp_path, stem)
        places.append(Place(name=stem, cert=cert, key=key))
    return ServerCertificates(places, FakeClock()).load()


def trusting(authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.check_hostname = False
    return context


@dataclass(frozen=True)
class Meet:
    """A client of the echo."""

    port: int

    async def __call__(self, context: ssl.SSLContext, name: str = "gate.example"):
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=name)


@contextlib.asynccontextmanager
async def listening(certificates: ServerCertificates, door: str = HTTPS):
    """Serve an echo with TLS; yields a function that meets it as a client does."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.context(door))
    port = server.sockets[0].getsockname()[1]

    try:
        yield Meet(port)
    finally:
        server.close()


def run(loop_factory, work):
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(asyncio.wait_for(work, 30))


async def say(connection, data: bytes = b"hello") -> bytes:
    reader, writer = connection
    writer.write(data)
    await writer.drain()
    return await reader.readexactly(len(data))


def names_of(connection) -> list[str]:
    shown = connection[1].get_extra_info("ssl_object").getpeercert()
    return [value for _, value in shown["subjectAltName"]]


@pytest.mark.parametrize("loop_factory", LOOPS)
@pytest.mark.parametrize("door", [HTTPS, SMTP])
def test_each_client_gets_the_certificate_for_its_name(house, authority, loop_factory, door):
    """By name, by wildcard for one label, else the first one."""

    async def work():
        expected = {"shop.example": "shop.example", "a.mail.example": "*.mail.example", "a.b.mail.example": "gate.example"}
        async with listening(house, door) as meet:
            for name, shown in {**expected, "elsewhere.example": "gate.example"}.items():
                connection = await meet(trusting(authority), name)
                assert names_of(connection) == [shown]
                assert await say(connection, b"x" * 300_000) == b"x" * 300_000
                connection[1].close()

    run(loop_factory, work())


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_every_key_exchange_of_ours_works_and_no_other(house, authority, loop_factory):
    """X25519, P-256 and P-384; a client that only knows P-521 has nothing in common with us."""

    async def work():
        async with listening(house) as meet:
            for group in ("X25519", "prime256v1", "secp384r1"):
                context = trusting(authority)
                # Debian 12's interpreter cannot choose X25519; its clients send a share for that one first of all
                with contextlib.suppress(ssl.SSLError) if group == "X25519" else contextlib.nullcontext():
                    context.set_ecdh_curve(group)
                assert await say(await meet(context)) == b"hello"
            for group in ("", "prime256v1"):  # a client of TLS 1.2 needs the curve of the certificate's key too
                context = trusting(authority)
                context.maximum_version = ssl.TLSVersion.TLSv1_2
                if group:
                    context.set_ecdh_curve(group)
                assert await say(await meet(context)) == b"hello"
            context = trusting(authority)
            context.set_ecdh_curve("secp521r1")
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await meet(context)

    run(loop_factory, work())


def test_old_versions_and_ciphers_are_refused(house, authority):
    """TLS 1.1, CBC and key exchange without forward secrecy are gone; ALPN is HTTP/1.1."""

    async def work():
        async with listening(house) as meet:
            old = trusting(authority)
            with warnings.catch_warnings(action="ignore"):
                old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
            old.set_ciphers("ALL:@SECLEVEL=0")
            weak = trusting(authority)
            weak.maximum_version = ssl.TLSVersion.TLSv1_2
            weak.set_ciphers("AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES256-SHA:@SECLEVEL=0")
            for context in (old, weak):
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await meet(context)
            modern = trusting(authority)
            modern.set_alpn_protocols(["h2", "http/1.1"])
            _, writer = await meet(modern)
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"

    run(asyncio.new_event_loop, work())


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_a_hello_that_drips_in_still_becomes_a_connection(house, authority, loop_factory):
    """The first message may arrive byte by byte."""

    async def work():
        async with listening(house) as meet:
            assert await drip(meet.port) == (b"hello", ["shop.example"])

    async def drip(port):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trusting(authority).wrap_bio(incoming, outgoing, server_hostname="shop.example")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def step(action):
            while True:
                try:
                    done = action()
                except ssl.SSLWantReadError:
                    done = None
                for byte in outgoing.read():
                    writer.write(bytes([byte]))
                    await writer.drain()
                if done is not None:
                    return done
                incoming.write(await reader.read(65536))

        await step(lambda: tls.do_handshake() or True)
        await step(lambda: tls.write(b"hello"))
        return await step(lambda: tls.read(5)), [value for _, value in tls.getpeercert()["subjectAltName"]]

    run(loop_factory, work())


@pytest.mark.parametrize("loop_factory", LOOPS)
@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", b"\x80\x2e\x01\x00\x02"])
def test_what_is_no_tls_ends_the_connection(house, authority, loop_factory, garbage):
    """Plain HTTP on the TLS port is cut off, and the door lives on."""

    async def work():
        async with listening(house) as meet:
            reader, writer = await asyncio.open_connection("127.0.0.1", meet.port)
            writer.write(garbage)
            writer.write_eof()
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            assert await say(await meet(trusting(authority))) == b"hello"

    run(loop_factory, work())


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_a_changed_certificate_is_used_at_once_and_open_connections_stay(house, authority, tmp_path, told, loop_factory):
    """Renewal by hand or by another program needs no restart."""

    async def work():
        async with listening(house) as meet:
            before = await meet(trusting(authority), "shop.example")
            assert not house.refresh()
            authority.issue("shop.example", "new.example").write(tmp_path, "shop")
            assert house.refresh()
            after = await meet(trusting(authority), "new.example")
            assert (names_of(before), names_of(after)) == (["shop.example"], ["shop.example", "new.example"])
            assert await say(before) == await say(after) == b"hello"

    run(loop_factory, work())
    assert any(line.startswith("certificate in use") for line in told)


def test_a_half_exchanged_pair_waits_for_its_other_half(house, authority, tmp_path, told):
    """Between the new certificate and its key the old pair is shown, and nobody is alarmed."""
    fresh, shop = authority.issue("shop.example", "new.example"), house.current[1].facts
    (tmp_path / "shop.crt").write_bytes(fresh.cert)
    assert not house.refresh()
    assert house.current[1].facts == shop
    (tmp_path / "shop.key").write_bytes(fresh.key)
    assert house.refresh()
    assert house.current[1].facts.fingerprint == fresh.fingerprint
    assert not [line for line in told if "cannot" in line]


@pytest.mark.parametrize("broken", [b"", b"nonsense", None, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_broken_file_keeps_the_old_certificate(house, authority, tmp_path, told, broken):
    """Emptied, damaged or removed: one line of trouble, and the doors go on as before; a repaired one is used."""
    before = house.current
    path = tmp_path / "shop.crt"
    if broken is None:
        path.unlink()
    else:
        path.write_bytes(broken)
    for _ in range(5):
        assert not house.refresh()
    assert house.current == before
    assert len([line for line in told if "cannot be used" in line and "'shop'" in line]) == 1
    fresh = authority.issue("shop.example")
    fresh.write(tmp_path, "shop")
    assert house.refresh()
    assert house.current[1].facts.fingerprint == fresh.fingerprint


def test_a_certificate_that_is_awaited_is_used_when_it_comes(authority, tmp_path):
    """A door whose certificate was not ordered yet opens, refuses handshakes, and serves once it is there."""
    path = tmp_path / "gate.pem"
    certificates = ServerCertificates([Place(name="gate", cert=path, key=path, is_awaited=True)], FakeClock()).load()

    async def work():
        context = certificates.context(HTTPS)
        async with listening(certificates) as meet:
            assert not context.is_ready
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await meet(trusting(authority))
            pair = authority.issue("gate.example")
            path.write_bytes(pair.key + pair.cert)
            assert certificates.refresh()
            assert context.is_ready
            assert names_of(await meet(trusting(authority))) == ["gate.example"]

    run(asyncio.new_event_loop, work())


def test_a_missing_or_foreign_key_is_refused_at_the_start(authority, tmp_path):
    """The message names the files and says what is wrong with them."""
    cert, key = authority.issue("a.example").write(tmp_path, "a")
    _, other = authority.issue("b.example").write(tmp_path, "b")
    for wrong, words in ((other, "key values mismatch"), (Path("/nonexistent.key"), "No such file")):
        with pytest.raises(UnusableCertificate, match=words) as caught:
            ServerCertificates([Place(name="a", cert=cert, key=wrong)], FakeClock()).load()
        assert str(cert) in str(caught.value)
    assert key.exists()


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_a_password(authority, tmp_path):
    """OpenSSL would ask on the terminal and wait for ever."""
    from cryptography.hazmat.primitives import serialization

    pair = authority.issue("a.example")
    cert, key = pair.write(tmp_path, "a")
    secret = serialization.load_pem_private_key(pair.key, None)
    locked = serialization.BestAvailableEncryption(b"hunter2")
    key.write_bytes(secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    with pytest.raises(UnusableCertificate):
        ServerCertificates([Place(name="a", cert=cert, key=key)], FakeClock()).load()


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_clients_must_show_a_certificate_of_the_authority_when_it_is_required(authority, tmp_path, loop_factory):
    """None, a stranger's and an expired one end the handshake; a good one is seen by the door. SMTP asks for none."""
    from datetime import timedelta

    from tests.tls.authority import Authority

    cert, key = authority.issue("gate.example").write(tmp_path, "gate")
    clients = Authority("Clients")
    check = ClientCheck(ca_file=clients.write(tmp_path / "clients.pem"), is_required=True)
    certificates = ServerCertificates([Place(name="default", cert=cert, key=key)], FakeClock(), clients=check).load()

    def showing(pair) -> ssl.SSLContext:
        context = trusting(authority)
        if pair is not None:
            context.load_cert_chain(*pair.write(tmp_path / os.urandom(4).hex()))
        return context

    async def work():
        async with listening(certificates) as meet:
            assert await say(await meet(showing(clients.issue("shop", is_client=True)))) == b"hello"
            expired = clients.issue("shop", is_client=True, ends=timedelta(hours=-1))
            for pair in (None, authority.issue("shop", is_client=True), expired, clients.issue("shop")):
                with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                    await say(await meet(showing(pair)))
        async with listening(certificates, SMTP) as meet:
            assert await say(await meet(showing(None))) == b"hello"

    run(loop_factory, work())


def test_an_ending_certificate_is_told_of_once_a_day(authority, tmp_path, told):
    """Fourteen days ahead, so that somebody can act."""
    from datetime import timedelta

    from gatepost.clock import DAY, SystemClock
    from gatepost.observe import metrics

    class Later(SystemClock):
        ahead = 0

        def now(self):
            return super().now() + self.ahead

    cert, key = authority.issue("gate.example", ends=timedelta(days=20)).write(tmp_path)
    clock = Later()
    certificates = ServerCertificates([Place(name="ending", cert=cert, key=key)], clock).load()
    assert told == []
    assert 19 * 86400 < metrics.certificate_expires_seconds.labels("ending")._value.get() < 20 * 86400
    clock.ahead = 10 * DAY
    for _ in range(3):
        certificates.refresh()
    assert len([line for line in told if "ends soon" in line]) == 1
    clock.ahead = 21 * DAY
    certificates.refresh()
    assert "has ended" in told[-1]


def test_only_an_authority_gets_the_answer_to_a_challenge(authority, tmp_path):
    """`acme-tls/1` alone and for a name under validation; browsers meanwhile get the real certificate (RFC 8737 §3)."""
    cert, key = authority.issue("gate.example").write(tmp_path, "gate")
    answer = authority.issue("answer.example")
    path = tmp_path / "answer.pem"
    path.write_bytes(answer.key + answer.cert)
    certificates = ServerCertificates(
        [Place(name="default", cert=cert, key=key)], FakeClock(), find_challenge=lambda name: path if name == "gate.example" else None
    ).load()

    def speaking(*protocols: str) -> ssl.SSLContext:
        context = trusting(authority)
        context.set_alpn_protocols(list(protocols))
        return context

    async def work():
        async with listening(certificates) as meet:
            asked = await meet(speaking("acme-tls/1"))
            assert names_of(asked) == ["answer.example"]
            assert asked[1].get_extra_info("ssl_object").selected_alpn_protocol() == "acme-tls/1"
            assert names_of(await meet(speaking("http/1.1"))) == ["gate.example"]
            for protocols, name in ((("acme-tls/1",), "other.example"), (("acme-tls/1", "http/1.1"), "gate.example")):
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await meet(speaking(*protocols), name)

    run(asyncio.new_event_loop, work())


def test_sessions_are_resumed(house, authority):
    """A client that comes back pays for half a handshake, in both versions."""

    async def work():
        async with listening(house) as meet:
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                context = trusting(authority)
                context.minimum_version = context.maximum_version = version
                assert await asyncio.to_thread(_resumes, context, meet.port)

    run(asyncio.new_event_loop, work())


def _resumes(context: ssl.SSLContext, port: int) -> bool:
    import socket

    session = None
    for _ in range(2):
        sock = socket.create_connection(("127.0.0.1", port))
        with context.wrap_socket(sock, server_hostname="shop.example", session=session) as tls:
            tls.sendall(b"hello")
            tls.recv(5)
            session, reused = tls.session, tls.session_reused
    return reused

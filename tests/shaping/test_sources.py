"""Where connections come from: local addresses, EHLO names, SOCKS 5 proxies; and that no connection is one too many."""

import asyncio
import contextlib
import errno

import pytest

from gatepost.domain.outcome import Deferred, Delivered
from gatepost.domain.route import Source
from gatepost.net.dial import SocketDialer
from gatepost.testing.batches import make_batch, make_courier
from gatepost.testing.busy_site import BusySite
from gatepost.testing.fake_dns import FakeResolver
from gatepost.wire.socks5 import ProxyFailed, Socks5, parse_proxy

ZONE = {"acme.test": {"MX": ["10 mx.acme.test"]}, "mx.acme.test": {"A": ["127.0.0.1"]}}


class Socks5Server:
    """A SOCKS 5 proxy on loopback: RFC 1928 CONNECT, RFC 1929 where it has users."""

    def __init__(self, users=None, reply=0, greeting=None):
        self.users, self.reply, self.greeting = users, reply, greeting
        self.asked = []
        self.tasks = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def serve(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self.talk(reader, writer)
        writer.close()

    async def talk(self, reader, writer):
        version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        assert version == 5
        if self.greeting is not None:
            writer.write(self.greeting)
            return
        wanted = 2 if self.users else 0
        writer.write(bytes((5, wanted if wanted in methods else 0xFF)))
        if wanted not in methods:
            return
        if wanted:
            _, length = await reader.readexactly(2)
            user = await reader.readexactly(length)
            password = await reader.readexactly((await reader.readexactly(1))[0])
            is_right = self.users.get(user.decode()) == password.decode()
            writer.write(bytes((1, 0 if is_right else 1)))
            if not is_right:
                return
        _, command, _, kind = await reader.readexactly(4)
        assert command == 1
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            packed = await reader.readexactly(4 if kind == 1 else 16)
            host = ".".join(str(part) for part in packed) if kind == 1 else packed.hex()
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append((host, port))
        if self.reply:
            writer.write(bytes((5, self.reply, 0, 1, 0, 0, 0, 0, 0, 0)))
            return
        far_reader, far_writer = await asyncio.open_connection(host, port)
        writer.write(bytes((5, 0, 0, 3, 9)) + b"proxy.lan" + (1234).to_bytes(2, "big"))
        await asyncio.gather(self.pump(reader, far_writer), self.pump(far_reader, writer))

    async def pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()


def deliver(source, *, servers=(), **fields):
    """Deliver one message from a source to a site; return the outcome and the site."""

    async def work():
        async with contextlib.AsyncExitStack() as stack:
            for server in servers:
                await stack.enter_async_context(server)
            site = await stack.enter_async_context(BusySite())
            courier = make_courier(resolver=FakeResolver(ZONE), dialer=SocketDialer(), mx_port=site.port)
            found = source() if callable(source) else source
            batch = make_batch("ann@acme.test", route="mx", site="acme.test", source=found, **fields)
            outcomes = await courier.deliver(batch)
            await courier.close()
            return outcomes[0], site

    return asyncio.run(work())


def test_a_source_has_its_own_address_and_name():
    """The connection comes from its address, EHLO says its name, and the attempt tells which source it was."""
    outcome, site = deliver(Source(name="second", address="127.0.0.2", hostname="second.acme.example"))
    assert isinstance(outcome, Delivered)
    assert outcome.exchange.source == "second"
    assert dict(site.peers) == {"127.0.0.2": 1}
    assert dict(site.hellos) == {"second.acme.example": 1}


def test_an_address_of_the_other_kind_is_not_tried():
    """From an IPv6 address an IPv4 host cannot be reached: that is a deferral with its reason, not a bounce."""
    outcome, site = deliver(Source(name="six", address="::1"))
    assert isinstance(outcome, Deferred)
    assert "can be reached from ::1" in outcome.detail
    assert site.opened == 0


def test_a_local_address_that_is_gone_defers():
    """An address that this machine does not have: the mail waits."""
    outcome, _ = deliver(Source(name="gone", address="192.0.2.77"))
    assert isinstance(outcome, Deferred)


@pytest.mark.parametrize("users", [None, {"ann": "s:e@c/ret"}])
def test_a_source_goes_by_its_proxy(users):
    """Through SOCKS 5, with and without a password: the proxy is asked for the host's address, and the mail arrives."""
    proxy = Socks5Server(users)

    def source():
        login = "ann:s%3Ae%40c%2Fret@" if users else ""
        return Source(name="far", proxy=f"socks5://{login}127.0.0.1:{proxy.port}", hostname="far.acme.example")

    outcome, site = deliver(source, servers=[proxy])
    assert isinstance(outcome, Delivered)
    assert proxy.asked == [("127.0.0.1", site.port)]
    assert outcome.exchange.peer == f"127.0.0.1:{site.port}"
    assert len(site.accepted) == 1


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (Socks5Server({"ann": "right"}), "wants a user name"),
        (Socks5Server(reply=2), "rules do not allow"),
        (Socks5Server(greeting=b"HTTP/1.1 400"), "does not speak SOCKS 5"),
        (Socks5Server(greeting=b""), "closed the connection"),
        (None, "cannot be reached"),
    ],
)  # fmt: skip
def test_trouble_with_the_proxy_is_ours(server, words):
    """A proxy that refuses, is away or is none: the mail waits, and no attempt is counted."""
    outcome, site = deliver(
        lambda: Source(name="far", proxy=f"socks5://127.0.0.1:{server.port if server else 9}"), servers=[server] if server else []
    )
    assert isinstance(outcome, Deferred)
    assert not outcome.counts
    assert words in outcome.detail
    assert site.opened == 0


def test_what_a_proxy_cannot_reach_is_the_hosts_trouble():
    """Refused, says the proxy: as if the host had refused us, an attempt that counts."""
    server = Socks5Server(reply=5)
    outcome, _ = deliver(lambda: Source(name="far", proxy=f"socks5://127.0.0.1:{server.port}"), servers=[server])
    assert isinstance(outcome, Deferred)
    assert outcome.counts
    assert "Connection refused" in outcome.detail


def test_the_handshake_byte_by_byte():
    """RFC 1928 §3, §4, §6 and RFC 1929 §2, as they are written."""
    one = Socks5(parse_proxy("socks5://u:pw@proxy.test:1080"), "192.0.2.1", 25)
    assert one.begin() == b"\x05\x02\x00\x02"
    assert one.receive(b"\x05\x02") == b"\x01\x01u\x02pw"
    assert one.receive(b"\x01\x00") == b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x19"
    assert one.receive(b"\x05\x00\x00\x01\x00") == b""
    assert one.wanted == 5
    one.receive(b"\x00\x00\x00\x00\x00")
    assert one.is_done
    six = Socks5(parse_proxy("socks5://proxy.test:1080"), "2001:db8::1", 25)
    assert six.begin() == b"\x05\x01\x00"
    assert six.receive(b"\x05\x00")[:4] == b"\x05\x01\x00\x04"
    six.receive(b"\x05\x00\x00\x04\x00")
    assert six.wanted == 17
    named = Socks5(parse_proxy("socks5://proxy.test:1080"), "mx.acme.test", 25)
    assert named.receive(b"\x05\x00") == b"\x05\x01\x00\x03\x0cmx.acme.test\x00\x19"


@pytest.mark.parametrize(
    ("code", "number"), [(3, errno.ENETUNREACH), (4, errno.EHOSTUNREACH), (5, errno.ECONNREFUSED), (6, errno.ETIMEDOUT)]
)
def test_a_proxys_codes_become_the_systems(code, number):
    """RFC 1928 §6: what is wrong beyond the proxy has the number that the system would have given."""
    one = Socks5(parse_proxy("socks5://proxy.test:1080"), "192.0.2.1", 25)
    one.receive(b"\x05\x00")
    with pytest.raises(OSError) as failed:
        one.receive(bytes((5, code, 0, 1, 0)))
    assert failed.value.errno == number
    assert not isinstance(failed.value, ProxyFailed)


@pytest.mark.parametrize("url", ["http://h:1", "socks5://", "socks5://h:1/x", "socks5://:p@h:1", f"socks5://{'u' * 256}:p@h:1"])
def test_what_is_no_proxy_is_refused(url):
    """A URL that is none of a SOCKS 5 proxy."""
    with pytest.raises(ValueError, match="prox"):
        parse_proxy(url)


def test_a_connection_counts_until_it_is_closed():
    """With a message per connection and two connections, the third waits for the end of one: the site never sees three."""

    async def work():
        async with BusySite(connections=2) as site:
            courier = make_courier(resolver=FakeResolver(ZONE), dialer=SocketDialer(), mx_port=site.port)
            batches = [
                make_batch("ann@acme.test", route="mx", site="acme.test", connections=2, messages_per_connection=1) for _ in range(60)
            ]
            outcomes = await asyncio.gather(*[courier.deliver(batch) for batch in batches])
            await courier.close()
            return outcomes, site

    outcomes, site = asyncio.run(work())
    assert all(isinstance(one[0], Delivered) for one in outcomes)
    assert (site.too_many_connections, site.opened) == (0, 60)
    assert site.most_connections == 2


def test_fewer_connections_are_kept_when_fewer_are_allowed():
    """A limit that falls closes idle connections, too, before another transaction begins."""

    async def work():
        async with BusySite(latency_s=0.02) as site:
            courier = make_courier(resolver=FakeResolver(ZONE), dialer=SocketDialer(), mx_port=site.port)
            wide = [make_batch("ann@acme.test", route="mx", site="acme.test", connections=6) for _ in range(6)]
            await asyncio.gather(*[courier.deliver(batch) for batch in wide])
            before = site.open
            for _ in range(3):
                await courier.deliver(make_batch("ann@acme.test", route="mx", site="acme.test", connections=2))
            await asyncio.sleep(0.05)
            after = site.open
            await courier.close()
            return before, after

    assert asyncio.run(work()) == (6, 2)

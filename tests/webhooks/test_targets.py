"""A webhook's URL is a stranger's wish: nothing inside is reached by it (THREATS 38)."""

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from gatepost.clock import SystemClock
from gatepost.domain.webhook import HookSecret, Webhook, is_header
from gatepost.net.dns import Addresses
from gatepost.policy.hook_targets import check_target
from gatepost.policy.public_addresses import is_public
from gatepost.settings import Webhooks
from gatepost.testing.certificates import make_certificates
from gatepost.webhooks.sending import Answered, Sender
from gatepost.wire.hook_signature import make_secret
from tests.webhooks.house import consuming

CORPUS = Path(__file__).parents[3] / "shared/corpora/ssrf-ips/mailpit.json"

INSIDE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.1",
    "192.0.0.9",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.7",
    "192.88.99.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "100::1",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "::a9fe:a9fe",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:20::1",
    "2606:4700::5efe:7f00:1",
    "2606:4700::200:5efe:a00:1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "localhost",
    "metadata",
]
OUTSIDE = [
    "8.8.8.8",
    "1.1.1.1",
    "100.128.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
]


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_not_the_public_internet_is_refused(address):
    """Loopback, private, link-local, metadata, shared, reserved, multicast, documentation, and addresses inside addresses."""
    assert not is_public(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_hosts_of_the_public_internet_are_not(address):
    """Neighbours of the ranges above."""
    assert is_public(address)


@pytest.mark.skipif(not CORPUS.exists(), reason="the samples of others lie beside the checkout only")
def test_the_collected_inside_addresses_are_refused():
    """A list that nobody here wrote."""
    found = json.loads(CORPUS.read_text())
    assert [one for one in found["internal"] if is_public(one)] == []
    assert [one for one in found["external"] if not is_public(one)] == ["2002:0808:0808::", "64:ff9b::0808:0808"], (
        "those carry another address"
    )


@given(st.ip_addresses())
def test_no_address_is_public_that_the_standard_library_calls_private(address):
    """Whatever the address: ours is the narrower of two judgements."""
    if is_public(str(address)):
        assert address.is_global
        assert not (address.is_multicast or address.is_loopback or address.is_link_local or address.is_unspecified)


class Flipping:
    """A resolver that answers something else each time, as a rebinding name server does."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def addresses(self, host: str) -> Addresses:
        self.asked += 1
        return Addresses(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


def a_webhook(url: str, **values) -> Webhook:
    return Webhook(id="whk_1", tenant_id="ten_1", url=url, secrets=(HookSecret(text=make_secret()),), created_at=0, changed_at=0, **values)


def send(url: str, resolver=None, **options) -> Answered:
    async def run() -> Answered:
        sender = Sender(Webhooks(timeout_s=2, **options), SystemClock(), resolver)
        try:
            return await sender.send(a_webhook(url), "evt_1", b"{}")
        finally:
            await sender.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "localhost", "169.254.169.254", "１２７.0.0.1", "[fe80::1%25lo]"]
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_way_of_writing_an_inside_address_connects(host, scheme):
    """A server listens there, and gets nothing."""

    async def run() -> None:
        async with consuming() as consumer:
            sender = Sender(Webhooks(timeout_s=2), SystemClock(), None)
            answered = await sender.send(a_webhook(f"{scheme}://{host}:{consumer.port}/hook"), "evt_1", b"{}")
            await sender.close()
            assert answered.code is None
            assert answered.text
            assert consumer.calls == []

    asyncio.run(run())


def test_a_name_that_leads_inside_is_refused_each_time_it_is_looked_up():
    """The name server says public first and loopback then; or both at once. The judged address is the one connected to."""

    async def run() -> None:
        async with consuming() as consumer:
            for answers in ([("127.0.0.1",)], [("192.0.2.1", "127.0.0.1")], [("8.8.8.8",), ("127.0.0.1",)]):
                resolver = Flipping(*answers)
                sender = Sender(Webhooks(timeout_s=0.3), SystemClock(), resolver)
                for _ in answers:
                    before = resolver.asked
                    answered = await sender.send(a_webhook(f"https://rebind.test:{consumer.port}/"), "evt_1", b"{}")
                    assert answered.code is None
                    assert resolver.asked == before + 1, "a second look could say something else"
                await sender.close()
            assert consumer.calls == []

    asyncio.run(run())


def test_plain_http_reaches_allowed_networks_only_and_no_other_private_ones():
    """`webhooks.allow_networks` opens what it names: 127.0.0.1 is not 127.0.0.2, and allowed is needed for http even outside."""

    async def run() -> None:
        async with consuming() as consumer:
            names = Flipping(("127.0.0.1",))
            sender = Sender(Webhooks(timeout_s=2, allow_networks=["127.0.0.1/32"]), SystemClock(), names)
            for url in (consumer.url(), f"http://inside.test:{consumer.port}/"):
                assert (await sender.send(a_webhook(url), "evt_1", b"{}")).code == 200
            await sender.close()
            sender = Sender(Webhooks(timeout_s=2, allow_networks=["127.0.0.2/32"]), SystemClock(), names)
            for url in (consumer.url(), f"http://inside.test:{consumer.port}/"):
                assert (await sender.send(a_webhook(url), "evt_1", b"{}")).code is None
            await sender.close()
            assert len(consumer.calls) == 2

    asyncio.run(run())
    assert "may be connected to" in send("http://public.test/", Flipping(("8.8.8.8",)), allow_networks=["10.0.0.0/8"]).text


def test_redirects_are_not_followed_and_answers_are_bounded():
    """A redirect is a failure; of an endless answer only a beginning is read, and what is kept of it is short."""

    async def run() -> None:
        async def endless(call):
            return web.Response(status=500, body=b"x" * 2_000_000)

        async with consuming(lambda call: web.Response(status=302, headers={"Location": f"/{'secret'}"})) as consumer:
            sender = Sender(Webhooks(timeout_s=5, allow_networks=["127.0.0.0/8"]), SystemClock(), None)
            answered = await sender.send(a_webhook(consumer.url()), "evt_1", b"{}")
            assert (answered.code, answered.is_success, consumer.calls) == (302, False, [])
            consumer.answer = endless
            answered = await sender.send(a_webhook(consumer.url()), "evt_1", b"{}")
            assert (answered.code, len(answered.text)) == (500, 500)
            consumer.answer = lambda call: web.Response(status=200, body=b"x" * 2_000_000)
            assert (await sender.send(a_webhook(consumer.url()), "evt_1", b"{}")).is_success
            is_over = asyncio.Event()

            async def never(call):
                await is_over.wait()
                return 200

            consumer.answer = never
            await sender.close()
            sender = Sender(Webhooks(timeout_s=0.2, allow_networks=["127.0.0.0/8"]), SystemClock(), None)
            assert "0.2 s" in (await sender.send(a_webhook(consumer.url()), "evt_1", b"{}")).text
            is_over.set()
            await sender.close()

    asyncio.run(run())


def test_over_tls_the_certificate_is_checked(tmp_path):
    """A certificate of nobody's trust gets nothing; one of `webhooks.ca_file` does, for the name that was asked for."""
    certificates = make_certificates(tmp_path)

    async def run() -> None:
        got = []

        async def handle(request: web.Request) -> web.Response:
            got.append(await request.read())
            return web.Response()

        app = web.Application()
        app.router.add_post("/", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificates.server).start()
        url = f"https://127.0.0.1:{runner.addresses[0][1]}/"
        sender = Sender(Webhooks(timeout_s=5, allow_networks=["127.0.0.0/8"]), SystemClock(), None)
        answered = await sender.send(a_webhook(url), "evt_1", b"{}")
        assert answered.code is None
        assert "certificate" in answered.text
        assert got == []
        await sender.close()
        trusting = Webhooks(timeout_s=5, allow_networks=["127.0.0.0/8"], ca_file=str(certificates.ca_file))
        sender = Sender(trusting, SystemClock(), Flipping(("127.0.0.1",)))
        assert (await sender.send(a_webhook(url), "evt_1", b"{}")).code == 200
        assert (await sender.send(a_webhook(url.replace("127.0.0.1", "other.test")), "evt_1", b"{}")).code is None
        assert got == [b"{}"]
        await sender.close()
        await runner.cleanup()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "is_taken"),
    [
        ("https://acme.example/hook?x=1", True), ("https://8.8.8.8/", True), ("https://[2606:4700:4700::1111]:8443/", True), ("http://acme.example/", False),
        ("https://127.0.0.1/", False), ("https://[::1]/", False), ("https://169.254.169.254/latest", False), ("https://user:pw@acme.example/", False),
        ("https://acme.example/#x", False), ("ftp://acme.example/", False), ("gopher://acme.example/", False), ("file:///etc/passwd", False), ("", False),
        ("https://", False), ("https://acme.example:0/", False), ("https://acme.example:99999/", False), ("https://[::1", False),
        ("https://acme.example/\r\nHost: x", False), ("https://acmé.example/", False), ("//acme.example/", False),
    ],
)  # fmt: skip
def test_a_url_that_can_never_be_called_is_refused_when_it_is_given(url, is_taken):
    """What can be seen without looking anything up is said at once."""
    assert (check_target(url, []) is None) == is_taken


def test_allowed_networks_may_be_given_over_plain_http():
    """And only those, where the address is seen at once."""
    assert check_target("http://10.0.0.7/hook", ["10.0.0.0/8"]) is None
    assert check_target("http://hooks.inside/hook", ["10.0.0.0/8"]) is None
    assert check_target("http://8.8.8.8/hook", ["10.0.0.0/8"]) is not None
    assert check_target("https://192.168.0.1/hook", ["10.0.0.0/8"]) is not None


@pytest.mark.parametrize(
    "name",
    ["Host", "Metadata", "Metadata-Flavor", "X-aws-ec2-metadata-token", "X-Forwarded-For", "Content-Length", "Transfer-Encoding", "Connection", "Cookie",
     "webhook-id", "webhook-signature", "X-Webhook-", "X-Webhook-a b", "X-Webhook-é", "X-HTTP-Method-Override", "Content-Type", "User-Agent", ""],
)  # fmt: skip
def test_headers_that_mean_something_to_others_are_not_sent(name):
    """GitLab CVE-2025-6454 and metadata services: only names of the list are taken."""
    assert not is_header(name)


def test_headers_of_the_list_are():
    """What consumers check: keys and tokens."""
    assert all(is_header(name) for name in ("Authorization", "x-api-key", "X-Webhook-Token", "CF-Access-Client-Id"))

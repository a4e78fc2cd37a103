"""The one way out over HTTP: only where it is safe, by our own resolver, trusting whom the settings name."""

import asyncio
import ssl
from pathlib import Path
from typing import Self

import pytest

from gatepost.net.dns import AddressAnswer, Addresses, NoDomain, ResolverFailed
from gatepost.net.http_client import HttpClient, HttpFault, HttpRequest
from gatepost.testing.certificates import make_certificates
from tests.relays.peer import Peer, Says


class Names:
    """A resolver with one answer."""

    def __init__(self, answer: AddressAnswer) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def addresses(self, host: str) -> AddressAnswer:
        self.asked.append(host)
        return self.answer


async def fault_of(client: HttpClient, url: str) -> HttpFault:
    with pytest.raises(HttpFault) as raised:
        await client.ask(HttpRequest(method="GET", url=url))
    await client.close()
    return raised.value


@pytest.mark.parametrize("url", ["http://api.example/", "ftp://127.0.0.1/", "https://user:hush@api.example/", "nonsense", "http://[::1"])
def test_nothing_is_asked_where_it_is_not_safe(url: str):
    """Plain HTTP on this machine only; no passwords in URLs."""

    async def run() -> None:
        fault = await fault_of(HttpClient(timeout_s=1), url)
        assert not fault.is_sent
        assert "hush" not in str(fault) or url.startswith("https://user")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "words"),
    [(NoDomain(), "the name is not known"), (ResolverFailed("timeout"), "DNS did not answer"), (Addresses(("127.0.0.1",)), "")],
)
def test_names_are_looked_up_by_our_own_resolver(answer: AddressAnswer, words: str):
    """`dns.server` counts for providers, too; a name that is not known sends nothing."""

    async def run() -> None:
        names = Names(answer)
        fault = await fault_of(HttpClient(timeout_s=2, resolver=names), "https://api.acme.test:1/x?key=hush")  # type: ignore[arg-type]
        assert names.asked == ["api.acme.test"]
        assert not fault.is_sent
        assert words in str(fault)
        assert "hush" not in str(fault)

    asyncio.run(run())


def test_a_certificate_is_checked_against_the_named_authorities(tmp_path: Path):
    """With the file of the settings it is trusted, without it is not, and nothing is sent before that."""
    certificates = make_certificates(tmp_path)

    class Secure(Peer):
        async def __aenter__(self) -> Self:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=certificates.server)
            return self

    async def run() -> None:
        async with Secure(Says(200, "{}")) as peer:
            url = peer.url.replace("http", "https") + "/x"
            fault = await fault_of(HttpClient(timeout_s=5), url)
            assert not fault.is_sent
            assert "certificate is not valid" in str(fault)
            assert peer.got == []
            client = HttpClient(timeout_s=5, ca_file=str(certificates.ca_file))
            answer = await client.ask(HttpRequest(method="POST", url=url, body=b"x"))
            await client.close()
        assert answer.status == 200
        assert answer.tls is not None
        assert answer.tls.startswith("TLSv1.3")
        assert answer.peer == url.removeprefix("https://").removesuffix("/x")
        assert ssl.HAS_TLSv1_3

    asyncio.run(run())

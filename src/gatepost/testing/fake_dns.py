"""
DNS for tests, twice: a resolver that is a dict, and a real server on loopback for the real resolver to ask.

Both know a zone: `{"acme.example": {"MX": ["10 mx1.acme.example"], "A": ["192.0.2.1"]}}`. A name that is not in it does not exist
(NXDOMAIN); a name without the type asked for has no such record; `SERVFAIL` and `TIMEOUT` instead of a name's
records make it fail so.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from gatepost.net.dns import AddressAnswer, Addresses, MxAnswer, MxHosts, NoAddresses, NoDomain, NoMx, NullMx, ResolverFailed

SERVFAIL: Final = "SERVFAIL"
TIMEOUT: Final = "TIMEOUT"

Records = Mapping[str, Sequence[str]]
Zone = Mapping[str, Records | Literal["SERVFAIL", "TIMEOUT"]]


class FakeResolver:
    """
    A resolver that is a dict; change `zone` at any time.

    Attributes:
        asked: Every question, such as `("MX", "acme.example")`.
    """

    def __init__(self, zone: Zone | None = None) -> None:
        """Set the zone."""
        self.zone: dict[str, Records | Literal["SERVFAIL", "TIMEOUT"]] = dict(zone or {})
        self.asked: list[tuple[str, str]] = []

    async def mx(self, domain: str) -> MxAnswer:
        """Answer from the zone."""
        self.asked.append(("MX", domain))
        records = self.zone.get(domain)
        if records is None:
            return NoDomain()
        if isinstance(records, str):
            return ResolverFailed(records)
        hosts = [(int(preference), host.rstrip(".")) for preference, host in (record.split() for record in records.get("MX", ()))]
        named = tuple(host for host in hosts if host[1])
        return MxHosts(named) if named else NullMx() if hosts else NoMx()

    async def addresses(self, host: str) -> AddressAnswer:
        """Answer from the zone; an IP address is its own answer."""
        self.asked.append(("A", host))
        if host.replace(".", "").isdigit() or ":" in host:
            return Addresses((host,))
        records = self.zone.get(host)
        if records is None:
            return NoDomain()
        if isinstance(records, str):
            return ResolverFailed(records)
        found = (*records.get("AAAA", ()), *records.get("A", ()))
        return Addresses(found) if found else NoAddresses()


class DnsServer(asyncio.DatagramProtocol):
    """
    A DNS server over UDP on 127.0.0.1.

    Attributes:
        address: `host:port` for `dns.server`, once started.
        asked: How often each (name, type) was asked.
    """

    def __init__(self, zone: Zone, *, ttl_s: int = 300) -> None:
        """Set the zone; names without final dot, lower case."""
        self.zone: dict[str, Records | Literal["SERVFAIL", "TIMEOUT"]] = dict(zone)
        self.ttl_s = ttl_s
        self.address = ""
        self.asked: Counter[tuple[str, str]] = Counter()
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._transport.get_extra_info('sockname')[1]}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        """Answer a question."""
        with contextlib.suppress(dns.exception.DNSException):
            response = self._response(dns.message.from_wire(data))
            if response is not None and self._transport is not None:
                self._transport.sendto(response.to_wire(), addr)

    def _response(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked[name, kind] += 1
        records = self.zone.get(name)
        if records == TIMEOUT:
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if records is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif isinstance(records, str):
            response.set_rcode(dns.rcode.SERVFAIL)
        elif texts := [_absolute(kind, text) for text in records.get(kind, ())]:
            response.answer.append(dns.rrset.from_text(question.name, self.ttl_s, "IN", kind, *texts))
        return response


def _absolute(kind: str, text: str) -> str:
    return text if kind not in {"MX", "CNAME"} or text.endswith(".") else text + "."

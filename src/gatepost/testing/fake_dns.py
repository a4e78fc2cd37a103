"""
DNS for tests, twice: a resolver that is a dict, and a real server on loopback for the real resolver to ask.

Both know a zone: `{"acme.example": {"MX": ["10 mx1.acme.example"], "A": ["192.0.2.1"]}}`. A name that is not in it does not exist
(NXDOMAIN); a name without the type asked for has no such record; `SERVFAIL` and `TIMEOUT` instead of a name's
records make it fail so. An alias is `{"CNAME": ["other.example"]}`; a name's TXT records are quoted, as in a zone file.
"""

import asyncio
import contextlib
import ipaddress
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from gatepost.net.dns import (
    AddressAnswer,
    Addresses,
    MxAnswer,
    MxHosts,
    NameAnswer,
    Names,
    NoAddresses,
    NoDomain,
    NoMx,
    NoNames,
    NoTexts,
    NoTlsa,
    NullMx,
    ResolverFailed,
    TextAnswer,
    Texts,
    TlsaAnswer,
    TlsaRecords,
)
from gatepost.wire.dane import Tlsa

SERVFAIL: Final = "SERVFAIL"
TIMEOUT: Final = "TIMEOUT"

Records = Mapping[str, Sequence[str]]
Zone = Mapping[str, Records | Literal["SERVFAIL", "TIMEOUT"]]


class FakeResolver:
    """
    A resolver that is a dict; change `zone` at any time.

    Attributes:
        secure: Names whose answers DNSSEC vouches for.
        asked: Every question, such as `("MX", "acme.example")`.
    """

    def __init__(self, zone: Zone | None = None, *, secure: Sequence[str] = ()) -> None:
        """Set the zone."""
        self.zone: dict[str, Records | Literal["SERVFAIL", "TIMEOUT"]] = dict(zone or {})
        self.secure = set(secure)
        self.asked: list[tuple[str, str]] = []

    async def mx(self, domain: str) -> MxAnswer:
        """Answer from the zone."""
        records = self._records(domain, "MX")
        if isinstance(records, NoDomain | ResolverFailed):
            return records
        hosts = [(int(preference), host.rstrip(".")) for preference, host in (record.split() for record in records)]
        named = tuple(host for host in hosts if host[1])
        is_secure = domain in self.secure
        return MxHosts(named, is_secure) if named else NullMx(is_secure) if hosts else NoMx(is_secure)

    async def addresses(self, host: str) -> AddressAnswer:
        """Answer from the zone; an IP address is its own answer."""
        return await self._addresses(host, ("AAAA", "A"))

    async def family(self, host: str, kind: Literal["A", "AAAA"]) -> AddressAnswer:
        """Answer from the zone; an IP address is its own answer."""
        return await self._addresses(host, (kind,))

    async def _addresses(self, host: str, kinds: tuple[str, ...]) -> AddressAnswer:
        self.asked.append(("A", host))
        if host.replace(".", "").isdigit() or ":" in host:
            return Addresses((host,))
        canonical = self._canonical(host)
        records = self.zone.get(canonical)
        if records is None:
            return NoDomain(host in self.secure)
        if isinstance(records, str):
            return ResolverFailed(records)
        found = tuple(address for kind in kinds for address in records.get(kind, ()))
        is_secure = {host, canonical} <= self.secure
        return Addresses(found, is_secure, "" if canonical == host else canonical) if found else NoAddresses(is_secure)

    def _canonical(self, name: str) -> str:
        records = self.zone.get(name)
        return self._canonical(records["CNAME"][0]) if records and not isinstance(records, str) and "CNAME" in records else name

    async def txt(self, name: str) -> TextAnswer:
        """Answer from the zone."""
        records = self._records(name, "TXT")
        if isinstance(records, NoDomain | ResolverFailed):
            return records
        texts = tuple(b"".join(_read("TXT", text).strings).decode() for text in records)
        return Texts(texts, name in self.secure) if texts else NoTexts(name in self.secure)

    async def known_txt(self, name: str) -> TextAnswer:
        """Answer from the zone, as it is this moment."""
        return await self.txt(name)

    async def tlsa(self, host: str, port: int) -> TlsaAnswer:
        """Answer from the zone."""
        name = f"_{port}._tcp.{host}"
        records = self._records(name, "TLSA")
        if isinstance(records, ResolverFailed):
            return records
        if isinstance(records, NoDomain) or not records or name not in self.secure:
            return NoTlsa()
        found = [_read("TLSA", text) for text in records]
        return TlsaRecords(tuple(Tlsa(one.usage, one.selector, one.mtype, bytes(one.cert)) for one in found))

    async def is_secure_alias(self, name: str) -> bool:
        """Answer from the zone."""
        answer = self._names(name, "CNAME")
        return isinstance(answer, Names) and answer.is_secure

    async def ptr(self, address: str) -> NameAnswer:
        """Answer from the zone, where names stand under such as `1.2.0.192.in-addr.arpa`."""
        return self._names(ipaddress.ip_address(address).reverse_pointer, "PTR")

    def _names(self, name: str, kind: str) -> NameAnswer:
        records = self._records(name, kind)
        if isinstance(records, NoDomain | ResolverFailed):
            return records
        names = tuple(text.rstrip(".").lower() for text in records)
        return Names(names, name in self.secure) if names else NoNames(name in self.secure)

    def _records(self, name: str, kind: str) -> Sequence[str] | NoDomain | ResolverFailed:
        self.asked.append((kind, name))
        records = self.zone.get(name)
        if records is None:
            return NoDomain(name in self.secure)
        return ResolverFailed(records) if isinstance(records, str) else records.get(kind, ())


def _read(kind: str, text: str) -> Any:
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), text)


class DnsServer(asyncio.DatagramProtocol):
    """
    A DNS server over UDP and TCP on 127.0.0.1.

    Attributes:
        address: `host:port` for `dns.server`, once started.
        asked: How often each (name, type) was asked.
        secure: Names whose answers have the AD bit, for who asks for it.
        truncated: Names whose answers do not fit into a datagram.
        negative_ttl_s: Minimum of the SOA in negative answers; None gives none.
        knows_edns: Otherwise questions with EDNS are malformed.
        is_silent: Answers nothing at all.
    """

    def __init__(self, zone: Zone, *, ttl_s: int = 300) -> None:
        """Set the zone; names without final dot, lower case."""
        self.zone: dict[str, Records | Literal["SERVFAIL", "TIMEOUT"]] = dict(zone)
        self.ttl_s = ttl_s
        self.address = ""
        self.asked: Counter[tuple[str, str]] = Counter()
        self.over_tcp: Counter[tuple[str, str]] = Counter()
        self.secure: set[str] = set()
        self.truncated: set[str] = set()
        self.negative_ttl_s: int | None = None
        self.knows_edns = True
        self.is_silent = False
        self._transport: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None

    async def start(self, port: int = 0) -> None:
        """Listen on a free port, or on one that is given."""
        loop = asyncio.get_running_loop()
        for _ in range(20):  # the free UDP port may be taken for TCP
            self._transport, _protocol = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", port))
            number = int(self._transport.get_extra_info("sockname")[1])
            try:
                self._tcp = await asyncio.start_server(self._serve_tcp, "127.0.0.1", number)
                break
            except OSError:
                self._transport.close()
        self.address = f"127.0.0.1:{number}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()
        if self._tcp is not None:
            self._tcp.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        """Answer a question."""
        with contextlib.suppress(dns.exception.DNSException):
            query = dns.message.from_wire(data)
            response = self._response(query)
            if response is None or self._transport is None:
                return
            if self._name(query) in self.truncated:
                response.answer.clear()
                response.flags |= dns.flags.TC
            self._transport.sendto(response.to_wire(), addr)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, dns.exception.DNSException, ConnectionError):
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            query = dns.message.from_wire(await reader.readexactly(length))
            response = self._response(query)
            self.over_tcp[self._name(query), dns.rdatatype.to_text(query.question[0].rdtype)] += 1
            if response is not None:
                wire = response.to_wire()
                writer.write(struct.pack("!H", len(wire)) + wire)
                await writer.drain()
        writer.close()

    def _name(self, query: dns.message.Message) -> str:
        return query.question[0].name.to_text(omit_final_dot=True).lower()

    def _response(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        name, kind = self._name(query), dns.rdatatype.to_text(question.rdtype)
        self.asked[name, kind] += 1
        records = self.zone.get(name)
        if records == TIMEOUT or self.is_silent:
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if name in self.secure and query.flags & dns.flags.AD:
            response.flags |= dns.flags.AD
        if query.edns >= 0 and not self.knows_edns:
            response.set_rcode(dns.rcode.FORMERR)
            response.use_edns(-1)
        elif records is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
            self._say_how_long(response, question.name)
        elif isinstance(records, str):
            response.set_rcode(dns.rcode.SERVFAIL)
        elif not self._answer(response, question.name, kind, records):
            self._say_how_long(response, question.name)
        return response

    def _answer(self, response: dns.message.Message, name: dns.name.Name, kind: str, records: Records) -> bool:
        texts = [_absolute(kind, text) for text in records.get(kind, ())]
        if texts:
            response.answer.append(dns.rrset.from_text(name, self.ttl_s, "IN", kind, *texts))
            return True
        if "CNAME" not in records:
            return False
        target = dns.name.from_text(records["CNAME"][0])
        response.answer.append(dns.rrset.from_text(name, self.ttl_s, "IN", "CNAME", target.to_text()))
        further = self.zone.get(target.to_text(omit_final_dot=True).lower())
        return further is not None and not isinstance(further, str) and self._answer(response, target, kind, further)

    def _say_how_long(self, response: dns.message.Message, name: dns.name.Name) -> None:
        if self.negative_ttl_s is not None:
            soa = f"ns.test. hostmaster.test. 1 3600 600 86400 {self.negative_ttl_s}"
            response.authority.append(dns.rrset.from_text(name, 86_400, "IN", "SOA", soa))


def _absolute(kind: str, text: str) -> str:
    return text if kind not in {"MX", "CNAME", "PTR"} or text.endswith(".") else text + "."

"""
DNS messages as a resolver's client writes and reads them: one question, and of the answer what was asked for.

Arrives: a name and a type; the bytes of an answer. Leaves: the bytes of a question; a `Response`. An answer to another question
is none. Mail hosts and addresses are read here, other records as dnspython has them; the rest of a message is passed over, which
costs a small part of reading it whole: mail for ten thousand domains asks thirty thousand questions.
Standards: RFC 1035 §4, RFC 2181 §5.4 (records of other names do not count), RFC 2308 §5, RFC 3225 (DO), RFC 6840 §5.7 (AD),
RFC 6891 (EDNS), RFC 7766 (TCP's length is not here).
Not here: sending (net.dns_exchange), whom to ask (net.dns_asking).
Bugs: none known.
"""

import ipaddress
import re
import struct
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import dns.exception
import dns.name
import dns.rdata
import dns.rdatatype

NOERROR: Final = 0
NXDOMAIN: Final = 3
_A: Final = 1
_CNAME: Final = 5
_MX: Final = 15
_AAAA: Final = 28
_SOA: Final = 6
_OPT: Final = 41
_INTERNET: Final = 1
_LONGEST_CHAIN: Final = 16
_MOST_HOPS: Final = 64
_HEADER: Final = struct.Struct("!HHHHHH")
_RECORD: Final = struct.Struct("!HHIH")
_QR, _TC, _RD, _AD = 0x8000, 0x0200, 0x0100, 0x0020
_OPCODE: Final = 0x7800
_PAYLOAD: Final = 1_232
_ONE = b"\x00\x01"
_EDNS = b"\x00" + struct.pack("!HHIH", _OPT, _PAYLOAD, 0x8000, 0)
"""Asks for DNSSEC's records (DO), so that a resolver validates."""
_PLAIN: Final = re.compile(r"(?:[a-zA-Z0-9_-]{1,63}\.)+[a-zA-Z0-9_-]{1,63}")
_PLAIN_BYTES: Final = re.compile(rb"[a-z0-9_.-]+")


class MalformedMessage(ValueError):  # noqa: N818
    """Bytes that are no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """
    What an answer says.

    Attributes:
        records: Those of the type that was asked for, at the name where aliases led: texts for A and AAAA, (preference, name in
            lower case) for MX, and dnspython's records for other types. The root as a name is a dot.
        ttl_s: The least on the way there.
        canonical: Where CNAMEs led; the name itself, where there were none.
        negative_ttl_s: For how long there is nothing, where the zone says so (RFC 2308 §5).
        is_authentic: The AD bit.
    """

    rcode: int
    is_truncated: bool = False
    is_authentic: bool = False
    records: tuple[Any, ...] = ()
    ttl_s: float = 0.0
    canonical: str = ""
    negative_ttl_s: float | None = None


class _Record(NamedTuple):
    owner: bytes
    kind: int
    ttl_s: int
    at: int
    length: int


def encoded(name: str) -> bytes:
    """
    Write a name as DNS does.

    Raises:
        dns.exception.DNSException: It is none.
        UnicodeError: It is none.
    """
    if len(name) < 250 and _PLAIN.fullmatch(name):
        return b"".join([bytes((len(label),)) + label.encode() for label in name.split(".")]) + b"\x00"
    return bytes(dns.name.from_text(name if name.endswith(".") else name + ".").to_wire() or b"")


def question(number: int, name: bytes, kind: int, *, has_edns: bool) -> bytes:
    """
    Write a question.

    Args:
        number: Chosen at random: the answer has to have it.
        name: As `encoded` writes it.
        has_edns: Ask for DNSSEC too.
    """
    flags = _RD | (_AD if has_edns else 0)
    head = _HEADER.pack(number, flags, 1, 0, 0, 1 if has_edns else 0)
    return head + name + kind.to_bytes(2, "big") + _ONE + (_EDNS if has_edns else b"")


def response(data: bytes, number: int, name: bytes, kind: int) -> Response | None:
    """
    Read the answer to a question; None when it belongs to another one.

    Raises:
        MalformedMessage: It belongs to this one and cannot be read.
    """
    if len(data) < _HEADER.size:
        return None
    found, flags, questions, answers, authorities, others = _HEADER.unpack_from(data)
    if found != number or not flags & _QR or flags & _OPCODE:
        return None
    at = _HEADER.size + len(name) + 4
    if questions == 0 and flags & 15 not in {NOERROR, NXDOMAIN}:
        return Response(rcode=flags & 15)  # a server that did not understand the question may leave it out
    if questions != 1 or data[_HEADER.size : at].lower() != name.lower() + kind.to_bytes(2, "big") + _ONE:
        return None
    try:
        return _read(data, flags, at, (answers, authorities, others), name.lower(), kind)
    except (struct.error, IndexError, dns.exception.DNSException, ValueError) as error:
        raise MalformedMessage(f"malformed answer: {' '.join(str(error).split()) or type(error).__name__}") from error


def _read(data: bytes, flags: int, at: int, counts: tuple[int, int, int], name: bytes, kind: int) -> Response:
    is_truncated, is_authentic = bool(flags & _TC), bool(flags & _AD)
    if is_truncated:
        return Response(rcode=flags & 15, is_truncated=True)
    answers, at = _records(data, at, counts[0])
    authorities, at = _records(data, at, counts[1])
    rcode = flags & 15
    if rcode not in {NOERROR, NXDOMAIN} or counts[2]:
        rcode |= _extended(data, at, counts[2])
    owner, ttl_s, found = _follow(data, answers, name, kind)
    return Response(
        rcode=rcode,
        is_authentic=is_authentic,
        records=tuple([_value(data, one) for one in found]),
        ttl_s=ttl_s,
        canonical=_text(owner),
        negative_ttl_s=None if found else _negative_ttl(data, authorities),
    )


def _records(data: bytes, at: int, count: int) -> tuple[list[_Record], int]:
    found = []
    for _ in range(count):
        owner, at = _name(data, at)
        kind, group, ttl_s, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if at + length > len(data):
            raise ValueError("a record is cut off")
        if group == _INTERNET:
            found.append(_Record(owner, kind, ttl_s if ttl_s < 1 << 31 else 0, at, length))  # RFC 2181 §8
        at += length
    return found, at


def _name(data: bytes, at: int) -> tuple[bytes, int]:
    """Read a name, lower case and whole; return it with where it ends."""
    parts: list[bytes] = []
    end, before = -1, at
    for _ in range(_MOST_HOPS * 2):
        length = data[at]
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | data[at + 1]
            end = at + 2 if end < 0 else end
            if target >= before:
                raise ValueError("a name points forward")
            at = before = target
        elif length > 63:
            raise ValueError("a label is neither text nor pointer")
        else:
            parts.append(data[at : at + 1 + length])
            at += 1 + length
            if not length:
                return b"".join(parts).lower(), at if end < 0 else end
    raise ValueError("a name is too long")


def _follow(data: bytes, answers: list[_Record], name: bytes, kind: int) -> tuple[bytes, float, list[_Record]]:
    """Follow aliases from a name to records of a type."""
    ttl_s = float("inf")
    for _ in range(_LONGEST_CHAIN):
        found = [one for one in answers if one.kind == kind and one.owner == name]
        if found:
            return name, min([ttl_s, *[float(one.ttl_s) for one in found]]), found
        alias = next((one for one in answers if one.kind == _CNAME and one.owner == name), None)
        if alias is None:
            return name, 0.0, []
        name, ttl_s = _name(data, alias.at)[0], min(ttl_s, float(alias.ttl_s))
    raise ValueError("a chain of aliases is too long")


def _negative_ttl(data: bytes, authorities: list[_Record]) -> float | None:
    """Return how long there is nothing: the SOA's own TTL or its minimum, whichever is less (RFC 2308 §5)."""
    for one in authorities:
        if one.kind == _SOA and one.length >= 20:
            return float(min(one.ttl_s, int.from_bytes(data[one.at + one.length - 4 : one.at + one.length], "big")))
    return None


def _extended(data: bytes, at: int, count: int) -> int:
    """Return the upper bits of the result, which stand in the OPT record (RFC 6891 §6.1.3)."""
    for _ in range(count):
        _, at = _name(data, at)
        kind, _, ttl, length = _RECORD.unpack_from(data, at)
        if kind == _OPT:
            return int(ttl >> 24) << 4
        at += _RECORD.size + length
    return 0


def _value(data: bytes, one: _Record) -> Any:
    end = one.at + one.length
    if one.kind == _MX:
        name, ends = _name(data, one.at + 2)
        if ends != end:
            raise ValueError("an MX record has another length")
        return int.from_bytes(data[one.at : one.at + 2], "big"), _text(name)
    if one.kind == _A and one.length == 4:
        return "%d.%d.%d.%d" % tuple(data[one.at : end])  # noqa: UP031 - the fastest way there is
    if one.kind == _AAAA and one.length == 16:
        return str(ipaddress.IPv6Address(data[one.at : end]))
    return dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.RdataType.make(one.kind), data, one.at, one.length)


def _text(name: bytes) -> str:
    """Write a name as text, without its last dot."""
    labels, at = [], 0
    while length := name[at]:
        labels.append(name[at + 1 : at + 1 + length])
        at += 1 + length
    plain = b".".join(labels)
    if _PLAIN_BYTES.fullmatch(plain) and not any(b"." in label for label in labels):
        return plain.decode()
    return "." if not labels else dns.name.from_wire(name, 0)[0].to_text(omit_final_dot=True)

"""DNS messages: read as dnspython reads them, and never believed when they answer something else."""

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.wire import dns_message
from gatepost.wire.dns_message import MalformedMessage, Response

NAME = dns_message.encoded("Acme.example")
MX, A, AAAA, TXT, CNAME = (int(dns.rdatatype.from_text(kind)) for kind in ("MX", "A", "AAAA", "TXT", "CNAME"))


def answer(kind: int, *rrsets: dns.rrset.RRset, name: bytes = NAME, number: int = 7, **options) -> bytes:
    query = dns.message.from_wire(dns_message.question(number, name, kind, has_edns=True))
    reply = dns.message.make_response(query)
    reply.answer += rrsets
    reply.set_rcode(options.get("rcode", dns.rcode.NOERROR))
    reply.flags |= options.get("flags", 0)
    reply.authority += options.get("authority", [])
    return reply.to_wire()


def rrset(name: str, kind: str, *texts: str, ttl_s: int = 300) -> dns.rrset.RRset:
    return dns.rrset.from_text(name + ".", ttl_s, "IN", kind, *texts)


def read(data: bytes, kind: int) -> Response:
    found = dns_message.response(data, 7, NAME, kind)
    assert found is not None
    return found


@pytest.mark.parametrize("has_edns", [True, False])
def test_a_question_is_what_a_full_implementation_would_write(has_edns: bool) -> None:
    """dnspython reads the same name, type, flags and EDNS options that it would have written itself."""
    query = dns.message.from_wire(dns_message.question(513, NAME, MX, has_edns=has_edns))
    assert (query.id, query.question[0].name.to_text(), query.question[0].rdtype) == (513, "Acme.example.", MX)
    assert query.flags == (dns.flags.RD | dns.flags.AD if has_edns else dns.flags.RD)
    assert query.edns == (0 if has_edns else -1)
    assert bool(query.ednsflags & dns.flags.DO) is has_edns
    assert (query.payload == 1232) is has_edns


def test_records_ttl_and_the_ad_bit_are_read() -> None:
    """What a domain's mail hosts are, for how long, and whether DNSSEC vouches for it; in whatever case the name comes back."""
    found = read(answer(MX, rrset("aCME.example", "MX", "10 mx1.acme.example.", "20 mx2.acme.example.", ttl_s=77), flags=dns.flags.AD), MX)
    assert sorted(found.records) == [(10, "mx1.acme.example"), (20, "mx2.acme.example")]
    assert (found.ttl_s, found.is_authentic, found.canonical, found.rcode) == (77.0, True, "acme.example", 0)


def test_aliases_are_followed_with_the_least_ttl_and_strangers_records_do_not_count() -> None:
    """Only what stands where the aliases lead is the answer; a record of another name in it is nobody's business."""
    chain = [rrset("acme.example", "CNAME", "a.other.example.", ttl_s=50), rrset("a.other.example", "CNAME", "b.other.example.", ttl_s=20)]
    stranger = rrset("evil.example", "A", "192.0.2.66")
    found = read(answer(A, stranger, *chain, rrset("b.other.example", "A", "192.0.2.1", ttl_s=90)), A)
    assert found.records == ("192.0.2.1",)
    assert (found.ttl_s, found.canonical) == (20.0, "b.other.example")
    assert read(answer(A, stranger), A).records == ()
    assert read(answer(CNAME, *chain), CNAME).canonical == "acme.example"


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (A, "192.0.2.255", "192.0.2.255"),
        (AAAA, "2001:DB8::1", "2001:db8::1"),
        (MX, "0 .", (0, ".")),
        (MX, r"5 Ma\.il.Acme.example.", (5, r"ma\.il.acme.example")),
        (MX, r"5 m\000.acme.example.", (5, r"m\000.acme.example")),
    ],
)
def test_hosts_and_addresses_are_texts(kind: int, text: str, expected: object) -> None:
    """Also the host that stands for no mail at all, and names with bytes in them that a text has to escape."""
    assert read(answer(kind, rrset("acme.example", kind, text)), kind).records == (expected,)


def test_other_records_are_dnspythons() -> None:
    """TXT strings stay apart, as whoever reads them needs."""
    (record,) = read(answer(TXT, rrset("acme.example", TXT, '"v=spf1" " -all"')), TXT).records
    assert record.strings == (b"v=spf1", b" -all")


@pytest.mark.parametrize(
    "name", ["acme.example", "acme.example.", "_25._tcp.mx.acme.example", "a" * 63 + ".example", "example", r"a\.b.example"]
)
def test_names_are_written_as_dnspython_writes_them(name: str) -> None:
    """The quick way and the thorough one agree."""
    assert dns_message.encoded(name) == dns.name.from_text(name).to_wire()


@pytest.mark.parametrize("name", ["a..example", "b" * 64 + ".example", ".".join(["abcdefgh"] * 30), "ä" * 300])
def test_what_is_no_name_is_not_asked(name: str) -> None:
    """Empty labels, labels and names that are too long."""
    with pytest.raises((dns.exception.DNSException, UnicodeError)):
        dns_message.encoded(name)


def test_a_circle_of_aliases_ends() -> None:
    """Two names that lead to each other are no answer."""
    circle = [rrset("acme.example", "CNAME", "other.example."), rrset("other.example", "CNAME", "acme.example.")]
    with pytest.raises(MalformedMessage, match="too long"):
        read(answer(A, *circle), A)


@pytest.mark.parametrize(("rcode", "soa_ttl_s", "least"), [(dns.rcode.NXDOMAIN, 900, 120), (dns.rcode.NOERROR, 60, 60)])
def test_nothing_lasts_as_long_as_the_zone_says(rcode: dns.rcode.Rcode, soa_ttl_s: int, least: int) -> None:
    """The SOA's TTL or its minimum, whichever is less, for names and for types that are not there."""
    soa = rrset("example", "SOA", "ns.example. root.example. 1 2 3 4 120", ttl_s=soa_ttl_s)
    found = read(answer(MX, rcode=rcode, authority=[soa]), MX)
    assert (found.rcode, found.records, found.negative_ttl_s) == (rcode, (), least)
    assert read(answer(MX, rcode=rcode), MX).negative_ttl_s is None


def test_an_answer_to_another_question_is_none() -> None:
    """Another number, name, type, class or opcode, or a question sent back: whoever sent it, it is not what was asked."""
    good = answer(MX, rrset("acme.example", "MX", "10 mx1.acme.example."))
    for other in (
        answer(MX, number=8),
        answer(A),
        answer(MX, name=dns_message.encoded("acme.test")),
        answer(MX, name=dns_message.encoded("sub.acme.example")),
        dns_message.question(7, NAME, MX, has_edns=True),
        good[:2] + bytes([good[2] | 0x20]) + good[3:],
        good[:8],
        b"",
    ):
        assert dns_message.response(other, 7, NAME, MX) is None


def test_a_server_that_does_not_understand_may_leave_the_question_out() -> None:
    """FORMERR with nothing but a header says enough; NOERROR with nothing but a header says nothing."""
    assert dns_message.response(b"\x00\x07\x80\x01" + bytes(8), 7, NAME, MX) == Response(rcode=1)
    assert dns_message.response(b"\x00\x07\x80\x00" + bytes(8), 7, NAME, MX) is None


def test_extended_results_are_read() -> None:
    """BADVERS has its upper bits in the OPT record."""
    assert read(answer(MX, rcode=dns.rcode.BADVERS), MX).rcode == dns.rcode.BADVERS


def test_what_is_cut_off_is_said_to_be() -> None:
    """With the TC bit nothing of the records is used."""
    found = read(answer(MX, rrset("acme.example", "MX", "10 mx1.acme.example."), flags=dns.flags.TC), MX)
    assert (found.is_truncated, found.records) == (True, ())


GOOD = answer(
    MX,
    rrset("acme.example", "CNAME", "mail.acme.example."),
    rrset("mail.acme.example", "MX", "10 mx1.acme.example.", "20 mx2.acme.example."),
)


@given(at=st.integers(min_value=12, max_value=len(GOOD) - 1), with_byte=st.integers(min_value=0, max_value=255), cut=st.booleans())
def test_damaged_answers_are_refused_and_nothing_else_happens(at: int, with_byte: int, cut: bool) -> None:
    """Any byte may be wrong, and any end missing: the reader returns an answer, none, or says that it is malformed."""
    data = GOOD[:at] if cut else GOOD[:at] + bytes([with_byte]) + GOOD[at + 1 :]
    try:
        found = dns_message.response(data, 7, NAME, MX)
    except MalformedMessage:
        return
    assert found is None or isinstance(found, Response)


def test_a_name_that_points_to_itself_is_malformed() -> None:
    """Pointers only lead back (RFC 1035 §4.1.4): a circle of them is refused at once."""
    head = answer(MX)[:12]
    data = head[:6] + b"\x00\x01" + bytes(4) + NAME + b"\x00\x0f\x00\x01"
    data += bytes([0xC0, len(data)]) + b"\x00\x0f\x00\x01" + bytes(4) + b"\x00\x03\x00\x0a\x00"
    with pytest.raises(MalformedMessage):
        dns_message.response(data, 7, NAME, MX)

"""The first message of a TLS client, read before the handshake."""

import contextlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.wire.tls_hello import ClientHello, Unreadable, read_client_hello


def hello_of(name: str | None = "Mail.Acme.Example", protocols: tuple[str, ...] = (), group: str | None = None) -> bytes:
    """What OpenSSL says as a client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if group:
        context.set_ecdh_curve(group)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def test_a_real_hello_is_read():
    """Name, protocols and groups are what OpenSSL put there."""
    hello = read_client_hello(hello_of(protocols=("h2", "http/1.1"), group="secp384r1"))
    assert hello == ClientHello(server_name="mail.acme.example", protocols=(b"h2", b"http/1.1"), groups=(24,), key_shares=(24,))


def test_a_hello_without_extensions_is_read():
    """No name, no protocols: nothing is invented."""
    hello = read_client_hello(hello_of(name=None, group="prime256v1"))
    assert hello == ClientHello(groups=(23,), key_shares=(23,))


def test_a_hello_is_whole_only_at_its_last_byte():
    """However the network cuts it, and however the client cuts it into records (RFC 8446 §5.1)."""
    data = hello_of()
    assert all(read_client_hello(data[:end]) is None for end in range(len(data)))
    body = data[5:]
    records = b"".join(data[:3] + len(body[at : at + 7]).to_bytes(2) + body[at : at + 7] for at in range(0, len(body), 7))
    assert read_client_hello(records) == read_client_hello(data)
    assert read_client_hello(records[:-1]) in (None, read_client_hello(data))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",  # a ServerHello
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",  # 16 MB are announced
        b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03",  # ends within the random
        b"\x16\x03\x01\x00\x00" * 20_000,
    ],
)
def test_what_is_no_hello_is_said_to_be_none(data):
    """Other protocols and broken lengths end the reading; nothing else is raised."""
    with pytest.raises(Unreadable):
        read_client_hello(data)


@given(st.binary(max_size=400))
def test_no_bytes_break_the_reader(tail):
    """Whatever follows a record's head: a hello, more to come, or none."""
    for head in (b"", b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03"):
        with contextlib.suppress(Unreadable):
            read_client_hello(head + tail)


@given(st.integers(min_value=5, max_value=250), st.integers(min_value=0, max_value=255))
def test_a_flipped_byte_breaks_nothing(at, value):
    """A hello with one wrong byte is still read or refused."""
    data = bytearray(HELLO)
    data[at % len(data)] = value
    with contextlib.suppress(Unreadable):
        read_client_hello(bytes(data))


HELLO = hello_of(protocols=("acme-tls/1",))

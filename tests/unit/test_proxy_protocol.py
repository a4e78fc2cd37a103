"""The PROXY protocol's header: HAProxy's proxy-protocol.txt §2.1 and §2.2."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.wire.proxy_protocol import NotProxied, ProxyHeader, read_proxy_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def _v2(kind=0x21, family=0x11, body=bytes([203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x34, 0, 25])):
    return SIGNATURE + bytes([kind, family]) + len(body).to_bytes(2, "big") + body


SIX = ipaddress.ip_address("2001:db8::7").packed + ipaddress.ip_address("2001:db8::1").packed + b"\x12\x34\0\x19"


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 25\r\n", "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 25\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
        (_v2(), "203.0.113.7"),
        (_v2(body=bytes([203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x34, 0, 25]) + b"\x04\0\x02ab"), "203.0.113.7"),
        (_v2(family=0x21, body=SIX), "2001:db8::7"),
        (_v2(kind=0x20), None),
        (_v2(family=0x00, body=b""), None),
        (_v2(family=0x31, body=b"\0" * 216), None),
    ],
)
def test_a_header_names_the_client_however_it_is_cut(header, client):
    """Byte by byte it is not complete until it is; what follows it is not touched."""
    for end in range(len(header)):
        assert read_proxy_header(header[:end]) is None
    assert read_proxy_header(header + b"EHLO x\r\n") == ProxyHeader(client, len(header))


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO x\r\n",
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 56324\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 25 25\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 99999\r\n",
        b"PROXY TCP4 2001:db8::7 192.0.2.1 56324 25\r\n",
        b"PROXY TCP4 203.0.113.7\0 192.0.2.1 56324 25\r\n",
        b"PROXY TCP4  203.0.113.7 192.0.2.1 56324 25\r\n",
        b"PROXY UDP4 203.0.113.7 192.0.2.1 56324 25\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 25" + b" " * 100,
        b"PROXY \xff\r\n",
        SIGNATURE + b"\x11\x11\0\x0c" + b"\0" * 12,
        SIGNATURE + b"\x21\x11\0\x04" + b"\0" * 4,
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_what_is_no_header_is_refused(header):
    """A client's address is never guessed."""
    with pytest.raises(NotProxied):
        read_proxy_header(header)


@given(st.binary(max_size=300))
def test_no_bytes_break_it(data):
    """Any bytes are a header, the beginning of one, or refused."""
    for start in (b"", b"PROXY ", SIGNATURE):
        with contextlib.suppress(NotProxied):
            read_proxy_header(start + data)

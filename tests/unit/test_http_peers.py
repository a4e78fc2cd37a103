"""Who a request comes from: forwarding headers count from trusted proxies only (THREATS 61)."""

import pytest

from gatepost.http.peers import Proxies

TRUSTED = ["10.0.0.0/8", "2001:db8:1::/48"]


def _resolve(peer, *headers, trusted=TRUSTED, scheme="http"):
    scope = {"client": (peer, 1234), "scheme": scheme, "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers]}
    Proxies(trusted).resolve(scope)
    return scope["client"][0], scope["scheme"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("198.51.100.1", ["127.0.0.1"], "198.51.100.1"),
        ("127.0.0.1", ["203.0.113.7"], "127.0.0.1"),
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["127.0.0.1, 203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["6.6.6.6", "203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.7, 10.9.9.9"], "203.0.113.7"),
        ("10.0.0.1", ["10.0.0.5"], "10.0.0.5"),
        ("10.0.0.1", ["203.0.113.7:4711"], "203.0.113.7"),
        ("2001:db8:1::1", ["[2001:db8:2::7]:4711"], "2001:db8:2::7"),
        ("2001:db8:1::1", ["2001:db8:2::7"], "2001:db8:2::7"),
        ("::ffff:10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.7, nonsense, 10.9.9.9"], "10.9.9.9"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1," * 5_000 + "203.0.113.7"], "203.0.113.7"),
    ],
)
def test_the_client_is_the_last_address_that_is_no_proxy_of_ours(peer, forwarded, client):
    """From the right, as far as trusted proxies reach; what a client wrote further left is never believed."""
    assert _resolve(peer, *[("x-forwarded-for", value) for value in forwarded])[0] == client


@pytest.mark.parametrize(
    ("peer", "said", "scheme"),
    [
        ("10.0.0.1", ["https"], "https"),
        ("10.0.0.1", ["HTTPS"], "https"),
        ("10.0.0.1", ["https", "http"], "http"),
        ("10.0.0.1", ["javascript"], "http"),
        ("10.0.0.1", [], "http"),
        ("198.51.100.1", ["https"], "http"),
    ],
)
def test_the_scheme_is_what_the_nearest_trusted_proxy_says(peer, said, scheme):
    """A forged X-Forwarded-Proto makes no connection secure."""
    assert _resolve(peer, *[("x-forwarded-proto", value) for value in said])[1] == scheme


def test_without_trusted_proxies_nobody_is_believed():
    """The default: the peer is who the connection comes from."""
    headers = [("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "https"), ("x-real-ip", "6.6.6.6"), ("forwarded", "for=6.6.6.6")]
    assert _resolve("127.0.0.1", *headers, trusted=[]) == ("127.0.0.1", "http")
    assert _resolve("10.0.0.1", *headers[2:]) == ("10.0.0.1", "http")

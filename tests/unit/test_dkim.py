"""DKIM signing, with dkimpy and the RFCs' own vectors as judges. THREATS 47, 48, 49, 50."""

import base64
import hashlib
import re
import types
from collections.abc import Iterator

import dkim
import dkim.canonicalization
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatepost.wire.dkim import (
    ED25519_SHA256,
    LIFETIME_S,
    RSA_SHA256,
    Signer,
    UnusableKey,
    canonical_body,
    canonical_field,
    dns_record,
    generate_key,
    sign,
)

NOW = 1_764_000_000_000
MESSAGE = (
    b"From: Shop <shop@acme.example>\r\nTo: ann@example.net\r\nSubject: Hello \t there\r\nDate: Mon, 24 Nov 2025 16:00:00 +0000\r\n"
    b"Message-ID: <1@acme.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    b"Hi  Ann,\t \r\n\r\nbye\r\n\r\n\r\n"
)
RFC_MESSAGE = (
    b"From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\nSubject: Is dinner ready?\r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\nMessage-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\n"
    b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
)
RFC_SELECTED = ("from", "to", "subject", "date", "message-id")
RFC_RSA_KEY = """-----BEGIN RSA PRIVATE KEY-----
MIICXQIBAAKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi
Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqM
KrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB
AoGAH0cxOhFZDgzXWhDhnAJDw5s4roOXN4OhjiXa8W7Y3rhX3FJqmJSPuC8N9vQm
6SVbaLAE4SG5mLMueHlh4KXffEpuLEiNp9Ss3O4YfLiQpbRqE7Tm5SxKjvvQoZZe
zHorimOaChRL2it47iuWxzxSiRMv4c+j70GiWdxXnxe4UoECQQDzJB/0U58W7RZy
6enGVj2kWF732CoWFZWzi1FicudrBFoy63QwcowpoCazKtvZGMNlPWnC7x/6o8Gc
uSe0ga2xAkEA8C7PipPm1/1fTRQvj1o/dDmZp243044ZNyxjg+/OPN0oWCbXIGxy
WvmZbXriOWoSALJTjExEgraHEgnXssuk7QJBALl5ICsYMu6hMxO73gnfNayNgPxd
WFV6Z7ULnKyV7HSVYF0hgYOHjeYe9gaMtiJYoo0zGN+L3AAtNP9huqkWlzECQE1a
licIeVlo1e+qJ6Mgqr0Q7Aa7falZ448ccbSFYEPD6oFxiOl9Y9se9iYHZKKfIcst
o7DUw1/hz2Ck4N5JrgUCQQCyKveNvjzkkd8HjYs0SwM0fPjK16//5qDZ2UiDGnOe
uEzxBDAr518Z8VFbR41in3W4Y3yCDgQlLlcETrS+zYcL
-----END RSA PRIVATE KEY-----
"""


class _Ed25519:
    """What dkimpy asks of PyNaCl, on top of `cryptography`: dkimpy still decides what is verified."""

    class BadSignatureError(Exception):
        pass

    class VerifyKey:
        def __init__(self, public: bytes, encoder: object = None) -> None:
            self._key = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(public))

        def verify(self, data: bytes, signature: bytes) -> bytes:
            try:
                self._key.verify(signature, data)
            except InvalidSignature:
                raise _Ed25519.BadSignatureError from None
            return data


@pytest.fixture(scope="module")
def signers() -> list[Signer]:
    return [
        Signer.from_pem("acme.example", name, kind, generate_key(kind)[0]) for name, kind in (("r1", RSA_SHA256), ("e1", ED25519_SHA256))
    ]


@pytest.fixture(autouse=True)
def _nacl(monkeypatch: pytest.MonkeyPatch) -> None:
    space = types.SimpleNamespace
    fake = space(signing=_Ed25519, encoding=space(Base64Encoder=None), exceptions=_Ed25519)
    monkeypatch.setattr(dkim, "nacl", fake, raising=False)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """dkimpy compares t= and x= with the machine's clock; here it is the tests' own."""
    monkeypatch.setattr(dkim, "time", types.SimpleNamespace(time=lambda: NOW // 1000 + 60))
    yield


def _zone(signers: list[Signer]) -> dict[bytes, bytes]:
    records = {}
    for signer in signers:
        public = signer.key.public_key()
        form = (
            (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            if signer.algorithm == ED25519_SHA256
            else (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        name, text = dns_record(signer.domain, signer.selector, signer.algorithm, base64.b64encode(public.public_bytes(*form)).decode())
        records[f"{name}.".encode()] = text.encode()
    return records


def _verifies(content: bytes, signers: list[Signer]) -> list[bool]:
    """Ask dkimpy about every signature in the message."""
    zone = _zone(signers)
    count = len(re.findall(rb"(?mi)^dkim-signature:", content))
    return [_is_good(content, n, zone) for n in range(count)]


def _is_good(content: bytes, n: int, zone: dict[bytes, bytes]) -> bool:
    try:
        return bool(dkim.DKIM(content).verify(idx=n, dnsfunc=lambda name, timeout=5: zone.get(name)))
    except dkim.ValidationError:
        return False


def test_both_signatures_verify(signers: list[Signer]) -> None:
    """RSA and Ed25519 signatures of one message are both good for another implementation."""
    assert _verifies(sign(MESSAGE, signers, NOW) + MESSAGE, signers) == [True, True]


def test_the_fields_are_folded_and_7bit(signers: list[Signer]) -> None:
    """A signature is ASCII, its lines at most 78 octets, all ended by CRLF."""
    fields = sign(MESSAGE, signers, NOW)
    assert fields.isascii() and fields.endswith(b"\r\n") and fields.count(b"\n") == fields.count(b"\r\n")
    assert max(map(len, fields.split(b"\r\n"))) <= 78


def test_a_signature_never_has_l_and_always_t_and_x(signers: list[Signer]) -> None:
    """`l=` would let anyone append; `t=` and `x=` bound a replay in time."""
    for field in sign(MESSAGE, signers, NOW).split(b"DKIM-Signature:")[1:]:
        tags = dict(tag.strip().split(b"=", 1) for tag in field.replace(b"\r\n", b"").split(b";"))
        assert b"l" not in tags
        assert int(tags[b"t"]) == NOW // 1000
        assert int(tags[b"x"]) == NOW // 1000 + LIFETIME_S
        assert tags[b"c"] == b"relaxed/relaxed"


@pytest.mark.parametrize(
    "name", ["From", "Subject", "To", "Cc", "Date", "Message-ID", "Reply-To", "MIME-Version", "Content-Type", "List-Unsubscribe"]
)
@pytest.mark.parametrize("place", ["above", "below"])
def test_adding_a_field_breaks_the_signature(signers: list[Signer], name: str, place: str) -> None:
    """Oversigned fields: a second one, or a first one where there was none, is noticed wherever it stands."""
    extra = f"{name}: evil@evil.example\r\n".encode()
    signature = sign(MESSAGE, signers, NOW)
    below = MESSAGE.replace(b"\r\n\r\n", b"\r\n" + extra + b"\r\n", 1)
    tampered = signature + (extra + MESSAGE if place == "above" else below)
    assert _verifies(tampered, signers) == [False, False]


def test_changing_the_body_breaks_the_signature(signers: list[Signer]) -> None:
    """A word more at the end is noticed."""
    assert _verifies(sign(MESSAGE, signers, NOW) + MESSAGE + b"more\r\n", signers) == [False, False]


def test_an_expired_signature_is_refused(signers: list[Signer], monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay after the lifetime fails."""
    signed = sign(MESSAGE, signers, NOW) + MESSAGE
    monkeypatch.setattr(dkim, "time", types.SimpleNamespace(time=lambda: NOW // 1000 + LIFETIME_S + 86_400))
    assert _verifies(signed, signers) == [False, False]
    assert _verifies(sign(MESSAGE, signers, NOW, lifetime_s=0) + MESSAGE, signers) == [True, True]


def test_a_message_without_from_is_not_signed(signers: list[Signer]) -> None:
    """RFC 6376 §5.4: From must be signed."""
    with pytest.raises(ValueError, match="From"):
        sign(b"To: a@b.example\r\n\r\nx\r\n", signers, NOW)


def test_no_signers_no_signature() -> None:
    """A domain without keys sends unsigned."""
    assert sign(MESSAGE, [], NOW) == b""


_line = st.text(st.sampled_from(" \tab.=ü\0é-\x7f"), max_size=12).map(lambda text: text.encode("latin-1"))
_body = st.builds(
    lambda lines, end: b"\r\n".join(lines) + end, st.lists(_line, max_size=8), st.sampled_from([b"", b"\r\n", b"\r\n\r\n", b" \r\n\t\r\n"])
)


@given(_body)
@example(b"")
@example(b"\r\n")
@example(b" \r\n\t")
@example(b"x" * 2000)
@example(b"a" + b" " * 5000 + b"\r\n")
@example(b".\r\n..\r\n")
@settings(max_examples=200, deadline=None)
def test_bodies_are_canonicalised_as_dkimpy_does(body: bytes) -> None:
    """Relaxed body form: equal to dkimpy's for empty, unterminated, blank, tabbed, 8-bit and long bodies."""
    # dkimpy does not end an unterminated last line; RFC 6376 §3.4.4 (b) does, and every transport has done so before
    ended = body if body.endswith(b"\r\n") else body + b"\r\n"
    assert canonical_body(body) == canonical_body(ended) == dkim.canonicalization.Relaxed.canonicalize_body(ended)


_value = st.text(st.sampled_from(" \tabü:;=<>@"), min_size=1, max_size=30).map(lambda text: text.encode("latin-1"))


@given(_value, st.lists(_value.map(lambda v: b" " + v), max_size=3))
@settings(max_examples=100, deadline=None)
def test_fields_are_canonicalised_as_dkimpy_does(first: bytes, more: list[bytes]) -> None:
    """Relaxed header form, folded values included."""
    value = b"\r\n".join([first, *more])
    [(name, theirs)] = dkim.canonicalization.Relaxed.canonicalize_headers([(b"X-Foo", value + b"\r\n")])
    assert canonical_field(b"X-Foo", value) == name + b":" + theirs


@given(_body)
@settings(max_examples=25, deadline=None)
def test_any_body_verifies(body: bytes) -> None:
    """What is signed verifies, whatever the body is."""
    signer = Signer.from_pem("acme.example", "e", ED25519_SHA256, _ED_PEM)
    content = b"From: a@acme.example\r\nSubject: x\r\n\r\n" + (body if body.endswith(b"\r\n") else body + b"\r\n")
    assert _verifies(sign(content, [signer], NOW) + content, [signer]) == [True]


_ED_PEM = generate_key(ED25519_SHA256)[0]


def _rfc_input(algorithm: str, selector: str) -> bytes:
    """Build what RFC 8463 appendix A.3 signs: the selected fields, then the signature's own with an empty b=."""
    head = RFC_MESSAGE.partition(b"\r\n\r\n")[0].split(b"\r\n")
    by_name = {line.partition(b":")[0].lower().decode(): line.partition(b":")[2] for line in head}
    own = (
        f" v=1; a={algorithm}; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n q=dns/txt; s={selector}; "
        "t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n "
        "bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b="
    ).encode()
    fields = b"".join(canonical_field(name.encode(), by_name[name]) for name in RFC_SELECTED)
    return fields + canonical_field(b"DKIM-Signature", own)[:-2]


def test_the_body_hash_of_the_rfc_comes_out() -> None:
    """RFC 8463 appendix A.3, bh=."""
    digest = hashlib.sha256(canonical_body(RFC_MESSAGE.partition(b"\r\n\r\n")[2])).digest()
    assert base64.b64encode(digest) == b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="


def test_the_ed25519_signature_of_the_rfc_comes_out() -> None:
    """RFC 8463 appendix A: the same key and message give the same signature."""
    seed = base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    signer = Signer(
        domain="football.example.com", selector="brisbane", algorithm=ED25519_SHA256, key=ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    )
    expected = "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
    assert base64.b64encode(signer.sign(_rfc_input(ED25519_SHA256, "brisbane"))).decode() == expected


def test_the_rsa_signature_of_the_rfc_comes_out() -> None:
    """RFC 8463 appendix A, its RSA half."""
    signer = Signer.from_pem("football.example.com", "test", RSA_SHA256, RFC_RSA_KEY)
    expected = (
        "F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz"
        "dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8="
    )
    assert base64.b64encode(signer.sign(_rfc_input(RSA_SHA256, "test"))).decode() == expected


def test_the_canonical_forms_of_rfc_6376_come_out() -> None:
    """RFC 6376 §3.4.5, example 1."""
    assert canonical_field(b"A", b" X") + canonical_field(b"B ".strip(), b" Y\t\r\n\tZ  ") == b"a:X\r\nb:Y Z\r\n"
    assert canonical_body(b" C \r\nD \t E\r\n\r\n\r\n") == b" C\r\nD E\r\n"
    assert canonical_body(b"") == b""


def _pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


WEAK_768 = """-----BEGIN RSA PRIVATE KEY-----
MIIBzAIBAAJhAMRuL+8iVuxvpm1ilXL40xTjbaUkQdhngrR2ri0u0ypi/zL9fa1c
wMeRO5aHp5HTphOwlWwhJUkoT6dEevXg3uSD6+xJaX7p/mcn6lQL264fp3nvhD6O
/sYz93SgTybR9QIDAQABAmAuPpawYNBAB6UR2YS/tY7UOxrEJz4NOYlO/SXSY1S5
hOb51S3yU4TbNvjlXnh333Cu0Bj15+l4ISbjoK0SQ822QymkEoLsaVmVWRaks6Ce
iXfd1PiYLdBC9HIpYgwyEgECMQD4CWrKg+avR26reQxOYScQ9+DTjINKxyXXjjb3
Ho+odgfwO7Kln2mI/3tjWu5iPIECMQDKvJ+4z+kiY2AqebzSIEwPMqWEBSQ1sPUn
eT8fO5+C0MpfsZ8a5TBhHYCqlC5Xq3UCMQDCxmJd9YZJTkbR0JShWBldccnTVhwj
tI863iq7k/wrxcQmGjsHZE9zjWxPcTCRZAECMQCqU5aNGn/vmDXu+aAdmWzNR+uu
4vLs+OK+aysQ/nKg4PFlPEFDw1HGBZdXuG7G0RECMQCK5nY7hdUIlQGr3bl/HUMR
0DVks3XuTg5dZGXwoWs0gnBokYmbpGCh7DEhZdZj7Ko=
-----END RSA PRIVATE KEY-----
"""


def test_weak_and_foreign_keys_are_refused() -> None:
    """RFC 8301: no RSA under 1,024 bits, no SHA-1; a key must be of the kind it is said to be."""
    rsa_pem, ed_pem = generate_key(RSA_SHA256)[0], generate_key(ED25519_SHA256)[0]
    for algorithm, pem in [
        (RSA_SHA256, WEAK_768),
        (RSA_SHA256, ed_pem),
        (ED25519_SHA256, rsa_pem),
        ("rsa-sha1", rsa_pem),
        (RSA_SHA256, "no key"),
        (RSA_SHA256, ""),
    ]:
        with pytest.raises(UnusableKey):
            Signer.from_pem("acme.example", "s", algorithm, pem)
    with pytest.raises(UnusableKey, match="bits"):
        Signer.from_pem("acme.example", "s", RSA_SHA256, WEAK_768)
    with pytest.raises(UnusableKey):
        generate_key("rsa-sha1")


@pytest.mark.parametrize(
    ("domain", "selector"),
    [("acme.example; d=evil.example", "s"), ("acme.example", "s\r\nX: y"), ("", "s"), ("münchen.example", "s"), ("acme.example", "s;")],
)
def test_a_name_cannot_smuggle_tags(domain: str, selector: str) -> None:
    """Domain and selector are DNS names, nothing else."""
    with pytest.raises(UnusableKey):
        Signer.from_pem(domain, selector, ED25519_SHA256, _ED_PEM)


def test_a_signer_never_shows_its_key(signers: list[Signer]) -> None:
    """A signer in a log or a traceback is harmless."""
    assert "key" not in repr(signers[0]).lower().replace("domainkey", "")

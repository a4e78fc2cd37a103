"""DANE: what a chain must be to match TLSA records (RFC 6698, 7671, 7672)."""

import datetime as dt
import hashlib

import pytest

from gatepost.wire.dane import Flaw, NotAuthentic, Tlsa, authenticate, is_named, usable
from tests.tls.authority import Authority, Pair
from tests.tls_policy.house import DAY, der, spki, sub_authority, tlsa

NAMES = ["mx.good.test", "good.test"]
NOW = dt.datetime.now(dt.UTC)

ROOT = Authority("Root")
MIDDLE = sub_authority(ROOT, "Middle")
LEAF = MIDDLE.issue("mx.good.test")
CHAIN = [der(LEAF.certificate), der(MIDDLE.certificate), der(ROOT.certificate)]


def record(text: str) -> Tlsa:
    usage, selector, matching, data = text.split()
    return Tlsa(int(usage), int(selector), int(matching), bytes.fromhex(data))


def verdict(*texts: str, chain=None, names=NAMES, now=NOW) -> NotAuthentic | None:
    return authenticate(usable([record(text) for text in texts]), CHAIN if chain is None else chain, names, now)


def flaw(*texts: str, **more) -> Flaw:
    found = verdict(*texts, **more)
    assert found is not None
    return found.flaw


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_a_servers_own_certificate_matches_in_every_form(selector, matching):
    """DANE-EE: whole, SHA-256, SHA-512, of certificate or key."""
    assert verdict(tlsa(3, selector, matching, LEAF.certificate)) is None
    other = MIDDLE.issue("mx.good.test")
    assert flaw(tlsa(3, selector, matching, other.certificate)) is Flaw.NO_MATCH


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize("anchor", [MIDDLE, ROOT])
def test_an_authority_matches_in_every_form(selector, matching, anchor):
    """DANE-TA: any authority of the chain, in the middle as well as at its root."""
    assert verdict(tlsa(2, selector, matching, anchor.certificate)) is None
    assert flaw(tlsa(2, selector, matching, Authority("Root").certificate)) is Flaw.NO_MATCH


def test_an_authority_that_is_not_in_the_chain_may_stand_in_the_record():
    """A whole certificate or key in a record completes a chain that lacks it (RFC 7671 §5.2)."""
    short = CHAIN[:2]
    assert verdict(tlsa(2, 0, 0, ROOT.certificate), chain=short) is None
    assert verdict(tlsa(2, 1, 0, ROOT.certificate), chain=short) is None
    assert verdict(tlsa(2, 0, 0, MIDDLE.certificate), chain=CHAIN[:1]) is None
    assert flaw(tlsa(2, 1, 1, ROOT.certificate), chain=short) is Flaw.NO_MATCH


def test_an_own_certificate_needs_neither_name_nor_date():
    """DANE-EE looks at nothing but the match (RFC 7672 §3.1.1)."""
    old = MIDDLE.issue("elsewhere.test", starts=-30 * DAY, ends=-DAY)
    assert verdict(tlsa(3, 1, 1, old.certificate), chain=[der(old.certificate)]) is None


def test_under_an_authority_name_and_date_count():
    """DANE-TA checks what any verification checks (RFC 7672 §3.1.2, §3.2)."""
    anchor = tlsa(2, 0, 1, MIDDLE.certificate)
    other = MIDDLE.issue("mx.evil.test")
    assert flaw(anchor, chain=[der(other.certificate), *CHAIN[1:]]) is Flaw.NAME
    old = MIDDLE.issue("mx.good.test", starts=-30 * DAY, ends=-DAY)
    assert flaw(anchor, chain=[der(old.certificate), *CHAIN[1:]]) is Flaw.EXPIRED
    for name in ("good.test", "*.good.test"):
        fitting = MIDDLE.issue(name)
        assert verdict(anchor, chain=[der(fitting.certificate), *CHAIN[1:]]) is None


def test_a_client_certificate_is_no_servers():
    """The use that a certificate is for counts."""
    client = MIDDLE.issue("mx.good.test", is_client=True)
    assert flaw(tlsa(2, 0, 1, MIDDLE.certificate), chain=[der(client.certificate), *CHAIN[1:]]) is Flaw.NO_MATCH


def chain_through(middle: Authority) -> list[bytes]:
    return [der(middle.issue("mx.good.test").certificate), der(middle.certificate), der(ROOT.certificate)]


def test_only_authorities_sign_within_their_bounds():
    """A certificate that is no authority, or may have none below it, or has expired, makes no chain."""
    anchor = tlsa(2, 0, 1, ROOT.certificate)
    assert verdict(anchor, chain=chain_through(sub_authority(ROOT, "Fine", path_length=0))) is None
    assert flaw(anchor, chain=chain_through(sub_authority(ROOT, "No authority", is_ca=False))) is Flaw.NO_MATCH
    assert flaw(anchor, chain=chain_through(sub_authority(ROOT, "Old", ends=-DAY))) is Flaw.EXPIRED
    upper = sub_authority(ROOT, "Upper", path_length=0)
    lower = sub_authority(upper, "Lower")
    leaf = lower.issue("mx.good.test")
    long = [der(leaf.certificate), der(lower.certificate), der(upper.certificate), der(ROOT.certificate)]
    assert flaw(anchor, chain=long) is Flaw.NO_MATCH


def test_a_chain_is_of_signatures_not_of_names():
    """An authority's namesake with another key vouches for nothing."""
    namesake = sub_authority(ROOT, "Middle")
    assert flaw(tlsa(2, 0, 1, namesake.certificate), chain=[CHAIN[0], der(namesake.certificate), CHAIN[2]]) is Flaw.NO_MATCH
    assert flaw(tlsa(2, 0, 1, ROOT.certificate), chain=[CHAIN[0], CHAIN[2]]) is Flaw.NO_MATCH


def test_the_order_and_the_clutter_of_a_chain_do_not_matter():
    """Servers send chains in any order, with certificates that do not belong there."""
    clutter = [der(Authority(f"Other {n}").certificate) for n in range(8)]
    assert verdict(tlsa(2, 1, 2, ROOT.certificate), chain=[CHAIN[0], *clutter, CHAIN[2], CHAIN[1]]) is None


def test_unusable_records_do_not_count():
    """Usages 0 and 1, unknown numbers and wrong lengths are unusable in SMTP (RFC 7672 §3.1.3)."""
    digest = hashlib.sha256(CHAIN[0]).digest()
    for record_ in (
        Tlsa(0, 0, 1, digest), Tlsa(1, 0, 1, digest), Tlsa(4, 0, 1, digest), Tlsa(255, 0, 1, digest), Tlsa(3, 2, 1, digest),
        Tlsa(3, 0, 3, digest), Tlsa(3, 0, 1, digest[:31]), Tlsa(3, 0, 2, digest), Tlsa(3, 0, 0, b"no certificate"), Tlsa(2, 1, 0, b""),
    ):  # fmt: skip
        assert usable([record_]) == ()


def test_only_the_strongest_digest_counts():
    """With SHA-512 beside it, a SHA-256 record of the same kind says nothing (RFC 7671 §9)."""
    other = MIDDLE.issue("mx.good.test").certificate
    weak, strong = tlsa(3, 1, 1, LEAF.certificate), tlsa(3, 1, 2, other)
    assert flaw(weak, strong) is Flaw.NO_MATCH
    assert verdict(weak, strong, chain=[der(other)]) is None
    assert verdict(tlsa(3, 0, 1, LEAF.certificate), strong) is None


def test_what_is_no_certificate_is_not_authentic():
    """Nothing a server sends raises."""
    good = tlsa(3, 1, 1, LEAF.certificate)
    assert flaw(good, chain=[]) is Flaw.NO_MATCH
    assert flaw(good, chain=[b"\x30\x03\x02\x01\x01"]) is Flaw.NO_MATCH
    assert flaw(tlsa(2, 1, 1, ROOT.certificate), chain=[CHAIN[0], b"junk"]) is Flaw.NO_MATCH


def test_a_loop_of_authorities_ends():
    """Two authorities that signed each other, many times over, do not keep us busy."""
    one, two = Authority("A"), Authority("B")
    ring = [der(sub_authority(a, b.certificate.subject.rfc4514_string()[3:]).certificate) for a, b in [(one, two), (two, one)] * 9]
    assert flaw(tlsa(2, 1, 1, Authority("C").certificate), chain=[der(one.issue("mx.good.test").certificate), *ring]) is Flaw.NO_MATCH


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("mx.good.test", "MX.good.test.", True),
        ("*.good.test", "mx.good.test", True),
        ("*.good.test", "a.mx.good.test", False),
        ("*.good.test", "good.test", False),
        ("*", "mx", False),
        ("m*.good.test", "mx.good.test", False),
    ],
)
def test_names_in_certificates(pattern, name, expected):
    """One label for `*`, at the left, whole (RFC 6125 §6.4.3)."""
    assert is_named(pattern, name) is expected


def test_the_pair_has_the_key_that_the_record_names():
    """The tests' own records are of what they say."""
    pair: Pair = LEAF
    assert record(tlsa(3, 1, 1, pair.certificate)).data == hashlib.sha256(spki(pair.certificate)).digest()

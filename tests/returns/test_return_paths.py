"""Return paths: who can make one, what it says, and when it ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost import ids
from gatepost.clock import DAY
from gatepost.wire.return_path import ReturnPaths, ReturnToken
from tests.store.rows import NOW

PATHS = ReturnPaths(key=b"k" * 16, domain="bounces.example", by_sender={"acme.example": "bounces.acme.example"}, days=30)


@given(st.integers(0, 65_534), st.integers(0, 29))
def test_a_return_path_says_which_recipient_comes_back(n, days_later):
    """Message and number come out as they went in, in any case, for as long as the path is good; it fits into 64 octets."""
    message_id = ids.new_message_id()
    address = PATHS.address_for(message_id, n, "other.example", NOW)
    local, _, domain = address.partition("@")
    assert (domain, len(local) <= 64) == ("bounces.example", True)
    assert PATHS.read(local.upper(), NOW + days_later * DAY) == ReturnToken(message_id, n)


def test_a_sender_may_have_a_return_path_of_its_own_domain():
    """SPF is aligned when the return path is in the sender's domain."""
    message_id = ids.new_message_id()
    assert PATHS.address_for(message_id, 0, "acme.example", NOW).endswith("@bounces.acme.example")
    assert PATHS.domains == {"bounces.example", "bounces.acme.example"}


def test_an_old_return_path_is_nobody():
    """THREATS 41: what was read somewhere long ago is worth nothing."""
    local = PATHS.address_for(ids.new_message_id(), 3, "", NOW).partition("@")[0]
    assert PATHS.read(local, NOW + 30 * DAY) is not None
    assert PATHS.read(local, NOW + 32 * DAY) is None


@given(st.integers(0, 44), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_no_character_of_a_token_can_be_another(at, character):
    """THREATS 41: a token that was altered or guessed is none; only the bits that base32 leaves unused may differ."""
    token = ReturnToken(ids.new_message_id(), 7)
    local = PATHS.address_for(token.message_id, token.n, "", NOW).partition("@")[0]
    changed = local[: 2 + at] + character + local[3 + at :]
    found = PATHS.read(changed, NOW)
    assert found is None or (found == token and (changed == local or at == 44))


@pytest.mark.parametrize(
    "local", ["b", "b+", "b+aaaa", "b+" + "a" * 45, "b+" + "a" * 46, "x+" + "a" * 45, "b+" + "1" * 45, "", "b+\x00" + "a" * 44]
)
def test_what_is_no_token_is_nobody(local):
    """Whatever stands before the @: an answer, never an exception."""
    assert PATHS.read(local, NOW) is None


def test_another_gateways_token_is_nobody():
    """The key is the database's: two gateways with the same domain do not believe each other."""
    other = ReturnPaths(key=b"o" * 16, domain="bounces.example")
    assert PATHS.read(other.address_for(ids.new_message_id(), 0, "", NOW).partition("@")[0], NOW) is None


def test_a_quoted_return_path_counts_only_at_our_own_domains():
    """What a complaint quotes is searched for whole addresses of ours."""
    token = ReturnToken(ids.new_message_id(), 1)
    address = PATHS.address_for(token.message_id, token.n, "", NOW)
    assert PATHS.find(f"Return-Path: <{address}>\r\nOriginal-Mail-From: <{address.upper()}>", NOW) == {token}
    assert PATHS.find(f"Return-Path: <{address.partition('@')[0]}@bounces.evil.example>", NOW) == set()

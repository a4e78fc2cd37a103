"""API keys: recognisable, checked, stored as a hash only."""

import re

from hypothesis import given
from hypothesis import strategies as st

from gatepost.domain.tenant import KeyMode
from gatepost.tenants import keys


def test_a_key_can_be_found_by_its_form_and_told_from_a_look_alike():
    """Prefix and checksum: a scanner needs no access to the database."""
    for mode in KeyMode:
        secret = keys.make_secret(mode)
        assert re.fullmatch(rf"gp_{mode}_[0-9A-Za-z]{{38}}", secret)
        assert keys.looks_like_key(secret)
        changed = secret[:-1] + ("a" if secret[-1] != "a" else "b")
        assert not keys.looks_like_key(changed)


@given(st.text(max_size=60))
def test_any_text_can_be_asked_about(text):
    """Whatever a client sends as a key is no key, and no crash."""
    assert not keys.looks_like_key(text)
    assert not keys.looks_like_key("gp_live_" + text)
    assert len(keys.hash_secret(text)) == 32


def test_the_record_of_a_key_does_not_hold_its_secret():
    """Only the last four characters are kept, to tell keys apart."""
    secret = keys.make_secret(KeyMode.LIVE)
    record = repr(keys.describe(secret, tenant_id="t", name="n", mode=KeyMode.LIVE, now=1))
    assert secret[-4:] in record
    assert secret[8:40] not in record

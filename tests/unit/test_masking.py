"""Secrets and addresses are taken out of what the audit log keeps, by name and by form."""

import pytest

from gatepost.domain.access import KeyMode
from gatepost.domain.masking import masked, masked_text
from gatepost.tenants.keys import make_secret

JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJvYWNfMSJ9.c2lnbmF0dXJl"
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "client_secret",
        "Token",
        "access_token",
        "private_pem",
        "totp",
        "otp",
        "recovery_codes",
        "Authorization",
        "cookie",
        "jwt",
    ],
)
@pytest.mark.parametrize("value", ["s3cr3t-value", ["s3cr3t-value"], {"x": "s3cr3t-value"}, b"s3cr3t-value", 123456])
def test_what_is_called_a_secret_is_masked_whatever_it_is(name, value):
    """Text, list, object, bytes or number."""
    assert masked({"outer": [{name: value}]}) == {"outer": [{name: "***"}]}


def test_facts_about_secrets_are_kept():
    """When a token ends, whether there is a second factor, which file holds a password: that is no secret."""
    facts = {"token_ttl_s": 3600, "has_totp": True, "key_id": "key_1", "password_file": "/etc/x", "secret": "", "token": None}
    assert masked(facts) == facts


@pytest.mark.parametrize(
    "secret",
    [
        make_secret(KeyMode.LIVE),
        make_secret(KeyMode.TEST),
        JWT,
        PEM,
        "postgresql://gate:hunter2@db/gate",
        "smtp://u:pa:ss@w@relay.example:587",
        "Authorization: Bearer abcdef0123456789",
        "ann.smith@example.net",
        "Ann <ann.smith@example.net>",
    ],
    ids=["live", "test", "jwt", "pem", "database", "relay", "bearer", "address", "mailbox"],
)
def test_a_secret_is_known_by_its_form_wherever_it_stands(secret):
    """In a note, in a key of an object, in the middle of a sentence."""
    told = repr(masked({"note": f"see {secret} there", f"x {secret}": [secret]}))
    for word in ("hunter2", "pa:ss", "abcdef0123456789", "ann.smith", JWT, "MC4CAQ", secret):
        assert word not in told


@pytest.mark.parametrize("hostile", ["\x00", "\ud800", "a" * 100_000, "eyJ" * 30_000, "@" * 50_000, "-----BEGIN PRIVATE KEY-----" * 3_000])
def test_hostile_texts_become_short_texts_that_a_database_takes(hostile):
    """No NUL, no lone surrogate, at most some 2,000 characters, and no time."""
    told = masked_text(hostile)
    assert len(told) <= 2_100
    assert "\x00" not in told
    told.encode()


def test_depth_and_width_are_bounded():
    """A change cannot fill the log."""
    deep = value = {}
    for _ in range(100):
        value["x"] = value = {}
    assert len(repr(masked(deep))) < 200
    assert len(masked({"x": list(range(10_000))})["x"]) == 500

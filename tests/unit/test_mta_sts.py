"""MTA-STS: which records announce a policy, what a policy says, and which hosts it names (RFC 8461)."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.wire.mta_sts import MAX_AGE_S, MAX_POLICY_BYTES, InvalidPolicy, KeptPolicy, Mode, Policy, find_record, parse_policy

RECORDS = [
    ("v=STSv1; id=20160831085700Z;", "20160831085700Z"),  # RFC 8461 §3.1, its own example
    ("v=STSv1;id=1", "1"),
    ("v=STSv1 ; id=a1 ;", "a1"),
    ("v=STSv1;\tid=a1\t;\text=value", "a1"),
    ("v=STSv1; extra=ok; id=x", "x"),
    ("v=STSv1; a.b-c_d=1; id=x;", "x"),
    (f"v=STSv1; id={'a' * 32}", "a" * 32),
    ("v=STSv1; id=" + "a" * 33, None),
    ("v=STSv1; id=", None),
    ("v=STSv1; id=a-b", None),
    ("v=STSv1; id=a b", None),
    ("v=STSv1; id=ä", None),
    ("v=STSv1; id = 1", None),
    ("v=STSv1; id=1; id=2", None),
    ("v=STSv1; id=1;; ext=2", None),
    ("v=STSv1; id=1; ext", None),
    ("v=STSv1; id=1; ext=", None),
    ("v=STSv1; id=1; ext=a=b", None),
    ("v=STSv1; id=1; -ext=a", None),
    (f"v=STSv1; id=1; {'e' * 33}=a", None),
    ("v=STSv1;", None),
    ("v=STSv1", None),
    ("v=STSv2; id=1", None),
    ("v=stsv1; id=1", None),
    ("V=STSv1; id=1", None),
    (" v=STSv1; id=1", None),
    ("id=1; v=STSv1", None),
    ("v=STSv1 id=1", None),
    ("", None),
]

GOOD = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmx: backupmx.example.com\nmax_age: 604800\n"

POLICIES = [
    (GOOD, ("enforce", ("mail.example.com", "*.example.net", "backupmx.example.com"), 604800)),  # RFC 8461 §3.2, its own example
    (GOOD.replace("\n", "\r\n"), ("enforce", ("mail.example.com", "*.example.net", "backupmx.example.com"), 604800)),
    (GOOD.rstrip("\n"), ("enforce", ("mail.example.com", "*.example.net", "backupmx.example.com"), 604800)),
    ("version:STSv1\nmode:testing\nmx:MX.Example.COM.\nmax_age:0", ("testing", ("mx.example.com",), 0)),
    ("version \t: STSv1 \nmode: none\nmax_age: 86400\n\n", ("none", (), 86400)),
    ("mode: enforce\nmx: a.example\nversion: STSv1\nmax_age: 1\nfuture_field: x y\n", ("enforce", ("a.example",), 1)),
    ("version: STSv1\nversion: STSv9\nmode: testing\nmode: enforce\nmx: a.example\nmax_age: 5\nmax_age: 6", ("testing", ("a.example",), 5)),
    ("version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 9999999999", ("enforce", ("a.example",), MAX_AGE_S)),
    ("version: STSv1\nmode: enforce\nmx: a.example\nmx: a.example\nmax_age: 1", ("enforce", ("a.example",), 1)),
    ("version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 1\nnote: größer", ("enforce", ("a.example",), 1)),
    ("", None),
    ("version: STSv1\nmode: enforce\nmax_age: 1", None),
    ("version: STSv1\nmx: a.example\nmax_age: 1", None),
    ("version: STSv1\nmode: enforce\nmx: a.example", None),
    ("mode: enforce\nmx: a.example\nmax_age: 1", None),
    ("version: STSv2\nmode: enforce\nmx: a.example\nmax_age: 1", None),
    ("version: STSv1\nmode: Enforce\nmx: a.example\nmax_age: 1", None),
    ("version: STSv1\nmode: report\nmx: a.example\nmax_age: 1", None),
    ("version: STSv1\nmode: enforce\nmx: a.example\nmax_age: -1", None),
    ("version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 1d", None),
    ("version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 12345678901", None),
    ("version: STSv1\nmode: enforce\nmx: *\nmax_age: 1", None),
    ("version: STSv1\nmode: enforce\nmx: *.*.example\nmax_age: 1", None),
    ("version: STSv1\nmode: enforce\nmx: a*.example\nmax_age: 1", None),
    ("version: STSv1\nmode: enforce\nmx: a..example\nmax_age: 1", None),
    ("version: STSv1\nmode: enforce\nmx: <a.example>\nmax_age: 1", None),
    ("version: STSv1\nmode: enforce\nmx: a.example b.example\nmax_age: 1", None),
    ("version: STSv1\nmode: enforce\n\nmx: a.example\nmax_age: 1", None),
    ("<html>404</html>", None),
    ("version STSv1\nmode: enforce\nmx: a.example\nmax_age: 1", None),
]

HOSTS = [
    ("mail.example.com", "mail.example.com", True),
    ("mail.example.com", "MAIL.example.com.", True),
    ("mail.example.com", "other.example.com", False),
    ("*.example.com", "mail.example.com", True),
    ("*.example.com", "example.com", False),
    ("*.example.com", "a.mail.example.com", False),
    ("*.example.com", "mail.example.com.evil.example", False),
    ("*.com", "example.com", True),
]


@pytest.mark.parametrize(("text", "expected"), RECORDS)
def test_a_record_is_read_to_the_letter(text, expected):
    """What is not exactly a record announces nothing (RFC 8461 §3.1)."""
    assert find_record([text]) == expected


def test_two_records_are_none():
    """Where there is not exactly one record, there is no policy; other TXT records do not matter."""
    assert find_record(["v=STSv1; id=1", "v=STSv1; id=2"]) is None
    assert find_record(["v=STSv1; id=1", "v=STSv1; broken"]) is None
    assert find_record(["v=spf1 -all", "v=STSv1; id=1", "something"]) == "1"
    assert find_record([]) is None


@pytest.mark.parametrize(("text", "expected"), POLICIES)
def test_a_policy_is_read_to_the_letter(text, expected):
    """A policy that is not well-formed is none (RFC 8461 §3.2)."""
    if expected is None:
        with pytest.raises(InvalidPolicy):
            parse_policy(text.encode())
    else:
        mode, hosts, age = expected
        assert parse_policy(text.encode()) == Policy(mode=Mode(mode), hosts=hosts, max_age_s=age)


def test_a_policy_has_a_bound():
    """64 KiB are a policy at most, and what is no text is none."""
    long = GOOD + "x: " + "a" * MAX_POLICY_BYTES
    with pytest.raises(InvalidPolicy, match="bytes"):
        parse_policy(long.encode())
    with pytest.raises(InvalidPolicy, match="UTF-8"):
        parse_policy(b"\xff\xfe")


@pytest.mark.parametrize(("pattern", "host", "expected"), HOSTS)
def test_a_wildcard_stands_for_one_label(pattern, host, expected):
    """Hosts match as RFC 8461 §4.1 has it."""
    assert Policy(mode=Mode.ENFORCE, hosts=(pattern,), max_age_s=1).allows(host) is expected


def test_a_kept_policy_ends_after_its_own_time():
    """max_age counts from the fetch."""
    policy = parse_policy(GOOD.encode())
    assert KeptPolicy(domain="example.com", record_id="1", policy=policy, fetched_at=1_000).expires_at == 604_801_000


@given(st.binary(max_size=400))
def test_nothing_breaks_the_parser(body):
    """Whatever a policy host sends, the answer is a policy or InvalidPolicy."""
    with contextlib.suppress(InvalidPolicy):
        parse_policy(body)
    find_record([body.decode("latin-1")])

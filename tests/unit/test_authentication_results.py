"""Authentication-Results (RFC 8601): whose word counts, and that nothing breaks the reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.wire.authentication_results import Verdicts, parse_authentication_results, read_verdicts

APPENDIX_B5 = """example.com; auth=pass (cram-md5) smtp.auth=sender@example.net;
  spf=pass smtp.mailfrom=example.net"""
APPENDIX_B7 = """foo.example.net (foobar) 1 (baz);
  dkim (Because I like it) / 1 (One yay) = (wait for it) fail
    policy (A dot can go here) . (like that) expired
    (this surprised me) = (as I wasn't expecting it) 1362471462"""


def results(value):
    found = parse_authentication_results(value.replace("\n", " "))
    return found and (found.authserv_id, [(one.method, one.result) for one in found.results])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("example.org 1; none", ("example.org", [])),
        (APPENDIX_B5, ("example.com", [("auth", "pass"), ("spf", "pass")])),
        (APPENDIX_B7, ("foo.example.net", [("dkim", "fail")])),
        ('"mx; one.example"; spf=pass', ("mx", [("spf", "pass")])),
        (
            'mx.example; dkim=fail reason="bad; (signature)" header.d=a.example; spf=SoftFail',
            ("mx.example", [("dkim", "fail"), ("spf", "softfail")]),
        ),
        ("mx.example; dkim=maybe", ("mx.example", [("dkim", "unknown")])),
        ("", None),
        (";;;", None),
        ("(((((((", None),
    ],
)
def test_fields_are_read_as_the_grammar_has_them(value, said):
    """RFC 8601 appendix B, and what receivers write: comments, quoted strings, versions, odd cases."""
    assert results(value) == said


GOOGLE = """Delivered-To: seed@gmail.example
Received: by 2002:a05:6000:1 with SMTP id x
ARC-Authentication-Results: i=1; mx.google.com; spf=fail
Authentication-Results: mx.google.com;
       dkim=fail header.i=@other.example;
       dkim=pass header.i=@acme.example header.s=s1;
       spf=neutral (google.com: 192.0.2.1 is neither) smtp.mailfrom=a@acme.example;
       dmarc=fail (p=NONE sp=NONE dis=NONE) header.from=acme.example
Authentication-Results: mx.google.com; arc=none
Received: from us (us [192.0.2.1]) by mx.google.com
Authentication-Results: mx.google.com; spf=pass; dmarc=pass
Authentication-Results: forged.example; spf=pass
From: a@acme.example

Authentication-Results: mx.google.com; dmarc=pass
"""


def test_only_the_system_that_took_the_mail_is_believed():
    """RFC 8601 §5: what stands below its Received came from outside, whatever name it has; ARC's seal and the body are not it."""
    raw = GOOGLE.replace("\n", "\r\n").encode()
    said = Verdicts(authserv_id="mx.google.com", spf="neutral", dkim="pass", dmarc="fail")
    assert read_verdicts(raw) == said == read_verdicts(GOOGLE.encode()) == read_verdicts(raw, "MX.google.com")
    assert read_verdicts(raw, "mx.yahoo.example") is None
    assert read_verdicts(b"From: a\r\n\r\nAuthentication-Results: x.example; spf=pass\r\n") is None


@given(st.binary(max_size=600), st.text(max_size=300))
def test_nothing_breaks_the_reader(noise, text):
    """Any bytes give verdicts or none."""
    read_verdicts(noise)
    read_verdicts(b"Authentication-Results: " + noise)
    parse_authentication_results(text)


def test_deep_and_long_fields_end_in_time():
    """Nesting and length are bounded."""
    assert parse_authentication_results("mx.example; " + "(" * 1_000_000) is not None
    assert read_verdicts(b"Authentication-Results: mx.example;" + b" dkim=pass;" * 100_000) is not None
    assert read_verdicts(b"X: y\r\n" * 100_000) is None

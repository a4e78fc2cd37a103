"""Links and scripts of HTML bodies: told or refused when a tenant wants it, never changed."""

import asyncio

import pytest

from gatepost.domain.errors import Refused
from gatepost.policy.lookalike import is_lookalike
from tests.screening.mail import check_fields, check_mime, mime, screener, submission


def outcome(html, own):
    async def one(work):
        try:
            return [fault.code for fault in await work]
        except Refused as refusal:
            return [refusal.code, *[fault.code for fault in refusal.faults]]

    async def both():
        checks = screener(own=own)
        return [await one(check_fields(checks, submission(html=html))), await one(check_mime(checks, mime(html=html)))]

    first, second = asyncio.run(both())
    assert first == second, "the doors must agree"
    return first


@pytest.mark.parametrize(
    ("html", "code"),
    [
        ('<a href="https://acme.example/x">Read more</a>', None),
        ('<a href="https://click.acme.example/x">www.acme.example</a>', None),
        ('<a href="https://acme.co.uk/">shop.acme.co.uk</a>', None),
        ('<a href="mailto:ann@acme.example">ann@acme.example</a>', None),
        ('<a href="#top">acme.example</a>', None),
        ('<a href="https://acme.example">End. Next sentence</a>', None),
        ('<a href="https://evil.example/">https://bank.example/login</a>', "link_text_differs"),
        ('<a href="https://evil.example/">bank.com</a>', "link_text_differs"),
        ('<a href="https://evil.co.uk/">bank.co.uk</a>', "link_text_differs"),
        ('<a href="https://evil.example/"><b>bank</b>.com</a>', "link_text_differs"),
        ('<A HREF="//evil.example">bank.com</A>', "link_text_differs"),
        ('<a href="https://bank.com@evil.example/">Log in</a>', "deceptive_link"),
        ('<a href="https://p\u0430ypal.com/">Log in</a>', "lookalike_link"),
        ('<a href="https://xn--pypal-4ve.com/">Log in</a>', "lookalike_link"),
        ('<a href="java&#9;script:alert(1)">x</a>', "unsafe_link"),
        ('<form action="javascript:alert(1)"></form><a href="#">x</a>', "unsafe_link"),
    ],
)
def test_links_that_lead_elsewhere_are_found(html, code):
    """The same at both doors; off by default."""
    assert outcome(html, {"links": "refuse"}) == ([] if code is None else ["content_refused", code])
    assert outcome(html, {"links": "warn"}) == ([] if code is None else [code])
    assert outcome(html, {}) == []


@pytest.mark.parametrize(
    ("html", "is_active"),
    [
        ("<p>Hello</p><style>p { color: red }</style>", False),
        ("<p>only = one, conversation = two</p>", False),
        ("<p>We scripted it</p>", False),
        ("<ScRiPt>x()</ScRiPt>", True),
        ("<img src=x onerror=alert(1)>", True),
        ("<img src=x\nOnError = 'x'>", True),
        ("<svg/onload=alert(1)>", True),
        ("<iframe src=//evil.example></iframe>", True),
        ("<a href='javascript:x()'>x</a>", True),
        ('<meta http-equiv="refresh" content="0;url=//evil.example">', True),
        ("<form action=//evil.example><input name=password></form>", True),
    ],
)
def test_html_that_runs_is_told_or_refused(html, is_active):
    """Never taken out in silence: the message goes as it is, with a warning, or not at all."""
    assert outcome(html, {"html": "refuse"}) == (["content_refused", "active_html"] if is_active else [])
    assert outcome(html, {"html": "warn"}) == (["active_html"] if is_active else [])
    assert outcome(html, {}) == []


@pytest.mark.parametrize(
    "host", ["acme.example", "münchen.de", "пример.рф", "日本語.jp", "例え.テスト", "xn--mnchen-3ya.de", "россия.com", "ok-рф.рф"[3:]]
)
def test_honest_hosts_are_no_look_alikes(host):
    """Words of one language, under any ending."""
    assert not is_lookalike(host)


@pytest.mark.parametrize(
    "host", ["p\u0430ypal.com", "xn--pypal-4ve.com", "аррӏе.com", "g\u03bf\u03bfgle.com", "pay\u200bpal.com", "сосо.com"]
)
def test_look_alike_hosts_are_known(host):
    """Mixed scripts, whole words of letters that look Latin, characters that nobody sees."""
    assert is_lookalike(host)

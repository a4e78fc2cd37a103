"""Links of a message: which are rewritten, that nothing else changes, and that no text makes it slow."""

import email
import email.policy

import pytest

from gatepost.domain.engagement import Tracking
from gatepost.mime.tracked import MOST_LINKS, Writing, find_tracked
from gatepost.policy.click_targets import is_target, target_of

ALL = Tracking(opens=True, clicks=True, text=True, unsubscribe=True)
CLICKS = Tracking(clicks=True)
PIXEL = '<img src="https://t.example/t/o/P.gif" width="1" height="1" alt="" style="border:0">'


def part(body, kind="html", encoding="7bit", charset="utf-8", more=""):
    return f"Content-Type: text/{kind}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n{more}\r\n{body}".encode(charset)


def mail(body, **fields):
    return b"From: shop@acme.example\r\nSubject: Hi\r\n" + part(body, **fields)


def mixed(*parts, kind="mixed"):
    head = f'From: shop@acme.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/{kind}; boundary="b"\r\n\r\n'.encode()
    return head + b"".join(b"--b\r\n" + one + b"\r\n" for one in parts) + b"--b--\r\n"


def writing(**more):
    fields = {
        "link": lambda target: f"https://t.example/t/c/{len(target)}",
        "pixel": "https://t.example/t/o/P.gif",
        "unsubscribe": "https://t.example/t/u/U",
    }
    return Writing(**{**fields, **more})


def html_of(content):
    read = email.message_from_bytes(content, policy=email.policy.default)
    return read.get_body(("html",)).get_content().replace("\r\n", "\n")


def rewritten(html, tracking=CLICKS):
    tracked = find_tracked(mail(html + "\r\n"), tracking)
    return list(tracked.links), html_of(tracked.written(writing())).rstrip("\n")


@pytest.mark.parametrize(
    ("html", "links", "instead"),
    [
        ('<a href="https://x.example/a">x</a>', ["https://x.example/a"], '<a href="https://t.example/t/c/19">x</a>'),
        ("<A\n HREF = 'http://x.example'>x</A>", ["http://x.example"], "<A\n HREF = 'https://t.example/t/c/16'>x</A>"),
        ("<a href=http://x.example/>x</a>", ["http://x.example/"], "<a href=https://t.example/t/c/17>x</a>"),
        ('<area href="http://x.example">', ["http://x.example"], '<area href="https://t.example/t/c/16">'),
        ('<a title="a > b" href="http://x.example">', ["http://x.example"], '<a title="a > b" href="https://t.example/t/c/16">'),
        ('<a href="http://x.example" href="http://y.example">', ["http://x.example"], '<a href="https://t.example/t/c/16" href="http://y.example">'),
        ('<a href="?a&copy=1"></a><a href="http://x.example/?a=1&amp;copy=2&copy=3">', ["http://x.example/?a=1&copy=2&copy=3"],
         '<a href="?a&copy=1"></a><a href="https://t.example/t/c/35">'),
        ('<a href="http://x.example/&eacute;&#x20;b">', ["http://x.example/%C3%A9%20b"], '<a href="https://t.example/t/c/27">'),
        ('<a href=" \thttp://x.exa\nmple ">', ["http://x.example"], '<a href="https://t.example/t/c/16">'),
        ("<b>no</b", [], "<b>no</b"),
    ],
)  # fmt: skip
def test_links_are_read_as_browsers_read_them(html, links, instead):
    """Quotes, no quotes, letter case, references, white space: the link is found, and only its value changes."""
    found, written = rewritten(html)
    assert (found, written) == (links, instead)


@pytest.mark.parametrize(
    "html",
    [
        '<a href="mailto:ann@example.net">', '<a href="tel:+4930">', '<a href="#top">', '<a href="/path">', '<a href="//evil.example/">', '<a href="">', "<a href>",
        '<a href="javascript:alert(1)">', '<a href="java&#10;script:alert(1)">', '<a href="data:text/html,x">', '<a href="ftp://x.example">', '<a href="cid:logo">',
        '<a href="https:\\\\evil.example">', '<a href="https://a.example\\@evil.example">', '<a href="https://bank.example@evil.example/">', '<a href="https:///x">',
        '<a href="https://exämple.de/">', '<!-- <a href="https://x.example"> -->', '<script>"<a href=\'https://x.example\'>"</script>', '<img src="https://x.example/a.png">',
        '<title><a href="https://x.example"></title>', '<style>a[href="https://x.example"]{}</style>', '<link href="https://x.example">', '<base href="https://x.example">',
        '<a data-gatepost-no-track href="https://x.example">', '<a clicktracking="off" href="https://x.example">', '<a ses:no-track href="https://x.example">',
        '<textarea><a href="https://x.example"></textarea>', '<abbr href="https://x.example">', 'href="https://x.example"', f'<a href="https://x.example/{"a" * 5000}">',
    ],
)  # fmt: skip
def test_what_is_no_link_of_the_web_stays_as_it_is(html):
    """Telephones, addresses, anchors, other schemes, comments, scripts, and links that their author wants untracked (THREATS 44)."""
    assert rewritten(html) == ([], html)


@pytest.mark.parametrize(
    "text",
    ["//evil.example", "\\\\evil.example", "/\\evil.example", "javascript:alert(1)", "https:evil.example", "https:\\\\evil", "https://", "https://a b.example/", "http://u:p@x.example",
     "https://x.example\r\nSet-Cookie: a=b", "https://x.example/\\..\\", "vbscript:x", "https://[::1", "https://x.example:port/", "http://.example/", "https://x.example\0"],
)  # fmt: skip
def test_a_target_that_could_lead_astray_is_none(text):
    """What reaches Location is http or https with a plain host, in printable ASCII without a backslash."""
    assert not is_target(text)
    found = target_of(text)
    assert found is None or (is_target(found) and "\\" not in found and found.isprintable())


def test_the_pixel_stands_at_the_end_of_the_body():
    """Before the last closing tag; at the end where there is none; once, however many HTML parts."""
    opens = Tracking(opens=True)
    assert rewritten("<body><p>x</body></html>", opens)[1] == f"<body><p>x{PIXEL}</body></html>"
    assert rewritten("<p>x", opens)[1] == f"<p>x{PIXEL}"
    assert rewritten("<!-- </body> --><p>x", opens)[1] == f"<!-- </body> --><p>x{PIXEL}"
    two = find_tracked(mixed(part("<p>1</p>\r\n"), part("<p>2</p>\r\n")), opens).written(writing())
    assert two.count(b"/t/o/") == 1


def test_the_marker_becomes_the_recipients_page():
    """`gatepost:unsubscribe` in a link and in the text, also where clicks are not tracked."""
    content = mixed(
        part("Stop: gatepost:unsubscribe\r\n", kind="plain"), part('<a href="gatepost:unsubscribe">stop</a>\r\n'), kind="alternative"
    )
    written = find_tracked(content, Tracking(unsubscribe=True)).written(writing())
    assert written.count(b"https://t.example/t/u/U") == 3  # and List-Unsubscribe
    assert b"gatepost:" not in written


def test_both_one_click_fields_are_there_once():
    """RFC 8058 §2: List-Unsubscribe with https, and the other; a sender's own stay alone."""
    written = find_tracked(mail("<p>x</p>"), Tracking(unsubscribe=True)).written(writing())
    read = email.message_from_bytes(written, policy=email.policy.default)
    assert read["List-Unsubscribe"].strip() == "<https://t.example/t/u/U>"
    assert read["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    own = b"List-Unsubscribe: <mailto:off@acme.example>\r\n" + mail("<p>x</p>")
    assert find_tracked(own, Tracking(unsubscribe=True)).written(writing()) == own


def test_text_links_are_rewritten_where_that_is_asked_for():
    """Whole URLs, without the full stop or the bracket behind them."""
    body = "See https://x.example/a_(b), (http://y.example/?q=1). Also <https://z.example/>!\r\n"
    content = mail(body, kind="plain")
    tracked = find_tracked(content, Tracking(clicks=True, text=True))
    assert list(tracked.links) == ["https://x.example/a_(b)", "http://y.example/?q=1", "https://z.example/"]
    assert b"See https://t.example/t/c/23, (https://t.example/t/c/21). Also <https://t.example/t/c/18>!" in tracked.written(writing())
    assert find_tracked(content, CLICKS).written(writing()) == content


@pytest.mark.parametrize(
    ("encoding", "charset"),
    [("7bit", "utf-8"), ("8bit", "utf-8"), ("quoted-printable", "utf-8"), ("base64", "utf-8"), ("8bit", "iso-8859-1"), ("quoted-printable", "windows-1252"),
     ("base64", "iso-2022-jp"), ("base64", "gb18030")],
)  # fmt: skip
def test_each_encoding_and_charset_is_kept(encoding, charset):
    """What the reader sees is the same but for the link, in the encoding that it came in."""
    sign = {"iso-2022-jp": "日本", "gb18030": "中文"}.get(charset, "plain" if encoding == "7bit" else "Grüße")
    html = f'<p>{sign} = {"x" * 300}</p>\n<a href="https://x.example/?a=b">{sign}</a>\n'
    message = email.message.EmailMessage(policy=email.policy.SMTP)
    message["From"] = "shop@acme.example"
    message.set_content(html, subtype="html", charset=charset, cte=encoding)
    tracked = find_tracked(message.as_bytes(), CLICKS)
    written = tracked.written(writing())
    assert html_of(written) == html.replace("https://x.example/?a=b", "https://t.example/t/c/22")
    assert email.message_from_bytes(written)["Content-Transfer-Encoding"] == encoding
    assert max(map(len, written.split(b"\r\n"))) <= 998


def test_a_line_that_grows_too_long_is_encoded():
    """RFC 5322 §2.1.1: no line over 998 octets, so the part becomes quoted-printable."""
    html = f'<a href="http://x.example">{"y" * 940}</a>\r\n'
    written = find_tracked(mail(html), CLICKS).written(writing(link=lambda _: "https://track.acme.example/t/c/" + "A" * 48))
    assert max(map(len, written.split(b"\r\n"))) <= 998
    assert email.message_from_bytes(written)["Content-Transfer-Encoding"] == "quoted-printable"
    assert "/t/c/AAAA" in html_of(written)


SMIME = mixed(part('<a href="https://x.example">x</a>\r\n'), b"Content-Type: application/pkcs7-signature\r\n\r\nMIIx\r\n", kind="signed")
ATTACHED = mixed(b"Content-Type: message/rfc822\r\n\r\n" + mail('<a href="https://x.example">x</a>\r\n'))
FILE = mixed(part('<a href="https://x.example">x</a>\r\n', more='Content-Disposition: attachment; filename="a.html"\r\n'))
OWN_DKIM = b"DKIM-Signature: v=1; a=rsa-sha256; d=acme.example; b=x\r\n" + mail('<a href="https://x.example">x</a>\r\n')
NO_CHARSET = mail('<a href="https://x.example">x</a>\r\n', charset="utf-8").replace(b"utf-8", b"x-unknown")
BROKEN = mail('<a href="https://x.example">x</a>\r\n').replace(b"x</a>", b"\xff</a>")


PGP = mail("-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\nhttps://x.example\r\n", kind="plain")
ODD = [b"", b"\r\n\r\n", b"From: a@b.example\r\n", mixed(b""), b"Content-Type: multipart/mixed\r\n\r\nx"]


@pytest.mark.parametrize("content", [SMIME, ATTACHED, FILE, OWN_DKIM, NO_CHARSET, BROKEN, PGP, *ODD])
def test_what_the_sender_signed_attached_or_what_cannot_be_read_is_not_touched(content):
    """S/MIME, attached messages, files, a DKIM signature of the sender's, unknown charsets: octet for octet the same."""
    tracked = find_tracked(content, Tracking(opens=True, clicks=True, text=True))
    assert tracked.links == ()
    assert tracked.written(writing()) == content


def test_only_links_change():
    """A real newsletter's odd HTML is the same but for the values of its links."""
    html = '<!doctype html><html><body bgcolor=#fff><table><tr><td\n><a href="https://x.example/1">&nbsp;ä</a></td></tr></table><p>a < b && c</p></body></html>'
    _, written = rewritten(html)
    assert written == html.replace("https://x.example/1", "https://t.example/t/c/19")


def test_links_beyond_the_most_stay_as_they_are():
    """A message has room for so many tracked links; the rest still works."""
    html = "".join(f'<a href="https://x.example/{n}">x</a>\r\n' for n in range(MOST_LINKS + 5))
    links, written = rewritten(html)
    assert len(links) == MOST_LINKS
    assert f"https://x.example/{MOST_LINKS + 4}" in written


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "text",
    ["<a href='" * 100_000, "<script" * 100_000, "<a " * 100_000, "<!--" * 100_000, '<a href="x" b=\'c ' * 80_000, "</body" * 100_000, "<a" + " x" * 100_000, "<title>" * 100_000,
     "<" * 150_000, '<a href="' + "&amp" * 100_000, "http://" * 100_000, "(" * 100_000 + "http://x.example" + ")" * 3_000, "=" * 150_000],
)  # fmt: skip
def test_no_text_makes_it_slow(text):
    """Each character is read a few times at most, whatever it looks like: what grew with its square would need minutes (THREATS 29)."""
    for kind in ("html", "plain"):
        tracked = find_tracked(mail(text, kind=kind), ALL)
        assert tracked.written(writing(pixel=""))

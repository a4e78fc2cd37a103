"""Taking a mail apart, however it was written."""

import base64

import pytest

from gatepost.mime.parts import read_mail

MIXED = b"""Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
 an alle
Content-Type: multipart/mixed;
\tboundary="one"

--one
Content-Type: multipart/alternative; boundary=two

--two
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

caf=E9 au=
 lait
--two
Content-Type: text/html

<p>x</p>
--two--
--one
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/mixed; boundary=three

--three

deep
--three--
--one
Content-Type: application/gzip; name="r.gz"
Content-Transfer-Encoding: base64

AAEC
--one--
"""


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
def test_parts_are_flat_and_decoded(ends: bytes) -> None:
    """Leaves in order, texts decoded, a returned message whole, whatever ends the lines."""
    mail = read_mail(MIXED.replace(b"\n", ends))
    assert mail.first("subject") == "Grüße an alle"
    assert [part.content_type for part in mail.parts] == ["text/plain", "text/html", "message/rfc822", "application/gzip"]
    assert mail.parts[0].text == "café au lait"
    assert "--three" in mail.parts[2].text
    assert (mail.parts[3].raw, mail.parts[3].filename) == (b"\0\1\2", "r.gz")


def test_an_old_japanese_charset_is_read() -> None:
    """ISO-2022-JP is told by its escapes, also where no charset is said."""
    text = "宛先が見つかりません"
    assert read_mail(b"Subject: x\n\n" + text.encode("iso-2022-jp")).parts[0].text == text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ""),
        (b"Content-Type: multipart/mixed; boundary=never\n\nwords", "words"),
        (b"Subject: x\nno header here\nmore", "no header here\nmore"),
        (b"From ann@example.net Thu Jan  1\nSubject: x\n\nbody", "body"),
        (b"Content-Transfer-Encoding: base64\n\n" + base64.b64encode(b"hidden words"), "hidden words"),
        (b"Content-Transfer-Encoding: base64\n\n%%%", ""),
        (b"Content-Type: text/plain; charset=x-nonsense\n\n\xc3\xa9", "é"),
    ],
)
def test_broken_mail_still_gives_its_words(content: bytes, expected: str) -> None:
    """What can be read is read; the rest is taken as it stands."""
    mail = read_mail(content)
    assert "".join(part.text for part in mail.parts) == expected

"""Files that run are refused by whatever name, type or bytes give them away; the same code as fields and as MIME. THREATS 21."""

import asyncio
import base64
import struct

import pytest

from gatepost.domain.errors import Refused
from gatepost.mime.files import files_of
from gatepost.policy.archives import MAX_ENTRIES, list_zip
from gatepost.policy.filenames import extensions
from gatepost.settings import Limits, Screening, Settings
from tests.screening.mail import MZ, TEXT, check_fields, check_mime, mime, part, parts, screener, submission, zipped

OCTETS = "application/octet-stream"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)


def outcome(work):
    """Return the codes of the warnings, or the refusal's code before those of its faults."""

    async def run():
        try:
            return [fault.code for fault in await work()]
        except Refused as refusal:
            return [refusal.code, *[fault.code for fault in refusal.faults]]

    return asyncio.run(run())


def as_fields(*files, own=None, settings=None):
    return outcome(lambda: check_fields(screener(settings, own), submission(files=files)))


def as_mime(content, own=None, settings=None):
    return outcome(lambda: check_mime(screener(settings, own), content))


@pytest.mark.parametrize(
    ("name", "kind", "content", "code"),
    [
        ("setup.exe", OCTETS, b"hi", "blocked_extension"),
        ("SETUP.EXE", OCTETS, b"hi", "blocked_extension"),
        ("invoice.pdf.exe", "application/pdf", b"hi", "blocked_extension"),
        ("setup.exe.", OCTETS, b"hi", "blocked_extension"),
        ("setup.exe . .", OCTETS, b"hi", "blocked_extension"),
        ("setup．ｅｘｅ", OCTETS, b"hi", "blocked_extension"),
        ("setup.e\u200bxe", OCTETS, b"hi", "disguised_filename"),
        ("photo.jpg               .scr", OCTETS, b"hi", "disguised_filename"),
        ("photo.{3F4DACA4-160D-11D2-A8E9-00104B365C9F}", OCTETS, b"hi", "disguised_filename"),
        ("script.js", "text/javascript", b"hi", "blocked_extension"),
        ("setup.msi", OCTETS, OLE, "blocked_extension"),
        ("report.pdf", "application/pdf", MZ, "executable"),
        ("report", OCTETS, b"\x7fELF\x02\x01\x01" + bytes(60), "executable"),
        ("report.bin", OCTETS, b"\xcf\xfa\xed\xfe" + bytes(60), "executable"),
        ("report.bin", OCTETS, b"\xca\xfe\xba\xbe" + bytes(60), "executable"),
        ("report.txt", "text/plain", b"L\0\0\0\x01\x14\x02\0" + bytes(60), "executable"),
        ("report.txt", "text/plain", b"#!/bin/sh\nrm -rf /\n", "script"),
        ("report.txt", "text/plain", b"\xef\xbb\xbf@ECHO OFF\r\ndel *\r\n", "script"),
        ("report.docx", OCTETS, zipped("word/document.xml", "word/vbaProject.bin"), "macros"),
        ("report.xlsx", OCTETS, zipped("xl/workbook.xml", "xl/macrosheets/sheet1.xml"), "macros"),
        ("report.doc", "application/msword", OLE + "_VBA_PROJECT".encode("utf-16-le"), "macros"),
        ("page.html", "text/html", b"<p>x</p><SCRIPT>alert(1)</SCRIPT>", "active_content"),
        ("page.html", "text/html", "<html><body onload=x()>".encode("utf-16"), "active_content"),
        ("logo.svg", "image/svg+xml", b"<svg xmlns='x' onload='alert(1)'/>", "active_content"),
        ("notes", "text/plain", b"<!DOCTYPE html><a href='javascript:x()'>a</a>", "active_content"),
        ("files.zip", "application/zip", zipped("docs/readme.txt", "docs/setup.exe"), "blocked_in_archive"),
        ("photo.png", "image/png", b"\x89PNG\r\n\x1a\n" + bytes(50) + zipped("run.scr"), "blocked_in_archive"),
        ("files.zip", "application/zip", zipped("inner.zip", content=b"x") + zipped("a.vbs"), "blocked_in_archive"),
        ("app.zip", "application/zip", zipped("classes.dex", "AndroidManifest.xml"), "blocked_in_archive"),
    ],
)
def test_files_that_run_are_refused_at_both_doors(name, kind, content, code):
    """content_refused with the same code, as JSON fields and as MIME."""
    assert as_fields((name, kind, content))[:2] == ["content_refused", code]
    assert as_mime(mime((name, kind, content)))[:2] == ["content_refused", code]


@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        ("report.pdf", "application/pdf", b"%PDF-1.7\n" + bytes(200)),
        ("photo.jpg", "image/jpeg", b"\xff\xd8\xff\xe0" + bytes(200)),
        ("report.docx", OCTETS, zipped("[Content_Types].xml", "word/document.xml", "word/media/image1.png")),
        ("files.zip", "application/zip", zipped("a.pdf", "b/c.txt")),
        ("mozambique.txt", "text/plain", b"MZ is the code of Mozambique"),
        ("page.html", "text/html", b"<html><p>conversation = good; only = one</p>"),
        ("logo.svg", "image/svg+xml", b"<svg><path d='M0 0'/></svg>"),
        ("com.notes.txt", "text/plain", b"hi"),
        ("Dr. No. 5.pdf", "application/pdf", b"%PDF"),
        ("名前.pdf", "application/pdf", b"%PDF"),
        ("v1.2.3", OCTETS, b"hi"),
        ("bericht.doc", "application/msword", OLE),
        ("data.csv", "text/csv", b"a;b\n1;2\n"),
        ("empty.bin", OCTETS, b""),
    ],
)
def test_honest_files_pass(name, kind, content):
    """No warning either."""
    assert as_fields((name, kind, content)) == []
    assert as_mime(mime((name, kind, content))) == []


def test_encrypted_archives_are_warned_of():
    """Nobody can look into them; whether that is refused is the tenant's own rule."""
    for file in (("a.zip", OCTETS, zipped("a.txt", password=True)), ("a.docx", OCTETS, OLE + "EncryptedPackage".encode("utf-16-le"))):
        assert as_fields(file) == ["encrypted_archive"]
        assert as_fields(file, own={"encrypted_archives": "refuse"}) == ["content_refused", "encrypted_archive"]
    assert as_fields(("a.zip", OCTETS, zipped("a.exe", password=True))) == ["content_refused", "blocked_in_archive"]


def test_each_rule_has_its_own_strictness():
    """Warn lets it pass and says so; off says nothing; another rule is not touched."""
    exe, macro = ("a.exe", OCTETS, b"hi"), ("a.docm", OCTETS, zipped("word/vbaProject.bin"))
    assert as_fields(exe, own={"attachments": "warn"}) == ["blocked_extension"]
    assert as_fields(exe, own={"attachments": "off"}) == []
    assert as_fields(macro, own={"attachments": "off"}) == ["content_refused", "macros"]
    assert as_fields(macro, own={"macros": "off"}) == []
    every_off = dict.fromkeys(("attachments", "macros", "active_content", "encrypted_archives"), "off")
    assert as_mime(mime(exe, macro), own=every_off) == []


def test_the_list_of_endings_is_an_option():
    """With a dot or without, in any case."""
    settings = Settings(screening=Screening(blocked_extensions=[".PDF"]))
    assert as_fields(("a.pdf", OCTETS, b"hi"), settings=settings) == ["content_refused", "blocked_extension"]
    assert as_fields(("a.exe", OCTETS, b"hi"), settings=settings) == []


def test_every_file_is_named_with_its_place():
    """The pointer leads to the name or to the content of that attachment."""

    async def work():
        with pytest.raises(Refused) as caught:
            await check_fields(screener(), submission(files=(("a.txt", OCTETS, b"hi"), ("b.exe", OCTETS, b"hi"), ("c.pdf", OCTETS, MZ))))
        return [(fault.pointer, fault.code) for fault in caught.value.faults]

    assert asyncio.run(work()) == [("/attachments/1/filename", "blocked_extension"), ("/attachments/2/content", "executable")]


NAMES = [
    b'attachment; filename="a.exe"',
    b"attachment; filename=a.exe",
    b'attachment;\r\n filename*0="invoice.";\r\n filename*1="exe"',
    b'attachment;\r\n filename*1="exe";\r\n filename*0="invoice."',
    b"attachment;\r\n filename*0*=utf-8''invoice%2e;\r\n filename*1*=%65%78e",
    b"attachment; filename*=utf-8''invoice%2Eexe",
    b"attachment; filename*=windows-1252'en'invoice%2Eexe",
    b'attachment; filename="=?utf-8?q?invoice=2Eexe?="',
    b'attachment; filename="=?utf-8?b?aW52b2ljZS5leGU=?="',
    b'attachment; filename="=?utf-8?q?invoice?= =?utf-8?q?=2Eexe?="',
    b'attachment; filename="invoice.pdf"; filename="invoice.exe"',
    b"attachment; filename=\"invoice.pdf\"; filename*=utf-8''invoice.exe",
    b'attachment; FILENAME="a.exe"',
    b"attachment; filename = a.exe ",
    b"attachment; filename=(x)a.exe",
    b'attachment; filename="a.\\exe"',
    b'attachment; filename="a.exe',
    b'attachment; filename="C:\\\\temp\\\\a.exe"',
    b'attachment; filename="../../a.exe"',
    b'attachment; name="a.exe"',
    b'attachment; filename="a.exe:x.txt"',
]


@pytest.mark.parametrize("disposition", NAMES, ids=range(len(NAMES)))
def test_no_way_of_writing_a_name_hides_it(disposition):
    """Sections, charsets, encoded words, two names, quotes: whatever a mail program may make of it is judged."""
    found = as_mime(parts(TEXT, part(disposition)))
    assert found[0] == "content_refused"
    assert "blocked_extension" in found


def test_a_name_in_the_content_type_counts_too():
    """Programs that know no Content-Disposition show this one."""
    assert "blocked_extension" in as_mime(parts(TEXT, part(b"attachment", kind=b'application/pdf; name="a.exe"')))
    found = as_mime(parts(TEXT, part(b'attachment; filename="a.pdf"', kind=b'application/pdf;\r\n name*0="a.";\r\n name*1="exe"')))
    assert {"blocked_extension", "ambiguous_filename"} <= set(found)


def test_names_that_disagree_about_the_kind_of_file_are_refused():
    """Which one a reader sees depends on the program; the same ending twice is no disagreement."""
    assert as_mime(parts(TEXT, part(b'attachment; filename="a.pdf"; filename="a.txt"'))) == ["content_refused", "ambiguous_filename"]
    assert as_mime(parts(TEXT, part(b"attachment; filename=\"a_.pdf\"; filename*=utf-8''%C3%A4.pdf"))) == []


@pytest.mark.parametrize("name", ["a\u202efdp.exe", "\u2066exe.pdf", "ann\u200fexe.txt"])
def test_names_that_change_the_direction_of_writing_are_refused(name):
    """U+202E shows gpj.exe as exe.jpg; as fields the check of fields refuses them, in MIME this rule."""
    encoded = base64.b64encode(name.encode()).decode()
    assert as_mime(parts(TEXT, part(f'attachment; filename="=?utf-8?b?{encoded}?="'.encode())))[:2] == [
        "content_refused",
        "disguised_filename",
    ]


def _nested(content, encoding=b"", kind=b"message/rfc822"):
    if encoding == b"base64":
        content = base64.encodebytes(content).replace(b"\n", b"\r\n")
    head = b"Content-Type: " + kind + (b"\r\nContent-Transfer-Encoding: " + encoding if encoding else b"")
    return parts(TEXT, head + b"\r\n\r\n" + content, boundary=b"outer")


@pytest.mark.parametrize(
    "content",
    [
        _nested(parts(TEXT, part(b"attachment; filename=a.exe"))),
        _nested(parts(TEXT, part(b"attachment; filename=a.exe")), b"base64"),
        _nested(_nested(parts(TEXT, part(b"attachment; filename=a.exe")), b"base64").replace(b"outer", b"middle"), b"base64"),
        _nested(b"From: a@b.example\r\nContent-Type: application/x; name=a.exe\r\nContent-Transfer-Encoding: base64\r\n\r\naGk="),
        _nested(parts(TEXT, part(b"attachment; filename=a.exe")), kind=b"Message/RFC822"),
        parts(
            parts(TEXT, part(b"attachment; filename=a.exe"))[0:0] + b"\r\n" + parts(TEXT, part(b"attachment; filename=a.exe")),
            boundary=b"o",
            kind=b"digest",
        ),
        b"From: shop@acme.example\r\nContent-Type: application/octet-stream; name=a.exe\r\n\r\nhi\r\n",
        b"From: shop@acme.example\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\nhi\r\n",
        parts(TEXT, part(b"inline; filename=a.exe", kind=b"text/plain", encoding=b"7bit")),
    ],
    ids=["message", "base64", "twice", "single", "case", "digest", "alone", "untyped", "inline text"],
)
def test_files_are_found_wherever_they_are(content):
    """In attached messages, encoded or not, in digests, as the whole message, shown within the text."""
    assert "blocked_extension" in as_mime(content)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (
            parts(TEXT, part(b"attachment; filename=a.txt", b"QQ==TVqQAA", encoding=b"7bit").replace(b"7bit", b"base64")),
            "ambiguous_encoding",
        ),
        (parts(TEXT, part(b"attachment; filename=a.txt", b"hi", encoding=b"x-uuencode")), "ambiguous_encoding"),
        (parts(TEXT, b"Content-Type : application/pdf; name=a.pdf\r\n\r\nhi"), "ambiguous_mime"),
        (parts(TEXT, part(b"attachment; filename=a.txt\r\nContent-Disposition: attachment; filename=b.txt")), "ambiguous_mime"),
        (parts(TEXT, part(b"attachment; filename=a.txt\r\nContent-Transfer-Encoding: 7bit")), "ambiguous_mime"),
    ],
    ids=["after padding", "encoding", "space", "two dispositions", "two encodings"],
)
def test_what_programs_would_read_differently_is_refused(content, code):
    """Else one program would be shown another file than we looked at."""
    found = as_mime(content)
    assert found[0] == "content_refused"
    assert code in found


def test_encoded_messages_within_encoded_messages_have_an_end():
    """Beyond five levels it is refused instead of followed."""
    content = parts(TEXT)
    for n in range(8):
        content = _nested(content, b"base64").replace(b"outer", b"level%d" % n)
    assert "ambiguous_mime" in as_mime(content)


def test_a_message_without_attachments_is_not_decoded():
    """The bodies that a reader reads are left alone, whatever is in them."""
    for content in (mime(html="<p>filename attachment</p>"), mime(), parts(TEXT, kind=b"alternative"), b"From: a@b.example\r\n\r\nMZ\r\n"):
        assert files_of(content, Limits()).attached == []


def test_the_name_that_is_judged_is_the_one_on_the_wire():
    """What JSON calls the file is what every reader of the composed message finds, long and non-ASCII names too."""
    from gatepost import ids
    from gatepost.mime.compose import compose

    for name in (
        "a.pdf",
        "Rechnung Nr. 5.pdf",
        "日本語の名前.pdf",
        "x" * 200 + ".pdf",
        'a"b.pdf',
        "=?utf-8?q?a?=.pdf",
        "a;b=c.pdf",
        "ä'ö.pdf",
    ):
        draft = compose(submission(files=((name, OCTETS, b"hi"),)), message_id=ids.new_message_id(), hostname="gw.example", now=0)
        (found,) = files_of(draft.content, Limits()).attached
        assert found.names[0] == name
        assert {ending for one in found.names for ending in extensions(one)} == {"pdf"}


def test_a_zip_with_endless_lists_is_bounded():
    """A million entries are not read, and that is told."""
    entry = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    listing = list_zip(entry * (MAX_ENTRIES + 10))
    assert listing is not None
    assert not listing.is_complete
    assert as_fields(("a.zip", OCTETS, entry * (MAX_ENTRIES + 10))) == ["content_refused", "archive_too_large"]


@pytest.mark.parametrize("cut", [4, 10, 29, 31, 50, 80])
def test_a_broken_zip_breaks_nothing(cut):
    """Cut anywhere, with lengths that lead beyond its end."""
    assert list_zip(zipped("a.txt", "b.txt")[:cut]) is not None
    assert list_zip(b"PK\x03\x04" + b"\xff" * cut) is not None


def test_a_name_hidden_in_a_unicode_path_is_found():
    """Some programs show the extra field's name instead of the entry's own."""
    path = b"evil.exe"
    extra = struct.pack("<HHBI", 0x7075, 5 + len(path), 1, 0) + path
    entry = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, 5, len(extra)) + b"a.txt" + extra
    assert as_fields(("a.zip", OCTETS, entry)) == ["content_refused", "blocked_in_archive"]

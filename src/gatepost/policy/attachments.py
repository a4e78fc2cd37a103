"""
Files that run: recognised by every name a reader may see, by their declared type and by their bytes.

Arrives: one attachment, decoded. Leaves: findings of the rules attachments, macros, active_content, encrypted_archives.
Sources: the blocked endings are Gmail's ("File types blocked in Gmail"), in the settings; the first bytes are those of
PE/MZ, ELF, Mach-O, Java classes, DEX, Windows shortcuts, cabinets and help files.
Not here: malware (net.clamd), decoding names and bytes (mime.files).
Bugs: rar, 7z and tar are not looked into; what is compressed within a zip file neither.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from gatepost.domain.errors import Fault
from gatepost.domain.screening import Finding
from gatepost.policy.active import ACTIVE
from gatepost.policy.archives import Listing, list_zip
from gatepost.policy.filenames import disguise, extensions, shown

_EXECUTABLES = (
    (b"\x7fELF", "a program (ELF)"),
    (b"\xfe\xed\xfa\xce", "a program (Mach-O)"),
    (b"\xfe\xed\xfa\xcf", "a program (Mach-O)"),
    (b"\xce\xfa\xed\xfe", "a program (Mach-O)"),
    (b"\xcf\xfa\xed\xfe", "a program (Mach-O)"),
    (b"\xca\xfe\xba\xbe", "a program (Mach-O or Java)"),
    (b"dex\n", "a program (Android)"),
    (b"L\0\0\0\x01\x14\x02\0", "a Windows shortcut"),
    (b"MSCF\0\0\0\0", "a Windows cabinet"),
    (b"ITSF\x03\0\0\0", "a Windows help file"),
)
_STARTS = frozenset(mark[:1] for mark, _ in _EXECUTABLES)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_VBA_IN_OLE = "_VBA_PROJECT".encode("utf-16-le")
_ENCRYPTED_IN_OLE = "EncryptedPackage".encode("utf-16-le")
_MACRO_PARTS = re.compile(r"(?:^|/)(?:vbaproject\.bin|vbadata\.xml)$|/macrosheets/|^basic/[^/]+/", re.IGNORECASE)
_CODE_PARTS = re.compile(r"(?:^|/)classes\.dex$|\.class$", re.IGNORECASE)
_MARKUP_TYPES = frozenset({"text/html", "application/xhtml+xml", "image/svg+xml"})
_MARKUP_ENDINGS = frozenset({"html", "htm", "xhtml", "xht", "shtml", "shtm", "svg", "mht", "mhtml", "xml"})
_MARKUP_START = re.compile(
    rb"\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--.{0,500}?-->\s*)?<(?:!doctype (?:html|svg)|html|svg|head|body|script)\b", re.DOTALL
)
_SCRIPT_START = re.compile(rb"#!\s*/|@echo\s+off\b", re.IGNORECASE)
_SEARCHED = 4_000_000
_HEAD = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """
    One attachment, as it is judged.

    Attributes:
        place: JSON pointer; for raw MIME the header's name.
        names: Every name that some reader may show; the first is the one that most show.
        content_type: `type/subtype`, lower-case.
        content: Decoded.
    """

    place: str
    names: tuple[str, ...]
    content_type: str
    content: bytes = field(repr=False)


def examine(file: File, blocked: frozenset[str]) -> list[Finding]:
    """
    Find what a file must not have.

    Args:
        blocked: Endings of file names in lower case, without dot.
    """
    name = shown(file.names[0]) if file.names else "an attachment without a name"
    found = [_finding("attachments", code, detail, file, "filename") for code, detail in _of_names(file.names, blocked)]
    found += [_finding(rule, code, f"{name} {detail}", file, "content") for rule, code, detail in _of_content(file, blocked)]
    return found


def _finding(rule: str, code: str, detail: str, file: File, what: str) -> Finding:
    return Finding(rule, Fault(f"{file.place}/{what}" if file.place.startswith("/") else file.place, code, detail))


def _of_names(names: Sequence[str], blocked: frozenset[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        how = disguise(name)
        if how is not None:
            yield "disguised_filename", f"{shown(name)} is a disguised name: {how}"
            break
    for name in names:
        bad = extensions(name) & blocked
        if bad:
            yield "blocked_extension", f"{shown(name)} ends in .{min(bad)}, which is a kind of file that runs"
            break
    endings = {found for name in names if (found := extensions(name))}
    if len(endings) > 1:
        yield "ambiguous_filename", "the file has names with different endings: mail programs would disagree about what it is"


def _of_content(file: File, blocked: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    content = file.content
    what = _executable(content)
    if what is not None:
        yield "attachments", "executable", f"is {what}, whatever its name and type say"
        return
    if _SCRIPT_START.match(content.removeprefix(b"\xef\xbb\xbf")):
        yield "attachments", "script", "is a script, whatever its name and type say"
    if content.startswith(_OLE):
        yield from _of_ole(content)
    listing = list_zip(content)
    if listing is not None:
        yield from _of_zip(listing, blocked)
    if _is_markup(file) and ACTIVE.search(_text_of(content)):
        yield "active_content", "active_content", "is HTML or SVG with a script in it"


def _executable(content: bytes) -> str | None:
    if content[:1] in _STARTS:
        for mark, what in _EXECUTABLES:
            if content.startswith(mark):
                return what
    return "a program (Windows or DOS)" if content.startswith((b"MZ", b"ZM")) and _is_exe(content) else None


def _is_exe(content: bytes) -> bool:
    """Tell a program from a text that happens to begin with MZ: a program's header has bytes that no text has."""
    head = content[:64]
    return not head.isascii() or any(byte < 9 for byte in head)


def _of_ole(content: bytes) -> Iterator[tuple[str, str, str]]:
    if content.find(_VBA_IN_OLE) >= 0:
        yield "macros", "macros", "is an Office document with macros"
    if content.find(_ENCRYPTED_IN_OLE) >= 0:
        yield "encrypted_archives", "encrypted_archive", "is an encrypted Office document, which nobody can look into"


def _of_zip(listing: Listing, blocked: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    if any(_MACRO_PARTS.search(name) for name in listing.names):
        yield "macros", "macros", "is an Office document with macros"
    for name in sorted(listing.names):
        if _CODE_PARTS.search(name) or extensions(name) & blocked:
            yield "attachments", "blocked_in_archive", f"holds {shown(name)}, which is a kind of file that runs"
            break
    if not listing.is_complete:
        yield "attachments", "archive_too_large", "holds more files than are looked at"
    if listing.is_encrypted:
        yield "encrypted_archives", "encrypted_archive", "is an encrypted archive, which nobody can look into"


def _is_markup(file: File) -> bool:
    if file.content_type in _MARKUP_TYPES or any(extensions(name) & _MARKUP_ENDINGS for name in file.names):
        return True
    return _MARKUP_START.match(_text_of(file.content[:_HEAD])) is not None


def _text_of(content: bytes) -> bytes:
    """Bring a text into lower-case ASCII as far as it is; UTF-16 by its mark."""
    content = content[:_SEARCHED]
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        content = content.decode("utf-16", "replace").encode()
    return content.removeprefix(b"\xef\xbb\xbf").lower()


@lru_cache(maxsize=16)
def endings(listed: tuple[str, ...]) -> frozenset[str]:
    """Bring a list of endings into the form in which they are compared: lower case, without dot."""
    return frozenset(one.strip().lstrip(".").lower() for one in listed if one.strip(". "))

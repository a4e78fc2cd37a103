"""
What is in a zip file, by its lists of contents only: nothing is unpacked.

Arrives: bytes. Leaves: the names in it, and whether some of it is encrypted.
Standards: PKWARE APPNOTE 6.3 §4.3.7 (local headers), §4.3.12 (central directory), §4.4.4 (flags), §4.6.9 (Unicode path).
Both lists are read, since a program may follow either; a zip file within a zip file shows its names when it is stored, not
when it is compressed.
Not here: judging the names (attachments); rar, 7z and tar.
"""

import struct
from dataclasses import dataclass

_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_END_REACH = 65_557  # §4.3.16: 22 bytes and a comment of at most 65,535
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_UTF8 = 0x800
_UNICODE_PATH = 0x7075
MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Listing:
    """
    The contents of a zip file.

    Attributes:
        names: As written, without order, at most `MAX_ENTRIES` of each list.
        is_complete: False when there are more.
    """

    names: frozenset[str]
    is_encrypted: bool
    is_complete: bool


def list_zip(content: bytes) -> Listing | None:
    """List a zip file; None where there is none, also behind something else (a program that unpacks itself, a picture)."""
    is_zip = content.startswith((_LOCAL, _END))
    end = content.rfind(_END, max(0, len(content) - _END_REACH))
    if not is_zip and (end < 0 or content.find(_CENTRAL, 0, end) < 0):
        return None
    names: set[str] = set()
    is_encrypted, is_complete = False, True
    for mark, head, flags_at, name_at in ((_LOCAL, 30, 6, 26), (_CENTRAL, 46, 8, 28)):
        at, count = content.find(mark), 0
        while at >= 0:
            count += 1
            if count > MAX_ENTRIES:
                is_complete = False
                break
            if at + head <= len(content):
                flags = int.from_bytes(content[at + flags_at : at + flags_at + 2], "little")
                name_size, extra_size = struct.unpack_from("<HH", content, at + name_at)
                is_encrypted = is_encrypted or bool(flags & _ENCRYPTED)
                name_end = at + head + name_size
                names.update(_names(content[at + head : name_end], content[name_end : name_end + extra_size], flags))
            at = content.find(mark, at + 4)
    return Listing(frozenset(names), is_encrypted, is_complete)


def _names(raw: bytes, extra: bytes, flags: int) -> list[str]:
    """Decode a name, and the one that some programs show instead of it."""
    found = [raw.decode("utf-8" if flags & _UTF8 else "cp437", "replace")]
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == _UNICODE_PATH and size > 5:
            found.append(extra[at + 9 : at + 4 + size].decode("utf-8", "replace"))
        at += 4 + size
    return found

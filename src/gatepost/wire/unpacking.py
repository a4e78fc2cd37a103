"""
Compressed reports, unpacked within bounds: gzip, zip, or neither.

Arrives: the bytes of an attachment. Leaves: the one file in it.
Standards: RFC 1952 (gzip), PKWARE APPNOTE 6.3 (zip). A bomb stops at the cap (THREATS 18): no more than the cap is ever
unpacked, whatever the sizes say that stand in the archive.
Not here: what the file says. Archives in archives are not opened.
"""

import io
import zipfile
import zlib
from typing import Final

MAX_UNPACKED: Final = 10_000_000
"""Bytes of an unpacked report; the largest real ones have some megabytes."""

MAX_PACKED: Final = 5_000_000
MAX_RATIO: Final = 200
"""Unpacked to packed size; XML of repeated records reaches about 60."""

_MAX_ENTRIES: Final = 100


class Unreadable(ValueError):  # noqa: N818
    """A report that is not read; the text is one sentence for a person."""


def unpack(content: bytes, *, max_bytes: int = MAX_UNPACKED) -> bytes:
    """
    Give the file in a gzip or zip archive; other bytes as they are.

    Raises:
        Unreadable: It is broken, encrypted, holds no file, or is larger than it may be.
    """
    if len(content) > MAX_PACKED and content[:2] in {b"\x1f\x8b", b"PK"}:
        raise Unreadable(f"a packed report is larger than {MAX_PACKED} bytes")
    cap = min(max_bytes, max(len(content) * MAX_RATIO, 100_000))
    if content.startswith(b"\x1f\x8b"):
        return _gunzip(content, cap)
    if content.startswith(b"PK\x03\x04"):
        return _unzip(content, cap)
    if len(content) > max_bytes:
        raise Unreadable(f"a report is larger than {max_bytes} bytes")
    return content


def _gunzip(content: bytes, cap: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        out = unpacker.decompress(content, cap + 1)
    except zlib.error as error:
        raise Unreadable("the gzip data is broken") from error
    if len(out) > cap:
        raise Unreadable("a packed report is larger than it may be")
    if not unpacker.eof:
        raise Unreadable("the gzip data ends too early")
    return out


def _unzip(content: bytes, cap: int) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            files = [entry for entry in entries[:_MAX_ENTRIES] if not entry.is_dir()]
            wanted = next((entry for entry in files if entry.filename.lower().endswith((".xml", ".json"))), files[0] if files else None)
            if wanted is None or len(entries) > _MAX_ENTRIES:
                raise Unreadable("the zip archive holds no report, or too many files")
            if wanted.flag_bits & 0x1:
                raise Unreadable("the zip archive is encrypted")
            with archive.open(wanted) as file:
                out = file.read(cap + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, UnicodeDecodeError, MemoryError) as error:
        raise Unreadable("the zip archive is broken") from error
    except ValueError as error:
        raise error if isinstance(error, Unreadable) else Unreadable("the zip archive is broken") from error
    if len(out) > cap:
        raise Unreadable("a packed report is larger than it may be")
    return out

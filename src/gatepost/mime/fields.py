"""
The header block of a finished message, read strictly and without changing a byte.

Arrives: the bytes of a message. Leaves: its fields with their places in it.
Standards: RFC 5322 §2.2; obsolete forms (§4.5: space before the colon, folds of white space only) are refused, because
other programs read them differently.
Not here: what the fields mean (adopt, structure).
"""

import re
from dataclasses import dataclass

from gatepost.domain.errors import Fault
from gatepost.settings import Limits

_FIELD = re.compile(rb"([!-9;-~]{1,998}):([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+)\r\n")
_BLANK_FOLD = re.compile(rb"\r\n[ \t]+\r\n")


@dataclass(slots=True)
class Field:
    """
    One field.

    Attributes:
        lower: Its name in lower case.
        raw: Its value as it stands, folds included.
        start: Offset of its first octet in the message.
        end: Offset after its CRLF.
    """

    name: str
    lower: str
    raw: bytes
    start: int
    end: int

    def text(self) -> str:
        """Give the value unfolded; octets that are not UTF-8 as surrogates."""
        return self.raw.replace(b"\r\n", b"").strip(b" \t").decode("utf-8", "surrogateescape")


def read_fields(content: bytes, limits: Limits) -> tuple[list[Field], int]:
    """
    Read the header block.

    Returns:
        The fields in order, and the offset of the empty line that ends the block (the message's length where none does).

    Raises:
        MalformedHeader: It is missing, too large, or not valid; the fault says where.
    """
    end = _end_of_block(content, limits)
    if _BLANK_FOLD.search(content, 0, end):
        raise MalformedHeader(Fault("", "malformed_header", "a header line has nothing but white space"))
    fields: list[Field] = []
    at = 0
    while at < end:
        found = _FIELD.match(content, at, end)
        if found is None:
            line = content.count(b"\n", 0, at) + 1
            raise MalformedHeader(Fault("", "malformed_header", f"line {line} of the header is not of the form Name: value"))
        if len(fields) == limits.headers:
            raise MalformedHeader(Fault("", "too_many", f"more than {limits.headers} header fields"))
        name = found[1].decode("ascii")
        fields.append(Field(name, name.lower(), found[2], at, found.end()))
        at = found.end()
    return fields, end


class MalformedHeader(ValueError):  # noqa: N818
    """The header block cannot be read; `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


def _end_of_block(content: bytes, limits: Limits) -> int:
    if not content or content.startswith(b"\r\n"):
        raise MalformedHeader(Fault("", "malformed_header", "the message has no header"))
    blank = content.find(b"\r\n\r\n", 0, limits.header_bytes + 4)
    if blank >= 0:
        return blank + 2
    if len(content) > limits.header_bytes:
        raise MalformedHeader(Fault("", "too_large", f"the header is larger than {limits.header_bytes} bytes"))
    if not content.endswith(b"\r\n"):
        raise MalformedHeader(Fault("", "malformed_header", "the header does not end in a line break"))
    return len(content)

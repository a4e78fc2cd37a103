"""
Suppression lists as files: out of the gateway, and in again, from other systems too.

Arrives: CSV with a heading, or a JSON object a line (JSON Lines). Leaves: suppressions to add, and what is wrong with the rest;
the other way round, the same two forms.
CSV: RFC 4180. A cell that a spreadsheet would compute begins with an apostrophe (OWASP CSV injection), which is taken off
again when the file comes back. Columns are known by their names, in the words of several providers' exports.
Not here: adding them (suppressions), the ways of HTTP and of the command line.
"""

import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gatepost.clock import iso, parse_iso
from gatepost.domain.address import InvalidAddress, parse_address
from gatepost.domain.errors import Fault
from gatepost.mime.checks import text_faults
from gatepost.tenants.metering import cell_of
from gatepost.tenants.suppressions import Suppression

CSV: Final = "text/csv"
JSON_LINES: Final = "application/jsonl"
COLUMNS: Final = ("address", "stream", "reason", "note", "created_at", "expires_at")
MOST_FAULTS: Final = 100
_MOST_CELL: Final = 10_000
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

_NAMES: Final[Mapping[str, str]] = {
    "address": "address", "email": "address", "emailaddress": "address", "email_address": "address", "recipient": "address",
    "stream": "stream", "reason": "reason", "suppressionreason": "reason", "type": "reason",
    "note": "note", "expires_at": "expires_at",
}  # fmt: skip
"""Columns that count, by their names in small letters; others are passed over."""
_REASONS: Final[Mapping[str, str]] = {
    "hardbounce": "invalid_recipient", "hard_bounce": "invalid_recipient", "bounce": "invalid_recipient", "bounces": "invalid_recipient",
    "spamcomplaint": "complaint", "complaints": "complaint", "spam": "complaint", "spamreport": "complaint", "spam_reports": "complaint",
    "manualsuppression": "unsubscribed", "unsubscribe": "unsubscribed", "unsubscribes": "unsubscribed", "unsub": "unsubscribed",
}  # fmt: skip
"""What other systems call our reasons."""
_REASON: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")


@dataclass(frozen=True, slots=True)
class Read:
    """What a file holds: suppressions, and at most a hundred faults, by line; `faulty` is how many lines have one."""

    suppressions: Sequence[Suppression]
    faults: Sequence[Fault]
    faulty: int


class NoList(ValueError):  # noqa: N818
    """A file has no form that is known; the text is one sentence for a person."""


def read_list(content: bytes, kind: str, streams: Collection[str], reason: str = "imported") -> Read:
    """
    Read a file; an address that stands there twice counts once, the last time.

    Args:
        kind: `CSV` or `JSON_LINES`.
        streams: That there are.
        reason: Of lines that give none.

    Raises:
        NoList: It cannot be read, or has no column of addresses.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NoList("the file is not UTF-8") from None
    found: dict[tuple[str, str | None], Suppression] = {}
    faults: list[Fault] = []
    faulty = 0
    for line, row in _csv_rows(text) if kind == CSV else _json_rows(text):
        wrong: list[Fault] = []
        one = _suppression(row, line, streams, reason, wrong) if isinstance(row, dict) else None
        if not isinstance(row, dict):
            wrong.append(Fault(f"/{line}", "invalid_value", "the line is no JSON object"))
        if one is not None and not wrong:
            found[one.address.key, one.stream] = one
        else:
            faulty += 1
            faults += wrong[: MOST_FAULTS - len(faults)]
    return Read(list(found.values()), faults, faulty)


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(_MOST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        heading = [_NAMES.get(name.strip().lower(), "") for name in next(reader, [])]
        if "address" not in heading:
            raise NoList("the first line names no column of addresses, such as address or email")
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, {name: _plain(cell) for name, cell in zip(heading, cells, strict=False) if name}
    except csv.Error as error:
        raise NoList(f"line {reader.line_num} is no CSV: {error}") from None


def _plain(cell: str) -> str:
    """Take off the apostrophe that kept a spreadsheet from computing a cell."""
    cell = cell.strip()
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(_FORMULA) else cell


def _json_rows(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield number, {_NAMES.get(str(name).lower(), ""): value for name, value in row.items()} if isinstance(row, dict) else row


def _suppression(row: dict[str, Any], line: int, streams: Collection[str], reason: str, faults: list[Fault]) -> Suppression | None:
    def text(name: str) -> str:
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            faults.append(Fault(f"/{line}/{name}", "invalid_type", "this is no text"))
        return value if isinstance(value, str) else ""

    address, stream, expires_at = None, text("stream") or None, None
    try:
        address = parse_address(text("address"))
    except InvalidAddress as error:
        faults.append(Fault(f"/{line}/address", "invalid_address", str(error)))
    if stream is not None and stream not in streams:
        faults.append(Fault(f"/{line}/stream", "unknown_stream", f"there is no such stream; there are {', '.join(streams)}"))
    if until := text("expires_at"):
        try:
            expires_at = parse_iso(until)
        except ValueError:
            faults.append(Fault(f"/{line}/expires_at", "invalid_time", "this is no time such as 2026-11-24T02:00:00Z"))
    note = text("note")
    faults += text_faults(f"/{line}/note", note, 1_000)
    why = text("reason")
    if address is None or faults:
        return None
    return Suppression(address=address, reason=_reason(why, reason), stream=stream, note=note, expires_at=expires_at)


def _reason(text: str, otherwise: str) -> str:
    known = _REASONS.get(text.strip().lower(), text.strip().lower())
    return known if _REASON.fullmatch(known) else otherwise


def heading(kind: str) -> str:
    """Return what a file of a kind begins with."""
    return _line(COLUMNS) if kind == CSV else ""


def written(rows: Iterable[Any], kind: str) -> str:
    """Write rows of the list as lines of a file."""
    return "".join(_line(_cells(row)) if kind == CSV else msgspec.json.encode(_object(row)).decode() + "\n" for row in rows)


def _object(row: Any) -> dict[str, str | None]:
    return {
        "address": row.address, "stream": row.stream or None, "reason": row.reason, "note": row.note, "created_at": iso(row.created_at),
        "expires_at": None if row.expires_at is None else iso(row.expires_at),
    }  # fmt: skip


def _cells(row: Any) -> list[str]:
    return [value or "" for value in _object(row).values()]


def _line(cells: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow([cell_of(cell) for cell in cells])
    return text.getvalue()

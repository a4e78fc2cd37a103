"""
Delivery status: the part of a report that programs read.

Arrives: the text of a `message/delivery-status` or `message/global-delivery-status` part, or of a letter that holds such
lines. Leaves: fields per message and per recipient.
Standards: RFC 3464 §2 (fields), RFC 6533 §3 (utf-8 addresses), RFC 3461 §4.2 (xtext).
Real reports leave out empty lines, put spaces before colons, and write addresses in angle brackets: all of that is read.
Not here: what a status means (policy.classify), finding the part (mime.parts), writing a report.
Bugs: none known.
"""

import re
from dataclasses import dataclass, field

MAX_RECIPIENTS = 100
"""Recipients that are read from one report; real ones have a handful."""

_MAX_LINES = 5_000
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]{1,60}) ?:(.*)")
_TYPED = re.compile(r"[ \t]*([A-Za-z0-9/_.-]{1,40})[ \t]*;(.*)", re.DOTALL)
_HEX_ESCAPE = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_PER_RECIPIENT = frozenset({"original-recipient", "final-recipient", "action", "status", "remote-mta", "diagnostic-code"})
_OPENING = frozenset({"final-recipient", "original-recipient", "reporting-mta"})
_KNOWN = _PER_RECIPIENT | {
    "reporting-mta", "dsn-gateway", "received-from-mta", "arrival-date", "original-envelope-id", "last-attempt-date",
    "final-log-id", "will-retry-until", "x-actual-recipient", "x-original-message-id",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientStatus:
    """
    What became of one recipient.

    Attributes:
        final: Final-Recipient (RFC 3464 §2.3.2), the address alone; empty where there is none.
        original: Original-Recipient, the address that the sender gave.
        action: Lower-case: failed, delayed, delivered, relayed, expanded; empty where there is none.
        status: Enhanced status code; empty where there is none.
        diagnostic: Diagnostic-Code without its type.
        remote: Name of the host that refused.
        fields: Every field, names in lower case.
    """

    final: str = ""
    original: str = ""
    action: str = ""
    status: str = ""
    diagnostic_type: str = ""
    diagnostic: str = ""
    remote: str = ""
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The final recipient, else the original one."""
        return self.final or self.original


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryStatus:
    """A whole report; `fields` are those per message."""

    fields: dict[str, str]
    recipients: tuple[RecipientStatus, ...]


def parse_delivery_status(text: str) -> DeliveryStatus:
    """
    Read the fields of a delivery-status part; lines that are no fields are skipped, and nothing raises.

    Args:
        text: Lines ended by LF.
    """
    per_message: dict[str, str] = {}
    recipients: list[RecipientStatus] = []
    for group in _groups(text.split("\n", _MAX_LINES)[:_MAX_LINES]):
        if _PER_RECIPIENT & group.keys():
            if len(recipients) < MAX_RECIPIENTS:
                recipients.append(_recipient(group))
            for name in group.keys() - _PER_RECIPIENT:
                per_message.setdefault(name, group[name])
        else:
            per_message = group | per_message
    return DeliveryStatus(fields=per_message, recipients=tuple(_joined(recipients)))


def find_delivery_status(text: str) -> DeliveryStatus | None:
    """Read such fields out of a letter that holds them between its words; None where there are none."""
    lines = text.split("\n")
    at = next((number for number, line in enumerate(lines) if _name(line) in _OPENING), None)
    if at is None:
        return None
    while at > 0 and _name(lines[at - 1]) in _KNOWN:
        at -= 1
    kept = [line for line in lines[at : at + _MAX_LINES] if _may_be_field(line)]
    found = parse_delivery_status("\n".join(kept))
    complete = tuple(one for one in found.recipients if one.address and (one.action or one.status or one.diagnostic))
    return DeliveryStatus(fields=found.fields, recipients=complete) if complete else None


def typed_value(value: str) -> tuple[str, str]:
    """Split `rfc822; ann@example.net` into its type in lower case and the rest; the type is empty where there is none."""
    match = _TYPED.fullmatch(value)
    return (match[1].lower(), match[2].strip()) if match else ("", value.strip())


def _may_be_field(line: str) -> bool:
    """Keep empty lines, folds, and what is called like a field; drop the words between."""
    name = _name(line)
    return not line.strip() or line[0] in " \t" or name in _KNOWN or "-" in name


def _name(line: str) -> str:
    match = _FIELD.match(line.lstrip("> ") if line[:1] == ">" else line)
    return match[1].lower() if match else ""


def _groups(lines: list[str]) -> list[dict[str, str]]:
    """Cut at empty lines, and where a field comes again that one recipient has once."""
    groups: list[dict[str, str]] = [{}]
    last = ""
    for line in lines:
        if not line.strip():
            last = ""
            if groups[-1]:
                groups.append({})
        elif line[0] in " \t" and last:
            groups[-1][last] = (groups[-1][last] + "\n" + line.strip())[:8_000]
        elif match := _FIELD.match(line.strip()):
            last = match[1].lower()
            if last in groups[-1]:
                if last not in {"final-recipient", "original-recipient", "action"}:
                    continue
                groups.append({})
            groups[-1][last] = match[2].strip()[:8_000]
    return [group for group in groups if group]


def _recipient(group: dict[str, str]) -> RecipientStatus:
    kind, diagnostic = typed_value(group.get("diagnostic-code", ""))
    status = _STATUS.search(group.get("status", ""))
    return RecipientStatus(
        final=_address(group.get("final-recipient", "")),
        original=_address(group.get("original-recipient", "")),
        action=group.get("action", "").strip().lower().partition(" ")[0].strip(";(,"),
        status=status[0] if status else "",
        diagnostic_type=kind,
        diagnostic=diagnostic,
        remote=typed_value(group.get("remote-mta", ""))[1].split(" ")[0].split("\n")[0].lower(),
        fields=group,
    )


def _joined(found: list[RecipientStatus]) -> list[RecipientStatus]:
    """Put together what a stray empty line took apart: a group without an address belongs to the one beside it."""
    out: list[RecipientStatus] = []
    for one in found:
        if (out and not one.address and out[-1].address and not (out[-1].fields.keys() & one.fields.keys() & _PER_RECIPIENT)) or (
            out and one.address and not out[-1].address
        ):
            out[-1] = _recipient(out[-1].fields | one.fields)
        else:
            out.append(one)
    return out


def _address(value: str) -> str:
    kind, address = typed_value(value)
    address = address.replace("\n", "").strip().split(" ")[0] if "@" in address else address.strip()
    if kind == "utf-8":
        address = _HEX_ESCAPE.sub(_character, address)
    if "+40" in address and "@" not in address:
        address = _XTEXT.sub(lambda match: chr(int(match[1], 16)), address)
    address = address.strip("<>' ,;")
    if address.count('"') % 2 or (address[:1] == '"' == address[-1:]):
        address = address.strip('"')  # quotes around all of it; those around a local part belong to it (RFC 5321 §4.1.2)
    return address[:320]


def _character(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else match[0]

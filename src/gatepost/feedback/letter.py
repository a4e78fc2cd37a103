"""
A mail that came back, sorted into what its writer says and what it gives back.

Arrives: a `Mail`, taken apart. Leaves: a `Letter`: the words for people without the returned message, the status fields
for programs, and the header of the returned message.
Standards: RFC 3462 and RFC 6522 (multipart/report), RFC 3464, RFC 6533.
Half of all real bounces are plain letters: where the returned message begins is then found by its header.
Not here: what the words mean (free_text, transcript, bounces).
"""

import re
from dataclasses import dataclass

from gatepost.feedback.addresses import addresses_in, is_servant
from gatepost.mime.parts import Fields, Mail, Part, first, read_fields
from gatepost.wire.dsn import DeliveryStatus, find_delivery_status, parse_delivery_status

MAX_WORDS = 40_000
"""Characters of a letter that are looked at."""

_STATUS_TYPES = frozenset({"message/delivery-status", "message/global-delivery-status"})
_TAG = re.compile(r"<[^<>]{0,2000}>")
_BREAK_TAG = re.compile(r"<(?:br|/p|/div|/tr|/h\d|/li|p|div|tr|hr)\b[^<>]{0,500}>", re.IGNORECASE)
_HIDDEN = re.compile(r"<(style|script|title|head)\b[^<>]{0,500}>", re.IGNORECASE)
_ENTITY = {"&nbsp;": " ", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&amp;": "&", "&#64;": "@"}
_HEADER_LINE = re.compile(r"([A-Za-z][A-Za-z0-9-]{1,60}):(?=\s|\S)")
_SURE_HEADERS = frozenset({"received", "return-path", "dkim-signature", "arc-seal", "x-received", "delivered-to", "authentication-results"})
_HEADERS = frozenset(
    {
        *("from", "to", "cc", "subject", "date", "message-id", "mime-version", "content-type", "x-mailer", "user-agent"),
        *("reply-to", "sender", "thread-index", "content-transfer-encoding", "references", "importance", "x-priority"),
    }
)
_SEPARATOR = re.compile(
    r"original (?:message|mail|e-?mail)(?! was| is)|unsent message|returned (?:message|mail|content)|copy of (?:the|"
    r"your) (?:original |mail |e-?mail )?(?:message|mail|e-?mail|header)|"
    r"below this line|message headers?|(?:message|mail|headers?|text) follows|undelivered message|rejected message|"
    r"body of (?:the|your) (?:original )?message|header of (?:the|your)|"
    r"ursprüngliche|urspruengliche|message d'origine|message original|mensaje original|mensagem original|"
    r"messaggio originale|исходное|元のメッセージ|原メッセージ|原始邮件",
    re.IGNORECASE,
)
_FOLLOWS = re.compile(
    r"(?:message|headers?|mail)\b[^.:]{0,40}(?:follows?|below)\s?[.:]?\s*(?:>|$)|"
    r"copy of (?:the|your) (?:original )?(?:message|mail|header)|as follows:$",
    re.IGNORECASE,
)
_DECORATED = re.compile(r"\s*[-=_*+~>#]{2,}")
_PARTS = re.compile(r"^--[^\s]{5,100}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """
    A mail that came back.

    Attributes:
        text: What people are told, lines ended by LF.
        subject: Decoded.
        returned: Header of the returned message; empty where it is not there.
        statuses: Delivery statuses, of parts first, else out of the text.
        senders: Addresses in lower case of the one whose mail came back.
        strangers: Addresses in lower case that are nobody's failed recipient: the report's own ends.
    """

    mail: Mail
    text: str
    subject: str
    returned: Fields = ()
    statuses: tuple[DeliveryStatus, ...] = ()
    has_status_part: bool = False
    senders: frozenset[str] = frozenset()
    strangers: frozenset[str] = frozenset()

    def returned_first(self, name: str) -> str:
        """Give the first field of this name (lower-case) of the returned message."""
        return first(self.returned, name)


def open_letter(mail: Mail) -> Letter:
    """Sort a mail into words, statuses and what it gives back."""
    statuses = [parse_delivery_status(part.text) for part in mail.parts if part.content_type in _STATUS_TYPES]
    has_part = any(status.recipients for status in statuses)
    words, cut_off = _words(mail.parts)
    if not has_part:
        found = find_delivery_status(words[:MAX_WORDS]) or next(
            (one for part in mail.parts if not part.is_returned and (one := find_delivery_status(part.text[:MAX_WORDS]))), None
        )
        statuses = [found] if found else []
    returned = _returned(mail.parts) or read_fields(cut_off)[0]
    return Letter(
        mail=mail,
        text=words[:MAX_WORDS],
        subject=mail.first("subject")[:1_000],
        returned=returned,
        statuses=tuple(status for status in statuses if status.recipients),
        has_status_part=has_part,
        senders=_senders(mail, returned),
        strangers=_strangers(mail, returned),
    )


def plain_text(html: str) -> str:
    """Give the words of an HTML part, block elements as lines; for reading, not for showing."""
    text = _without_hidden(html[:200_000])
    text = _TAG.sub("", _BREAK_TAG.sub("\n", text))
    for entity, character in _ENTITY.items():
        text = text.replace(entity, character)
    return "\n".join(" ".join(line.split()) for line in text.split("\n"))


def split_returned(text: str) -> tuple[str, str]:
    """Cut a letter where the message that it gives back begins; the second is empty where there is none."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if _begins_returned(lines, number, line):
            return "\n".join(lines[:number]), "\n".join(_unindented(lines[number:]))
    return text, ""


def _begins_returned(lines: list[str], number: int, line: str) -> bool:
    stripped = line.strip()
    if not stripped or number == 0:
        return False
    if len(stripped) < 160 and ((_DECORATED.match(line) and _SEPARATOR.search(line)) or _FOLLOWS.search(stripped)):
        return _headers_after(lines, number + 1) or bool(_DECORATED.match(line))
    match = _HEADER_LINE.match(stripped)
    if match is None:
        return False
    name = match[1].lower()
    if name in _SURE_HEADERS:
        return _count_headers(lines, number) >= 2
    return line[0] not in " \t>" and name in _HEADERS and _count_headers(lines, number) >= 4


def _headers_after(lines: list[str], number: int) -> bool:
    for line in lines[number : number + 8]:
        match = _HEADER_LINE.match(line.strip())
        if match and (match[1].lower() in _SURE_HEADERS or match[1].lower() in _HEADERS):
            return True
    return False


def _count_headers(lines: list[str], number: int) -> int:
    """Count different header fields in the run of lines that begins here."""
    names = set()
    for line in lines[number : number + 25]:
        if not line.strip():
            break
        match = _HEADER_LINE.match(line.strip())
        if match and (match[1].lower() in _SURE_HEADERS or match[1].lower() in _HEADERS):
            names.add(match[1].lower())
    return len(names)


def _unindented(lines: list[str]) -> list[str]:
    """Take off what a whole quoted header is indented by."""
    at = next((number for number, line in enumerate(lines) if _HEADER_LINE.match(line.strip())), 0)
    body = lines[at:]
    if not body:
        return []
    margin = len(body[0]) - len(body[0].lstrip(" \t>"))
    return [line[margin:] if not line[:margin].strip(" \t>") else line for line in body]


def _words(parts: tuple[Part, ...]) -> tuple[str, str]:
    plain = [part.text for part in parts if part.content_type == "text/plain" or part.content_type.startswith("multipart/")]
    texts = plain if any(text.strip() for text in plain) else [plain_text(part.text) for part in parts if part.content_type == "text/html"]
    words, cut_off, room = [], "", MAX_WORDS * 2
    for text in texts:
        own, rest = split_returned(text[:room])
        room -= len(own)
        words.append(own)
        cut_off = cut_off or rest
        if room <= 0:
            break
    return "\n\n".join(words), cut_off


def _returned(parts: tuple[Part, ...]) -> Fields:
    for part in parts:
        if part.is_returned:
            return read_fields(part.text[:100_000])[0]
    return ()


def _senders(mail: Mail, returned: Fields) -> frozenset[str]:
    own = [mail.first("to"), *[first(returned, name) for name in ("from", "return-path", "sender")]]
    found = {one.lower() for value in own for one in addresses_in(value[:2_000])[:5]}
    return frozenset(one for one in found if not is_servant(one))


def _strangers(mail: Mail, returned: Fields) -> frozenset[str]:
    own = [mail.first(name) for name in ("from", "to", "reply-to", "sender", "errors-to", "return-path", "cc", "x-loop")]
    own += [first(returned, name) for name in ("from", "return-path", "reply-to", "sender", "x-sender")]
    return frozenset(found.lower() for value in own for found in addresses_in(value[:4_000]))


def _without_hidden(html: str) -> str:
    """Drop elements whose content is not shown, in one walk."""
    out: list[str] = []
    at = 0
    while match := _HIDDEN.search(html, at):
        end = html.lower().find(f"</{match[1].lower()}", match.end()) if len(out) < 50 else -1
        out.append(html[at : match.start()])
        if end < 0:
            at = match.end()
            continue
        at = end
    out.append(html[at:])
    return "".join(out)

"""
A submission becomes the message that is stored: headers, text, HTML, files.

Arrives: a `Submission` that `checks.check_submission` found no fault with.
Leaves: a `Draft` whose content is 7-bit (but for UTF-8 local parts, RFC 6532) with CRLF line ends, and has no Bcc.
Standards: RFC 5322, RFC 2045, RFC 2047, RFC 2231, RFC 2387; parts are nested mixed > related > alternative, each only when needed.
Not here: finished messages (adopt), signing (render). Pure: the same arguments give the same bytes.
Bugs: none known.
"""

import re
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import count

import msgspec

from gatepost.clock import Instant
from gatepost.domain.address import Mailbox
from gatepost.domain.message import Attachment, Draft, EnvelopeRecipient, RecipientKind, Steering, Submission
from gatepost.mime.headers import mailboxes, unstructured
from gatepost.mime.plaintext import text_of
from gatepost.mime.writer import file_part, multipart, text_part

_HOSTNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def compose(submission: Submission, *, message_id: str, hostname: str, now: Instant, boundary: Callable[[], str] | None = None) -> Draft:
    """
    Compose a message.

    Args:
        message_id: Our identifier, `msg_…`; the Message-ID header is made from it.
        hostname: Domain of the Message-ID; the sender's domain stands in where it is no host name.
        boundary: Source of MIME boundaries; by default made from `message_id`, which nobody can guess beforehand.

    Raises:
        ValueError: The submission was not checked, and something in it cannot be written.
    """
    header_id = message_id_for(message_id, hostname, submission.sender)
    head = _head(submission, header_id, now)
    content = head.encode() + _body(submission, boundary or _boundaries(message_id))
    everyone = (submission.sender, *submission.to, *submission.cc, *submission.bcc, *submission.reply_to)
    return Draft(
        id=message_id,
        envelope_from=submission.sender.address,
        header_from=submission.sender,
        recipients=_recipients(submission),
        subject=submission.subject,
        message_id_header=header_id,
        content=content,
        is_8bit=not content.isascii(),
        is_smtputf8=any(box.address.needs_smtputf8 for box in everyone),
        steering=_steering(submission),
    )


def _steering(submission: Submission) -> Steering:
    steering = submission.steering
    return msgspec.structs.replace(steering, ignores_tls_policy=True) if _is_tls_optional(submission) else steering


def _is_tls_optional(submission: Submission) -> bool:
    """Tell whether the sender would rather have the message arrive in plain text than not at all (RFC 8689 §3)."""
    return any(name.lower() == "tls-required" and value.strip().lower() == "no" for name, value in submission.headers)


def message_id_for(message_id: str, hostname: str, sender: Mailbox) -> str:
    """Make the Message-ID, without angle brackets: the same for every attempt, and unique because ours is (RFC 5322 §3.6.4)."""
    domain = hostname.lower() if _HOSTNAME.fullmatch(hostname) else sender.address.domain
    return f"{message_id.rpartition('_')[2]}@{domain}"


@lru_cache(maxsize=64)
@lru_cache(maxsize=64)
def date_text(second: int) -> str:
    """Write a Unix second as RFC 5322 §3.3 has it, in UTC; not strftime, which follows the locale."""
    t = time.gmtime(second)
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04d} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} +0000"
    )


def unique_recipients(recipients: Iterable[EnvelopeRecipient]) -> tuple[EnvelopeRecipient, ...]:
    """Keep the first of each address: someone named twice gets one copy."""
    by_key: dict[str, EnvelopeRecipient] = {}
    for recipient in recipients:
        by_key.setdefault(recipient.address.key, recipient)
    return tuple(by_key.values())


def _head(submission: Submission, header_id: str, now: Instant) -> str:
    fields = [mailboxes("From", (submission.sender,))]
    if submission.to:
        fields.append(mailboxes("To", submission.to))
    elif not submission.cc:
        fields.append("To: undisclosed-recipients:;\r\n")  # only Bcc: filters distrust mail with no destination field
    if submission.cc:
        fields.append(mailboxes("Cc", submission.cc))
    if submission.reply_to:
        fields.append(mailboxes("Reply-To", submission.reply_to))
    fields.append(unstructured("Subject", submission.subject))
    fields.append(f"Date: {date_text(now // 1000)}\r\nMessage-ID: <{header_id}>\r\n")
    fields += [unstructured(name, value) for name, value in submission.headers]
    fields.append("MIME-Version: 1.0\r\n")
    return "".join(fields)


def _body(submission: Submission, boundary: Callable[[], str]) -> bytes:
    related, mixed = _sort_files(submission)
    outer = [boundary() for _ in range(bool(mixed) + bool(related))]  # outermost first, as a reader meets them
    body = _text(submission, boundary)
    if related:
        body = multipart("related", outer.pop(), [body, *map(file_part, related)])
    if mixed:
        body = multipart("mixed", outer.pop(), [body, *map(file_part, mixed)])
    return body


def _text(submission: Submission, boundary: Callable[[], str]) -> bytes:
    if submission.html is None:
        return text_part("plain", submission.text or "")
    text = submission.text if submission.text is not None else text_of(submission.html)
    html = text_part("html", submission.html)
    return multipart("alternative", boundary(), [text_part("plain", text), html]) if text else html


def _sort_files(submission: Submission) -> tuple[list[Attachment], list[Attachment]]:
    """Split files into those that the HTML shows by their Content-ID, and the others."""
    if submission.html is None:
        return [], list(submission.attachments)
    related = [file for file in submission.attachments if file.is_inline and file.content_id]
    return related, [file for file in submission.attachments if not (file.is_inline and file.content_id)]


def _recipients(submission: Submission) -> tuple[EnvelopeRecipient, ...]:
    kinds = ((RecipientKind.TO, submission.to), (RecipientKind.CC, submission.cc), (RecipientKind.BCC, submission.bcc))
    return unique_recipients(EnvelopeRecipient(address=box.address, kind=kind) for kind, boxes in kinds for box in boxes)


def _boundaries(message_id: str) -> Callable[[], str]:
    """Number boundaries; `=_` cannot occur in quoted-printable or base64 (RFC 2045 §6.7)."""
    numbers = count(1)
    suffix = message_id.rpartition("_")[2]
    return lambda: f"=_{suffix}.{next(numbers)}"

"""
What sort of mail a letter is, before its recipients are looked for.

Arrives: a letter. Leaves: whether it reports a failed delivery, answers automatically, or asks to prove a human.
Standards: RFC 3834 (automatic answers), RFC 3464, RFC 5321 §4.5.5 (null return path).
One sign alone proves nothing: people write about bounces, forward them and answer them. Two that agree do. The words are
data, in `recognition.toml`.
Bugs: a bounce from a person's address, in a language that is not listed, without a code and without fields, is not seen.
"""

import re
import tomllib
from functools import lru_cache
from importlib.resources import files

from gatepost.feedback.letter import Letter
from gatepost.policy.classify_text import comparable

_CODE = re.compile(r"(?i:code):? [45]\d\d(?!\d)|(?<![\d.])[45]\d\d[ -](?:[45]\.\d{1,2}\.\d{1,3}|<|\w)|(?<![\d.])[45]\.\d\.\d{1,2}(?![\d.])")
_NULL = frozenset({"<>", "<mailer-daemon>"})
_ANSWER_FIELDS = (
    "x-autoreply", "x-autorespond", "x-auto-reply", "x-autoresponder", "x-autoreply-from", "x-mail-autoreply", "x-apple-action",
    "x-facebook-autoreply",
)  # fmt: skip
_TO_MANY = frozenset({"list-unsubscribe", "list-unsubscribe-post", "feedback-id", "list-post"})
_TALK = ("re:", "fw:", "fwd:", "aw:", "wg:", "sv:", "tr:", "rv:", "回复", "转发")


@lru_cache(maxsize=1)
def words() -> dict[str, tuple[str, ...]]:
    """Give the lists of `recognition.toml`."""
    return {name: tuple(found) for name, found in tomllib.loads(files(__package__).joinpath("recognition.toml").read_text("utf-8")).items()}


def is_bounce(letter: Letter) -> bool:
    """Tell whether a letter reports that mail did not arrive, or not yet."""
    mail = letter.mail
    is_daemon = _is_from_daemon(letter)
    is_null = mail.first("return-path").replace(" ", "").lower() in _NULL
    says_failed = _says(letter, "failed")
    has_subject = _has_subject(letter, "subjects")
    if letter.statuses:
        return is_daemon or has_subject or is_null or letter.has_status_part or says_failed
    if is_conversation(letter) and not (is_daemon or is_null):
        return False
    has_code = bool(_CODE.search(letter.text[:8_000]))
    if is_daemon:
        return says_failed or has_subject or has_code or bool(mail.first("x-failed-recipients"))
    if is_null:
        return says_failed or (has_subject and has_code)
    if not _TO_MANY.isdisjoint(name.lower() for name, _ in mail.fields):
        return False
    is_sure = _says(letter, "surely_failed")
    return (has_subject and (is_sure or (says_failed and has_code))) or (is_sure and has_code)


def is_answer(letter: Letter) -> bool:
    """Tell whether a letter is an automatic answer (RFC 3834 §5): an out-of-office note, a receipt of a ticket system."""
    mail = letter.mail
    submitted = mail.first("auto-submitted").lower().partition(";")[0].strip()
    if submitted.startswith(("auto-replied", "auto-reply", "auto_reply")) or _has_answer_field(letter):
        return True
    subject = letter.subject[:300].lower().lstrip(" *[(<\"'-")
    if subject.startswith(words()["answer_subjects"]):
        return True
    is_automatic = submitted.startswith("auto") or mail.first("return-path").replace(" ", "") == "<>"
    return (is_automatic or bool(mail.first("x-auto-response-suppress"))) and _says(letter, "answers")


def is_challenge(letter: Letter) -> bool:
    """Tell whether a letter asks its reader to prove that a person sent the mail."""
    text = letter.subject[:300].lower() + " " + comparable(letter.text)
    if not any(act in text for act in words()["challenge_acts"]):
        return False
    hits = sum(word in text for word in words()["challenges"])
    return hits >= 2 or (hits >= 1 and any(name in text for name in words()["challengers"]))


def is_rejection(letter: Letter) -> bool:
    """Tell whether a disposition notification says that a filter refused the mail (Sieve `reject`, RFC 5429 §2.1.2)."""
    notes = [part.text[:10_000].lower() for part in letter.mail.parts if part.content_type == "message/disposition-notification"]
    return any("automatic-action" in note and "deleted" in note for note in notes) and _says(letter, "refusals")


def says_failure_in_subject(letter: Letter) -> bool:
    """Tell whether the subject alone names a failed delivery, so that words about confirming belong to the mail that came back."""
    return _has_subject(letter, "subjects")


def is_delay(letter: Letter) -> bool:
    """Tell whether a letter warns that mail is still on its way."""
    return _says(letter, "delayed") and not letter.mail.first("x-failed-recipients")


def is_conversation(letter: Letter) -> bool:
    """Tell whether a person answers or forwards, whose words are no report."""
    return letter.subject.lower().lstrip().startswith(_TALK) or letter.mail.content_type == "multipart/digest"


def _is_from_daemon(letter: Letter) -> bool:
    writers = (letter.mail.first("from")[:300] + " " + letter.mail.first("return-path")[:300]).lower()
    return bool(letter.mail.first("x-failed-recipients")) or any(name in writers for name in words()["daemons"])


def _has_answer_field(letter: Letter) -> bool:
    mail = letter.mail
    if any(value and value.lower() not in {"no", "0", "false"} for value in map(mail.first, _ANSWER_FIELDS)):
        return True
    if mail.first("precedence").lower().replace("-", "_") in {"auto_reply", "auto_replied"} or "vacation" in mail.first("x-mailer").lower():
        return True
    return mail.first("delivered-to").lower() == "autoresponder" or mail.first("x-autogenerated").lower() in {"reply", "autoreply"}


def _says(letter: Letter, name: str) -> bool:
    text = comparable(letter.text)
    return any(word in text for word in words()[name])


def _has_subject(letter: Letter, name: str) -> bool:
    subject = letter.subject[:400].lower().replace("’", "'")
    return any(word in subject for word in words()[name])

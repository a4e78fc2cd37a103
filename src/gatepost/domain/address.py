"""
E-mail addresses: the one parser, and the one canonical form.

Arrives: text from JSON fields, SMTP paths and header fields.
Leaves: an `Address` whose domain is in lower-case A-labels, so that what was checked is what goes on the wire.
Standards: RFC 5321 §4.1.2 (Mailbox), RFC 6531 (SMTPUTF8), RFC 5891 (IDNA), RFC 5322 §3.4 (name-addr).
Not here: whether the domain receives mail (net.dns), how a mailbox is written in a header (mime.headers).
Bugs: quoted local parts and address literals are refused although RFC 5321 allows them: hardly a mailbox has one, and
they are how parsers get confused about which domain they see.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import email_validator
import idna
from email_validator import EmailNotValidError, validate_email

# .test, .example, .invalid and .localhost are where people try things out. The library documents this as the way to allow
# them; whether a domain receives mail is a question for DNS, not for syntax.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


class InvalidAddress(ValueError):  # noqa: N818
    """The text is not an address we would send to. Its message is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Address:
    """
    One address, parsed.

    Attributes:
        local: Local part as given, without quotes; NFC.
        domain: Lower-case A-labels, or an address literal in brackets is never accepted.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def key(self) -> str:
        """The form under which suppressions and limits know the address: the local part in lower case."""
        return f"{self.local.lower()}@{self.domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """True when the local part is not ASCII (RFC 6531); the domain always has an ASCII form."""
        return not self.local.isascii()


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address with the name shown beside it; the name may be empty."""

    address: Address
    name: str = ""


MAX_NAME = 500
"""Characters of a display name; longer ones are only ever an attack on someone's reader."""

_MAX_ADDRESS = 254  # RFC 5321 §4.5.3.1.3: a path is 256 octets with its angle brackets
_MAX_LOCAL = 64
_MAX_MAILBOX = _MAX_ADDRESS + 3 * MAX_NAME
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@((?:{_LABEL}\.)+(?=[A-Za-z]|[0-9-]*[A-Za-z]){_LABEL})")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|([^ "(),:;<>@\[\]\\]+)')
_ESCAPED = re.compile(r"\\(.)")
_MARKUP = {"(": "comments", "[": "address literals", ",": "lists", ";": "lists and groups", ":": "groups and source routes"}


def parse_address(text: str) -> Address:
    """
    Parse a bare address such as `ann@example.net`.

    Raises:
        InvalidAddress: With one sentence that says what is wrong.
    """
    if len(text) > 4 * _MAX_ADDRESS:  # beyond any spelling of 254 octets; bounds all work below
        raise _invalid(text, f"it is longer than {_MAX_ADDRESS} characters")
    return _parse(text)


def parse_mailbox(text: str) -> Mailbox:
    """
    Parse `ann@example.net` or `Ann Example <ann@example.net>`: one mailbox, no groups, no lists, no comments.

    Raises:
        InvalidAddress: With one sentence that says what is wrong.
    """
    if len(text) > _MAX_MAILBOX:
        raise _invalid(text, "it is too long")
    text = text.strip(" \t")
    if not text.endswith(">"):
        return Mailbox(parse_address(text))
    name, bracket, spec = text[:-1].rpartition("<")
    if not bracket:
        raise _invalid(text, "it has > without <")
    if _CONTROL.search(name.replace("\t", " ")):
        raise _invalid(text, "the name has control characters")
    return Mailbox(parse_address(spec), _phrase(name.replace("\t", " "), text))


@lru_cache(maxsize=4096)
def domain_is_mixed_script(domain: str) -> bool:
    """
    Tell whether a label mixes scripts that no language mixes, as look-alikes do (`xn--pypal-4ve`: paypal with a Cyrillic letter).

    Follows the "highly restrictive" level of UTS 39 §5.2, with scripts taken from the characters' Unicode names.
    """
    return "xn--" in domain and any(_is_mixed(label) for label in domain.split(".") if label.startswith("xn--"))


@lru_cache(maxsize=8192)
def _parse(text: str) -> Address:
    plain = _PLAIN.fullmatch(text)
    if plain and "--" not in text and "=?" not in text and len(text) <= _MAX_ADDRESS:
        local, domain = plain.groups()
        if len(local) <= _MAX_LOCAL and len(domain) <= 253:
            return Address(local, domain.lower())
    return _parse_unusual(text)


def _parse_unusual(text: str) -> Address:
    _refuse_traps(text)
    try:
        valid = validate_email(text, check_deliverability=False, globally_deliverable=False, strict=True)
    except EmailNotValidError as error:
        raise _invalid(text, _sentence(str(error))) from None
    local, domain = unicodedata.normalize("NFC", text.partition("@")[0]), (valid.ascii_domain or "").lower()
    if len(local.encode()) > _MAX_LOCAL or len(local.encode()) + 1 + len(domain) > _MAX_ADDRESS:
        raise _invalid(text, "it is too long")
    tail = domain.rpartition(".")
    if not tail[1]:
        raise _invalid(text, "its domain has no dot")
    if not re.search("[a-z]", tail[2]):
        raise _invalid(text, "its domain ends in a number")
    return Address(local, domain)


def _refuse_traps(text: str) -> None:
    """Say no, in our words, to what other parsers read differently from us."""
    if _CONTROL.search(text):
        raise _invalid(text, "it has control characters")
    if not text:
        raise InvalidAddress("an e-mail address is missing: the text is empty")
    if '"' in text or "\\" in text:
        raise _invalid(text, "quoted local parts are not supported")
    for mark, what in _MARKUP.items():
        if mark in text:
            raise _invalid(text, f"{what} are not supported")
    if any(c.isspace() for c in text):
        raise _invalid(text, "it has spaces")
    if text.count("@") != 1:
        raise _invalid(text, "it has more than one @" if "@" in text else "it has no @")
    if "=?" in text:
        raise _invalid(text, "encoded words are not allowed in it")


def _phrase(name: str, text: str) -> str:
    """Read a display name (RFC 5322 §3.2.5): quoted strings and atoms; dots are allowed, as nearly everyone writes them."""
    words, at = [], 0
    while at < len(name):
        if name[at] == " ":
            at += 1
            continue
        word = _WORD.match(name, at)
        if word is None:
            raise _invalid(text, f"the name has {name[at]!r} outside quotes; put the name into double quotes")
        words.append(_ESCAPED.sub(r"\1", word[1]) if word[2] is None else word[2])
        at = word.end()
    phrase = " ".join(words)
    if len(phrase) > MAX_NAME:
        raise _invalid(text, f"the name is longer than {MAX_NAME} characters")
    return phrase


def _invalid(text: str, why: str) -> InvalidAddress:
    shown = text if len(text) <= 80 else text[:77] + "..."
    return InvalidAddress(f"{shown!r} is not an e-mail address: {why}")


def _sentence(reason: str) -> str:
    return (reason[:1].lower() + reason[1:]).rstrip(".")


_TOGETHER = (
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
)


def _is_mixed(label: str) -> bool:
    try:
        shown = idna.ulabel(label)
    except (idna.IDNAError, UnicodeError):
        return True
    return mixes_scripts(shown)


def mixes_scripts(text: str) -> bool:
    """Tell whether letters of a word are of scripts that no language mixes (UTS 39 §5.2, "highly restrictive")."""
    scripts = {unicodedata.name(c, "UNKNOWN").partition(" ")[0] for c in text if c.isalpha()}
    return len(scripts) > 1 and not any(scripts <= together for together in _TOGETHER)

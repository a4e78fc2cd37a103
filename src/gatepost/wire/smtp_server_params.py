"""
The arguments of SMTP commands: paths, MAIL and RCPT parameters, the EHLO name.

Arrives: what stands after the verb, as printable text.
Leaves: `MailCommand`, `RecipientCommand`, `BdatCommand`; or `SyntaxRefused` with the reply to give.
Standards: RFC 5321 §4.1.2, RFC 1870 (SIZE), RFC 6152 (BODY), RFC 6531 (SMTPUTF8), RFC 3461 §4 (RET ENVID NOTIFY ORCPT, xtext),
RFC 6533 §3 (utf-8 ORCPT), RFC 4954 §5 (AUTH=), RFC 3030 (BDAT), RFC 8689 §2 (REQUIRETLS).
Not here: the syntax of addresses (domain.address).
Bugs: RFC 5321 §4.1.1.3 asks servers to accept `<Postmaster>` without a domain; a submission door has no mailboxes, so
it is refused.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from gatepost.domain.address import Address, InvalidAddress, parse_address
from gatepost.domain.message import EnvelopeRecipient

_PATH = re.compile(r" ?<((?:\"(?:[^\"\\]|\\.)*+\"|[^\"<> ])*+)>(?: +(.*))?")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^= ]+))?")
_HELO_NAME = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_XCHAR = re.compile(r"\+([0-9A-F]{2})")
_UNICODE_XTEXT = re.compile(r"(?:[!-*,-<>-\[\]-~]|\+[0-9A-F]{2}|\\x\{[0-9A-F]{2,6}\}|[^\x00-\x7f])+")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_DIGITS = re.compile(r"[0-9]{1,20}")
_BDAT = re.compile(r"([0-9]{1,12})( +[Ll][Aa][Ss][Tt])?")
_MAX_ENVID: Final = 100  # RFC 3461 §4.4
_MAX_ORCPT: Final = 500  # RFC 3461 §4.2


@dataclass(eq=False)
class SyntaxRefused(Exception):  # noqa: N818 - an answer, not an error of ours
    """A command's argument is not acceptable; holds the reply."""

    code: int
    enhanced: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MailCommand:
    """
    MAIL FROM, read.

    Attributes:
        sender: None is the null sender.
        size: The size the client declared (RFC 1870); None when it did not.
    """

    sender: Address | None
    size: int | None = None
    body: str | None = None
    is_smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None
    requires_tls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BdatCommand:
    """BDAT, read (RFC 3030 §2)."""

    size_bytes: int
    is_last: bool


def parse_helo_name(text: str) -> str:
    """
    Read the name in EHLO or HELO.

    A host name or an address literal in letters that can do no harm in logs and headers; underscores are tolerated,
    many Windows machines have them.

    Raises:
        SyntaxRefused: Anything else.
    """
    if _HELO_NAME.fullmatch(text) is None:
        raise SyntaxRefused(501, "5.5.4", "Give your host name or address literal")
    return text


def parse_mail(argument: str) -> MailCommand:
    """
    Read what follows `MAIL FROM:` (RFC 5321 §4.1.1.2).

    Raises:
        SyntaxRefused: With the reply to give.
    """
    path, tail = _split_path(argument, "MAIL FROM:<address>")
    if path.isascii() and not tail:
        return MailCommand(sender=_address(path, "5.1.7") if path else None)
    mail = MailCommand(sender=None)
    for keyword, value in _parameters(tail):
        mail = _mail_parameter(keyword)(mail, value)
    if not path.isascii() and not mail.is_smtputf8:
        raise SyntaxRefused(553, "5.6.7", "This sender needs SMTPUTF8")
    if not path:
        return mail
    return replace(mail, sender=_address(path, "5.1.7"))


def parse_recipient(argument: str, *, is_smtputf8: bool) -> EnvelopeRecipient:
    """
    Read what follows `RCPT TO:` (RFC 5321 §4.1.1.3). Source routes are refused, not stripped: nobody needs them.

    Args:
        is_smtputf8: The transaction was begun with SMTPUTF8.

    Raises:
        SyntaxRefused: With the reply to give.
    """
    path, tail = _split_path(argument, "RCPT TO:<address>")
    given = {keyword: _recipient_parameter(keyword)(value) for keyword, value in _parameters(tail)} if tail else {}
    if not (path.isascii() and given.get("ORCPT", "").isascii()) and not is_smtputf8:
        raise SyntaxRefused(553, "5.6.7", "This recipient needs SMTPUTF8")
    return EnvelopeRecipient(address=_address(path, "5.1.3"), notify=given.get("NOTIFY"), orcpt=given.get("ORCPT"))


def parse_bdat(argument: str) -> BdatCommand:
    """
    Read what follows `BDAT`.

    Raises:
        SyntaxRefused: The number of octets that follow is not known, so the dialogue cannot go on.
    """
    match = _BDAT.fullmatch(argument)
    if match is None:
        raise SyntaxRefused(501, "5.5.4", "Syntax: BDAT size [LAST]")
    return BdatCommand(size_bytes=int(match[1]), is_last=match[2] is not None)


def is_xtext(text: str) -> bool:
    """Tell whether this is xtext for printable ASCII (RFC 3461 §4): encoded control characters do not count."""
    return _XTEXT.fullmatch(text) is not None and _decodes_to_printable(text)


def _decodes_to_printable(text: str) -> bool:
    return all(0x20 <= int(code, 16) <= 0x7E for code in _XCHAR.findall(text))


def _split_path(argument: str, syntax: str) -> tuple[str, str]:
    match = _PATH.fullmatch(argument)
    if match is None:
        raise SyntaxRefused(501, "5.5.4", f"Syntax: {syntax}")
    return match[1], (match[2] or "").rstrip(" ")


def _address(path: str, enhanced: str) -> Address:
    try:
        return parse_address(path)
    except InvalidAddress as error:
        raise SyntaxRefused(553, enhanced, str(error)) from None


def _parameters(tail: str) -> list[tuple[str, str | None]]:
    found: dict[str, str | None] = {}
    for part in tail.split():
        match = _PARAMETER.fullmatch(part)
        if match is None:
            raise SyntaxRefused(501, "5.5.4", "A parameter is malformed")
        keyword = match[1].upper()
        if keyword in found:
            raise SyntaxRefused(501, "5.5.4", f"{keyword} is given twice")
        found[keyword] = match[2]
    return list(found.items())


def _mail_parameter(keyword: str) -> Callable[[MailCommand, str | None], MailCommand]:
    reader = _MAIL.get(keyword)
    if reader is None:
        raise SyntaxRefused(555, "5.5.4", f"Parameter {keyword} is not supported")
    return reader


def _recipient_parameter(keyword: str) -> Callable[[str | None], str]:
    reader = _RECIPIENT.get(keyword)
    if reader is None:
        raise SyntaxRefused(555, "5.5.4", f"Parameter {keyword} is not supported")
    return reader


def _size(mail: MailCommand, value: str | None) -> MailCommand:
    if value is None or _DIGITS.fullmatch(value) is None:
        raise SyntaxRefused(501, "5.5.4", "SIZE is not a number")
    return replace(mail, size=int(value))


def _body(mail: MailCommand, value: str | None) -> MailCommand:
    body = (value or "").upper()
    if body not in {"7BIT", "8BITMIME"}:
        raise SyntaxRefused(501, "5.5.4", "BODY is 7BIT or 8BITMIME")
    return replace(mail, body=body)


def _smtputf8(mail: MailCommand, value: str | None) -> MailCommand:
    if value is not None:
        raise SyntaxRefused(501, "5.5.4", "SMTPUTF8 has no value")
    return replace(mail, is_smtputf8=True)


def _requiretls(mail: MailCommand, value: str | None) -> MailCommand:
    if value is not None:
        raise SyntaxRefused(501, "5.5.4", "REQUIRETLS has no value")
    return replace(mail, requires_tls=True)


def _ret(mail: MailCommand, value: str | None) -> MailCommand:
    ret = (value or "").upper()
    if ret not in {"FULL", "HDRS"}:
        raise SyntaxRefused(501, "5.5.4", "RET is FULL or HDRS")
    return replace(mail, ret=ret)


def _envid(mail: MailCommand, value: str | None) -> MailCommand:
    if value is None or len(value) > _MAX_ENVID or not is_xtext(value):
        raise SyntaxRefused(501, "5.5.4", "ENVID is not xtext of at most 100 characters")
    return replace(mail, envid=value)


def _auth(mail: MailCommand, value: str | None) -> MailCommand:
    """AUTH= names who first submitted the message (RFC 4954 §5); nothing here trusts it, so it is checked and dropped."""
    if value is None or _XTEXT.fullmatch(value) is None:
        raise SyntaxRefused(501, "5.5.4", "AUTH is not xtext")
    return mail


def _notify(value: str | None) -> str:
    words = (value or "").upper().split(",")
    if words != ["NEVER"] and (len(set(words)) != len(words) or not set(words) <= {"SUCCESS", "FAILURE", "DELAY"}):
        raise SyntaxRefused(501, "5.5.4", "NOTIFY is NEVER, or some of SUCCESS, FAILURE, DELAY")
    return ",".join(words)


def _orcpt(value: str | None) -> str:
    kind, _, address = (value or "").partition(";")
    form = _UNICODE_XTEXT if kind.lower() == "utf-8" else _XTEXT
    is_sound = _ADDRESS_TYPE.fullmatch(kind) and form.fullmatch(address) and _decodes_to_printable(address)
    if value is None or len(value) > _MAX_ORCPT or not is_sound:
        raise SyntaxRefused(501, "5.5.4", "ORCPT is not type;xtext of at most 500 characters")
    return value


_MAIL: Final[dict[str, Callable[[MailCommand, str | None], MailCommand]]] = {
    "SIZE": _size, "BODY": _body, "SMTPUTF8": _smtputf8, "RET": _ret, "ENVID": _envid, "AUTH": _auth,
    "REQUIRETLS": _requiretls,
}  # fmt: skip

_RECIPIENT: Final[dict[str, Callable[[str | None], str]]] = {"NOTIFY": _notify, "ORCPT": _orcpt}

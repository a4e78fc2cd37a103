"""
Addresses in running text, as reports write them: bracketed, quoted, with dots after them.

Arrives: any text. Leaves: addresses as they are written, with their places.
Standards: RFC 5321 §4.1.2, read generously: what a report names is compared, never sent to.
Found by walking outwards from every @, within bounds, so that no text is slow (THREATS 29).
Not here: parsing an address that is to be sent to (domain.address).
"""

from dataclasses import dataclass

_MAX_FOUND = 500
_MAX_LOCAL = 128
_MAX_DOMAIN = 190
_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!#$%&'*+/=?^_`{|}~-")
_DOMAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
_PREFIXES = frozenset({"smtp=", "smtp/"})
_SERVANTS = frozenset(
    {
        "postmaster",
        "mailer-daemon",
        "mailerdaemon",
        "mail-daemon",
        "abuse",
        "hostmaster",
        "helpdesk",
        "support",
        "noreply",
        "no-reply",
        "maildaemon",
        "daemon",
        "mdaemon",
        "bounce",
    }
)


@dataclass(frozen=True, slots=True)
class Found:
    """An address and where it stands."""

    start: int
    end: int
    address: str


def find_addresses(text: str) -> list[Found]:
    """List the addresses in a text, at most 500, in order."""
    found: list[Found] = []
    at = text.find("@")
    while at >= 0 and len(found) < _MAX_FOUND:
        start, end = _left(text, at), _right(text, at)
        domain = text[at + 1 : end]
        if start < at and ("." in domain or (start > 0 and text[start - 1] == "<")) and domain and not _is_in_url(text, start):
            found.append(Found(start, end, text[start:end]))
        at = text.find("@", max(at + 1, end))
    return found


def addresses_in(text: str) -> list[str]:
    """List the addresses in a text, each once, in order."""
    return list(dict.fromkeys(one.address for one in find_addresses(text)))


def is_servant(address: str) -> bool:
    """Tell whether a mailbox belongs to a machine or an office, such as postmaster."""
    local = address.partition("@")[0].lower()
    return local in _SERVANTS


def _left(text: str, at: int) -> int:
    if at > 0 and text[at - 1] == '"':
        quote = text.rfind('"', max(0, at - 1 - _MAX_LOCAL), at - 1)
        return quote if quote >= 0 and "\n" not in text[quote:at] else at
    start = at
    while start > 0 and at - start < _MAX_LOCAL and (text[start - 1] in _LOCAL or _is_letter(text[start - 1])):
        start -= 1
    if text[start : start + 5].lower() in _PREFIXES and at - start > 5:
        start += 5  # X.400 gateways write the kind of an address before it
    while start < at and text[start] in "'.=/*!|{}`#":
        if text[start] == "=" and text[start : start + 2] == "=?":
            break
        start += 1
    return start


def _right(text: str, at: int) -> int:
    end = at + 1
    while end < len(text) and end - at < _MAX_DOMAIN and (text[end] in _DOMAIN or _is_letter(text[end])):
        end += 1
    while end > at + 1 and text[end - 1] in ".-":
        end -= 1
    dots = text.find("..", at, end)
    return dots if dots > 0 else end


def _is_letter(character: str) -> bool:
    """True for letters of international addresses; not for the punctuation or the ideographs that stand around addresses."""
    return (
        character > "\x7f"
        and (character.isalpha() or ord(character) > 0x1F000)
        and not "⺀" <= character <= "鿿"
        and character != "ー"
        and not "가" <= character <= "힯"
    )


def _is_in_url(text: str, start: int) -> bool:
    return text[max(0, start - 3) : start] == "://" or text[max(0, start - 1) : start] == "/"

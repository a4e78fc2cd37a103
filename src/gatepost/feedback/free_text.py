"""
Failed recipients in a letter written for people, and what is said about each.

Arrives: the words of a letter. Leaves: addresses with the text that stands beside them.
There is no standard for this half of all bounces (RFC 3464 §1 calls them unreadable by machine). What they share: the
failed address begins its line, stands in a sentence that names it, or was tried with RCPT; the reason stands beside or below.
Not here: whether the letter is a bounce (recognition), what the reason means (policy.classify).
Bugs: an address that is named only in the middle of an unusual sentence is found only where no other is.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from gatepost.feedback.addresses import Found, find_addresses, is_servant

_MAX_LINES = 1_500
_MAX_NAMED = 50
_MAX_BLOCK = 1_800
_LEADING = re.compile(r"[\s<\"'(\[*•·>|#-]*+(?:\d{1,2}[.)]\s*+)?[\s<\"'(\[]*+")
_LABEL = re.compile(
    r"(?:(?:failed |final |original |intended )?recipients?(?: e?-?mail)?(?: address)?|(?:e-?mail )?address(?:ee)?|"
    r"addressed to|rcpt to|unknown user|user unknown|unknown local user|invalid (?:user|address|recipient)|"
    r"deliver(?:ed|ing|y)?(?: (?:of )?(?:your|the|this|a)?\s?(?:mail|message|e-?mail))?(?: has failed| failed)?(?: to|"
    r" for)?|(?:message|e-?mail|mail|email) (?:sent |addressed |could not be delivered |was not delivered |"
    r"wasn't delivered |not delivered |has not been delivered |couldn't be delivered )?to|delivered to|sent to|"
    r"(?:to )?deliver (?:message|mail|it) to|failed for|failed to|undeliverable to|unable to deliver (?:message |"
    r"mail )?to|transferring to|reaching|following (?:address(?:es)?|recipients?)|rfc822|"
    r"empfänger|adresse|destinataire|destinatario|destinatário|получател[а-я]*|адрес[а-я]*|адресат[а-я]*|宛先|受信者|"
    r"收件人|收信人)(?: is| was| are|\(s\))?\s{0,3}[:;]?\s{0,10}[<\"'(\[]*$",
    re.IGNORECASE,
)
_HEADER_LABEL = re.compile(
    r"\s*(?:to|an|from|von|cc|reply-to|sender|subject|betreff|message-id|date|de|para|от|кому|差出人|件名|return-path|"
    r"x-[a-z-]+|contact|envelope-from)\s{0,3}:\s*[<\"']*$",
    re.IGNORECASE,
)
_CODE_LINE = re.compile(r"\s*[245]\d\d[ -]")
_FAILING = re.compile(
    r"undeliver|not (?:be )?(?:deliver|reach)|could not|fail|reject|refus|unknown|not exist|doesn't exist|not found|"
    r"couldn't be found|unable to|cannot|can't|could not|couldn't|wasn't|error|bounced|invalid|denied|blocked|disabled|"
    r"quota|full|not a member|"
    r"nicht|unzustellbar|impossible|échec|no se|não|non |не |見つかり|できません|失败|无法",
    re.IGNORECASE,
)
_CONTACT = re.compile(
    r"contact|please (?:send|write|call|mail)|assistance|for help|questions?|complain|reach us|kontakt|mailto|"
    r"further information|your postmaster|reply to this|sent by|signed|regards",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Named:
    """
    A failed recipient.

    Attributes:
        rank: 1 begins its line, 2 is named by a label, 3 is in a sentence about failing, 4 merely stands there.
        text: What stands beside and below it, up to the next one.
    """

    address: str
    rank: int
    text: str


def name_recipients(text: str, strangers: frozenset[str]) -> list[Named]:
    """
    List the failed recipients that a letter names, those of the best rank only.

    Args:
        strangers: Addresses in lower case that are not meant unless they are the only ones.
    """
    lines = text.split("\n")[:_MAX_LINES]
    seen = [(number, found, _rank(lines, number, found)) for number, line in enumerate(lines) for found in find_addresses(line[:2_000])]
    seen = [one for one in seen if one[2]][: _MAX_NAMED * 5]
    others = [one for one in seen if one[1].address.lower() not in strangers and not is_servant(one[1].address)]
    for candidates in (others, [one for one in seen if one[2] <= 2]):
        if candidates:
            best = min(one[2] for one in candidates)
            if best == 2 and any(one[2] == 1 for one in candidates):
                best = 1
            chosen = [one for one in candidates if one[2] == best]
            return _with_text(lines, chosen)
    return []


def text_about(text: str, address: str) -> str:
    """Give what stands beside and below an address in a letter; empty where it does not stand there."""
    lines, places, begins = _index(text)
    wanted = address.lower()
    if wanted not in places:
        return ""
    number, found = places[wanted]
    return _block(lines, number, found, {other for other, one in begins.items() if one != wanted})


def text_above(text: str, address: str) -> str:
    """Give the nearest lines above an address that hold none: what a reporter says of all that follow. At most three."""
    lines, places, _ = _index(text)
    if address.lower() not in places:
        return ""
    above: list[str] = []
    for line in reversed(lines[: places[address.lower()][0]]):
        if find_addresses(line[:400]) or (above and not line.strip()) or len(above) == 3:
            break
        if line.strip():
            above.insert(0, line[:500])
    return " ".join(above)


@lru_cache(maxsize=2)
def _index(text: str) -> tuple[list[str], dict[str, tuple[int, Found]], dict[int, str]]:
    """Note once where each address stands first, and which lines begin with one."""
    lines = text.split("\n")[:_MAX_LINES]
    places: dict[str, tuple[int, Found]] = {}
    begins: dict[int, str] = {}
    for number, line in enumerate(lines):
        for found in find_addresses(line[:2_000]):
            before = line[: found.start]
            if number not in begins and _LEADING.fullmatch(before):
                begins[number] = found.address.lower()
            if not _HEADER_LABEL.fullmatch(before):
                places.setdefault(found.address.lower(), (number, found))
    return lines, places, begins


def _rank(lines: list[str], number: int, found: Found) -> int:
    line = lines[number]
    before, after = line[: found.start], line[found.end :]
    lowered = before.lower()
    if "message-id" in lowered or "envelope-id" in lowered or _HEADER_LABEL.fullmatch(before) or after[1:2] == "@":
        return 0
    if _LEADING.fullmatch(before):
        return 1 if after.lstrip(">\"')").startswith((":", "...", " ...", "(")) or _is_announced(lines, number, found) else 3
    if _CODE_LINE.match(before) and (after.lstrip("> ").startswith(("...", ":")) and len(before) < 20):
        return 1
    if _LABEL.search(before[-120:]):
        return 2
    if _CONTACT.search(before[-80:]):
        return 0
    if _is_about_failing(line) or (number > 0 and _is_about_failing(lines[number - 1])):
        return 3
    return 4


@lru_cache(maxsize=64)
def _is_about_failing(line: str) -> bool:
    return bool(_FAILING.search(line[:1_000]))


def _is_announced(lines: list[str], number: int, found: Found) -> bool:
    """Tell whether the address, or the three lines above it that hold no address, speak of failing."""
    if _FAILING.search(lines[number][found.end : found.end + 500]):
        return True
    above = 0
    for line in reversed(lines[max(0, number - 40) : number]):
        if not line.strip() or find_addresses(line[:400]):
            continue
        above += 1
        if _is_about_failing(line):
            return True
        if above == 3:
            break
    below = " ".join(lines[number + 1 : number + 4])
    return bool(_FAILING.search(below[:1_000]))


def _with_text(lines: list[str], chosen: list[tuple[int, Found, int]]) -> list[Named]:
    begins = {number for number, _, _ in chosen}
    out: dict[str, Named] = {}
    for number, found, rank in chosen:
        if len(out) >= _MAX_NAMED:
            break
        key = found.address.lower()
        block = _block(lines, number, found, begins)
        if key not in out or (len(out[key].text) < 3 <= len(block)):
            out[key] = Named(found.address, rank, block)
    shared = next((one.text for one in reversed(out.values()) if any(map(str.isalpha, one.text))), "")
    return [one if any(map(str.isalpha, one.text)) else Named(one.address, one.rank, shared) for one in out.values()]


def _block(lines: list[str], number: int, found: Found, begins: set[int]) -> str:
    """Take the rest of the line, and the lines below up to the next recipient."""
    line = lines[number]
    before = "" if _LEADING.fullmatch(line[: found.start]) else line[: found.start] + "<>"
    pieces = [before + line[found.end :].lstrip(">")]
    size = len(pieces[0])
    for below in range(number + 1, len(lines)):
        if below in begins or size > _MAX_BLOCK:
            break
        pieces.append(lines[below])
        size += len(lines[below])
    return "\n".join(pieces)[:_MAX_BLOCK].strip(" :\n\t>")

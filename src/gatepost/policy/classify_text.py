"""
What other systems write, made comparable: one case, one kind of blank, no addresses; and the codes that stand in it.

Arrives: diagnostic text of any origin. Leaves: text to look for words in, and reply and enhanced status codes.
Standards: RFC 5321 §4.2 (reply codes), RFC 3463 (enhanced status codes), RFC 2034 (where they stand).
Every pattern is linear: a run is bounded or possessive, and text is cut to 4,000 characters before anything looks at it.
Not here: what words and codes mean (classify, classify.toml).
"""

import re

MAX_TEXT = 4_000
"""Characters of one text that are looked at; what is said later is no reason any more."""

_ADDRESS = re.compile(r"(?<![A-Za-z0-9.+_=-])[^\s<>()\[\]:;,\"'@/]{1,80}+@[^\s<>()\[\]:;,\"'@/]{1,120}+")
_BLANKS = re.compile(r"\s++")
_CONTINUED = re.compile(r"(?<![\w.])[245]\d\d[-\s]#?[245]\.\d{1,2}\.\d{1,3}(?![\w.])|(?<![\w.])[45]\d\d-(?=\s|[A-Za-z])")
_CODE = re.compile(r"(?<![\w.\-/:=#@+])([45]\d\d)(?=[\s\-:,.;<>)\]\"']|$)(?!\.\d)")
_CODE_AND_STATUS = re.compile(r"(?<![\d.])([245]\d\d)[-\s:,]{1,3}#?\(?([245]\.\d{1,2}\.\d{1,3})(?![\d]|\.\d)")
_NAMED_CODE = re.compile(r"(?:error[ _]?code|smtp code|status code|error|code)\s?[:=]?\s?#?([45]\d\d)(?![\d.])", re.IGNORECASE)
_STATUS = re.compile(r"(?<![\d.])([245]\.\d{1,2}\.\d{1,3})(?![\d]|\.\d)")
_LEADING = re.compile(r"\s*(?:smtp\s*[;:]\s*)?[<\"'(\[]?\s*([45]\d\d)(?=[\s\-:,.;<\"'#(]|$)", re.IGNORECASE)
_FIELD_TYPE = re.compile(
    r"\b((?:reporting|remote|received-from)-mta|dsn-gateway|diagnostic-code|(?:final|original)-recipient): ?(?:dns|smtp|rfc822);"
)
_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "\xa0": " ", "‐": "-", "‑": "-", "–": "-"})
_KNOWN_CODES = frozenset(
    {
        *(420, 421, 422, 430, 431, 432, 441, 442, 446, 447, 450, 451, 452, 453, 454, 455, 458, 459, 471),
        *(500, 501, 502, 503, 504, 510, 511, 512, 513, 515, 517, 521, 523, 525, 530, 531, 533, 534, 535, 538, 541),
        *(550, 551, 552, 553, 554, 555, 556, 557, 570, 571, 572, 573, 574, 577),
    }
)


def comparable(text: str) -> str:
    """Give text in lower case, blanks made one, addresses and repeated codes taken out, at most 4,000 characters."""
    cut = text[:MAX_TEXT].translate(_QUOTES)
    said = _BLANKS.sub(" ", _CONTINUED.sub(" ", _ADDRESS.sub("<>", cut))).lower().strip()
    return _FIELD_TYPE.sub(r"\1:", said)  # RFC 3464 §2.1.2: `dns;` is the type of a name, and says nothing about the DNS


def reply_code(text: str) -> int | None:
    """
    Find the reply code of a refusal: where a reply begins, beside an enhanced code, or where it is called one.

    A number that merely looks like one (`500 messages`) counts only at the start.
    """
    cut = text[:MAX_TEXT]
    if match := _LEADING.match(cut):
        return int(match[1])
    if match := _CODE_AND_STATUS.search(cut):
        return int(match[1])
    if match := _NAMED_CODE.search(cut):
        return int(match[1])
    return next((code for match in _CODE.finditer(cut) if (code := int(match[1])) in _KNOWN_CODES), None)


def status_code(text: str, code: int | None = None) -> str | None:
    """
    Find the enhanced status code that says most: one with a detail before `5.0.0`, one of the reply's class before others.

    Args:
        code: The reply code beside it, where one is known.
    """
    found = [match[1] for match in _STATUS.finditer(text[:MAX_TEXT]) if match[1][0] != "2"]
    if code is not None:
        found = [one for one in found if one[0] == str(code)[0]] or found
    return next((one for one in found if not one.endswith(".0.0")), found[0] if found else None)


def reply_part(text: str) -> str:
    """Cut a text where the other server's own words begin (`host mx said: 550 ...`); the whole text where no code stands in it."""
    cut = text[:MAX_TEXT]
    match = _CODE_AND_STATUS.search(cut) or next((found for found in _CODE.finditer(cut) if int(found[1]) in _KNOWN_CODES), None)
    return cut[match.start() :] if match else cut

"""
Where a tracked link may lead to: the open web, by http and https, and nowhere else.

Arrives: what stands in a message's link. Leaves: the target as it is stored and later written into `Location`; or nothing,
and then the link stays as it is. The same rule is asked when the link is written and again when it is followed.
Standards: RFC 3986 §3.2 (authority), WHATWG URL §4.4 (what browsers strip, and that they read a backslash as a slash).
Not here: whether a target is dangerous (screening).
Bugs: a host that is not written in ASCII is not tracked.
"""

import re
from typing import Final
from urllib.parse import quote

MAX_TARGET: Final = 4_000
_ASCII: Final = "".join(map(chr, range(0x21, 0x7F)))
_TARGET: Final = re.compile(
    r"(?i:https?)://(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?(?:[/?#][!-\[\]-~]*)?"
)


def target_of(text: str) -> str | None:
    """
    Read a link's target.

    Userinfo (`https://bank.example@evil.example/`), backslashes, control characters and relative links have no target here.

    Returns:
        Printable ASCII: what else is in its path or query is percent-encoded as UTF-8; None for what is not tracked.
    """
    text = text.strip(" \t\r\n\f").replace("\t", "").replace("\r", "").replace("\n", "")
    if len(text) > MAX_TARGET:
        return None
    if not text.isascii() or " " in text:
        try:
            text = quote(text, safe=_ASCII)
        except UnicodeEncodeError:
            return None
    return text if is_target(text) else None


def is_target(text: str) -> bool:
    """Tell whether a stored target may be written into `Location`."""
    return len(text) <= 3 * MAX_TARGET and _TARGET.fullmatch(text) is not None

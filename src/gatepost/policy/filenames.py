"""
What a file's name makes a computer do: its real endings, and how it is disguised.

Arrives: a decoded name. Leaves: endings, or the kind of disguise.
Standards: UTS 55 (names that show another order than they have), UAX 15 (NFKC: full-width letters are letters).
Not here: how a name is written in a header (mime.headers, mime.files).
"""

import re
import unicodedata

_REORDERING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0]"
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_PADDED = re.compile(r"\s{4,}\.[A-Za-z0-9_]{1,12}\s*$")
_CLASS_ID = re.compile(r"\{[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}")
_DOTS = str.maketrans({"\u3002": ".", "\uff0e": ".", "\uff61": ".", "\u2024": "."})

MAX_NAME = 1_000


def plain(name: str) -> str:
    """Return the name that a system would open: the last part of a path, without what nobody sees, in lower case."""
    name = unicodedata.normalize("NFKC", _INVISIBLE.sub("", _CONTROL.sub("", name[:MAX_NAME])).translate(_DOTS))
    last = re.split(r"[/\\]", name)[-1]
    return last.strip(" \t\"'").rstrip(". \t").lower()


def extensions(name: str) -> frozenset[str]:
    """
    Return the endings that decide what opens a file.

    That is the last one; and what stands before a colon, since Windows takes the rest for a stream of the file.
    """
    whole = plain(name)
    found = set()
    for text in {whole, whole.partition(":")[0].rstrip(". ")}:
        _, dot, ending = text.rpartition(".")
        if dot and ending:
            found.add(ending.strip())
    return frozenset(found)


def disguise(name: str) -> str | None:
    """Say how a name shows another kind of file than it is; None for an honest one."""
    if _REORDERING.search(name):
        return "it has characters that change the direction of writing"
    if _CONTROL.search(name):
        return "it has control characters"
    if _PADDED.search(name[-60:]):
        return "spaces push its ending out of sight"
    if _CLASS_ID.search(name):
        return "its ending is a Windows class identifier, which is not shown"
    if _INVISIBLE.search(name.rpartition(".")[2]):
        return "its ending has invisible characters"
    return None


def shown(name: str) -> str:
    """Write a name into a sentence: shortened, with everything visible."""
    text = name if name.isprintable() else name.encode("unicode_escape").decode("ascii")
    return f"'{text if len(text) <= 60 else text[:40] + '…' + text[-17:]}'"
